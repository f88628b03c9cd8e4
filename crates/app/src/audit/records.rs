//! Writing audit records in the transaction of their change, and listing them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::audit::{Actor, AuditRecord, Change, OperatorName};
use domain::{AccountSid, Entropy, EventSid, Page, PageRequest, RequestSid, Timestamp};
use store::{AuditFilter, ListedRecord, Read, Write};

use crate::App;
use crate::audit::chain_state::ChainState;
use crate::caller::Caller;
use crate::error::Error;

/// The actor of a change, and where the request came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Actor.
    pub actor: Actor,
    /// Client address of the request.
    pub address: Option<IpAddr>,
    /// Request ID.
    pub request_sid: Option<RequestSid>,
}

impl Origin {
    /// Creates the origin of changes by an API request.
    pub fn request(caller: &Caller, address: Option<IpAddr>, request_sid: Option<RequestSid>) -> Self {
        let actor = match caller {
            Caller::Account(sid) => Actor::Account(*sid),
            Caller::ApiKey { sid, .. } => Actor::ApiKey(*sid),
            Caller::Enrollee(enrollee) => Actor::Enrollee(enrollee.grant.sid),
            Caller::Device(factor) => Actor::Device(factor.sid),
        };
        Self { actor, address, request_sid }
    }

    /// Creates the origin of changes by an operator at the command line; `name` is the name of the system user.
    pub fn operator(name: &str) -> Self {
        Self { actor: Actor::Operator(OperatorName::new(name)), address: None, request_sid: None }
    }

    /// Creates the origin of changes by housekeeping.
    pub(crate) const fn housekeeping() -> Self {
        Self { actor: Actor::Housekeeping, address: None, request_sid: None }
    }
}

/// Writes the audit records of one use case.
pub(crate) struct AuditWriter {
    origin: Origin,
    entropy: Arc<dyn Entropy>,
    chain: Arc<ChainState>,
    now: Timestamp,
    /// Records written so far. Each one is dated a microsecond later than the previous, which keeps their order.
    written: AtomicI64,
}

impl AuditWriter {
    /// Writes the record of a change in the transaction of the change.
    pub(crate) async fn record(&self, tx: &mut Write, change: Change) -> Result<(), Error> {
        let written = self.written.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::from_micros(self.now.micros().saturating_add(written));
        let sid = EventSid::generate(now, self.entropy.as_ref());
        let Origin { actor, address, request_sid } = &self.origin;
        let record = AuditRecord::new(sid, actor, change, *address, *request_sid, now);
        Ok(tx.insert_audit_record(&record, &self.chain.key.unchained_mac(&record)).await?)
    }
}

impl App {
    /// Creates the writer for the records of changes that `origin` makes at `now`.
    pub(crate) fn audit(&self, origin: &Origin, now: Timestamp) -> AuditWriter {
        let (origin, entropy, chain) = (origin.clone(), Arc::clone(&self.entropy), Arc::clone(&self.chain));
        AuditWriter { origin, entropy, chain, now, written: AtomicI64::new(0) }
    }

    /// Returns an audit record of an account.
    ///
    /// # Errors
    /// 20404 if it does not exist; an error if the database fails.
    pub async fn event(&self, account_sid: AccountSid, sid: EventSid) -> Result<AuditRecord, Error> {
        self.store
            .read(async move |db: &mut Read| db.event(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Lists the audit records of an account.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn events(
        &self,
        account_sid: AccountSid,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditRecord>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.events(account_sid, &filter, &page).await?)).await
    }

    /// Lists at most `limit` audit records of all accounts and of the server, newest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn audit_records(&self, filter: AuditFilter, limit: i64) -> Result<Vec<ListedRecord>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.newest_audit_records(&filter, limit).await?)).await
    }
}
