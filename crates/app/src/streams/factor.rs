//! What the stream of a factor reads.

use std::collections::HashMap;

use domain::challenges::{ChallengeSummary, Status, Version};
use domain::{AccountSid, ChallengeSid, EntitySid, Factor, FactorSid, ServiceSid, Timestamp};
use store::Read;

use crate::App;
use crate::error::Error;
use crate::streams::{EndReason, Look, StreamEvent, observe_delay};

/// Maximum number of pending challenges that a stream follows: the newest ones.
const MAX_PENDING: usize = 100;

/// The factor whose challenges a stream follows.
pub(super) struct FactorSource {
    account_sid: AccountSid,
    service_sid: ServiceSid,
    entity_sid: EntitySid,
    sid: FactorSid,
    /// The pending challenges that were sent.
    pending: HashMap<ChallengeSid, Sent>,
    has_begun: bool,
}

/// A pending challenge that was sent.
#[derive(Clone, Copy)]
struct Sent {
    version: Version,
    expires_at: Timestamp,
}

impl FactorSource {
    pub(super) fn new<Kind>(factor: &Factor<Kind>) -> Self {
        let Factor { account_sid, service_sid, entity_sid, sid, .. } = *factor;
        Self { account_sid, service_sid, entity_sid, sid, pending: HashMap::new(), has_begun: false }
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.pending.values().map(|sent| sent.expires_at).min()
    }

    /// Reads the pending challenges and those that were pending, and returns the new versions.
    pub(super) async fn look(&mut self, app: &App) -> Result<Look, Error> {
        let now = app.now();
        let Found { exists, summaries } = self.find(app, now).await?;
        let mut look = Look::default();
        for summary in summaries {
            let version = summary.version(now);
            let previous = match version.status {
                Status::Pending => {
                    let sent = Sent { version, expires_at: summary.expires_at };
                    self.pending.insert(summary.sid, sent)
                }
                _ => self.pending.remove(&summary.sid),
            };
            if previous.is_none_or(|sent| sent.version != version) {
                if self.has_begun {
                    observe_delay(version.at, now);
                }
                look.events.push(StreamEvent::Challenge(summary, version));
            }
        }
        if !self.has_begun {
            look.events.push(StreamEvent::Pending(self.pending.keys().copied().collect()));
        }
        self.has_begun = true;
        if !exists {
            look.end = Some(EndReason::Gone);
        }
        Ok(look)
    }

    /// Reads the challenges that are pending, and those that were sent as pending. They are sorted from oldest to
    /// newest.
    async fn find(&mut self, app: &App, now: Timestamp) -> Result<Found, Error> {
        let Self { account_sid, service_sid, entity_sid, sid, .. } = *self;
        let sent: Vec<_> = self.pending.keys().copied().collect();
        let read = async move |db: &mut Read| {
            let limit = i64::try_from(MAX_PENDING).unwrap_or(i64::MAX);
            let mut summaries = db.pending_summaries(entity_sid, sid, now, limit).await?;
            // A challenge that is still pending but no longer among the newest is not followed any more.
            let mut ended: Vec<ChallengeSummary> = Vec::new();
            for challenge in &sent {
                if !summaries.iter().any(|summary| summary.sid == *challenge) {
                    let found = db.challenge_summary(account_sid, service_sid, *challenge).await?;
                    ended.extend(found.filter(|summary| summary.status(now) != Status::Pending));
                }
            }
            summaries.extend(ended);
            summaries.sort_by_key(|summary| summary.sid);
            let exists = db.has_factor(service_sid, entity_sid, sid).await?;
            Ok::<_, Error>(Found { exists, summaries })
        };
        let found = app.store.read(read).await?;
        self.pending.retain(|sid, _| found.summaries.iter().any(|summary| summary.sid == *sid));
        Ok(found)
    }
}

/// What a read has found.
struct Found {
    /// Whether the factor exists.
    exists: bool,
    summaries: Vec<ChallengeSummary>,
}
