//! The store's error type, and how the errors of both databases are classified.

use std::path::PathBuf;
use std::sync::Arc;

use telemetry::metrics::{DatabaseFault, DatabaseFaultLabels, METRICS};

/// A failure of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A row with these values exists already.
    #[error("a row that conflicts with the new one exists: {0:?}")]
    Conflict(Conflict),
    /// The row that a new row refers to does not exist.
    #[error("the row that the new one refers to does not exist")]
    ParentGone,
    /// The database cannot be reached, is overloaded, or its disk is full. A later attempt may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] Option<Arc<sqlx::Error>>),
    /// PostgreSQL cannot be reached or refuses the connection.
    #[error("cannot connect to {place}")]
    Unreachable {
        /// Host, port and database.
        place: Arc<str>,
        /// The cause.
        #[source]
        reason: Arc<sqlx::Error>,
    },
    /// The encoding of the database cannot represent every character.
    #[error(
        "{place} has the encoding {encoding}, but UTF8 is required; create a new database with CREATE DATABASE … \
         ENCODING 'UTF8' TEMPLATE template0 and move the data with pg_dump and pg_restore"
    )]
    Encoding {
        /// Host, port and database.
        place: Arc<str>,
        /// The encoding of the database.
        encoding: String,
    },
    /// The connection was lost during a commit: the write may or may not have happened.
    #[error("the connection was lost during a commit, so it is unknown whether the write took effect")]
    OutcomeUnknown(#[source] Arc<sqlx::Error>),
    /// A column holds an invalid value.
    #[error("invalid value in column {0}")]
    Corrupt(String),
    /// The database accepted a change of this table without storing it, for example because of an added trigger.
    #[error("the database did not store a change of table {0}; run `countersign doctor` to check its schema")]
    NotStored(&'static str),
    /// The schema is older than this version of Countersign.
    #[error("the database lacks the migrations {}; run `countersign migrate`", .0.join(", "))]
    OldSchema(Vec<String>),
    /// A database was not migrated because it could not be copied first.
    #[error("the database was not migrated because it could not be copied first")]
    NotCopied(#[source] Box<Error>),
    /// A file cannot be read, written or opened.
    #[error("cannot access {}", .0.display())]
    File(PathBuf, #[source] Arc<std::io::Error>),
    /// A file is not an intact Countersign database.
    #[error("{} is not an intact Countersign database: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// Another process uses the database.
    #[error("{0}")]
    InUse(String),
    /// A migration failed, or differs from the one that was applied.
    #[error("migrating the database failed")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// Any other error of the database: a bug, or a damaged file.
    #[error("the database reported an error")]
    Database(#[source] Arc<sqlx::Error>),
    /// A task of the store panicked. If it was a transaction, nothing of it was written.
    #[error("a database task panicked, which is a bug; the log has the details")]
    Panicked,
}

/// The uniqueness constraint that a new row violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The entity has a factor with that public key already.
    FactorKey,
    /// Any other constraint, such as an account that exists already. Random SIDs do not collide.
    Other,
}

/// How PostgreSQL (by name) and SQLite (by columns) report each constraint.
const CONSTRAINTS: &[(&str, &str, Conflict)] =
    &[("factors_key", "factors.entity_sid, factors.public_key", Conflict::FactorKey)];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(refusal) if refusal.is_unique_violation() => {
                let names = |(name, columns, _): &&(&str, &str, Conflict)| {
                    refusal.constraint() == Some(name) || refusal.message().ends_with(columns)
                };
                Self::Conflict(
                    CONSTRAINTS.iter().find(names).map_or(Conflict::Other, |(_, _, conflict)| *conflict),
                )
            }
            E::Database(refusal) if refusal.is_foreign_key_violation() => Self::ParentGone,
            E::Database(refusal) if is_transient(refusal.as_ref()) => {
                Self::Unavailable(Some(Arc::new(error)))
            }
            // A protocol error results when a load balancer without a backend closes the connection before the first
            // response.
            E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Tls(_) | E::Protocol(_) => {
                Self::Unavailable(Some(Arc::new(error)))
            }
            _ => Self::Database(Arc::new(error)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(Arc::new(error))
    }
}

impl Error {
    /// Counts the error in the metrics if it is a failure of the database, and returns it.
    pub(crate) fn counted(self) -> Self {
        let kind = match &self {
            Self::Conflict(_) | Self::ParentGone | Self::Panicked => return self,
            Self::Unavailable(Some(error)) if has_code(error, &DISK_FULL_CODES) => DatabaseFault::NoRoom,
            Self::Unavailable(_) | Self::Unreachable { .. } => DatabaseFault::Unavailable,
            Self::OutcomeUnknown(_) => DatabaseFault::OutcomeUnknown,
            Self::Corrupt(_) | Self::NotStored(_) => DatabaseFault::Corrupt,
            Self::OldSchema(_)
            | Self::Migration(_)
            | Self::NotCopied(_)
            | Self::File(..)
            | Self::Damaged(..)
            | Self::InUse(_)
            | Self::Encoding { .. }
            | Self::Database(_) => DatabaseFault::Failed,
        };
        METRICS.database_failures.get_or_create(&DatabaseFaultLabels { kind }).inc();
        self
    }

    /// Returns whether the database may become available by itself because it is starting or overloaded. A wrong
    /// password or a database that does not exist is permanent.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unreachable { reason, .. } => match reason.as_ref() {
                sqlx::Error::Database(refusal) => is_transient(refusal.as_ref()),
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns whether the transaction can run again at once: nothing of it was committed, and the cause, such as a
    /// deadlock, is gone.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(Some(error)) => match error.as_ref() {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(refusal) => {
                    let is_lasting = has_code(error, &TIMEOUT_CODES)
                        || has_code(error, &DISK_FULL_CODES)
                        || is_of_class(error, &["53", "58"]);
                    is_transient(refusal.as_ref()) && !is_lasting
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// A lock or a statement timed out on PostgreSQL. Not repeated, because the caller has waited long enough.
const TIMEOUT_CODES: [&str; 2] = ["55P03", "57014"];

/// The disk is full: 53100 on PostgreSQL; on SQLite `FULL` and I/O errors of write, sync, truncate and grow.
const DISK_FULL_CODES: [&str; 6] = ["53100", "13", "778", "1034", "1546", "4874"];

/// Returns whether a `COMMIT` that failed with this error has certainly rolled back: serialization failures,
/// constraints, a full disk, a canceled statement. Any other error may have occurred after the commit.
pub(crate) fn is_rolled_back(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40", "23", "53"].iter().any(|class| code.starts_with(class)) || code == "57014")
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

/// Returns whether this is an error of PostgreSQL with a code in one of these classes.
fn is_of_class(error: &sqlx::Error, classes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| code.len() == 5 && classes.iter().any(|class| code.starts_with(class)))
}

/// Returns whether no later statement on the same connection can succeed: PostgreSQL or a proxy closes it, responses
/// no longer match statements, or the server has become a replica.
pub(crate) fn ends_connection(error: &sqlx::Error) -> bool {
    let codes = ["25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"];
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        error => has_code(error, &codes) || is_of_class(error, &["08"]),
    }
}

/// Classes of PostgreSQL errors that are usually temporary: connection (08), transaction rollback (40), insufficient
/// resources (53), operator intervention such as a shutdown or a timeout (57), system error (58).
const TRANSIENT_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];

/// Codes of other classes that are temporary too: the server is a replica for now, a transaction was idle or ran too
/// long, an object or a lock is in use; on SQLite, another process locks the file.
const TRANSIENT_CODES: [&str; 9] = ["25006", "25P03", "25P04", "55006", "55P03", "5", "261", "517", "6"];

/// Codes in the transient classes that are permanent: the database was dropped, or a commit violates a constraint.
const PERMANENT_CODES: [&str; 2] = ["57P04", "40002"];

/// Returns whether a later attempt may succeed.
fn is_transient(refusal: &dyn sqlx::error::DatabaseError) -> bool {
    refusal.code().is_some_and(|code| {
        let code = code.as_ref();
        let is_of_class = code.len() == 5
            && TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class))
            && !PERMANENT_CODES.contains(&code);
        is_of_class || TRANSIENT_CODES.contains(&code) || DISK_FULL_CODES.contains(&code)
    })
}
