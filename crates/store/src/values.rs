//! Parameters of SQL statements, and the rows that statements return, for both databases.
//!
//! The two databases have different drivers: `rusqlite` for SQLite, `sqlx` for PostgreSQL. The enums in this file cover
//! both, so that each query is written once, next to the parser of its rows.

use std::cell::Cell;

use domain::audit::Mac;
use domain::deliveries::DeliveryId;
use domain::outlets::OutletSid;
use domain::parameter::{Bounded, Parameter};
use domain::time::Timestamp;
use domain::{
    AccessTokenSid, AccountSid, AlertSid, ApiKeySid, AttemptSid, BucketSid, ChallengeSid, CredentialSid,
    EntitySid, EventSid, FactorSid, MailerSid, MessagingConfigurationSid, MessagingServiceSid,
    NotificationSid, RateLimitSid, RequestSid, SafeNumberSid, Sealed, ServiceSid, Sid, TemplateSid,
    VerificationSid, WebhookSid,
};
use rusqlite::types::{FromSql, ValueRef};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{Postgres, Row as _, SqlStr, ValueRef as _};

use crate::error::{Error, sqlite_error};

/// A parameter of a SQL statement. A null value has a type too, because PostgreSQL
/// requires the type of every parameter.
#[derive(Debug)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// A SID whose kind the column determines, or a delivery ID: a BLOB on SQLite, a UUID on PostgreSQL.
    Id(Option<[u8; 16]>),
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
    &[u8] => |value| Self::Bytes(Some(value.to_owned()));
    Option<&[u8]> => |value| Self::Bytes(value.map(<[u8]>::to_vec));
    Option<[u8; 16]> => |id| Self::Id(id);
    &Mac => |mac| Self::Bytes(Some(mac.0.to_vec()));
    DeliveryId => |id| Self::Id(Some(id.to_bytes()));
    OutletSid => |sid| Self::Id(Some(sid.to_bytes()));
}

macro_rules! sid_values {
    ($($sid:ty),*) => {
        $(impl From<$sid> for Value {
            fn from(sid: $sid) -> Self {
                Self::Id(Some(sid.to_bytes()))
            }
        }

        impl From<Option<$sid>> for Value {
            fn from(sid: Option<$sid>) -> Self {
                Self::Id(sid.map(Sid::to_bytes))
            }
        })*
    };
}

sid_values!(
    AccessTokenSid,
    AccountSid,
    AlertSid,
    ApiKeySid,
    AttemptSid,
    BucketSid,
    ChallengeSid,
    CredentialSid,
    EntitySid,
    EventSid,
    FactorSid,
    MailerSid,
    MessagingConfigurationSid,
    MessagingServiceSid,
    NotificationSid,
    RateLimitSid,
    RequestSid,
    SafeNumberSid,
    ServiceSid,
    TemplateSid,
    VerificationSid,
    WebhookSid
);

impl<T> From<&Sealed<T>> for Value {
    fn from(sealed: &Sealed<T>) -> Self {
        Self::Bytes(Some(sealed.as_bytes().to_owned()))
    }
}

/// Builds the list of a statement's parameters, in order: `bind![sid, now]`.
macro_rules! bind {
    ($($value:expr),* $(,)?) => { vec![$($crate::values::Value::from($value)),*] };
}
pub(crate) use bind;

/// A row returned by either database. Its columns are read by name.
pub(crate) enum Row<'a> {
    Sqlite(SqliteRow<'a>),
    Postgres(&'a PgRow),
}

/// A row of SQLite, which compares a name with those of all columns. Most parsers read columns in their order, so the
/// column after the one that was read last is tried first.
pub(crate) struct SqliteRow<'a> {
    row: &'a rusqlite::Row<'a>,
    next: Cell<usize>,
}

impl<'a> SqliteRow<'a> {
    pub(crate) const fn new(row: &'a rusqlite::Row<'a>) -> Self {
        Self { row, next: Cell::new(0) }
    }

    fn get<T: FromSql>(&self, column: &str) -> Result<T, Error> {
        Ok(self.row.get(self.index(column)?).map_err(sqlite_error)?)
    }

    fn get_ref(&self, column: &str) -> Result<ValueRef<'a>, Error> {
        Ok(self.row.get_ref(self.index(column)?).map_err(sqlite_error)?)
    }

    fn index(&self, column: &str) -> Result<usize, Error> {
        let (statement, next) = (self.row.as_ref(), self.next.get());
        let index = match statement.column_name(next) {
            Ok(name) if name == column => next,
            _ => statement.column_index(column).map_err(sqlite_error)?,
        };
        self.next.set(index + 1);
        Ok(index)
    }
}

