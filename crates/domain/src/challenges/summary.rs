//! What a stream shows of a challenge.

use std::fmt;

use crate::challenges::{State, Status};
use crate::sids::{ChallengeSid, FactorSid, ServiceSid};
use crate::text::Identity;
use crate::time::Timestamp;

/// The state of a challenge without what the user is asked, as streams show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeSummary {
    /// SID of the challenge.
    pub sid: ChallengeSid,
    /// Service to which the challenge belongs.
    pub service_sid: ServiceSid,
    /// Identity of the entity; `None` as long as a passkey challenge is for any passkey.
    pub identity: Option<Identity>,
    /// Factor that must answer the challenge, or has answered it; `None` as long as a passkey challenge is for several.
    pub factor_sid: Option<FactorSid>,
    /// Stored state of the challenge.
    pub state: State,
    /// Expiry of the challenge.
    pub expires_at: Timestamp,
    /// Time of the last change to the challenge.
    pub updated_at: Timestamp,
}

impl ChallengeSummary {
    /// Returns the status that callers see at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        self.state.status(self.expires_at, now)
    }

    /// Returns the version of the challenge that callers see at `now`. It differs from that of every earlier status.
    pub fn version(&self, now: Timestamp) -> Version {
        let status = self.status(now);
        let is_expired_by_time = status == Status::Expired && self.state == State::Pending;
        Version { at: if is_expired_by_time { self.expires_at } else { self.updated_at }, status }
    }
}

/// A version of a challenge: its status, and when it began or was last changed.
///
/// The status is a part of it because an answer may have the same time as the creation: the clock may be coarse, or may
/// have been set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Time of the last change, or of the expiry.
    pub at: Timestamp,
    /// Status since then.
    pub status: Status,
}

/// Formats the version as the ID of its event: `1764357851020113-pending`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.micros(), self.status.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenges::Answer;
    use crate::sids::Sid as _;

    #[test]
    fn version_changes_with_answer_expiry_and_deletion_of_the_factor() {
        let (created, expires) = (Timestamp::from_seconds(100), Timestamp::from_seconds(400));
        let pending = ChallengeSummary {
            sid: ChallengeSid::from_bytes([3; 16]),
            service_sid: ServiceSid::from_bytes([1; 16]),
            identity: None,
            factor_sid: None,
            state: State::Pending,
            expires_at: expires,
            updated_at: created,
        };
        let answered =
            |answer| ChallengeSummary { state: State::Answered { answer, at: created }, ..pending.clone() };
        let voided = ChallengeSummary { state: State::Voided, ..pending.clone() };
        let version = |at, status| Version { at, status };
        let before = Timestamp::from_micros(expires.micros() - 1);
        for (summary, now, expected) in [
            (pending.clone(), before, version(created, Status::Pending)),
            (pending.clone(), expires, version(expires, Status::Expired)),
            (voided.clone(), before, version(created, Status::Expired)),
            (voided, expires, version(created, Status::Expired)),
            (answered(Answer::Approved), before, version(created, Status::Approved)),
            (answered(Answer::Denied), expires, version(created, Status::Denied)),
        ] {
            assert_eq!(summary.version(now), expected);
        }
    }
}
