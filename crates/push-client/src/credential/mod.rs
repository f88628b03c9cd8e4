//! Push credentials. They are parsed and validated during the upload, so that the person who uploads them
//! gets the error message.
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
    /// An APNs certificate for one app, as in Twilio's credentials of type `apn`.
    ApnsCertificate(ApnsCertificate),
    /// An APNs key, which signs provider tokens for all apps of a team.
    ApnsToken(ApnsToken),
    /// The service account of a Firebase project.
    Fcm(ServiceAccount),
}

/// The properties of a credential that are not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSummary {
    /// The push provider that the credential is for.
    pub kind: CredentialType,
    /// The topics of an APNs certificate, the app's bundle id first. Empty for an APNs key, which is valid
    /// for all apps of its team, and for FCM.
    pub topics: Vec<String>,
    /// Apple's id of the team, if known. `None` for FCM.
    pub team: Option<String>,
    /// The id of the Firebase project. `None` for APNs.
    pub project: Option<String>,
    /// The APNs environment that pushes are sent to. `None` for FCM.
    pub environment: Option<Environment>,
    /// When the certificate expires. `None` for credentials that do not expire.
    pub not_after: Option<Timestamp>,
}

/// An APNs environment. A device token is valid in only one of them, depending on how the app was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The sandbox, `api.sandbox.push.apple.com`, for development builds of an app.
    Sandbox,
    /// The production environment, `api.push.apple.com`, for apps from the App Store and TestFlight.
    Production,
}

impl Environment {
    /// Returns the environment that a credential's `Sandbox` parameter selects.
    pub const fn from_sandbox(sandbox: bool) -> Self {
        if sandbox { Self::Sandbox } else { Self::Production }
    }

    /// Returns the environment's name, `sandbox` or `production`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }
}

impl Credential {
    /// Parses an APNs certificate and its private key. Accepts PEM with any text around it, PEM with literal
    /// `\n` as line breaks, and bare base64.
    ///
    /// # Errors
    /// Returns an error if the certificate or key is invalid, if they do not match, if the certificate has
    /// expired at `now`, or if it is limited to the other environment.
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

    /// Parses an APNs key for provider tokens, its key id, and its team's id. Each id has ten characters.
    ///
    /// # Errors
    /// Returns an error if the key or an id is invalid. Only the first invalid value is reported.
    pub fn apns_token(
        private_key_p8: &str,
        key_id: &str,
        team_id: &str,
        sandbox: bool,
    ) -> Result<Self, InvalidCredential> {
        ApnsToken::parse(private_key_p8, key_id, team_id, Environment::from_sandbox(sandbox))
            .map(Self::ApnsToken)
    }

    /// Parses the JSON file of a Google service account.
    ///
    /// # Errors
    /// Returns an error if the text is not such a file or a required field is missing or invalid.
    pub fn fcm(service_account_json: &str) -> Result<Self, InvalidCredential> {
        ServiceAccount::parse(service_account_json).map(Self::Fcm)
    }

    /// Returns the credential for the APNs environment `environment`. FCM credentials are returned unchanged.
    ///
    /// # Errors
    /// Returns an error if the credential is a certificate that is limited to the other environment.
    pub fn in_environment(self, environment: Environment) -> Result<Self, InvalidCredential> {
        match self {
            Self::ApnsCertificate(certificate) => {
                certificate.in_environment(environment).map(Self::ApnsCertificate)
            }
            Self::ApnsToken(token) => Ok(Self::ApnsToken(token.in_environment(environment))),
            Self::Fcm(account) => Ok(Self::Fcm(account)),
        }
    }

    /// Returns the properties that are not secret.
    pub fn summary(&self) -> CredentialSummary {
        match self {
            Self::ApnsCertificate(certificate) => certificate.summary(),
            Self::ApnsToken(token) => token.summary(),
            Self::Fcm(account) => account.summary(),
        }
    }
}

/// Returns `text` without the byte-order mark that some editors put at the start.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.summary()).finish()
    }
}
