//! What is remembered of attempts, those that end together in one transaction.

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::{Delivery, Next, Work};
use store::{AttemptRecord, Write};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::App;
use crate::attempt::{Attempted, DeadToken};
use crate::error::Error;
use crate::outbox::Outbox;

/// Attempts that one transaction records.
const BATCH: usize = 64;

/// Most characters that are remembered of what happened.
const LONGEST_DETAIL: usize = 1024;

/// An attempt that has ended, and what becomes of its delivery.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) delivery: Delivery,
    pub(crate) attempted: Attempted,
    pub(crate) next: Next,
    pub(crate) began_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

impl Ended {
    fn record(&self) -> AttemptRecord {
        let ending = match self.next {
            Next::Delivered => "delivered",
            Next::Skipped => "skipped",
            Next::At(_) => "again",
            Next::Failed => "failed",
        };
        let detail = self.attempted.detail.as_ref();
        AttemptRecord {
            number: self.delivery.attempts,
            began_at: self.began_at,
            milliseconds: milliseconds(self.began_at.until(self.ended_at)),
            ending: ending.to_owned(),
            error_code: self.attempted.error_code,
            status: self.attempted.status,
            detail: detail.map(|detail| detail.chars().take(LONGEST_DETAIL).collect()),
        }
    }
}

/// A length of time for a record or a log.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The way to whoever records.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::UnboundedSender<(Ended, oneshot::Sender<()>)>);

/// Those who wait to be recorded. No more than there are turns, since each keeps its own until then.
pub(crate) type Waiting = mpsc::UnboundedReceiver<(Ended, oneshot::Sender<()>)>;

impl Recorder {
    pub(crate) fn new() -> (Self, Waiting) {
        let (sender, waiting) = mpsc::unbounded_channel();
        (Self(sender), waiting)
    }

    /// Remembers an attempt, settles what becomes of the delivery, and raises the alert that it deserves. If
    /// that can't be done, the lease runs out and the delivery is made again: at least once.
    pub(crate) async fn record(&self, ended: Ended) {
        let (done, recorded) = oneshot::channel();
        if self.0.send((ended, done)).is_ok() {
            let _ = recorded.await;
        }
    }
}

/// Records, for ever.
pub(crate) async fn keep(app: Arc<App>, lease: String, mut waiting: Waiting) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (ended, done): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        if write(&app, &lease, ended.clone()).await.is_err() {
            // One may be to blame; the others should not be made again for it.
            for ended in ended {
                let id = ended.delivery.id;
                if let Err(fault) = write(&app, &lease, vec![ended]).await {
                    error!(delivery = %id, "an attempt can't be recorded: {}", fault.chain());
                }
            }
        }
        for done in done {
            let _ = done.send(());
        }
    }
}

async fn write(app: &App, lease: &str, batch: Vec<Ended>) -> Result<(), Error> {
    let (lease, outbox) = (lease.to_owned(), app.outbox.clone());
    let raised = app
        .store
        .write(async move |tx: &mut Write| {
            let (delivered, others): (Vec<&Ended>, Vec<&Ended>) =
                batch.iter().partition(|ended| ended.next == Next::Delivered);
            let delivered: Vec<_> =
                delivered.iter().map(|ended| (ended.delivery.id, ended.record(), ended.ended_at)).collect();
            tx.record_delivered(&lease, &delivered).await?;
            let mut raised = false;
            for ended in others {
                raised |= settle(tx, &lease, &outbox, ended).await?;
            }
            Ok::<_, Error>(raised)
        })
        .await?;
    if raised {
        app.wake.ring_here();
    }
    Ok(())
}

/// Records one that was not delivered; `true` if somebody is owed the news.
async fn settle(tx: &mut Write, lease: &str, outbox: &Outbox, ended: &Ended) -> Result<bool, Error> {
    let Ended { delivery, attempted, next, ended_at, .. } = ended;
    if !tx.record_attempt(lease, delivery, &ended.record(), *next, *ended_at).await? {
        return Ok(false);
    }
    // A dead token is an event the first time it is heard of, and never again.
    let is_news = match &attempted.dead_token {
        Some(DeadToken { factor_sid, token, registered_at }) => {
            tx.mark_unreachable(*factor_sid, token, *registered_at).await?
        }
        None => true,
    };
    match &attempted.alert {
        Some(alert) if *next == Next::Failed && is_news => match delivery.work {
            // A failed debugger webhook must not trigger another debugger webhook.
            Work::Debugger { .. } => tx.insert_alert(alert).await.map(|()| false).map_err(Error::from),
            Work::Webhook { .. } | Work::Push(_) => outbox.raise(tx, alert, *ended_at).await.map(|()| true),
        },
        _ => Ok(false),
    }
}
