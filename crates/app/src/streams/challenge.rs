//! What the stream of a challenge reads.

use domain::challenges::{Status, Version};
use domain::{AccountSid, Challenge, ChallengeSid, ServiceSid, Timestamp};
use store::Read;

use crate::App;
use crate::error::Error;
use crate::streams::{EndReason, Look, StreamEvent, observe_delay};

/// The challenge that a stream follows.
pub(super) struct ChallengeSource {
    account_sid: AccountSid,
    service_sid: ServiceSid,
    sid: ChallengeSid,
    /// The version that an earlier stream of the client sent last.
    last_event_id: Option<String>,
    /// The version that was read last.
    latest: Option<Version>,
    expires_at: Timestamp,
}

impl ChallengeSource {
    pub(super) fn new(challenge: &Challenge, last_event_id: Option<String>) -> Self {
        let Challenge { account_sid, service_sid, sid, expires_at, .. } = *challenge;
        Self { account_sid, service_sid, sid, last_event_id, latest: None, expires_at }
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.latest.is_some_and(|latest| latest.status == Status::Pending).then_some(self.expires_at)
    }

    /// Reads the challenge, and returns its version if it is new.
    pub(super) async fn look(&mut self, app: &App) -> Result<Look, Error> {
        let (account_sid, service_sid, sid) = (self.account_sid, self.service_sid, self.sid);
        let read = async move |db: &mut Read| {
            Ok::<_, Error>(db.challenge_summary(account_sid, service_sid, sid).await?)
        };
        let Some(summary) = app.store.read(read).await? else { return Ok(Look::end(EndReason::Gone)) };
        let now = app.now();
        let version = summary.version(now);
        let is_first = self.latest.is_none();
        let is_known = match self.latest.replace(version) {
            Some(latest) => latest == version,
            None => self.last_event_id.take().is_some_and(|id| id == version.to_string()),
        };
        let mut look = Look::default();
        if !is_known {
            if !is_first {
                observe_delay(version.at, now);
            }
            look.events.push(StreamEvent::Challenge(summary, version));
        }
        if version.status != Status::Pending {
            look.end = Some(EndReason::Final);
        }
        Ok(look)
    }
}