macro_rules! column {
    ($($name:ident -> $type:ty;)*) => {
        $(pub(crate) fn $name(&self, column: &str) -> Result<$type, Error> {
            Ok(match self {
                Self::Sqlite(row) => row.get(column)?,
                Self::Postgres(row) => row.try_get(column)?,
            })
        })*
    };
}

impl Row<'_> {
    column! {
        int -> i64;
        optional_int -> Option<i64>;
        text -> String;
        optional_text -> Option<String>;
        bytes -> Vec<u8>;
        optional_bytes -> Option<Vec<u8>>;
    }

    pub(crate) fn timestamp(&self, column: &str) -> Result<Timestamp, Error> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub(crate) fn optional_timestamp(&self, column: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.optional_int(column)?.map(Timestamp::from_micros))
    }

    /// Returns the 16 bytes of a column that holds a SID or a delivery ID, or `None` if the column is null.
    pub(crate) fn optional_id(&self, column: &str) -> Result<Option<[u8; 16]>, Error> {
        match self {
            Self::Sqlite(row) => match row.get_ref(column)? {
                ValueRef::Null => Ok(None),
                ValueRef::Blob(bytes) => {
                    bytes.try_into().map(Some).map_err(|_| Error::Corrupt(column.to_owned()))
                }
                _ => Err(Error::Corrupt(column.to_owned())),
            },
            Self::Postgres(row) => Ok(row.try_get::<Option<Uuid>, _>(column)?.map(Uuid::into_bytes)),
        }
    }

    /// Returns whether a column that holds a SID or a delivery ID is null.
    pub(crate) fn is_null(&self, column: &str) -> Result<bool, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.get_ref(column)? == ValueRef::Null,
            Self::Postgres(row) => row.try_get_raw(column)?.is_null(),
        })
    }

    /// Returns the 16 bytes of a column that holds a SID or a delivery ID.
    pub(crate) fn id(&self, column: &str) -> Result<[u8; 16], Error> {
        self.optional_id(column)?.ok_or_else(|| Error::Corrupt(column.to_owned()))
    }

    /// Returns the bytes of a column that holds a SID. On SQLite, tampering may have stored any number of them.
    pub(crate) fn unchecked_id(&self, column: &str) -> Result<Vec<u8>, Error> {
        match self {
            Self::Sqlite(_) => self.bytes(column),
            Self::Postgres(_) => self.id(column).map(Vec::from),
        }
    }

    pub(crate) fn sid<S: Sid>(&self, column: &str) -> Result<S, Error> {
        self.id(column).map(S::from_bytes)
    }

    pub(crate) fn optional_sid<S: Sid>(&self, column: &str) -> Result<Option<S>, Error> {
        Ok(self.optional_id(column)?.map(S::from_bytes))
    }

    pub(crate) fn mac(&self, column: &str) -> Result<Mac, Error> {
        self.bytes(column)?.try_into().map(Mac).map_err(|_| Error::Corrupt(column.to_owned()))
    }

    /// Returns the bytes of a column that holds a SHA-256 digest.
    pub(crate) fn digest(&self, column: &str) -> Result<[u8; 32], Error> {
        self.bytes(column)?.try_into().map_err(|_| Error::Corrupt(column.to_owned()))
    }

    /// Returns the number in a column, converted into the type of the value that it stores.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, Error> {
        T::try_from(self.int(column)?).map_err(|_| Error::Corrupt(column.to_owned()))
    }

    /// Returns the number in a column, which must be within the bounds of its type.
    pub(crate) fn bounded<const MIN: i64, const MAX: i64>(
        &self,
        column: &str,
    ) -> Result<Bounded<MIN, MAX>, Error> {
        Bounded::new(self.int(column)?).ok_or_else(|| Error::Corrupt(column.to_owned()))
    }

    pub(crate) fn sealed<T>(&self, column: &str) -> Result<Sealed<T>, Error> {
        self.bytes(column).map(Sealed::from_bytes)
    }

    /// Parses a text column that holds a parameter's value, such as a status or a URL.
    pub(crate) fn keyword<T: Parameter>(&self, column: &str) -> Result<T, Error> {
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

/// Returns the digits of a SID, for statements that take many SIDs in one JSON parameter.
pub(crate) fn to_hex(sid: impl Sid) -> String {
    format!("{:032x}", u128::from_be_bytes(sid.to_bytes()))
}

/// Serializes a value of one of this project's own types as JSON. This cannot fail for these types.
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Builds a PostgreSQL query and binds its values.
pub(crate) fn bound(sql: SqlStr, values: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query(sql);
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Id(value) => query.bind(value.map(Uuid::from_bytes)),
        };
    }
    query
}
