//! Why something is no credential, in words for the person who uploads it.

use std::fmt;

use domain::Timestamp;

/// What is wrong with an upload: one sentence, such as `the certificate expired on
/// 2026-01-01T00:00:00Z`. The fault alone can follow the name of the parameter that stands for the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct Invalid {
    /// Which part of it.
    pub field: Field,
    /// What is wrong with that.
    pub fault: Fault,
}

/// A part of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Apple's certificate.
    Certificate,
    /// The private key of a certificate, or for provider tokens.
    PrivateKey,
    /// The id of a `.p8` key.
    KeyId,
    /// The id of a team.
    TeamId,
    /// Google's JSON file.
    ServiceAccount,
}

impl Field {
    pub(super) const fn fault(self, fault: Fault) -> Invalid {
        Invalid { field: self, fault }
    }
}

impl fmt::Display for Field {
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

/// What can be wrong, worded to follow what it is said of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is no PEM section, and what there is, is not base64 either.
    #[error("is not a PEM: send the text from its BEGIN line to its END line")]
    NotPem,
    /// There are PEM sections, but not of the kind that was asked for.
    #[error("has no section BEGIN {0}")]
    OtherPem(&'static str),
    /// It takes a passphrase.
    #[error("is encrypted: export it without a passphrase")]
    Encrypted,
    /// The bytes are not a certificate.
    #[error("is not an X.509 certificate")]
    NotACertificate,
    /// It ended.
    #[error("expired on {0}")]
    Expired(Timestamp),
    /// It says itself that it is for the other environment.
    #[error("is good for {} only, so Sandbox must be {}", .0.as_str(), *.0 == super::Environment::Sandbox)]
    OtherEnvironment(super::Environment),
    /// The key is not that of the certificate.
    #[error("does not belong to the certificate")]
    OtherKey,
    /// Not a key, or of no use.
    #[error("is not a key that can be used here: it must be {0}")]
    UnsupportedKey(&'static str),
    /// A key for signatures, but not for ES256.
    #[error("is not on the curve P-256, so it is not an APNs key (.p8) of Apple's")]
    OtherCurve,
    /// Apple's ids have ten letters and digits.
    #[error("must be the 10 letters and digits that Apple shows")]
    NotTenCharacters,
    /// What Twilio once took, and Google no longer does.
    #[error(
        "is a server key of FCM's legacy API, which was shut down in 2024: create a service account and \
         send its JSON"
    )]
    LegacyKey,
    /// Not a JSON object.
    #[error("is not the JSON file of a service account")]
    NotJson,
    /// A JSON object, but another.
    #[error("is not the JSON file of a service account: the field {0} is missing")]
    Missing(&'static str),
    /// A field of it can't be used.
    #[error("has a field {field} that is not {expected}")]
    Malformed {
        /// Which.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}
