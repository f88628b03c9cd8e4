//! The delivery worker: sends the webhooks, pushes, messages and events that use cases have enqueued.
//!
//! ```text
//!  use case ──▶ deliveries table ──▶ worker ──▶ slot, permit ──▶ senders ──▶ recorder ──▶ deliveries table
//!   (outbox)      (pending)          leases     (concurrency)                              and attempts
//! ```
//!
//! **Enqueuing.** A use case enqueues a delivery through the outbox, in the transaction of its change. Therefore a
//! delivery exists if and only if the change was committed.
//!
//! **Leasing.** The worker (`worker`) runs on its own thread in every node. It wakes after a commit on its node, after
//! another node's announcement (`announcements`), when the next delivery is due, and after a poll interval in case a
//! wake-up was lost. It leases due deliveries, but only as many as there are free slots (`concurrency`), so that a slow
//! destination does not delay the others. Those that wait for a slot are not read again each time (`backlog`).
//!
//! **Sending.** `senders` makes one attempt, with no open transaction: through `webhook` for webhooks, verification
//! events and debugger webhooks, through `push` for APNs and FCM, and through `message` for one-time codes. The result
//! is an `AttemptResult`.
//!
//! **Recording.** The recorder (`recorder`) stores finished attempts in batches. In the same transaction, it marks each
//! delivery as finished or schedules a retry, as [`domain::deliveries::Schedule`] decides.
//!
//! **Purpose of leases.** Each delivery is sent at least once, not exactly once. A lease makes it unlikely that two
//! nodes send the same delivery, but does not guarantee that they never do. `leases` renews the lease while an attempt
//! runs or waits for a permit, and releases it if no attempt was made. If a process dies, its leases expire and the
//! deliveries become due again, on any node.

mod announcements;
mod attempt;
mod backlog;
mod concurrency;
mod credential_cache;
mod leases;
mod message;
mod pacing;
mod push;
mod recorder;
mod senders;
mod settings;
mod webhook;
mod worker;

pub(crate) use crate::delivery::message::failure_code;
pub use crate::delivery::senders::Senders;
pub use crate::delivery::settings::{DeliverySettings, WorkerError};
pub use crate::delivery::worker::DeliveryWorker;
