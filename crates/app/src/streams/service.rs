//! What the stream of a service reads.
//!
//! A record is sent as soon as it is committed, before it is part of the audit chain, and the position is sent when the
//! chain has moved on. A client that continues after a position gets every chained record behind it, and then the
//! unchained ones: each record at least once. Creation times and SIDs could not be positions, because a transaction of
//! PostgreSQL may commit later than one that began after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::audit::AuditRecord;
use domain::streams::{EventSelection, LoggedEvent};
use domain::{AccountSid, EntitySid, EventSid, FactorSid, Service, ServiceSid};
use serde_json::Value;
use store::Read;

use crate::App;
use crate::audit::chain_state::ChainState;
use crate::error::Error;
use crate::streams::{
    EndReason, LoggedRecord, LoggedResource, Look, ResyncReason, StreamEvent, observe_delay,
};

/// Minimum time between two reads of a stream, because each reads all unchained records of the account.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of chain numbers that a client may be behind. Beyond it, the stream continues with the present.
const MAX_BEHIND: i64 = 100_000;

/// Maximum number of chain numbers that one read covers. It is small, because few streams read at one time, and a read
/// looks up what each record is about.
const MAX_NUMBERS: i64 = 200;

/// Maximum number of unchained records that one read returns. The others are sent when they are chained.
const MAX_UNCHAINED: i64 = 200;

/// The service whose events a stream sends.
pub(super) struct ServiceSource {
    account_sid: AccountSid,
    service_sid: ServiceSid,
    selected: EventSelection,
    position: Start,
    /// Unchained records that were sent, and will not be sent again when they are chained.
    sent: HashSet<EventSid>,
}

/// The position after which to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// After all records that exist now.
    Now,
    /// After the record with this chain number; `None` if the client sent something else.
    After(Option<i64>),
}

/// What a read has found.
struct Found {
    resync: Option<ResyncReason>,
    /// The position before and after the read.
    from: i64,
    to: i64,
    /// The head of the chain.
    head: i64,
    /// SIDs of the chained records between the positions.
    chained: Vec<EventSid>,
    /// SIDs of unchained records, which the stream has sent from now on.
    unchained: Vec<EventSid>,
    records: Vec<LoggedRecord>,
}

impl ServiceSource {
    pub(super) fn new(service: &Service, selected: EventSelection, last_event_id: Option<&str>) -> Self {
        Self {
            account_sid: service.account_sid,
            service_sid: service.sid,
            selected,
            position: last_event_id.map_or(Start::Now, |id| Start::After(id.parse().ok())),
            sent: HashSet::new(),
        }
    }

    /// Reads the records after the position. The stream ends if the service was deleted.
    pub(super) async fn look(&mut self, app: &App) -> Result<Look, Error> {
        let is_first = self.position == Start::Now;
        let Some(found) = app.store.read(self.reading(app)).await? else {
            return Ok(Look::end(EndReason::Gone));
        };
        let now = app.now();
        let mut look = Look { is_behind: found.to < found.head, ..Look::default() };
        look.events.extend(found.resync.map(StreamEvent::Resync));
        for sid in &found.chained {
            self.sent.remove(sid);
        }
        self.sent.extend(found.unchained);
        for record in found.records {
            if self.sent.contains(&record.sid) {
                observe_delay(record.at, now);
            }
            look.events.push(StreamEvent::Record(record));
        }
        if found.to > found.from || is_first || found.resync.is_some() {
            look.events.push(StreamEvent::Position(found.to));
        }
        self.position = Start::After(Some(found.to));
        Ok(look)
    }

