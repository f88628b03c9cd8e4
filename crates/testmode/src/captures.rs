//! Captured pushes, messages and webhooks: the newest 10,000 of each, in memory.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use app::{CapturedMessage, CapturedPush, CapturedWebhook, PushFailure, PushVerdict, RecordedAttempt};
use domain::Timestamp;
use domain::deliveries::{AttemptOutcome, DeliveryId};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::capture_filter::{Filter, Query, Since};
use crate::error::Error;

/// Maximum number of pushes that are kept, of messages, and of webhooks.
const MAX_CAPTURES: usize = 10_000;

/// Everything that was captured.
pub(crate) struct Captures {
    log: Mutex<Log>,
    /// Incremented at each change of the log.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    pushes: VecDeque<Capture>,
    messages: VecDeque<Capture>,
    webhooks: VecDeque<Capture>,
    /// Number of pushes that were ever captured, from which the next push gets its ID.
    pushes_ever: u64,
    /// Deliveries of which an attempt runs.
    running: HashSet<DeliveryId>,
}

/// A captured push, message or webhook.
struct Capture {
    at: Timestamp,
    /// Whether a waiting request may return it: a push or a message at once, a webhook after its first attempt.
    is_ready: bool,
    /// Whether the webhook was not sent because test mode requires that.
    is_kept: bool,
    /// The capture as responses contain it.
    json: Value,
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Push,
    Message,
    Webhook,
}

impl Log {
    const fn of(&mut self, kind: Kind) -> &mut VecDeque<Capture> {
        match kind {
            Kind::Push => &mut self.pushes,
            Kind::Message => &mut self.messages,
            Kind::Webhook => &mut self.webhooks,
        }
    }

    /// Returns the captures that a filter selects, oldest first.
    ///
    /// # Errors
    /// Returns error code 60306 if no capture has the ID with which the selection starts.
    fn select<'l>(
        &'l mut self,
        kind: Kind,
        filter: &'l Filter,
    ) -> Result<impl Iterator<Item = &'l Capture>, Error> {
        let captures = self.of(kind);
        let first = match &filter.since {
            None => 0,
            Some(Since::Instant(instant)) => captures.partition_point(|capture| capture.at < *instant),
            Some(Since::Id(id)) => {
                let position = captures.iter().position(|capture| capture.json["id"] == id.as_str());
                let unknown = || {
                    Error::invalid(
                        "since must be an instant such as 2026-01-01T00:00:00Z, or the id of a capture",
                    )
                };
                position.ok_or_else(unknown)? + 1
            }
        };
        Ok(captures.range(first..).filter(|capture| filter.matches(&capture.json)))
    }
}

