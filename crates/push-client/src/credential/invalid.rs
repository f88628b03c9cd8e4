//! Validation errors of uploaded credentials, worded for the person who uploads them.

use std::fmt;

use domain::Timestamp;

/// Why an uploaded credential is invalid. Displays as one sentence, such as `the certificate expired on
/// 2026-01-01T00:00:00Z`. The reason alone can follow the name of a request parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidCredential {
    /// The invalid part of the upload.
    pub field: CredentialField,
    /// Why it is invalid.
    pub reason: InvalidReason,
}

/// A part of an uploaded credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialField {
    /// The APNs certificate.
    Certificate,
    /// The private key of a certificate or for provider tokens.
    PrivateKey,
    /// The id of an APNs key (`.p8`).
    KeyId,
    /// The id of an Apple team.
    TeamId,
    /// The JSON file of a Google service account.
    ServiceAccount,
}

impl CredentialField {
    /// Builds the error for this field.
    pub(super) const fn invalid(self, reason: InvalidReason) -> InvalidCredential {
        InvalidCredential { field: self, reason }
    }
}

impl fmt::Display for CredentialField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the certificate",
            Self::PrivateKey => "the private key",
            Self::KeyId => "the key id",
            Self::TeamId => "the team id",
            Self::ServiceAccount => "the service account",
        })
    }
}

/// Why a field is invalid. The text follows the name of the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The text is neither PEM nor base64.
    #[error("is not in PEM format: send the text from its BEGIN line to its END line")]
    NotPem,
    /// The PEM text has no section with the expected label.
    #[error("has no PEM section BEGIN {0}")]
    MissingPemSection(&'static str),
    /// The key is protected with a passphrase.
    #[error("is encrypted: export it without a passphrase")]
    Encrypted,
    /// The decoded bytes are not a certificate.
    #[error("is not an X.509 certificate")]
    NotACertificate,
    /// The certificate has expired.
    #[error("expired on {0}")]
    Expired(Timestamp),
    /// The certificate is limited to the other environment.
    #[error("is valid for {} only, so Sandbox must be {}", .0.as_str(), *.0 == super::Environment::Sandbox)]
    WrongEnvironment(super::Environment),
    /// The private key does not match the certificate.
    #[error("does not belong to the certificate")]
    KeyMismatch,
    /// The text is not a private key, or its type is not supported.
    #[error("is not supported: it must be {0}")]
    UnsupportedKey(&'static str),
    /// The key is a signing key, but not one for ES256.
    #[error("is not on the curve P-256, so it is not an APNs key (.p8) from Apple")]
    WrongCurve,
    /// The id does not have exactly ten letters and digits.
    #[error("must be the 10 letters and digits that Apple shows")]
    NotTenCharacters,
    /// The text is a server key of the legacy FCM API.
    #[error(
        "is a server key of FCM's legacy API, which was shut down in 2024: create a service account and \
         send its JSON"
    )]
    LegacyKey,
    /// The text is not a JSON object.
    #[error("is not the JSON file of a service account")]
    NotJson,
    /// A field of the JSON object is missing or is not a string.
    #[error("is not the JSON file of a service account: the field {0} is missing")]
    MissingJsonField(&'static str),
    /// A field of the JSON object has an invalid value.
    #[error("has an invalid field {field}: expected {expected}")]
    InvalidJsonField {
        /// Name of the field.
        field: &'static str,
        /// Description of valid values.
        expected: &'static str,
    },
}
