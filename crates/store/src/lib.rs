//! Storage in SQLite or PostgreSQL, behind one [`Store`]. This is the only crate that contains SQL.
//!
//! A read is a closure over [`Read`]; a write is a closure over [`Write`], which can read as well:
//!
//! ```ignore
//! let challenge = store.read(async move |db| db.challenge(&path, sid).await).await?;
//! store.write(async move |tx| tx.answer_challenge(sid, answer, digest, now).await).await?;
//! ```
//!
//! **A write is a transaction.** It commits if the closure returns `Ok` and rolls back if it returns `Err`. Once
//! `write` has returned `Ok`, the change survives power loss. A closure that has begun runs to its end, even if the
//! caller's future is dropped. It may run more than once, after a deadlock or after a connection loss before the
//! commit, so it must have no side effects outside the database. Reads that need no lock belong before the write;
//! the statement that depends on their results must check the same condition again.
//!
//! * On SQLite, one thread owns the only write connection. It runs queued closures inside one transaction, each in
//!   its own savepoint, and acknowledges all of them after one durable commit (`writer.rs`). Reads use connections
//!   of their own, each on a thread of its own. An in-memory database has one connection for everything.
//! * On PostgreSQL, each write is a transaction of its own at READ COMMITTED, and several run at once. A closure that
//!   counts rows before it inserts one must lock their parent first ([`Write::ensure_entity`],
//!   [`Write::lock_push_factor`]).
//!
//! Both databases run the same SQL text wherever possible (`values.rs`); where they differ, both texts stand side by
//! side. Migrations are in `migrations/`, one folder for each database, with the same names in both.
//!
//! | Question | File |
//! | --- | --- |
//! | How is a database opened, read and written? | `store.rs`, `read_write.rs` |
//! | On which threads do reads and writes run? | `job.rs`, `sqlite_readers.rs`, `writer.rs` |
//! | How are statements sent to SQLite? | `sqlite.rs` |
//! | How does PostgreSQL get its connections? | `postgres.rs`, `pool.rs`, `announcements.rs` |
//! | How do SQLite files get copied, restored and locked? | `sqlite_files.rs`, `backup.rs`, `folder_lock.rs` |
//! | Which schema does a database have, and how is it migrated? | `schema.rs`, `migrate.rs`, `inspect.rs` |
//! | How does a list get its pages? | `paging.rs` |
//! | How does the master key change? | `sealed_values.rs` |
//! | Which queries does a resource have? | the file with the resource's name |

mod access_tokens;
mod accounts;
mod alerts;
mod announcements;
mod attempts;
mod audit;
mod backup;
mod challenges;
mod clock_record;
mod connection;
mod credentials;
mod deliveries;
mod entities;
mod erasure;
mod error;
mod factors;
mod folder_lock;
mod inspect;
mod job;
mod leader_lease;
mod limits;
mod messaging_configurations;
mod migrate;
mod notifications;
mod outlets;
mod paging;
mod pool;
mod postgres;
mod rate_limits;
mod read_write;
mod removal;
mod retry;
mod safe_list;
mod schema;
mod sealed_values;
mod services;
mod sqlite;
mod sqlite_files;
mod sqlite_readers;
mod store;
mod templates;
mod values;
mod verifications;
mod webhooks;
mod writer;

pub use crate::accounts::EnrollmentKeyRow;
pub use crate::alerts::AlertFilter;
pub use crate::announcements::{Announcement, Announcements, Changes, ProcessTag, Topic};
pub use crate::attempts::AttemptFilter;
pub use crate::audit::{
    AuditChain, AuditFilter, AuditLogCheck, AuditTail, ChainedRecord, ListedRecord, UnchainedPosition,
    UnchainedRecord,
};
pub use crate::backup::{BackupInfo, Replacement, back_up, inspect_backup};
pub use crate::challenges::ChallengeFilter;
pub use crate::deliveries::{
    AttemptRecord, DeliveryFilter, DeliveryStatus, DueDeliveries, LeasedDeliveries, PendingDeliveries,
};
pub use crate::entities::DeletedEntity;
pub use crate::error::{Conflict, Error};
pub use crate::folder_lock::is_in_use;
pub use crate::inspect::{DatabaseInfo, open_read_only, schema_differences, uses_wal};
pub use crate::limits::MAX_POSTGRES_CONNECTIONS;
pub use crate::migrate::{MigrationReport, OldSchema};
pub use crate::read_write::{Read, Write};
pub use crate::schema::Migration;
pub use crate::sealed_values::SealedColumn;
pub use crate::sqlite_files::{create_empty, give_to_owner_of, require_regular};
pub use crate::store::{Location, Size, Store};
