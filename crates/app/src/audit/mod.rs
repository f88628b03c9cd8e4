//! The audit log: every change writes a record in its own transaction, and a background task chains the records.
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
//! - `records`: writes records, and lists them for the API and for operators.
//! - `chain`: appends unchained records, and removes those beyond retention.
//! - `chain_state`: the MAC key, and the newest ends of the chain that this process has seen.
//! - `verification`: checks the whole chain.
//! - `checkpoints`: publishes the end of the chain outside of the database.
//!
//! Records are not chained in the transaction of their change, because then changes would wait for one another. In
//! the meantime a MAC of its own protects each record against forgery and alteration. So a record of the last second
//! can still be deleted without a trace; a chained one cannot. Each process refuses a chain that does not continue
//! from the ends that it has seen, because an attacker may have restored older ones.

pub(crate) mod chain;
pub(crate) mod chain_state;
pub(crate) mod checkpoints;
pub(crate) mod records;
pub(crate) mod verification;

pub use store::{AuditFilter, ChainedRecord, ListedRecord};

pub(crate) use crate::audit::records::AuditWriter;
pub use crate::audit::records::Origin;
pub use crate::audit::verification::{ChainBreak, Verification, VerifiedChain};
