//! Notifications: pushes that a backend asks for once more (docs/protocol/resources.md, section 5).

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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::challenges::State;
    use crate::challenges::tests::challenge;
    use crate::factors::RegistrationToken;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn a_pending_challenge_can_be_pushed_three_more_times() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let voided = challenge(State::Voided, NOW.plus_seconds(300));
        let address = Address::Apn(RegistrationToken::from_stored("token".into()));
        let may = |challenge, address, asked, now| {
            may_notify(challenge, address, asked, now).map_err(|no| no.code())
        };
        assert_eq!(may(&pending, &address, 0, NOW), Ok(()));
        assert_eq!(may(&pending, &address, 2, NOW), Ok(()));
        assert_eq!(may(&pending, &address, 3, NOW), Err(Code::TooManyNotifications));
        assert_eq!(may(&pending, &address, 4, NOW), Err(Code::TooManyNotifications));
        assert_eq!(may(&pending, &Address::None, 0, NOW), Err(Code::NothingToNotify));
        assert_eq!(may(&pending, &address, 0, pending.expires_at), Err(Code::ChallengeExpired));
        assert_eq!(may(&voided, &address, 0, NOW), Err(Code::ChallengeExpired));
    }

    #[test]
    fn a_provider_may_keep_a_push_for_none_to_five_minutes() {
        let times = [-1, 0, 300, 301].map(|seconds| Ttl::new(seconds).map(Ttl::get));
        assert_eq!(times, [None, Some(0), Some(300), None]);
    }
}
