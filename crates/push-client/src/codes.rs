//! Codes of the debugger that belong to no single answer of a provider (docs/protocol/errors.md, section 6).

/// Something on this side is broken.
pub(crate) const INTERNAL: u32 = 52000;
/// The credential is malformed or has expired.
pub(crate) const INVALID_CREDENTIAL_CONTENT: u32 = 52005;
/// Apple does not take the certificate: it is broken or was revoked.
pub(crate) const APNS_CREDENTIAL: u32 = 52131;
/// Apple's servers can't be reached.
pub(crate) const APNS_UNREACHABLE: u32 = 52139;
/// Google does not take the service account.
pub(crate) const FCM_CREDENTIAL: u32 = 52101;
/// Over Google's limit.
pub(crate) const FCM_TOO_LARGE: u32 = 52106;
/// Google's servers can't be reached.
pub(crate) const FCM_UNREACHABLE: u32 = 52110;
/// Google's servers say what nobody understands.
pub(crate) const FCM_UNKNOWN: u32 = 52111;
