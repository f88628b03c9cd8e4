//! Notifications: additional pushes about a challenge, which a backend requests (docs/protocol/resources.md, section
//! 5).

use crate::challenges::{Challenge, PushChallenge};
use crate::factors::{Notification as Address, Platform};
use crate::parameter::Bounded;
use crate::problem::{Code, Problem};
use crate::sids::{ChallengeSid, NotificationSid};
use crate::time::Timestamp;

/// Maximum number of notifications per challenge.
pub const MAX_PER_CHALLENGE: i64 = 3;

/// Number of seconds for which a push provider may store a push, 0 to 300; 0 means deliver now or never.
pub type Ttl = Bounded<0, 300>;

/// A notification: an additional push that a backend requested.
#[derive(Clone, Debug)]
pub struct Notification {
    /// SID of the notification (`NT…`).
    pub sid: NotificationSid,
    /// Challenge that the push is about.
    pub challenge_sid: ChallengeSid,
    /// Number of seconds for which the push provider may store the push.
    pub ttl: Ttl,
    /// Time at which the backend requested the push.
    pub created_at: Timestamp,
}

/// Checks that a backend may request another push about this challenge, after `previous` notifications.
///
/// # Errors
/// Returns error 60322 if the challenge was answered, and 60323 if it has expired. Returns error 60307 if its device
/// receives no pushes, and 60309 after [`MAX_PER_CHALLENGE`] notifications.
pub fn require_notifiable(
    challenge: &Challenge<PushChallenge>,
    address: &Address,
    previous: i64,
    now: Timestamp,
) -> Result<(), Problem> {
    challenge.require_pending(now)?;
    if address.platform() == Platform::None {
        return Err(Code::NoNotificationPlatform.into());
    }
    if previous >= MAX_PER_CHALLENGE {
        return Err(Code::TooManyNotifications.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::challenges::State;
    use crate::challenges::push::tests::challenge;
    use crate::factors::RegistrationToken;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn pending_challenge_allows_three_notifications() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let voided = challenge(State::Voided, NOW.plus_seconds(300));
        let address = Address::Apn(RegistrationToken::from_stored("token".into()));
        let check = |challenge, address, previous, now| {
            require_notifiable(challenge, address, previous, now).map_err(|problem| problem.code())
        };
        assert_eq!(check(&pending, &address, 0, NOW), Ok(()));
        assert_eq!(check(&pending, &address, 2, NOW), Ok(()));
        assert_eq!(check(&pending, &address, 3, NOW), Err(Code::TooManyNotifications));
        assert_eq!(check(&pending, &address, 4, NOW), Err(Code::TooManyNotifications));
        assert_eq!(check(&pending, &Address::None, 0, NOW), Err(Code::NoNotificationPlatform));
        assert_eq!(check(&pending, &address, 0, pending.expires_at), Err(Code::ChallengeExpired));
        assert_eq!(check(&voided, &address, 0, NOW), Err(Code::ChallengeExpired));
    }

    #[test]
    fn notification_time_to_live_is_zero_to_five_minutes() {
        let times = [-1, 0, 300, 301].map(|seconds| Ttl::new(seconds).map(Ttl::get));
        assert_eq!(times, [None, Some(0), Some(300), None]);
    }
}
