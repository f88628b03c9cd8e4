//! One text of SQL for both databases: values in, rows out.
//!
//! `sqlx` is generic over the database, and code that is generic over it in turn needs a bound for
//! every type it binds. Here the two meet in enums instead, so that a query is written once, in plain
//! words, next to the rows it makes.

use std::borrow::Cow;

use domain::parameter::Parameter;
use domain::time::Timestamp;
use domain::{
    AccessTokenSid, AccountSid, AlertSid, ApiKeySid, ChallengeSid, CredentialSid, EntitySid, EventSid,
    FactorSid, NotificationSid, Sealed, ServiceSid, Sid, WebhookSid,
};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr, Sqlite};

use crate::error::Error;
use crate::pool::Pooled;

/// A bound parameter. Nulls have a type, since PostgreSQL asks for one.
#[derive(Debug)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

macro_rules! values {
    ($($from:ty => |$value:ident| $made:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $made
            }
        })*
    };
}

values! {
    i64 => |value| Self::Int(Some(value));
    Timestamp => |value| Self::Int(Some(value.micros()));
    Option<i64> => |value| Self::Int(value);
    Option<Timestamp> => |value| Self::Int(value.map(Timestamp::micros));
    &str => |value| Self::Text(Some(value.to_owned()));
    String => |value| Self::Text(Some(value));
    Option<String> => |value| Self::Text(value);
    Option<&str> => |value| Self::Text(value.map(str::to_owned));
    &[u8] => |value| Self::Bytes(value.to_owned());
}

macro_rules! sid_values {
    ($($sid:ty),*) => {
        $(impl From<$sid> for Value {
            fn from(sid: $sid) -> Self {
                Self::Text(Some(sid.to_string()))
            }
        })*
    };
}

sid_values!(
    AccessTokenSid,
    AccountSid,
    AlertSid,
    ApiKeySid,
    ChallengeSid,
    CredentialSid,
    EntitySid,
    EventSid,
    FactorSid,
    NotificationSid,
    ServiceSid,
    WebhookSid
);

impl<T> From<&Sealed<T>> for Value {
    fn from(sealed: &Sealed<T>) -> Self {
        Self::Bytes(sealed.as_bytes().to_owned())
    }
}

/// The parameters of a statement, in order: `bind![sid, now]`.
macro_rules! bind {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use bind;

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($($name:ident -> $type:ty;)*) => {
        $(pub(crate) fn $name(&self, column: &str) -> Result<$type, Error> {
            Ok(match self {
                Self::Sqlite(row) => row.try_get(column)?,
                Self::Postgres(row) => row.try_get(column)?,
            })
        })*
    };
}

impl Row {
    column! {
        int -> i64;
        optional_int -> Option<i64>;
        text -> String;
        optional_text -> Option<String>;
        bytes -> Vec<u8>;
    }

    pub(crate) fn timestamp(&self, column: &str) -> Result<Timestamp, Error> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub(crate) fn optional_timestamp(&self, column: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.optional_int(column)?.map(Timestamp::from_micros))
    }

    pub(crate) fn sid<S: Sid>(&self, column: &str) -> Result<S, Error> {
        self.text(column)?.parse().map_err(|_| Error::Corrupt(column.to_owned()))
    }

    pub(crate) fn sealed<T>(&self, column: &str) -> Result<Sealed<T>, Error> {
        self.bytes(column).map(Sealed::from_bytes)
    }

    /// A word that stands for a value, such as a status.
    pub(crate) fn word<T: Parameter>(&self, column: &str) -> Result<T, Error> {
        T::from_parameter(&self.text(column)?).map_err(|_| Error::Corrupt(column.to_owned()))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        serde_json::from_str(&self.text(column)?).map_err(|_| Error::Corrupt(column.to_owned()))
    }

    pub(crate) fn optional_json<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<Option<T>, Error> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|_| Error::Corrupt(column.to_owned())))
            .transpose()
    }
}

/// JSON text of a value that our own types made, which always can be written.
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

macro_rules! bound {
    ($database:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for value in $values {
            query = match value {
                $crate::sql::Value::Int(value) => query.bind(value),
                $crate::sql::Value::Text(value) => query.bind(value),
                $crate::sql::Value::Bytes(value) => query.bind(value),
            };
        }
        query
    }};
}
pub(crate) use bound;

/// A connection of either database, in or out of a transaction.
pub(crate) enum Connection {
    /// The writer's own, or the only one of a database in memory.
    Sqlite(Box<SqliteConnection>),
    /// A reader.
    SqliteReader(PoolConnection<Sqlite>),
    /// A reader, or one in a transaction.
    Postgres(Pooled),
}

impl Connection {
    /// Whether the text may be PostgreSQL's where the two must differ.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs a statement and returns all its rows. The text is a constant of this crate, or put
    /// together out of such constants; whatever comes from outside is in `values`.
    ///
    /// The text names its columns, never `*`: statements are kept prepared, and one whose columns become
    /// more, because a newer program migrates the database, fails ever after.
    pub(crate) async fn rows(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let sql = match sql.into() {
            Cow::Borrowed(sql) => sql.into_sql_str(),
            Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
        };
        macro_rules! fetch {
            ($database:ident, $connection:expr) => {
                async {
                    let rows = bound!($database, sql, values).fetch_all($connection).await?;
                    Ok(rows.into_iter().map(Row::$database).collect())
                }
            };
        }
        match self {
            Self::Sqlite(connection) => fetch!(Sqlite, &mut **connection).await,
            Self::SqliteReader(connection) => fetch!(Sqlite, &mut **connection).await,
            Self::Postgres(pooled) => pooled.rows(sql, values).await,
        }
    }
}