impl Default for Captures {
    fn default() -> Self {
        Self { log: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Captures {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce_change(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Returns the numbers of captured pushes and of captured webhooks.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let log = self.lock();
        (log.pushes.len(), log.webhooks.len())
    }

    /// Forgets everything that was captured.
    pub(crate) fn clear(&self) {
        let mut log = self.lock();
        log.pushes.clear();
        log.messages.clear();
        log.webhooks.clear();
    }

    /// Records a push and the decision about it.
    pub(crate) fn add_push(&self, push: &CapturedPush, verdict: PushVerdict) {
        let mut log = self.lock();
        log.pushes_ever += 1;
        let json = push_json(log.pushes_ever, push, verdict);
        log.running.insert(push.delivery);
        add(&mut log.pushes, Capture { at: push.at, is_ready: true, is_kept: false, json });
        drop(log);
        self.announce_change();
    }

    /// Records a message.
    pub(crate) fn add_message(&self, message: &CapturedMessage) {
        let mut log = self.lock();
        log.running.insert(message.delivery);
        let json = message_json(message);
        add(&mut log.messages, Capture { at: message.at, is_ready: true, is_kept: false, json });
        drop(log);
        self.announce_change();
    }

    /// Records a webhook before one of its attempts.
    pub(crate) fn add_webhook(&self, webhook: &CapturedWebhook, is_kept: bool) {
        let mut log = self.lock();
        log.running.insert(webhook.delivery);
        let known = find_webhook(&mut log.webhooks, webhook.delivery);
        match known {
            Some(capture) => capture.is_kept = is_kept,
            None => {
                let json = webhook_json(webhook);
                add(&mut log.webhooks, Capture { at: webhook.at, is_ready: false, is_kept, json });
            }
        }
        drop(log);
        self.announce_change();
    }

    /// Adds an attempt to its webhook.
    pub(crate) fn add_attempt(&self, attempt: &RecordedAttempt) {
        let mut log = self.lock();
        log.running.remove(&attempt.delivery);
        if let Some(capture) = find_webhook(&mut log.webhooks, attempt.delivery) {
            capture.is_ready = true;
            let ending = match attempt.outcome {
                AttemptOutcome::Delivered => "delivered",
                AttemptOutcome::Retry => "again",
                AttemptOutcome::Failed => "failed",
                AttemptOutcome::Skipped if capture.is_kept => "kept",
                AttemptOutcome::Skipped => "skipped",
            };
            if let Some(attempts) = capture.json["attempts"].as_array_mut() {
                attempts.push(json!({
                    "at": attempt.began_at.to_precise_text(),
                    "ending": ending,
                    "status": attempt.status,
                    "milliseconds": attempt.milliseconds,
                    "words": attempt.detail,
                }));
            }
        }
        drop(log);
        self.announce_change();
    }

    /// Deletes the captures that a filter selects.
    ///
    /// # Errors
    /// Returns error code 60306 if the filter is invalid.
    pub(crate) fn delete(&self, kind: Kind, filter: &Filter) -> Result<(), Error> {
        let mut log = self.lock();
        let ids: HashSet<_> =
            log.select(kind, filter)?.map(|capture| capture.json["id"].to_string()).collect();
        log.of(kind).retain(|capture| !ids.contains(&capture.json["id"].to_string()));
        Ok(())
    }

    /// Returns the captures that a query selects, oldest first. If it waits, only those count that a request may wait
    /// for.
    fn read(&self, kind: Kind, query: &Query) -> Result<Vec<Value>, Error> {
        let mut log = self.lock();
        let is_eligible = |capture: &&Capture| query.wait.is_zero() || capture.is_ready;
        let mut found: Vec<_> = log.select(kind, &query.filter)?.filter(is_eligible).collect();
        let newest = found.split_off(found.len().saturating_sub(query.limit));
        Ok(newest.into_iter().map(|capture| capture.json.clone()).collect())
    }

    /// Returns the captures that a query selects as soon as there is one, or none if its time to wait is over or
    /// `stopped` ends.
    pub(crate) async fn read_or_wait(
        &self,
        kind: Kind,
        query: &Query,
        stopped: impl Future<Output = ()>,
    ) -> Result<Vec<Value>, Error> {
        let mut changed = self.changed.subscribe();
        let mut timeout = std::pin::pin!(tokio::time::sleep(query.wait));
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let found = self.read(kind, query)?;
            if !found.is_empty() || query.wait.is_zero() {
                return Ok(found);
            }
            tokio::select! {
                // The sender is a member of this type, so the channel cannot be closed.
                _ = changed.changed() => {}
                () = &mut timeout => return Ok(Vec::new()),
                () = &mut stopped => return Ok(Vec::new()),
            }
        }
    }

    /// Waits until no attempt of a delivery runs, at most for `timeout`.
    pub(crate) async fn wait_until_idle(&self, timeout: Duration) {
        let mut changed = self.changed.subscribe();
        let idle = async {
            while !self.lock().running.is_empty() {
                let _ = changed.changed().await;
            }
        };
        let _ = tokio::time::timeout(timeout, idle).await;
    }
}

/// Adds a capture. If there are too many, drops the oldest.
fn add(captures: &mut VecDeque<Capture>, capture: Capture) {
    if captures.len() == MAX_CAPTURES {
        captures.pop_front();
    }
    captures.push_back(capture);
}

fn find_webhook(webhooks: &mut VecDeque<Capture>, delivery: DeliveryId) -> Option<&mut Capture> {
    let id = delivery.to_string();
    // The newest first: almost always, the attempt is one of a recent webhook.
    webhooks.iter_mut().rev().find(|capture| capture.json["id"] == id.as_str())
}

fn push_json(id: u64, push: &CapturedPush, verdict: PushVerdict) -> Value {
    let outcome = match verdict {
        PushVerdict::Delivered => "delivered",
        PushVerdict::Failed(PushFailure::Unavailable) => "unavailable",
        PushVerdict::Failed(PushFailure::Gone) => "gone",
        PushVerdict::Failed(PushFailure::Refused) => "refused",
    };
    let headers: Map<_, _> =
        push.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    // The body is JSON, and serde_json keeps the order of its members.
    let body: Value = serde_json::from_slice(&push.body).unwrap_or_default();
    json!({
        "id": id.to_string(),
        "at": push.at.to_precise_text(),
        "provider": push.platform.as_str(),
        "account_sid": push.challenge.account_sid,
        "service_sid": push.challenge.service_sid,
        "factor_sid": push.factor_sid,
        "challenge_sid": push.challenge.sid,
        "notification_sid": push.notification_sid,
        "token": push.token,
        "headers": headers,
        "body": body,
        "outcome": outcome,
        "would_fail": push.would_fail,
    })
}

fn message_json(message: &CapturedMessage) -> Value {
    json!({
        "id": message.delivery.to_string(),
        "at": message.at.to_precise_text(),
        "account_sid": message.account_sid,
        "service_sid": message.service_sid,
        "verification_sid": message.verification_sid,
        "attempt_sid": message.attempt_sid,
        "channel": message.channel.as_str(),
        "to": message.to,
        "subject": message.subject,
        "text": message.text,
        "code": message.code,
        "locale": message.locale,
    })
}

fn webhook_json(webhook: &CapturedWebhook) -> Value {
    let object = |pairs: &[(String, String)]| -> Map<_, _> {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    json!({
        "id": webhook.delivery.to_string(),
        "at": webhook.at.to_precise_text(),
        "account_sid": webhook.account_sid,
        "service_sid": webhook.service_sid,
        "webhook_sid": webhook.webhook_sid,
        "url": webhook.url,
        "parameters": object(&webhook.parameters),
        // serde_json keeps the order of members.
        "body": webhook.body.as_ref().and_then(|body| serde_json::from_str::<Value>(body).ok()),
        "headers": object(&webhook.headers),
        "attempts": [],
    })
}
