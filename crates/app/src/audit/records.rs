//! Writing audit records in the transactions of the changes, and listing them.

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

/// The origin of a change: who made it, and with which request.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who made the change: an account, API key, access token, device, operator or housekeeping.
    pub actor: Actor,
    /// Client IP address of the request, or `None` if there was no API request.
    pub address: Option<IpAddr>,
    /// ID of the API request, or `None` if there was none.
    pub request_sid: Option<RequestSid>,
}

impl Origin {
    /// Returns the origin to record for changes made by an API request from `caller`.
    pub fn request(caller: &Caller, address: Option<IpAddr>, request_sid: Option<RequestSid>) -> Self {
        let actor = match caller {
            Caller::Account(sid) => Actor::Account(*sid),
            Caller::ApiKey { sid, .. } => Actor::ApiKey(*sid),
            Caller::Enrollee(enrollee) => Actor::Enrollee(enrollee.grant.sid),
            Caller::Device(factor) => Actor::Device(factor.sid),
        };
        Self { actor, address, request_sid }
    }

    /// Returns the origin to record for changes made by an operator on the command line. `name` is the name of the
    /// operating system user.
    pub fn operator(name: &str) -> Self {
        Self { actor: Actor::Operator(OperatorName::new(name)), address: None, request_sid: None }
    }

    /// Returns the origin to record for changes made by housekeeping.
    pub(crate) const fn housekeeping() -> Self {
        Self { actor: Actor::Housekeeping, address: None, request_sid: None }
    }
}

/// A writer of one use case's audit records.
pub(crate) struct AuditWriter {
    origin: Origin,
    entropy: Arc<dyn Entropy>,
    chain: Arc<ChainState>,
    now: Timestamp,
    /// Number of records written so far. Each record is dated one microsecond after the previous one, so that they sort
    /// in the order in which they were written.
    written: AtomicI64,
}

impl AuditWriter {
    /// Writes the audit record of `change` in the transaction of that change.
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
    /// Creates a writer for the audit records of the changes that `origin` makes at `now`.
    pub(crate) fn audit(&self, origin: &Origin, now: Timestamp) -> AuditWriter {
        let (origin, entropy, chain) = (origin.clone(), Arc::clone(&self.entropy), Arc::clone(&self.chain));
        AuditWriter { origin, entropy, chain, now, written: AtomicI64::new(0) }
    }

    /// Returns the audit record `sid` of an account.
    ///
    /// # Errors
    /// Fails with 20404 if the record does not exist. Also fails if the database fails.
    pub async fn event(&self, account_sid: AccountSid, sid: EventSid) -> Result<AuditRecord, Error> {
        self.store
            .read(async move |db: &mut Read| db.event(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns one page of an account's audit records that match `filter`.
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

    /// Returns the newest audit records that match `filter`, of all accounts and of the server: at most `limit`, newest
    /// first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn audit_records(&self, filter: AuditFilter, limit: i64) -> Result<Vec<ListedRecord>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.newest_audit_records(&filter, limit).await?)).await
    }
}
