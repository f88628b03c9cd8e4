//! The safe list: phone numbers of an account to which codes are sent although many were sent to numbers like them, or
//! to their country (docs/protocol/verifications.md).

use crate::recipients::PhoneNumber;
use crate::sids::{AccountSid, SafeNumberSid};
use crate::time::Timestamp;

/// A phone number on the safe list of an account, as it is stored.
#[derive(Clone, Debug)]
pub struct SafeNumber {
    /// SID of the entry (`GN…`).
    pub sid: SafeNumberSid,
    /// Account that owns the safe list.
    pub account_sid: AccountSid,
    /// Phone number, unique in the account.
    pub phone_number: PhoneNumber,
    /// Creation time of the entry.
    pub created_at: Timestamp,
}
