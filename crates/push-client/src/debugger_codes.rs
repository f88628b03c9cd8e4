//! Debugger codes for failures that are not in a provider's error table (docs/protocol/errors.md, section 6).

/// This server had an internal error.
pub(crate) const INTERNAL: u32 = 52000;
/// The push credential is malformed or expired.
pub(crate) const INVALID_CREDENTIAL_CONTENT: u32 = 52005;
/// APNs rejected the client certificate, because it is invalid or revoked.
pub(crate) const APNS_CREDENTIAL: u32 = 52131;
/// The APNs servers are unreachable.
pub(crate) const APNS_UNREACHABLE: u32 = 52139;
/// Google rejected the service account.
pub(crate) const FCM_CREDENTIAL: u32 = 52101;
/// The push is larger than FCM allows.
pub(crate) const FCM_TOO_LARGE: u32 = 52106;
/// The FCM servers are unreachable.
pub(crate) const FCM_UNREACHABLE: u32 = 52110;
/// The response of an FCM server could not be interpreted.
pub(crate) const FCM_UNKNOWN: u32 = 52111;
