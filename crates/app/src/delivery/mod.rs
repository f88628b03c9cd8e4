//! The delivery worker: sends the webhooks and pushes that use cases have enqueued.
//!
//! ```text
//!  use case ──▶ deliveries table ──▶ worker ──▶ slot, permit ──▶ senders ──▶ recorder ──▶ deliveries table
//!   (outbox)      (pending)          leases     (concurrency)                              and attempts
//! ```
//!
//! **Who writes.** A use case enqueues a delivery through the outbox, in the transaction of its change. So a delivery
//! exists exactly if the change was committed.
//!
//! **Who leases.** The worker (`worker`) runs on a thread of its own in every node. It wakes after a commit here, after
//! an announcement of another node (`announcements`), when the next delivery is due, and after a poll interval in case
//! a wake-up was lost. It leases due deliveries, but only as many as find a slot (`concurrency`), so that a slow
//! destination does not delay the others.
//!
//! **Who sends.** `senders` makes one attempt, with no transaction open: `webhook` for webhooks and debugger webhooks,
//! `push` for APNs and FCM. The result is an `AttemptResult`.
//!
//! **Who records.** The recorder (`recorder`) writes finished attempts in batches, together with what follows: finished,
//! or a retry at a later instant, as [`domain::deliveries::Schedule`] decides.
//!
//! **What a lease is for.** Each delivery is sent at least once, not exactly once. A lease only avoids that two nodes
//! send the same delivery. `leases` renews it while an attempt runs or waits for a permit, and releases it if no attempt
//! was made. If a process dies, its leases expire and the deliveries become due again, on any node.

mod announcements;
mod attempt;
mod concurrency;
mod credential_cache;
mod leases;
mod push;
mod recorder;
mod senders;
mod settings;
mod webhook;
mod worker;

pub use crate::delivery::senders::Senders;
pub use crate::delivery::settings::{DeliverySettings, WorkerError};
pub use crate::delivery::worker::DeliveryWorker;
