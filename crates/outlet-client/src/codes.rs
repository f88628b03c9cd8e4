//! Error codes of messages that were not sent. Alerts and attempts show them (docs/errors.md).

/// A gateway did not accept a message, and gave no code of its own.
pub(crate) const UNKNOWN_ERROR: u32 = 30008;

/// A mail server did not accept a mail.
pub(crate) const MAIL_NOT_SENT: u32 = 60603;

/// A mail server did not accept the user or the password, or requires ones.
pub(crate) const MAIL_LOGIN_REFUSED: u32 = 60604;
