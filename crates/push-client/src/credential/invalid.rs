//! Validation errors for uploaded push credentials, worded for the person who uploads them.

use std::fmt;

use domain::Timestamp;

/// Why an uploaded credential is invalid. Displayed as a sentence, such as `the certificate expired on
/// 2026-01-01T00:00:00Z`. The `reason` alone can be displayed after the name of a request parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidCredential {
    /// The part of the upload that is invalid.
    pub field: CredentialField,
    /// Why this part is invalid.
    pub reason: InvalidReason,
}

/// A part of an uploaded push credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialField {
    /// The certificate of an APNs credential.
    Certificate,
    /// The private key of an APNs certificate, or the key that signs provider tokens.
    PrivateKey,
    /// The key id that Apple assigned to an APNs key (`.p8`).
    KeyId,
    /// The team id that Apple assigned to the developer team.
    TeamId,
    /// The JSON file of a Google service account.
    ServiceAccount,
}

impl CredentialField {
    /// Returns the error that this field is invalid because of `reason`.
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

/// Why a credential field is invalid. The displayed text is a predicate that follows the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The uploaded text is neither PEM nor base64.
    #[error("is not in PEM format: send the text from its BEGIN line to its END line")]
    NotPem,
    /// The PEM text has no section with this label.
    #[error("has no PEM section BEGIN {0}")]
    MissingPemSection(&'static str),
    /// The private key is encrypted with a passphrase.
    #[error("is encrypted: export it without a passphrase")]
    Encrypted,
    /// The decoded bytes are not a certificate.
    #[error("is not an X.509 certificate")]
    NotACertificate,
    /// The certificate expired at this time.
    #[error("expired on {0}")]
    Expired(Timestamp),
    /// The certificate is valid in this environment only, which is not the requested one.
    #[error("is valid for {} only, so Sandbox must be {}", .0.as_str(), *.0 == super::Environment::Sandbox)]
    WrongEnvironment(super::Environment),
    /// The private key does not match the certificate.
    #[error("does not belong to the certificate")]
    KeyMismatch,
    /// The text is not a private key, or the key's type is not among these supported ones.
    #[error("is not supported: it must be {0}")]
    UnsupportedKey(&'static str),
    /// The key is a valid private key, but not on the curve P-256, which ES256 requires.
    #[error("is not on the curve P-256, so it is not an APNs key (.p8) from Apple")]
    WrongCurve,
    /// The id does not consist of exactly ten letters and digits.
    #[error("must be the 10 letters and digits that Apple shows")]
    NotTenCharacters,
    /// The uploaded text is a server key of FCM's legacy API.
    #[error(
        "is a server key of FCM's legacy API, which was shut down in 2024: create a service account and \
         send its JSON"
    )]
    LegacyKey,
    /// The uploaded text is not a JSON object.
    #[error("is not the JSON file of a service account")]
    NotJson,
    /// This field of the JSON object is missing, empty, or not a string.
    #[error("is not the JSON file of a service account: the field {0} is missing")]
    MissingJsonField(&'static str),
    /// A field of the service account's JSON object has an invalid value.
    #[error("has an invalid field {field}: expected {expected}")]
    InvalidJsonField {
        /// Name of the invalid JSON field.
        field: &'static str,
        /// Description of the values that are valid.
        expected: &'static str,
    },
}
