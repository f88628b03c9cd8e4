//! The outlets that the options describe: a mail server, and a gateway for text messages.

use outlet_client::{
    HttpParameters, InvalidOutlet, OutletField, OutletParameters, OutletSettings, SmtpParameters,
};

/// Creates the outlet for mail from the URL of a mail server and a sender, such as `Owl Bank <codes@example.com>`.
///
/// # Errors
/// Returns a description of the accepted values. It does not contain the URL.
pub(crate) fn mail_outlet(url: &str, from: &str) -> Result<OutletSettings, String> {
    create_mail_outlet(url, from).map_err(|invalid| invalid.to_string())
}

/// Creates the outlet for text messages from the URL of a gateway.
///
/// # Errors
/// Returns a description of the accepted values. It does not contain the URL.
pub(crate) fn text_outlet(url: &str) -> Result<OutletSettings, String> {
    let parameters = HttpParameters { url: url.to_owned(), ..HttpParameters::default() };
    OutletSettings::new(OutletParameters::Http(parameters)).map_err(|invalid| invalid.to_string())
}

/// Checks the URL of a mail server.
///
/// # Errors
/// Returns a description of the accepted values. It does not contain the URL.
pub(crate) fn check_smtp_url(url: &str) -> Result<(), String> {
    mail_outlet(url, "codes@example.com").map(drop)
}

/// Checks the sender of mails.
///
/// # Errors
/// Returns a description of the accepted values.
pub(crate) fn check_sender(from: &str) -> Result<(), String> {
    let invalid = create_mail_outlet("smtps://mail.example.com", from).map(drop);
    invalid.map_err(|InvalidOutlet { field, reason }| match field {
        OutletField::From => {
            format!("{reason}, or a name and an address, such as Owl Bank <codes@example.com>")
        }
        field => format!("{field} {reason}"),
    })
}

fn create_mail_outlet(url: &str, from: &str) -> Result<OutletSettings, InvalidOutlet> {
    let (name, address) = match from.strip_suffix('>').and_then(|from| from.split_once('<')) {
        Some((name, address)) => (Some(name.trim()), address),
        None => (None, from),
    };
    let parameters = SmtpParameters {
        url: url.to_owned(),
        from: address.to_owned(),
        from_name: name.filter(|name| !name.is_empty()).map(str::to_owned),
        ..SmtpParameters::default()
    };
    OutletSettings::new(OutletParameters::Smtp(parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_is_an_address_with_or_without_a_name() {
        for good in ["codes@example.com", "Owl Bank <codes@example.com>", "<codes@example.com>"] {
            let outlet = mail_outlet("smtps://mail.example.com", good).unwrap();
            assert_eq!(outlet.summary().from.as_deref(), Some("codes@example.com"), "{good}");
        }
        for bad in [
            "",
            "Owl Bank",
            "Owl Bank <codes>",
            "Owl Bank <codes@example.com> ",
            "a\u{7}b <codes@example.com>",
        ] {
            assert!(check_sender(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_do_not_repeat_passwords() {
        for url in
            ["smtps://ann:hunter2@", "smtp://ann:hunter2@host?tls=opportunistic", "smtps:ann:hunter2@host"]
        {
            assert!(!check_smtp_url(url).unwrap_err().contains("hunter2"), "{url}");
        }
        assert!(!text_outlet("ftp://ann:hunter2@host").unwrap_err().contains("hunter2"));
        assert!(text_outlet("https://ann:hunter2@host/sms?key=1").is_ok());
    }
}
