//! The audit log: each change writes its line, in its own transaction.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::audit::{Actor, Change, Line, OperatorName};
use domain::{AccountSid, Entropy, EventSid, Page, PageRequest, RequestSid, Timestamp};
pub use store::{AuditFilter, AuditLine};
use store::{Read, Write};

use crate::App;
use crate::caller::Caller;
use crate::chain::Chain;
use crate::error::Error;

/// Who asks for a change, and from where.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
    /// The request.
    pub request_sid: Option<RequestSid>,
}

impl Origin {
    /// A request.
    pub fn request(caller: &Caller, address: Option<IpAddr>, request_sid: Option<RequestSid>) -> Self {
        let actor = match caller {
            Caller::Account(sid) => Actor::Account(*sid),
            Caller::ApiKey { sid, .. } => Actor::ApiKey(*sid),
            Caller::Enrollee(enrollee) => Actor::Enrollee(enrollee.grant.sid),
            Caller::Device(factor) => Actor::Device(factor.sid),
        };
        Self { actor, address, request_sid }
    }

    /// An operator at the command line, by the name that they have on the machine.
    pub fn operator(name: &str) -> Self {
        Self { actor: Actor::Operator(OperatorName::new(name)), address: None, request_sid: None }
    }

    /// The server itself.
    pub(crate) const fn housekeeping() -> Self {
        Self { actor: Actor::Housekeeping, address: None, request_sid: None }
    }
}

/// What a use case needs in order to write its line.
pub(crate) struct Audit {
    origin: Origin,
    entropy: Arc<dyn Entropy>,
    chain: Arc<Chain>,
    now: Timestamp,
    /// Lines that were written: each is a microsecond later, so that they stay in their order.
    written: AtomicI64,
}

impl Audit {
    /// Writes the line about a change, in the change's own transaction.
    pub(crate) async fn note(&self, tx: &mut Write, change: Change) -> Result<(), Error> {
        let written = self.written.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::from_micros(self.now.micros().saturating_add(written));
        let sid = EventSid::generate(now, self.entropy.as_ref());
        let Origin { actor, address, request_sid } = &self.origin;
        let line = Line::new(sid, actor, change, *address, *request_sid, now);
        Ok(tx.insert_audit_line(&line, &self.chain.key.waiting(&line)).await?)
    }
}

impl App {
    /// What writes the lines about the changes that somebody makes now.
    pub(crate) fn audit(&self, origin: &Origin, now: Timestamp) -> Audit {
        let (origin, entropy, chain) = (origin.clone(), Arc::clone(&self.entropy), Arc::clone(&self.chain));
        Audit { origin, entropy, chain, now, written: AtomicI64::new(0) }
    }

    /// A line that concerns this account.
    ///
    /// # Errors
    /// 20404; when the database fails.
    pub async fn event(&self, account_sid: AccountSid, sid: EventSid) -> Result<Line, Error> {
        self.store
            .read(async move |db: &mut Read| db.event(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// The lines that concern an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(
        &self,
        account_sid: AccountSid,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<Line>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.events(account_sid, &filter, &page).await?)).await
    }

    /// The newest lines of all accounts and of the server, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_lines(&self, filter: AuditFilter, limit: i64) -> Result<Vec<AuditLine>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.audit_lines(&filter, limit).await?)).await
    }
}
