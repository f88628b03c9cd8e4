//! Settings of mail servers.

use domain::text::Text;
use domain::{EmailAddress, Expected, Parameter as _, Secret};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{InvalidOutlet, OutletField, OutletSummary, secret_text, url_user};

/// Settings of a mail server, as an operator enters them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct SmtpParameters {
    /// The server: `smtps://user:password@host:465`, or `smtp://user:password@host:587?tls=required`. User and password
    /// are percent-encoded. `tls` is `required`, which is the default, `opportunistic` or `none`.
    pub url: String,
    /// The user, if the URL has none.
    #[serde(default)]
    pub user: Option<String>,
    /// The password, if the URL has none.
    #[serde(default, with = "secret_text")]
    pub secret: Option<Secret<String>>,
    /// The address of the sender.
    pub from: String,
    /// The name of the sender.
    #[serde(default)]
    pub from_name: Option<String>,
    /// The address to which answers go, instead of the sender's.
    #[serde(default)]
    pub reply_to: Option<String>,
}

/// Valid settings of a mail server.
#[derive(Clone)]
pub struct SmtpSettings {
    parameters: SmtpParameters,
    host: String,
    port: u16,
    encryption: Encryption,
    login: Option<Login>,
    from: EmailAddress,
    from_name: Option<Text<1, 64>>,
    reply_to: Option<EmailAddress>,
}

/// Whether the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// TLS from the beginning (`smtps:`).
    Implicit,
    /// STARTTLS, without which nothing is sent.
    Required,
    /// STARTTLS if the server offers it.
    Opportunistic,
    /// None.
    None,
}

/// The user of a mail server.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret<String>,
}

impl SmtpSettings {
    /// Validates parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub fn new(mut parameters: SmtpParameters) -> Result<Self, InvalidOutlet> {
        let (url, url_user) =
            url_user::split(&parameters.url).map_err(|why| OutletField::Url.invalid(why))?;
        parameters.url = url;
        if let Some(found) = url_user {
            if parameters.user.is_some() {
                return Err(OutletField::User.must("must not be given twice: the URL has one too"));
            }
            if found.password.is_some() && parameters.secret.is_some() {
                return Err(OutletField::Secret.must("must not be given twice: the URL has a password too"));
            }
            parameters.user = Some(found.user);
            parameters.secret = found.password.or(parameters.secret);
        }
        let (host, port, encryption) =
            parse_server(&parameters.url).ok_or_else(|| OutletField::Url.invalid(expected_url()))?;
        let login = match (&parameters.user, &parameters.secret) {
            (Some(user), Some(password)) => Some(Login { user: user.clone(), password: password.clone() }),
            (None, None) => None,
            (Some(_), None) => return Err(OutletField::Secret.must("is required for the user")),
            (None, Some(_)) => return Err(OutletField::User.must("is required for the password")),
        };
        if login.as_ref().is_some_and(|login| !is_sendable(&login.user)) {
            return Err(OutletField::User.must("must have 1 to 255 characters, and no control characters"));
        }
        if login.as_ref().is_some_and(|login| !is_sendable(login.password.expose())) {
            return Err(OutletField::Secret.must("must have 1 to 255 characters, and no control characters"));
        }
        // An attacker on the network can hide that the server offers STARTTLS, and would get the password.
        if login.is_some() && encryption == Encryption::Opportunistic {
            return Err(OutletField::Url.must(
                "must not combine a password with tls=opportunistic: use tls=required, or tls=none in a network that \
                 you trust",
            ));
        }
        Ok(Self {
            host,
            port,
            encryption,
            login,
            from: parse_address(&parameters.from).map_err(|why| OutletField::From.invalid(why))?,
            from_name: parameters
                .from_name
                .as_deref()
                .map(Text::from_parameter)
                .transpose()
                .map_err(|why| OutletField::FromName.invalid(why))?,
            reply_to: parameters
                .reply_to
                .as_deref()
                .map(parse_address)
                .transpose()
                .map_err(|why| OutletField::ReplyTo.invalid(why))?,
            parameters,
        })
    }

    pub(super) const fn parameters(&self) -> &SmtpParameters {
        &self.parameters
    }

    pub(super) fn summary(&self) -> OutletSummary {
        OutletSummary {
            target: self.parameters.url.clone(),
            user: self.parameters.user.clone(),
            from: Some(self.from.as_str().to_owned()),
        }
    }

    /// Returns the host: a name, or an IP address without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn encryption(&self) -> Encryption {
        self.encryption
    }

    pub(crate) const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    pub(crate) fn from(&self) -> &str {
        self.from.as_str()
    }

    pub(crate) fn sender_name(&self) -> Option<&str> {
        self.from_name.as_ref().map(Text::as_str)
    }

    pub(crate) fn reply_to(&self) -> Option<&str> {
        self.reply_to.as_ref().map(EmailAddress::as_str)
    }
}

fn expected_url() -> Expected {
    Expected::new(
        "must have the form smtps://user:password@host:465, or smtp://user:password@host:587?tls=required, \
         opportunistic or none",
    )
}

