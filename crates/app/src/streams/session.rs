//! What all streams have: the caller, the subscription to the feed, the permit, and the times at which to read or to
//! end.

use std::sync::Arc;
use std::time::Duration;

use domain::{AccountSid, Code, CredentialSid, FactorSid};
use store::{Read, Topic};
use telemetry::metrics::StreamKind;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::App;
use crate::caller::{BackendOrDevice, Credentials};
use crate::error::Error;
use crate::feed::{Signal, Subscription};
use crate::streams::limiter::{Side, StreamPermit};
use crate::streams::{EndReason, TICK_INTERVAL};

/// Time after which a stream checks again whether its caller is still permitted, also without an event to send.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The caller of a stream, and what a stream checks again while it is open.
pub struct StreamCaller {
    account_sid: AccountSid,
    proof: Proof,
}

/// What must still be valid for a caller to be permitted.
enum Proof {
    /// The credentials of a backend.
    Credentials(Credentials),
    /// The key of a device. Its token is not checked again: it was valid when the stream began, and a stream is short.
    Key(CredentialSid),
}

impl StreamCaller {
    /// Returns the caller of a stream. `credentials` are those of its request.
    pub fn new(caller: &BackendOrDevice, credentials: Credentials) -> Self {
        let (account_sid, proof) = match caller {
            BackendOrDevice::Backend(backend) => (backend.account_sid(), Proof::Credentials(credentials)),
            BackendOrDevice::Device(factor) => (factor.account_sid, Proof::Key(factor.kind.credential_sid)),
        };
        Self { account_sid, proof }
    }

    /// Returns the side of the account for which the caller's streams count.
    const fn side(&self) -> Side {
        Side { account_sid: self.account_sid, is_device: self.is_device() }
    }

    /// Returns whether the caller is a device.
    pub(super) const fn is_device(&self) -> bool {
        matches!(self.proof, Proof::Key(_))
    }
}

impl App {
    /// Returns whether the caller of a stream is still permitted.
    async fn is_permitted(&self, caller: &StreamCaller) -> Result<bool, Error> {
        match &caller.proof {
            Proof::Credentials(credentials) => match self.authenticate(credentials).await {
                Ok(_) => Ok(true),
                Err(Error::Problem(problem)) if problem.code() == Code::Unauthenticated => Ok(false),
                Err(error) => Err(error),
            },
            Proof::Key(kid) => {
                let kid = *kid;
                let read = async move |db: &mut Read| Ok::<_, Error>(db.factor_by_credential(kid).await?);
                Ok(self.store.read(read).await?.is_some())
            }
        }
    }
}

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something may have changed.
    Notice,
    /// No notice came for [`TICK_INTERVAL`].
    Tick,
    /// The stream must end.
    End(EndReason),
}

/// What all streams have.
pub(super) struct Session {
    pub(super) app: Arc<App>,
    caller: StreamCaller,
    signal: Arc<Signal>,
    /// Follows the head of the audit chain, if the stream does.
    chain_head: Option<watch::Receiver<i64>>,
    tick_at: Instant,
    check_at: Instant,
    end_at: Instant,
    _subscription: Subscription,
    _permit: StreamPermit,
}

impl Session {
    /// Opens the session of a stream that ends after `life`. The stream counts against the limit of the factor
    /// `counted`.
    ///
    /// # Errors
    /// Fails if a limit on streams is reached, or if the server stops.
    pub(super) fn open(
        app: &Arc<App>,
        kind: StreamKind,
        caller: StreamCaller,
        counted: Option<FactorSid>,
        topics: Vec<Topic>,
        life: Duration,
    ) -> Result<Self, Error> {
        let signal = Arc::<Signal>::default();
        let permit = app.streams.admit(kind, caller.side(), counted, &signal, app.now())?;
        let subscription = app.feed.subscribe(topics, Arc::clone(&signal));
        let now = Instant::now();
        Ok(Self {
            app: Arc::clone(app),
            caller,
            signal,
            chain_head: None,
            tick_at: now + first_tick(app),
            check_at: now + CHECK_INTERVAL,
            end_at: now + life,
            _subscription: subscription,
            _permit: permit,
        })
    }

    /// Makes the stream also read when the head of the audit chain moves.
    pub(super) fn follow_chain(&mut self) {
        self.chain_head = Some(self.app.feed.chain_head());
    }

    /// Waits until something may have changed, at the latest until `read_at`.
    pub(super) async fn wait(&mut self, read_at: Option<Instant>) -> Wake {
        loop {
            let now = Instant::now();
            if let Some(reason) = self.end_reason(now) {
                return Wake::End(reason);
            }
            if read_at.is_some_and(|at| at <= now) {
                return Wake::Notice;
            }
            if self.tick_at <= now {
                self.tick_at = now + TICK_INTERVAL;
                return Wake::Tick;
            }
            let until = read_at.into_iter().chain([self.tick_at, self.end_at]).min().unwrap_or(self.tick_at);
            tokio::select! {
                () = self.signal.notified() => match self.end_reason(Instant::now()) {
                    Some(reason) => return Wake::End(reason),
                    None => return Wake::Notice,
                },
                () = head_moved(self.chain_head.as_mut()) => return Wake::Notice,
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Returns why the stream has to end now, or `None` if it may continue.
    pub(super) fn end_reason(&self, now: Instant) -> Option<EndReason> {
        if self.app.streams.is_draining() {
            Some(EndReason::Draining)
        } else if self.signal.is_replaced() {
            Some(EndReason::Overload)
        } else if self.end_at <= now {
            Some(EndReason::MaxAge)
        } else {
            None
        }
    }

    /// Returns whether the caller must be checked although there is nothing to send.
    pub(super) fn is_check_due(&self) -> bool {
        self.check_at <= Instant::now()
    }

    /// Returns whether the caller is still permitted.
    ///
    /// # Errors
    /// Fails if the database fails, so that it is not known.
    pub(super) async fn check(&mut self) -> Result<bool, Error> {
        let is_permitted = self.app.is_permitted(&self.caller).await?;
        self.check_at = Instant::now() + CHECK_INTERVAL;
        Ok(is_permitted)
    }
}

/// Returns the time until the first tick, which is random: otherwise streams that were opened together would read
/// together.
fn first_tick(app: &App) -> Duration {
    let mut random = [0; 2];
    app.entropy.fill(&mut random);
    TICK_INTERVAL.mul_f64(f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}

/// Waits until the head of the audit chain moves; forever if the stream does not follow it.
async fn head_moved(head: Option<&mut watch::Receiver<i64>>) {
    let is_moved = match head {
        Some(head) => head.changed().await.is_ok(),
        None => false,
    };
    if !is_moved {
        std::future::pending().await
    }
}
