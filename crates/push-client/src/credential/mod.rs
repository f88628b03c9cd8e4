//! What lets this server push in an app's name: parsed and checked once, when it is uploaded, so that
//! what is wrong with it is said to the person who can mend it.
//!
//! | Kind | What is uploaded | File |
//! | --- | --- | --- |
//! | Apple, by certificate | a certificate and its private key | [`apns_certificate`] |
//! | Apple, by token | a `.p8` key, its id and the team's | [`apns_token`] |
//! | Google | the JSON file of a service account | [`service_account`] |

pub mod apns_certificate;
pub mod apns_token;
mod invalid;
mod pem;
mod private_key;
pub mod service_account;
mod stored;

use std::fmt;

use domain::Timestamp;
use domain::credentials::CredentialType;

pub use apns_certificate::ApnsCertificate;
pub use apns_token::ApnsToken;
pub use invalid::{Fault, Field, Invalid};
pub use service_account::ServiceAccount;

/// A push credential, ready for use. It does not print; [`Credential::to_bytes`] is the only way out for
/// its secrets.
#[derive(Clone)]
pub enum Credential {
    /// A TLS client certificate of one app: what Twilio's credentials of type `apn` hold.
    ApnsCertificate(ApnsCertificate),
    /// A key that signs for all apps of a team.
    ApnsToken(ApnsToken),
    /// A service account of a Firebase project.
    Fcm(ServiceAccount),
}

/// What may be shown of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which provider it is for.
    pub kind: CredentialType,
    /// Apple: the topics that a certificate says it is good for, its app's bundle id first. A token is
    /// good for all apps of its team, and names none.
    pub topics: Vec<String>,
    /// Apple: the team, where it is known.
    pub team: Option<String>,
    /// Google: the project.
    pub project: Option<String>,
    /// Apple: where its pushes go to.
    pub environment: Option<Environment>,
    /// When it ends, if it does by itself.
    pub not_after: Option<Timestamp>,
}

/// Apple's two worlds: a device's token is good in one of them, depending on how the app was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// `api.sandbox.push.apple.com`, for builds out of Xcode.
    Sandbox,
    /// `api.push.apple.com`, for the App Store and TestFlight.
    Production,
}

impl Environment {
    /// The environment that the parameter `Sandbox` of a credential stands for.
    pub const fn of(sandbox: bool) -> Self {
        if sandbox { Self::Sandbox } else { Self::Production }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }
}

impl Credential {
    /// A certificate and its private key, from texts as people have them: PEM with whatever stands around
    /// it, with `\n` for the line breaks, or only the base64 between the lines.
    ///
    /// # Errors
    /// [`Invalid`] says which of the two is wrong, and how.
    pub fn apns_certificate(
        certificate_pem: &str,
        private_key_pem: &str,
        sandbox: bool,
        now: Timestamp,
    ) -> Result<Self, Invalid> {
        let environment = Environment::of(sandbox);
        let certificate = ApnsCertificate::parse(certificate_pem, private_key_pem, environment)?;
        if certificate.not_after() <= now {
            return Err(Field::Certificate.fault(Fault::Expired(certificate.not_after())));
        }
        Ok(Self::ApnsCertificate(certificate))
    }

    /// A key for provider tokens, with its id and the team's, each ten characters.
    ///
    /// # Errors
    /// [`Invalid`] says which of the three is wrong, and how.
    pub fn apns_token(
        private_key_p8: &str,
        key_id: &str,
        team_id: &str,
        sandbox: bool,
    ) -> Result<Self, Invalid> {
        ApnsToken::parse(private_key_p8, key_id, team_id, Environment::of(sandbox)).map(Self::ApnsToken)
    }

    /// A service account, from the whole JSON file that Google makes.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong.
    pub fn fcm(service_account_json: &str) -> Result<Self, Invalid> {
        ServiceAccount::parse(service_account_json).map(Self::Fcm)
    }

    /// The same for this environment of Apple's; Google has only one.
    ///
    /// # Errors
    /// [`Invalid`] when a certificate says that it is for the other.
    pub fn in_environment(self, environment: Environment) -> Result<Self, Invalid> {
        match self {
            Self::ApnsCertificate(certificate) => {
                certificate.in_environment(environment).map(Self::ApnsCertificate)
            }
            Self::ApnsToken(token) => Ok(Self::ApnsToken(token.in_environment(environment))),
            Self::Fcm(account) => Ok(Self::Fcm(account)),
        }
    }

    /// What may be shown of it.
    pub fn summary(&self) -> Summary {
        match self {
            Self::ApnsCertificate(certificate) => certificate.summary(),
            Self::ApnsToken(token) => token.summary(),
            Self::Fcm(account) => account.summary(),
        }
    }
}

/// A text without the byte-order mark that some editors put in front of it.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.summary()).finish()
    }
}
