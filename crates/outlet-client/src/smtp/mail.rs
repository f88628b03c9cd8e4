//! The mail that carries a message.

use domain::text::Text;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as MailMessage, MultiPart};
use url::Host;

use crate::message::Message;
use crate::redaction::one_line;
use crate::settings::SmtpSettings;
use crate::template::escape_html;

/// A mail that is ready to be sent.
pub(super) struct Mail {
    /// The sender of the envelope.
    pub(super) from: Address,
    /// The recipient of the envelope.
    pub(super) to: Address,
    /// Headers and body.
    pub(super) content: Vec<u8>,
}

impl Mail {
    /// Writes the mail for `message`.
    ///
    /// # Errors
    /// Returns a description of the failure if an address can't be used in a mail.
    pub(super) fn compose(settings: &SmtpSettings, message: &Message) -> Result<Self, String> {
        let options = &message.mail;
        let sender = options.from.as_deref().unwrap_or(settings.from());
        let from = parse_address(sender).ok_or("the sender is not a mail address of ASCII characters")?;
        let to = parse_address(message.to.as_str())
            .ok_or("the recipient is not a mail address with an ASCII local part")?;
        let from_name = options.from_name.as_ref().map(Text::as_str).or(settings.sender_name());
        // The same ID for all attempts lets servers recognize a mail that they already have.
        let id = format!("<{}@{}>", message.attempt_sid, from.domain());
        let mut builder = MailMessage::builder()
            .from(Mailbox::new(from_name.map(str::to_owned), from.clone()))
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(&message.subject))
            .message_id(Some(id))
            // No vacation notices in response (RFC 3834 section 5).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if let Some(address) = settings.reply_to().and_then(parse_address) {
            builder = builder.reply_to(Mailbox::new(None, address));
        }
        let parts = MultiPart::alternative_plain_html(message.text.clone(), to_html(message));
        let mail = builder.multipart(parts).map_err(|_| "the mail cannot be written")?;
        Ok(Self { from, to, content: mail.formatted() })
    }
}

/// Parses a mail address whose local part is ASCII. An international domain is converted to its ASCII form. Returns
/// `None` for other addresses, which only servers with the extension SMTPUTF8 accept.
pub(crate) fn parse_address(text: &str) -> Option<Address> {
    let (local, domain) = text.rsplit_once('@')?;
    let Host::Domain(domain) = Host::parse(domain).ok()? else { return None };
    if !local.is_ascii() {
        return None;
    }
    Address::new(local, domain).ok()
}

/// Returns the domain of a mail address in its ASCII form.
pub(super) fn domain_of(address: &str) -> String {
    parse_address(address).map_or_else(|| "localhost".to_owned(), |address| address.domain().to_owned())
}

/// Returns the message as a simple HTML page.
fn to_html(message: &Message) -> String {
    let lines: Vec<_> = message.text.lines().map(escape_html).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n\
         <p>{}</p>\n</body>\n</html>\n",
        escape_html(&message.locale),
        escape_html(&one_line(&message.subject)),
        lines.join("<br>\n"),
    )
}

#[cfg(test)]
mod tests {
    use domain::{Parameter as _, Recipient};

    use super::*;
    use crate::settings::SmtpParameters;
    use crate::test_data::mail;

    fn settings() -> SmtpSettings {
        let parameters = SmtpParameters {
            url: "smtps://mail.example.com".to_owned(),
            from: "codes@owl.example".to_owned(),
            from_name: Some("Owl Bänk".to_owned()),
            reply_to: Some("help@owl.example".to_owned()),
            ..SmtpParameters::default()
        };
        SmtpSettings::new(parameters).unwrap()
    }

    fn compose(message: &Message) -> String {
        String::from_utf8(Mail::compose(&settings(), message).ok().unwrap().content).unwrap()
    }

    #[test]
    fn mail_has_a_text_part_and_an_html_part() {
        let message = Message { text: "<b>&\n918273".to_owned(), ..mail() };
        let mail = compose(&message);
        for part in [
            "From: =?utf-8?b?T3dsIELDpG5r?= <codes@owl.example>\r\n",
            "To: ann@example.com\r\n",
            "Reply-To: help@owl.example\r\n",
            "Subject: Your code\r\n",
            "Message-ID: <VL11111111111111111111111111111111@owl.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: multipart/alternative;",
            "\r\n\r\n<b>&\r\n918273\r\n",
            "<html lang=\"en\">",
            "<p>&lt;b&gt;&amp;<br>\r\n918273</p>",
        ] {
            assert!(mail.contains(part), "{part}\n{mail}");
        }
    }

    #[test]
    fn message_chooses_its_own_sender() {
        let mut message = mail();
        message.mail.from = Some("other@owl.example".to_owned());
        message.mail.from_name = Some(Text::from_parameter("Other").unwrap());
        let mail = compose(&message);
        assert!(mail.contains("From: Other <other@owl.example>\r\n"), "{mail}");
    }

    #[test]
    fn no_value_adds_a_header() {
        let message = Message { subject: "a\r\nBcc: eve@example.com".to_owned(), ..mail() };
        let mail = compose(&message);
        assert!(mail.contains("Subject: a  Bcc: eve@example.com\r\n"), "{mail}");
        let mut message = self::mail();
        message.mail.from = Some("a@b.example\r\nBcc: eve@example.com".to_owned());
        assert!(Mail::compose(&settings(), &message).is_err());
    }

    #[test]
    fn international_domains_are_sent_in_ascii() {
        let to = |text: &str| Message { to: Recipient::from_stored(text.to_owned()), ..mail() };
        assert!(compose(&to("ann@grün.example")).contains("To: ann@xn--grn-ioa.example\r\n"));
        for bad in ["grün@example.com", "ann@127.0.0.1", "a..b@example.com"] {
            assert!(Mail::compose(&settings(), &to(bad)).is_err(), "{bad}");
        }
    }
}
