//! All that is sealed, wherever it is: what is sealed under which master key, and sealing it anew.

use domain::Sealed;

use crate::error::Error;
use crate::sql::bind;
use crate::{Read, Write};

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Auth tokens of accounts.
    AuthTokens,
    /// Keys of the enrollment ring.
    EnrollmentKeys,
    /// Keys of the server's own.
    ServerKeys,
    /// The key of the audit log.
    AuditKey,
    /// Push credentials.
    PushCredentials,
    /// Access tokens.
    AccessTokens,
}

impl Kind {
    /// All that there are.
    pub const ALL: [Self; 6] = [
        Self::AuthTokens,
        Self::EnrollmentKeys,
        Self::ServerKeys,
        Self::AuditKey,
        Self::PushCredentials,
        Self::AccessTokens,
    ];

    /// Table, column of the owner's name, and sealed column.
    const fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AuthTokens => ("accounts", "sid", "auth_token"),
            Self::EnrollmentKeys => ("enrollment_keys", "kid", "secret"),
            Self::ServerKeys => ("server_keys", "name", "secret"),
            Self::AuditKey => ("audit_chain", "name", "key"),
            Self::PushCredentials => ("credentials", "sid", "content"),
            Self::AccessTokens => ("access_tokens", "sid", "token"),
        }
    }
}

impl Read {
    /// How many values of a kind are sealed under each master key, by the eight bytes of its name; none where an old
    /// schema lacks their table.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seals(&mut self, kind: Kind) -> Result<Vec<(Vec<u8>, i64)>, Error> {
        let (table, _, column) = kind.place();
        if !self.has_table(table).await? {
            return Ok(Vec::new());
        }
        // The name of the key begins at the second byte.
        let sql = format!(
            "SELECT substr({column}, 2, 8) AS key_id, count(*) AS sealed FROM {table} \
             GROUP BY substr({column}, 2, 8) ORDER BY 1"
        );
        let rows = self.all(sql, bind![]).await?;
        rows.iter().map(|row| Ok((row.bytes("key_id")?, row.int("sealed")?))).collect()
    }

    /// Values that are sealed under another master key than this one, with the names of their owners, from
    /// the one behind `after` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sealed_otherwise<T>(
        &mut self,
        kind: Kind,
        key_id: &[u8],
        after: &str,
        limit: i64,
    ) -> Result<Vec<(String, Sealed<T>)>, Error> {
        let (table, owner, column) = kind.place();
        let sql = format!(
            "SELECT {owner} AS owner, {column} AS sealed FROM {table} \
             WHERE {owner} > $1 AND substr({column}, 2, 8) <> $2 ORDER BY {owner} LIMIT $3"
        );
        let rows = self.all(sql, bind![after, key_id, limit]).await?;
        rows.iter().map(|row| Ok((row.text("owner")?, row.sealed("sealed")?))).collect()
    }
}

impl Write {
    /// Puts a value that was sealed anew in the place of what it was; `false` when something else is there by
    /// now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reseal<T>(
        &mut self,
        kind: Kind,
        owner: &str,
        old: &Sealed<T>,
        new: &Sealed<T>,
    ) -> Result<bool, Error> {
        let (table, name, column) = kind.place();
        let sql =
            format!("UPDATE {table} SET {column} = $3 WHERE {name} = $1 AND {column} = $2 RETURNING {name}");
        Ok(self.one(sql, bind![owner, old, new]).await?.is_some())
    }
}
