//! What can go wrong with a database, and one reading of it for both kinds.

use std::path::PathBuf;
use std::sync::Arc;

use telemetry::metrics::{DatabaseFailed, DatabaseFault, METRICS};

/// A failure of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A row with these values exists.
    #[error("{0:?} exists")]
    Conflict(Conflict),
    /// The row that this one hangs on is gone.
    #[error("the row that this one belongs to is gone")]
    ParentGone,
    /// The database is out of reach, too busy to take more, or has no room: worth trying again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Option<Arc<sqlx::Error>>),
    /// PostgreSQL can't be reached, or refuses the connection.
    #[error("cannot connect to {place}")]
    Unreachable {
        /// Host, port and database.
        place: Arc<str>,
        /// Why.
        #[source]
        reason: Arc<sqlx::Error>,
    },
    /// The database can't hold every character.
    #[error(
        "{place} has the encoding {encoding}, which can't hold every text; make another one with CREATE DATABASE … \
         ENCODING 'UTF8' TEMPLATE template0, and move what is in this one there with pg_dump and pg_restore"
    )]
    Encoding {
        /// Host, port and database.
        place: Arc<str>,
        /// The encoding that it has.
        encoding: String,
    },
    /// The database was interrupted while it committed: the write may or may not have happened.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown(#[source] Arc<sqlx::Error>),
    /// A column holds what it can't hold.
    #[error("column {0} holds a value that it can't hold")]
    Corrupt(String),
    /// The schema is older than this program.
    #[error("the database lacks the migrations {}; run `countersign migrate`", .0.join(", "))]
    OldSchema(Vec<String>),
    /// A database was not migrated, since no copy of it could be made before.
    #[error("the database was not migrated, since no copy of it could be made before")]
    NotCopied(#[source] Box<Error>),
    /// A file can't be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] Arc<std::io::Error>),
    /// A file is not a whole database of Countersign.
    #[error("{} is not a whole database of Countersign: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// Somebody uses the database who must not while this is done.
    #[error("{0}")]
    InUse(String),
    /// A migration failed, or differs from the one that was applied.
    #[error("a migration failed")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// Anything else that the database refuses: a bug, a broken file.
    #[error("the database failed")]
    Database(#[source] Arc<sqlx::Error>),
    /// A transaction's code panicked; nothing of it was written.
    #[error("a transaction panicked")]
    Panicked,
}

/// Which rule of uniqueness was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The entity has a factor with that public key.
    FactorKey,
    /// Any other: two SIDs alike, which does not happen, or an account that exists.
    Other,
}

/// How PostgreSQL (by name) and SQLite (by columns) report each rule.
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
            E::Database(refusal) if is_passing(refusal.as_ref()) => Self::Unavailable(Some(Arc::new(error))),
            // A protocol error is what it looks like when whoever takes the connection, such as a load
            // balancer whose server is away, hangs up before the first answer.
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
    /// The same, counted where it is a failure of the database and no answer.
    pub(crate) fn counted(self) -> Self {
        let kind = match &self {
            Self::Conflict(_) | Self::ParentGone | Self::Panicked => return self,
            Self::Unavailable(Some(error)) if has_code(error, &NO_ROOM) => DatabaseFault::NoRoom,
            Self::Unavailable(_) | Self::Unreachable { .. } => DatabaseFault::Unavailable,
            Self::OutcomeUnknown(_) => DatabaseFault::OutcomeUnknown,
            Self::Corrupt(_) => DatabaseFault::Corrupt,
            Self::OldSchema(_)
            | Self::Migration(_)
            | Self::NotCopied(_)
            | Self::File(..)
            | Self::Damaged(..)
            | Self::InUse(_)
            | Self::Encoding { .. }
            | Self::Database(_) => DatabaseFault::Failed,
        };
        METRICS.database_failures.get_or_create(&DatabaseFailed { kind }).inc();
        self
    }

    /// Whether the database may become usable by itself: it is not up yet, or too busy. A wrong password or a
    /// database that does not exist has to be mended first.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unreachable { reason, .. } => match reason.as_ref() {
                sqlx::Error::Database(refusal) => is_passing(refusal.as_ref()),
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the transaction can be run again from its beginning: nothing of it was committed, and
    /// what stood in its way has passed.
    pub(crate) fn is_worth_repeating(&self) -> bool {
        match self {
            Self::Unavailable(Some(error)) => match error.as_ref() {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(refusal) => {
                    let is_lasting = has_code(error, &TOOK_TOO_LONG)
                        || has_code(error, &NO_ROOM)
                        || is_of_class(error, &["53", "58"]);
                    is_passing(refusal.as_ref()) && !is_lasting
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// A lock, or a statement, that took PostgreSQL too long: the caller has waited long enough.
const TOOK_TOO_LONG: [&str; 2] = ["55P03", "57014"];

/// No room: on PostgreSQL (53100), on SQLite (full; what cannot be written, synced, truncated or grown).
const NO_ROOM: [&str; 6] = ["53100", "13", "778", "1034", "1546", "4874"];

/// Whether a COMMIT that failed like this has certainly undone all: serialization failures, constraints, no room,
/// a statement that was cancelled. Anything else may have come after it.
pub(crate) fn is_undone(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| ["40", "23", "53"].iter().any(|class| code.starts_with(class)) || code == "57014")
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

/// Whether PostgreSQL refused something with a code of one of these classes.
fn is_of_class(error: &sqlx::Error, classes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| code.len() == 5 && classes.iter().any(|class| code.starts_with(class)))
}

/// Whether no later statement on the same connection can succeed: PostgreSQL or a proxy closes it, it is out of
/// step, or it leads to a server that has become a replica.
pub(crate) fn ends_connection(error: &sqlx::Error) -> bool {
    let codes = ["25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"];
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        error => has_code(error, &codes) || is_of_class(error, &["08"]),
    }
}

/// Classes of PostgreSQL's errors that pass by themselves: the connection (08), transactions that stand in each
/// other's way (40), resources such as connections and disk (53), an operator's intervention such as a shutdown or
/// a timeout (57), the system below (58).
const PASSING_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];

/// Refusals of other classes that pass too: a server that is a replica for now, a transaction that idled or lasted
/// too long, an object or a lock in use; on SQLite, a file that another process locks.
const PASSING: [&str; 9] = ["25006", "25P03", "25P04", "55006", "55P03", "5", "261", "517", "6"];

/// In these classes, what does not pass: a database that was dropped, a constraint that a commit finds violated.
const LASTING: [&str; 2] = ["57P04", "40002"];

/// Whether trying again later may help.
fn is_passing(refusal: &dyn sqlx::error::DatabaseError) -> bool {
    refusal.code().is_some_and(|code| {
        let code = code.as_ref();
        let is_of_class = code.len() == 5
            && PASSING_CLASSES.iter().any(|class| code.starts_with(class))
            && !LASTING.contains(&code);
        is_of_class || PASSING.contains(&code) || NO_ROOM.contains(&code)
    })
}
