//! The store's error type, and the classification of errors from both databases.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};
use telemetry::metrics::{DatabaseFault, DatabaseFaultLabels, METRICS};

/// An error that the store returns.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A new row violates a uniqueness constraint.
    #[error("the new row conflicts with an existing row: {0:?}")]
    Conflict(Conflict),
    /// The row that a new row refers to, such as its service or account, does not exist.
    #[error("the row that the new row refers to does not exist")]
    ParentGone,
    /// The database cannot be reached, is overloaded, or its disk is full. A later attempt may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] Option<Arc<sqlx::Error>>),
    /// PostgreSQL cannot be reached or refuses the connection.
    #[error("cannot connect to {place}")]
    Unreachable {
        /// Host, port and database name, for the error message.
        place: Arc<str>,
        /// The reason why the connection failed.
        #[source]
        reason: Arc<sqlx::Error>,
    },
    /// The PostgreSQL database has an encoding other than UTF-8, so it cannot store every character.
    #[error(
        "{place} has the encoding {encoding}, but UTF8 is required; create a new database with CREATE DATABASE … \
         ENCODING 'UTF8' TEMPLATE template0 and move the data with pg_dump and pg_restore"
    )]
    Encoding {
        /// Host, port and database name, for the error message.
        place: Arc<str>,
        /// The database's current encoding.
        encoding: String,
    },
    /// The connection was lost during a commit, so the write may or may not have taken effect.
    #[error("the connection was lost during a commit, so it is unknown whether the write took effect")]
    OutcomeUnknown(#[source] Arc<sqlx::Error>),
    /// The column with this name holds an invalid value.
    #[error("invalid value in column {0}")]
    Corrupt(String),
    /// The database accepted a change to the table with this name without storing it, for example because a trigger was
    /// added.
    #[error("the database did not store a change to table {0}; run `countersign doctor` to check its schema")]
    NotStored(&'static str),
    /// The database's schema is older than this version of Countersign. Contains the names of the missing migrations.
    #[error("the database lacks the migrations {}; run `countersign migrate`", .0.join(", "))]
    OldSchema(Vec<String>),
    /// The database was not migrated because it could not be copied first. Contains the error of the copy.
    #[error("the database was not migrated because it could not be copied first")]
    NotCopied(#[source] Box<Error>),
    /// The file or folder with this path cannot be read, written or opened.
    #[error("cannot access {}", .0.display())]
    File(PathBuf, #[source] Arc<std::io::Error>),
    /// The file with this path is not an intact Countersign database. The text is the reason.
    #[error("{} is not an intact Countersign database: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// Another process is using the database. The text is the complete error message.
    #[error("{0}")]
    InUse(String),
    /// The applied migration with this name differs from this version's migration with the same number.
    #[error(
        "another version of Countersign created this database with a different migration {0}; use that version, or \
         create a new database"
    )]
    ChangedMigration(String),
    /// A migration failed.
    #[error("migrating the database failed")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// A database error that no other variant describes, caused by a bug or a damaged file.
    #[error("the database reported an error")]
    Database(#[source] Arc<sqlx::Error>),
    /// A database task panicked. If the task was a transaction, none of its changes were written.
    #[error("a database task panicked, which is a bug; the log has the details")]
    Panicked,
}

/// The uniqueness constraint that a new row violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The entity already has a factor with this public key.
    FactorKey,
    /// The relying party already has a passkey with this credential in the account.
    PasskeyCredential,
    /// The service already has a rate limit with this unique name.
    RateLimitName,
    /// The rate limit already has a bucket with this interval.
    BucketInterval,
    /// The service already has a messaging configuration for this country.
    MessagingCountry,
    /// The phone number is already on the account's safe list.
    SafeNumber,
    /// A constraint other than those above, for example because the account already exists. Randomly
    /// generated SIDs do not collide, so they never cause this.
    Other,
}

/// The uniqueness constraints that callers distinguish. Each entry consists of the name that PostgreSQL reports, the
/// columns that SQLite reports, and the resulting [`Conflict`].
const CONSTRAINTS: &[(&str, &str, Conflict)] = &[
    ("push_factors_key", "push_factors.entity_sid, push_factors.public_key", Conflict::FactorKey),
    (
        "passkey_factors_credential",
        "passkey_factors.account_sid, passkey_factors.rp_id, passkey_factors.credential_id",
        Conflict::PasskeyCredential,
    ),
    ("rate_limits_unique_name", "rate_limits.service_sid, rate_limits.unique_name", Conflict::RateLimitName),
    ("buckets_interval", "buckets.rate_limit_sid, buckets.interval_seconds", Conflict::BucketInterval),
    (
        "messaging_configurations_country",
        "messaging_configurations.service_sid, messaging_configurations.country",
        Conflict::MessagingCountry,
    ),
    (
        "safe_numbers_phone_number",
        "safe_numbers.account_sid, safe_numbers.phone_number",
        Conflict::SafeNumber,
    ),
];

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
            // `sqlx` reports a protocol error if a load balancer without an available server closes the connection
            // before the first response.
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
    /// Counts the error in the metrics if it is a database failure. Returns the error unchanged.
    pub(crate) fn counted(self) -> Self {
        let kind = match &self {
            Self::Conflict(_) | Self::ParentGone | Self::Panicked => return self,
            Self::Unavailable(Some(error)) if has_code(error, &DISK_FULL_CODES) => DatabaseFault::NoRoom,
            Self::Unavailable(_) | Self::Unreachable { .. } => DatabaseFault::Unavailable,
            Self::OutcomeUnknown(_) => DatabaseFault::OutcomeUnknown,
            Self::Corrupt(_) | Self::NotStored(_) => DatabaseFault::Corrupt,
            Self::OldSchema(_)
            | Self::ChangedMigration(_)
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

    /// Returns whether the database may become available without intervention, for example because it is starting or
    /// overloaded. A wrong password or a missing database is permanent.
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

    /// Returns whether the transaction can be run again at once: none of it was committed, and the cause, such as a
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

/// PostgreSQL error codes for a lock timeout and a statement timeout. A transaction that fails with one of them is not
/// retried, because the caller has already waited long enough.
const TIMEOUT_CODES: [&str; 2] = ["55P03", "57014"];

/// Error codes for a full disk: 53100 on PostgreSQL; on SQLite, `FULL` and the I/O errors of writing, syncing,
/// truncating and growing a file.
const DISK_FULL_CODES: [&str; 6] = ["53100", "13", "778", "1034", "1546", "4874"];

/// Returns whether a `COMMIT` that failed with this error was certainly rolled back. This holds for serialization
/// failures, constraint violations, a full disk and a canceled statement. Any other error may have occurred after the
/// commit.
pub(crate) fn is_rolled_back(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40", "23", "53"].iter().any(|class| code.starts_with(class)) || code == "57014")
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

/// Returns whether `error` is a PostgreSQL error in one of `classes`. A class is the first two characters of the error
/// code.
fn is_of_class(error: &sqlx::Error, classes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| code.len() == 5 && classes.iter().any(|class| code.starts_with(class)))
}

/// Returns whether `error` makes its connection unusable, so that no later statement on it can succeed. This happens if
/// PostgreSQL or a proxy closes the connection, if responses no longer match statements, or if the server has become a
/// replica.
pub(crate) fn ends_connection(error: &sqlx::Error) -> bool {
    let codes = ["25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"];
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        error => has_code(error, &codes) || is_of_class(error, &["08"]),
    }
}

/// Classes of PostgreSQL errors that are usually temporary: connection exception (08), transaction rollback (40),
/// insufficient resources (53), operator intervention such as a shutdown or a timeout (57), and system error (58).
const TRANSIENT_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];

/// Codes outside [`TRANSIENT_CLASSES`] that are also temporary. On PostgreSQL: the server is currently a replica, a
/// transaction was idle or ran too long, or an object or a lock is in use. On SQLite: another process has locked the
/// file.
const TRANSIENT_CODES: [&str; 9] = ["25006", "25P03", "25P04", "55006", "55P03", "5", "261", "517", "6"];

/// Codes in [`TRANSIENT_CLASSES`] that are permanent: the database was dropped (57P04), or a commit violates a
/// constraint (40002).
const PERMANENT_CODES: [&str; 2] = ["57P04", "40002"];

/// Returns whether the error is temporary, so that a later attempt may succeed.
fn is_transient(refusal: &dyn DatabaseError) -> bool {
    refusal.code().is_some_and(|code| {
        let code = code.as_ref();
        let is_of_class = code.len() == 5
            && TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class))
            && !PERMANENT_CODES.contains(&code);
        is_of_class || TRANSIENT_CODES.contains(&code) || DISK_FULL_CODES.contains(&code)
    })
}

/// Converts an error into the form that `sqlx` gives the errors of a database, so that the errors of both databases are
/// classified in one place.
pub(crate) fn sqlite_error(error: rusqlite::Error) -> sqlx::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.unwrap_or_else(|| code.to_string());
            sqlx::Error::Database(Box::new(SqliteFailure { code: code.extended_code, message }))
        }
        error => sqlx::Error::Decode(Box::new(error)),
    }
}

/// An error that SQLite reports, with its extended result code (<https://sqlite.org/rescode.html>).
#[derive(Debug)]
struct SqliteFailure {
    code: i32,
    message: String,
}

impl fmt::Display for SqliteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl std::error::Error for SqliteFailure {}

impl DatabaseError for SqliteFailure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        use rusqlite::ffi;
        match self.code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => ErrorKind::UniqueViolation,
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::ForeignKeyViolation,
            ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNullViolation,
            ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::CheckViolation,
            _ => ErrorKind::Other,
        }
    }
}
