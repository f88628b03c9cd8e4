//! The use cases of Countersign, for example "a backend creates a challenge" or "a device answers it". Each one changes
//! the database in a single transaction.
//!
//! A use case reads the clock once, asks the domain whether the change is allowed, writes, records the change in the
//! audit log, enqueues deliveries, and returns the result. It contains no SQL (see the crate `store`) and no HTTP (see
//! the crate `api`). This is the only crate that depends on all crates below it.
//!
//! | Where | What |
//! | --- | --- |
//! | [`App`] | the state that all use cases share |
//! | one file per resource, named as in every layer | the use cases |
//! | [`caller`] | authentication, and what a caller may access |
//! | [`audit`] | the audit log, its chain of MACs and its checkpoints |
//! | `passkey_settings` | the relying party and the criteria of passkeys |
//! | `outbox` | deliveries that a use case enqueues |
//! | [`delivery`] | the worker that sends them |
//! | [`streams`], `feed` | what a stream sends, and when it reads again |
//! | [`Capture`] | what a test server receives instead of push providers and webhook receivers |
//! | `erasure` | removal of everything that tests created on a test server |
//! | `housekeeping` | removal of expired and deleted data |
//! | `master_keys`, `enrollment_keys` | the keys that the database stores, and the key that seals them |

mod access_tokens;
mod accounts;
pub mod alerts;
mod app;
mod attempt_urls;
pub mod attempts;
pub mod audit;
pub mod caller;
mod capture;
pub mod challenges;
pub mod clock;
mod configured_outlets;
pub mod credentials;
mod deliveries;
pub mod delivery;
mod delivery_reports;
mod enrollment_keys;
mod entities;
mod erasure;
mod error;
pub mod factors;
mod feed;
mod gauges;
mod housekeeping;
mod key_ring;
mod lifecycle;
mod master_keys;
mod messaging_configurations;
mod notifications;
mod outbox;
pub mod outlets;
mod passkey_settings;
mod rate_limits;
mod reseal;
mod round_requests;
mod safe_list;
mod services;
mod spoken_codes;
pub mod streams;
pub mod templates;
pub mod verifications;
pub mod webhooks;

pub use crate::access_tokens::NewAccessToken;
pub use crate::accounts::{AccountChanges, AccountWithToken, ApiKeyWithSecret, UrlChange};
pub use crate::app::App;
pub use crate::audit::{ChainBreak, ChainedRecord, Origin, Verification, VerifiedChain};
pub use crate::caller::{
    AccountOwner, Backend, BackendOrDevice, BackendOrEnrollee, Caller, Credentials, Enrollee,
};
pub use crate::capture::{
    Capture, CaptureFuture, CapturedMessage, CapturedPush, CapturedWebhook, PushVerdict, RecordedAttempt,
    WebhookVerdict,
};
pub use crate::clock::SystemClock;
pub use crate::configured_outlets::ConfiguredOutlets;
pub use crate::deliveries::{AttemptRecord, DeliveryFilter, DeliveryStatus};
pub use crate::delivery::{DeliverySettings, DeliveryWorker, Senders, WorkerError};
pub use crate::enrollment_keys::EnrollmentKeyInfo;
pub use crate::erasure::Kept;
pub use crate::error::{Error, Fault};
pub use crate::key_ring::check_master_keys;
pub use crate::lifecycle::AppConfig;
pub use crate::master_keys::{MasterKeySource, ReadMasterKeys};
pub use crate::reseal::{Resealed, SealedCount, count_sealed_values};
pub use crate::round_requests::RemovedRows;
pub use push_client::SimulatedFailure as PushFailure;
pub use webhook_client::SimulatedFailure as WebhookFailure;
