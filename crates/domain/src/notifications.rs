//! Notifications: pushes that a backend asks for once more (protocol 02 section 5).

use crate::challenges::{Challenge, Status};
use crate::factors::{Notification as Address, Platform};
use crate::parameter::Bounded;
use crate::problem::{Code, Problem};
use crate::sids::{ChallengeSid, NotificationSid};
use crate::time::Timestamp;

/// Notifications that a challenge can have.
pub const MAX_PER_CHALLENGE: i64 = 3;

/// Seconds that a push provider may keep a push; 0 means now or never.
pub type Ttl = Bounded<0, 300>;

/// A push that was asked for.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `NT…`
    pub sid: NotificationSid,
    /// About which challenge.
    pub challenge_sid: ChallengeSid,
    /// How long it may take.
    pub ttl: Ttl,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Whether a push about this challenge can be asked for once more, when `asked` have been.
///
/// # Errors
/// 60322 and 60323 when the challenge can't be answered any more, 60307 when its device hears of nothing,
/// 60309 for the fourth.
pub fn may_notify(
    challenge: &Challenge,
    address: &Address,
    asked: i64,
    now: Timestamp,
) -> Result<(), Problem> {
    if challenge.status(now) != Status::Pending {
        challenge.answerable(now)?;
    }
    if address.platform() == Platform::None {
        return Err(Code::NothingToNotify.into());
    }
    if asked >= MAX_PER_CHALLENGE {
        return Err(Code::TooManyNotifications.into());
    }
    Ok(())
}