    /// Returns the closure that reads. It returns `None` if the service was deleted.
    fn reading(
        &self,
        app: &App,
    ) -> impl AsyncFn(&mut Read) -> Result<Option<Found>, Error> + Send + 'static + use<> {
        let (account_sid, start, sent) = (self.account_sid, self.position, self.sent.clone());
        let filter = Filter { service_sid: self.service_sid, selected: self.selected.clone() };
        let chain = Arc::clone(&app.chain);
        async move |db: &mut Read| {
            if db.service(account_sid, filter.service_sid).await?.is_none() {
                return Ok(None);
            }
            let tail = db.audit_tail(account_sid, MAX_UNCHAINED).await?;
            let (from, resync) = match start {
                Start::Now => (tail.head, None),
                Start::After(Some(number)) if number < tail.removed => {
                    (tail.head, Some(ResyncReason::Removed))
                }
                Start::After(Some(number)) if number > tail.head => (tail.head, Some(ResyncReason::Unknown)),
                Start::After(Some(number)) if tail.head - number > MAX_BEHIND => {
                    (tail.head, Some(ResyncReason::TooFar))
                }
                Start::After(Some(number)) => (number, None),
                Start::After(None) => (tail.head, Some(ResyncReason::Unknown)),
            };
            let to = tail.head.min(from + MAX_NUMBERS);
            let mut found = Found {
                resync,
                from,
                to,
                head: tail.head,
                chained: Vec::new(),
                unchained: Vec::new(),
                records: Vec::new(),
            };
            if to > from {
                for chained in db.chained_records_of_account(account_sid, from, to).await? {
                    let Some((_, record)) = chained.contents else { continue };
                    found.chained.push(record.sid);
                    if !sent.contains(&record.sid) {
                        found.records.extend(filter.describe(db, account_sid, &record).await?);
                    }
                }
            }
            if to == tail.head {
                for record in tail.unchained.iter().filter_map(|one| ChainState::authenticate(&chain, one)) {
                    if sent.contains(&record.sid) {
                        continue;
                    }
                    found.unchained.push(record.sid);
                    // Records from before the beginning of the stream are left out, as chained ones are.
                    if start != Start::Now {
                        found.records.extend(filter.describe(db, account_sid, record).await?);
                    }
                }
            }
            Ok(Some(found))
        }
    }
}

/// The events that a stream sends.
struct Filter {
    service_sid: ServiceSid,
    selected: EventSelection,
}

impl Filter {
    /// Returns the record with what it is about, or `None` if the stream does not send it.
    async fn describe(
        &self,
        db: &mut Read,
        account_sid: AccountSid,
        record: &AuditRecord,
    ) -> Result<Option<LoggedRecord>, Error> {
        let event = LoggedEvent::parse(&record.event_type).filter(|event| self.selected.contains(*event));
        let Some((event, resource_sid)) = event.zip(record.resource_sid.as_deref()) else { return Ok(None) };
        let data = record.data();
        if sid_in::<ServiceSid>(&data, "service_sid") != Some(self.service_sid) {
            return Ok(None);
        }
        let (identity, resource) = match event {
            LoggedEvent::ChallengeCreated | LoggedEvent::ChallengeApproved | LoggedEvent::ChallengeDenied => {
                let Ok(sid) = resource_sid.parse() else { return Ok(None) };
                let summary = db.challenge_summary(account_sid, self.service_sid, sid).await?;
                let (identity, expires_at, factor_sid) = match summary {
                    Some(summary) => (summary.identity, Some(summary.expires_at), summary.factor_sid),
                    None => (None, None, sid_in::<FactorSid>(&data, "factor_sid")),
                };
                (identity, LoggedResource::Challenge { sid, factor_sid, expires_at })
            }
            LoggedEvent::FactorCreated | LoggedEvent::FactorVerified | LoggedEvent::FactorDeleted => {
                let Ok(sid) = resource_sid.parse() else { return Ok(None) };
                let entity_sid = sid_in::<EntitySid>(&data, "entity_sid");
                let identity = match entity_sid {
                    Some(entity_sid) => db.entity_identity(self.service_sid, entity_sid).await?,
                    None => None,
                };
                let status = data["status"].as_str().unwrap_or_default().to_owned();
                (identity, LoggedResource::Factor { sid, entity_sid, status })
            }
        };
        let (sid, at, service_sid) = (record.sid, record.created_at, self.service_sid);
        Ok(Some(LoggedRecord { sid, event, at, service_sid, identity, resource }))
    }
}

/// Returns the SID in the details of a record.
fn sid_in<S: std::str::FromStr>(data: &Value, name: &str) -> Option<S> {
    data[name].as_str()?.parse().ok()
}
