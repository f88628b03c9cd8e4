//! The recorder of finished attempts, which stores several attempts in one transaction.

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::{Delivery, Next, Work};
use domain::verifications::DeliveryProgress;
use store::{AttemptRecord, Write};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::App;
use crate::capture::RecordedAttempt;
use crate::delivery::attempt::{AttemptResult, DeadToken};
use crate::error::Error;
use crate::outbox::Outbox;

/// Maximum number of attempts that one transaction records.
const RECORD_BATCH: usize = 64;

/// Maximum length of an attempt's stored detail text, in characters. Longer texts are truncated.
const MAX_DETAIL_CHARS: usize = 1024;

/// A finished attempt, and what happens next to its delivery.
#[derive(Clone)]
pub(crate) struct FinishedAttempt {
    pub(crate) delivery: Delivery,
    pub(crate) result: AttemptResult,
    pub(crate) next: Next,
    pub(crate) began_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

impl FinishedAttempt {
    fn to_record(&self) -> AttemptRecord {
        let detail = self.result.detail.as_ref();
        AttemptRecord {
            number: self.delivery.attempts,
            began_at: self.began_at,
            milliseconds: milliseconds(self.began_at.until(self.ended_at)),
            outcome: self.next.outcome(),
            error_code: self.result.error_code,
            status: self.result.status,
            detail: detail.map(|detail| detail.chars().take(MAX_DETAIL_CHARS).collect()),
        }
    }
}

impl FinishedAttempt {
    /// Returns what a test server learns of the attempt.
    pub(crate) fn to_report(&self) -> RecordedAttempt {
        RecordedAttempt {
            delivery: self.delivery.id,
            began_at: self.began_at,
            outcome: self.next.outcome(),
            status: self.result.status,
            milliseconds: milliseconds(self.began_at.until(self.ended_at)),
            detail: self.result.detail.clone(),
        }
    }
}

/// Converts a duration to whole milliseconds, for the database and the log.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The sending half of the recorder's queue, through which attempts are recorded.
#[derive(Clone)]
pub(crate) struct AttemptRecorder(mpsc::UnboundedSender<(FinishedAttempt, oneshot::Sender<()>)>);

/// The receiving half of the recorder's queue. The queue cannot grow longer than the number of permits, because each
/// attempt keeps its permit until it is recorded.
pub(crate) type RecorderQueue = mpsc::UnboundedReceiver<(FinishedAttempt, oneshot::Sender<()>)>;

impl AttemptRecorder {
    /// Creates a recorder and its queue, which the task [`run`] empties.
    pub(crate) fn new() -> (Self, RecorderQueue) {
        let (sender, queue) = mpsc::unbounded_channel();
        (Self(sender), queue)
    }

    /// Records an attempt, updates its delivery, raises an alert if one is due, and returns once this is committed or
    /// has failed. A failure is logged; the delivery is attempted again after its lease has expired.
    pub(crate) async fn record(&self, attempt: FinishedAttempt) {
        let (done, recorded) = oneshot::channel();
        if self.0.send((attempt, done)).is_ok() {
            let _ = recorded.await;
        }
    }
}

/// Background task: records the attempts in the queue until all recorders are dropped. `lease_holder` is the name under
/// which this process leased the deliveries.
pub(crate) async fn run(app: Arc<App>, lease_holder: String, mut queue: RecorderQueue) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, RECORD_BATCH).await > 0 {
        let (attempts, done): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        if write(&app, &lease_holder, attempts.clone()).await.is_err() {
            // A single attempt may have caused the failure. Record each attempt separately, so that the others are not
            // lost and repeated.
            for attempt in attempts {
                let id = attempt.delivery.id;
                if let Err(fault) = write(&app, &lease_holder, vec![attempt]).await {
                    error!(delivery = %id, "could not record a delivery attempt: {}", fault.report());
                }
            }
        }
        for done in done {
            let _ = done.send(());
        }
    }
}

/// Records attempts in one transaction. Wakes the delivery worker if alerts were enqueued.
async fn write(app: &App, lease_holder: &str, attempts: Vec<FinishedAttempt>) -> Result<(), Error> {
    let (lease_holder, outbox) = (lease_holder.to_owned(), app.outbox());
    let enqueued = app
        .store
        .write(async move |tx: &mut Write| {
            let (delivered, others): (Vec<&FinishedAttempt>, Vec<&FinishedAttempt>) =
                attempts.iter().partition(|attempt| attempt.next == Next::Delivered);
            let delivered = delivered.iter().map(|it| (it.delivery.id, it.to_record(), it.ended_at));
            tx.record_delivered(&lease_holder, &delivered.collect::<Vec<_>>()).await?;
            for attempt in attempts.iter().filter(|attempt| attempt.next == Next::Delivered) {
                record_progress(tx, attempt).await?;
            }
            let mut enqueued = false;
            for attempt in others {
                enqueued |= record_undelivered(tx, &lease_holder, &outbox, attempt).await?;
            }
            Ok::<_, Error>(enqueued)
        })
        .await?;
    if enqueued {
        app.worker.notify_local();
    }
    Ok(())
}

/// Stores how far the message of a verification got, if its delivery is finished. Returns `false` if the outlet has
/// already reported as much or more about the message.
async fn record_progress(tx: &mut Write, attempt: &FinishedAttempt) -> Result<bool, Error> {
    let Work::Message(message) = &attempt.delivery.work else { return Ok(true) };
    let (progress, error_code) = match attempt.next {
        Next::Delivered => (DeliveryProgress::Sent, None),
        Next::Failed => (DeliveryProgress::Failed, attempt.result.error_code),
        Next::Skipped | Next::Retry(_) => return Ok(true),
    };
    Ok(tx.set_attempt_progress(message.attempt_sid, progress, error_code, attempt.ended_at).await?)
}

/// Records an attempt that did not succeed, and raises its alert if no retry follows and the failure is news. Returns
/// whether the alert may have enqueued a delivery. Does nothing if another worker has leased the delivery meanwhile.
async fn record_undelivered(
    tx: &mut Write,
    lease_holder: &str,
    outbox: &Outbox,
    attempt: &FinishedAttempt,
) -> Result<bool, Error> {
    let FinishedAttempt { delivery, result, next, ended_at, .. } = attempt;
    if !tx.record_attempt(lease_holder, delivery, &attempt.to_record(), *next, *ended_at).await? {
        return Ok(false);
    }
    let is_news = record_progress(tx, attempt).await?;
    // An invalid push token raises an alert only the first time that the provider reports it.
    let is_news = match &result.dead_token {
        Some(DeadToken { factor_sid, token, registered_at }) => {
            tx.mark_unreachable(*factor_sid, token, *registered_at).await?
        }
        None => is_news,
    };
    match &result.alert {
        Some(alert) if *next == Next::Failed && is_news => match delivery.work {
            // Only store the alert: a failed debugger webhook must not trigger another debugger webhook.
            Work::Debugger { .. } => tx.insert_alert(alert).await.map(|()| false).map_err(Error::from),
            Work::Webhook { .. } | Work::VerificationEvent { .. } | Work::Push(_) | Work::Message(_) => {
                outbox.raise_alert(tx, alert, *ended_at).await.map(|()| true)
            }
        },
        _ => Ok(false),
    }
}
