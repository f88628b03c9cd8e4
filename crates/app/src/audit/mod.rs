//! The audit log: each change writes an audit record in the transaction of the change, and a background task chains the
//! records.
//!
//! ```text
//!  change ──▶ record + MAC of its own          unchained for about a second
//!                    │
//!                    ▼  once a second, one node at a time
//!  chain:  removed ─▶ n+1 ─▶ n+2 ─▶ … ─▶ head   each MAC covers the record, its number and the previous MAC
//!                                        │
//!                                        ▼  once a minute
//!                                    checkpoint in the server's log and in a file
//! ```
//!
//! - `records`: writes audit records, and lists them for the API and for operators.
//! - `chain`: appends unchained records to the chain, and removes records after their retention.
//! - `chain_state`: holds the MAC key, and the newest ends of the chain that this process has seen.
//! - `verification`: verifies the whole chain.
//! - `checkpoints`: publishes the chain head outside of the database.
//!
//! Records are not chained in the transaction of their change, because then concurrent changes would have to wait for
//! one another. Until a record is chained, its own MAC protects it against forgery and alteration, but not against
//! deletion: a record of the last second can be deleted without a trace, a chained record cannot. Each process refuses
//! a chain that does not continue from the ends (the start and the head) that it has seen, because an attacker may have
//! restored older ends.

pub(crate) mod chain;
pub(crate) mod chain_state;
pub(crate) mod checkpoints;
pub(crate) mod records;
pub(crate) mod verification;

pub use store::{AuditFilter, ChainedRecord, ListedRecord};

pub(crate) use crate::audit::records::AuditWriter;
pub use crate::audit::records::Origin;
pub use crate::audit::verification::{ChainBreak, Verification, VerificationProgress, VerifiedChain};
