//! Push credentials. They are parsed and validated when they are uploaded, so that the person who uploads one
//! sees what is wrong with it.
//!
//! | Type | Upload | File |
//! | --- | --- | --- |
//! | APNs certificate | a certificate and its private key | [`apns_certificate`] |
//! | APNs provider token | a `.p8` key, its id, and the id of the team | [`apns_token`] |
//! | FCM service account | the JSON file of a service account | [`service_account`] |

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
pub use invalid::{CredentialField, InvalidCredential, InvalidReason};
pub use service_account::ServiceAccount;

/// A valid push credential. Its `Debug` output contains no secrets; only [`Credential::to_bytes`] exposes
/// them.
#[derive(Clone)]
pub enum Credential {
    /// A TLS client certificate of one app, as in Twilio's credentials of type `apn`.
    ApnsCertificate(ApnsCertificate),
    /// A key that signs provider tokens for all apps of a team.
    ApnsToken(ApnsToken),
    /// A service account of a Firebase project.
    Fcm(ServiceAccount),
}

/// The public properties of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSummary {
    /// The provider.
    pub kind: CredentialType,
    /// APNs certificate: the topics it is valid for, the app's bundle id first. Empty for a provider token,
    /// which is valid for all apps of its team.
    pub topics: Vec<String>,
    /// APNs: the team id, if known.
    pub team: Option<String>,
    /// FCM: the project id.
    pub project: Option<String>,
    /// APNs: the environment that receives the pushes.
    pub environment: Option<Environment>,
    /// When the credential expires, if it does.
    pub not_after: Option<Timestamp>,
}

/// An APNs environment. A device token is valid in one of them, depending on how the app was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// `api.sandbox.push.apple.com`, for development builds.
    Sandbox,
    /// `api.push.apple.com`, for the App Store and TestFlight.
    Production,
}

impl Environment {
    /// Converts the `Sandbox` parameter of a credential.
    pub const fn from_sandbox(sandbox: bool) -> Self {
        if sandbox { Self::Sandbox } else { Self::Production }
    }

    /// Returns `sandbox` or `production`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }
}

impl Credential {
    /// Parses a certificate and its private key. Accepts PEM with any text around it, PEM with literal `\n`
    /// for the line breaks, and bare base64.
    ///
    /// # Errors
    /// Returns an error if the certificate or key is invalid, they do not match, the certificate has expired
    /// at `now`, or it is limited to the other environment.
    pub fn apns_certificate(
        certificate_pem: &str,
        private_key_pem: &str,
        sandbox: bool,
        now: Timestamp,
    ) -> Result<Self, InvalidCredential> {
        let environment = Environment::from_sandbox(sandbox);
        let certificate = ApnsCertificate::parse(certificate_pem, private_key_pem, environment)?;
        if certificate.not_after() <= now {
            return Err(CredentialField::Certificate.invalid(InvalidReason::Expired(certificate.not_after())));
        }
        Ok(Self::ApnsCertificate(certificate))
    }

    /// Parses a key for provider tokens, its id, and the id of the team. Each id has ten characters.
    ///
    /// # Errors
    /// Returns an error for the first invalid value.
    pub fn apns_token(
        private_key_p8: &str,
        key_id: &str,
        team_id: &str,
        sandbox: bool,
    ) -> Result<Self, InvalidCredential> {
        ApnsToken::parse(private_key_p8, key_id, team_id, Environment::from_sandbox(sandbox))
            .map(Self::ApnsToken)
    }

    /// Parses the JSON file of a service account.
    ///
    /// # Errors
    /// Returns an error if the text is not such a file or a required field is missing or invalid.
    pub fn fcm(service_account_json: &str) -> Result<Self, InvalidCredential> {
        ServiceAccount::parse(service_account_json).map(Self::Fcm)
    }

    /// Moves the credential to another APNs environment. FCM credentials are returned unchanged.
    ///
    /// # Errors
    /// Returns an error if the certificate is limited to the other environment.
    pub fn in_environment(self, environment: Environment) -> Result<Self, InvalidCredential> {
        match self {
            Self::ApnsCertificate(certificate) => {
                certificate.in_environment(environment).map(Self::ApnsCertificate)
            }
            Self::ApnsToken(token) => Ok(Self::ApnsToken(token.in_environment(environment))),
            Self::Fcm(account) => Ok(Self::Fcm(account)),
        }
    }

    /// Returns the public properties.
    pub fn summary(&self) -> CredentialSummary {
        match self {
            Self::ApnsCertificate(certificate) => certificate.summary(),
            Self::ApnsToken(token) => token.summary(),
            Self::Fcm(account) => account.summary(),
        }
    }
}

/// Removes the byte-order mark that some editors add.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.summary()).finish()
    }
}