/// Returns whether a mail server can be sent this as a user or a password.
fn is_sendable(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Parses a mail address whose sender is a mail server, so its local part must be ASCII.
fn parse_address(text: &str) -> Result<EmailAddress, Expected> {
    let address = EmailAddress::from_parameter(text)?;
    if crate::smtp::parse_address(text).is_none() {
        return Err(Expected::new("must be a mail address whose part before the at sign is ASCII"));
    }
    Ok(address)
}

/// Parses the URL of a mail server without user. Returns its host, port and encryption.
fn parse_server(text: &str) -> Option<(String, u16, Encryption)> {
    let url = Url::parse(text).ok()?;
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() || !text.is_ascii() {
        return None;
    }
    let (default_port, encryption) = match (url.scheme(), url.query()) {
        ("smtps", None) => (465, Encryption::Implicit),
        ("smtp", None | Some("tls=required")) => (587, Encryption::Required),
        ("smtp", Some("tls=opportunistic")) => (587, Encryption::Opportunistic),
        ("smtp", Some("tls=none")) => (587, Encryption::None),
        _ => return None,
    };
    // The scheme is none whose hosts the parser of URLs checks.
    let host = match Host::parse(url.host_str()?).ok()? {
        Host::Domain(name) => name,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let port = url.port().unwrap_or(default_port);
    (port != 0).then_some((host, port, encryption))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Result<SmtpSettings, InvalidOutlet> {
        let from = "codes@example.com".to_owned();
        SmtpSettings::new(SmtpParameters { url: url.to_owned(), from, ..SmtpParameters::default() })
    }

    #[test]
    fn url_names_server_encryption_and_user() {
        for (url, host, port, encryption, user) in [
            ("smtps://mail.example.com", "mail.example.com", 465, Encryption::Implicit, None),
            (
                "smtps://ann:p%40@Mail.example.com:4650/",
                "mail.example.com",
                4650,
                Encryption::Implicit,
                Some("p@"),
            ),
            ("smtp://ann:pw@10.0.0.1", "10.0.0.1", 587, Encryption::Required, Some("pw")),
            ("smtp://host:25?tls=required", "host", 25, Encryption::Required, None),
            ("smtp://[::1]:25?tls=opportunistic", "::1", 25, Encryption::Opportunistic, None),
            ("smtp://ann:pw@localhost?tls=none", "localhost", 587, Encryption::None, Some("pw")),
        ] {
            let found = settings(url).unwrap();
            assert_eq!((found.host(), found.port(), found.encryption()), (host, port, encryption), "{url}");
            assert_eq!(found.login().map(|login| login.password.expose().as_str()), user, "{url}");
            assert!(!found.summary().target.contains('@'));
        }
    }

    #[test]
    fn invalid_urls_are_refused() {
        for bad in [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "smtps://",
            "smtps://host:0",
            "smtps://host:65536",
            "smtps://host/path",
            "smtps://host#fragment",
            "smtps://host?tls=required",
            "smtp://host?tls=maybe",
            "smtp://host?tls=none&tls=none",
            "smtp://a b",
            "smtp://host%00",
            "smtp://ann:pw@host?tls=opportunistic",
            "smtp://ann:p w@host",
        ] {
            assert_eq!(settings(bad).err().map(|invalid| invalid.field), Some(OutletField::Url), "{bad}");
        }
    }

    #[test]
    fn user_and_password_belong_together() {
        let secret = Some(Secret::new("pw".to_owned()));
        let base = SmtpParameters {
            url: "smtps://host".to_owned(),
            from: "codes@example.com".to_owned(),
            ..SmtpParameters::default()
        };
        let field = |parameters| SmtpSettings::new(parameters).err().map(|invalid| invalid.field);
        let user = Some("ann".to_owned());
        let with_user = SmtpParameters { user: user.clone(), ..base.clone() };
        let with_secret = SmtpParameters { secret: secret.clone(), ..base.clone() };
        assert_eq!(field(with_user.clone()), Some(OutletField::Secret));
        assert_eq!(field(with_secret.clone()), Some(OutletField::User));
        assert_eq!(field(SmtpParameters { secret: secret.clone(), ..with_user.clone() }), None);
        let url = "smtps://ann:pw@host".to_owned();
        assert_eq!(field(SmtpParameters { url: url.clone(), ..with_user }), Some(OutletField::User));
        assert_eq!(field(SmtpParameters { url, ..with_secret.clone() }), Some(OutletField::Secret));
        let url = "smtps://ann@host".to_owned();
        assert_eq!(field(SmtpParameters { url, ..with_secret }), None);
        let secret = Some(Secret::new("p\nw".to_owned()));
        assert_eq!(field(SmtpParameters { user, secret, ..base }), Some(OutletField::Secret));
    }

    #[test]
    fn senders_are_checked() {
        let base = SmtpParameters { url: "smtps://host".to_owned(), ..SmtpParameters::default() };
        for bad in ["", "ann", "Ann <ann@example.com>", "grün@example.com", "a..b@example.com"] {
            let parameters = SmtpParameters { from: bad.to_owned(), ..base.clone() };
            assert_eq!(SmtpSettings::new(parameters).err().unwrap().field, OutletField::From, "{bad}");
        }
        let base = SmtpParameters { from: "ann@grün.example".to_owned(), ..base };
        assert!(SmtpSettings::new(base.clone()).is_ok());
        let parameters = SmtpParameters { reply_to: Some("bob".to_owned()), ..base.clone() };
        assert_eq!(SmtpSettings::new(parameters).err().unwrap().field, OutletField::ReplyTo);
        let parameters = SmtpParameters { from_name: Some("Owl\nBank".to_owned()), ..base };
        assert_eq!(SmtpSettings::new(parameters).err().unwrap().field, OutletField::FromName);
    }
}
