//! Queries for the sealed values in all tables: counting them by master key, and re-sealing them under another master
//! key.

use domain::{
    AccessTokenSid, AccountSid, CredentialSid, FactorSid, MessagingServiceSid, Sealed, Sid, VerificationSid,
};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind};

/// A column that holds sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedColumn {
    /// The auth tokens of accounts.
    AuthTokens,
    /// The enrollment keys, which encrypt access tokens.
    EnrollmentKeys,
    /// The server keys, which only the servers themselves use.
    ServerKeys,
    /// The key of the audit chain.
    AuditKey,
    /// The contents of push credentials.
    PushCredentials,
    /// The access tokens, with which phones enroll factors.
    AccessTokens,
    /// The secrets of TOTP factors.
    TotpSecrets,
    /// The settings of outlets. Their owner is the outlet's SID as one of a messaging service, also for a mailer.
    OutletSettings,
    /// The codes of open verifications.
    VerificationCodes,
}

impl SealedColumn {
    /// All sealed columns.
    pub const ALL: [Self; 9] = [
        Self::AuthTokens,
        Self::EnrollmentKeys,
        Self::ServerKeys,
        Self::AuditKey,
        Self::PushCredentials,
        Self::AccessTokens,
        Self::TotpSecrets,
        Self::OutletSettings,
        Self::VerificationCodes,
    ];

    /// Returns an owner's identifier as a parameter. An empty one sorts before all others.
    fn owner_value(self, owner: &str) -> Value {
        match self {
            Self::AuthTokens => Value::from(owner.parse().unwrap_or(AccountSid::from_bytes([0; 16]))),
            Self::PushCredentials => Value::from(owner.parse().unwrap_or(CredentialSid::from_bytes([0; 16]))),
            Self::AccessTokens => Value::from(owner.parse().unwrap_or(AccessTokenSid::from_bytes([0; 16]))),
            Self::TotpSecrets => Value::from(owner.parse().unwrap_or(FactorSid::from_bytes([0; 16]))),
            Self::OutletSettings => {
                Value::from(owner.parse().unwrap_or(MessagingServiceSid::from_bytes([0; 16])))
            }
            Self::VerificationCodes => {
                Value::from(owner.parse().unwrap_or(VerificationSid::from_bytes([0; 16])))
            }
            Self::EnrollmentKeys | Self::ServerKeys | Self::AuditKey => Value::from(owner),
        }
    }

    /// Parses an owner's identifier.
    fn parse_owner(self, row: &Row<'_>) -> Result<String, Error> {
        Ok(match self {
            Self::AuthTokens => row.sid::<AccountSid>("owner")?.to_string(),
            Self::PushCredentials => row.sid::<CredentialSid>("owner")?.to_string(),
            Self::AccessTokens => row.sid::<AccessTokenSid>("owner")?.to_string(),
            Self::TotpSecrets => row.sid::<FactorSid>("owner")?.to_string(),
            Self::OutletSettings => row.sid::<MessagingServiceSid>("owner")?.to_string(),
            Self::VerificationCodes => row.sid::<VerificationSid>("owner")?.to_string(),
            Self::EnrollmentKeys | Self::ServerKeys | Self::AuditKey => row.text("owner")?,
        })
    }

    /// Returns the table, the column that identifies the owner of a value, and the column that holds the sealed values.
    const fn location(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AuthTokens => ("accounts", "sid", "auth_token"),
            Self::EnrollmentKeys => ("enrollment_keys", "kid", "secret"),
            Self::ServerKeys => ("server_keys", "name", "secret"),
            Self::AuditKey => ("audit_chain", "name", "key"),
            Self::PushCredentials => ("credentials", "sid", "content"),
            Self::AccessTokens => ("access_tokens", "sid", "token"),
            Self::TotpSecrets => ("totp_factors", "factor_sid", "secret"),
            Self::OutletSettings => ("outlets", "sid", "settings"),
            Self::VerificationCodes => ("verifications", "sid", "code"),
        }
    }
}

impl Read {
    /// Counts a column's sealed values by master key. Returns the 8-byte ID of each key with the number of values.
    /// Returns an empty list if an older schema lacks the table.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_by_key(&mut self, sealed: SealedColumn) -> Result<Vec<(Vec<u8>, i64)>, Error> {
        let (table, _, column) = sealed.location();
        if !self.has_table(table).await? {
            return Ok(Vec::new());
        }
        // The key ID begins at the second byte of a sealed value.
        let sql = format!(
            "SELECT substr({column}, 2, 8) AS key_id, count(*) AS sealed FROM {table} WHERE {column} IS NOT NULL \
             GROUP BY substr({column}, 2, 8) ORDER BY 1"
        );
        let parse = |row: &Row| Ok((row.bytes("key_id")?, row.int("sealed")?));
        self.fetch_all_of_large_table(sql, bind![], parse).await
    }

    /// Returns up to `limit` sealed values that are not sealed under the master key `key_id`, each with its owner's
    /// identifier. Values are sorted by that identifier, and only those after the owner `after` are returned.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn sealed_under_other_keys<T>(
        &mut self,
        sealed: SealedColumn,
        key_id: &[u8],
        after: &str,
        limit: i64,
    ) -> Result<Vec<(String, Sealed<T>)>, Error> {
        let (table, owner, column) = sealed.location();
        let sql = format!(
            "SELECT {owner} AS owner, {column} AS sealed FROM {table} \
             WHERE {owner} > $1 AND {column} IS NOT NULL AND substr({column}, 2, 8) <> $2 ORDER BY {owner} LIMIT $3"
        );
        let parse = |row: &Row| Ok((sealed.parse_owner(row)?, row.sealed("sealed")?));
        let values = vec![sealed.owner_value(after), Value::from(key_id), Value::from(limit)];
        self.fetch_all_of_large_table(sql, values, parse).await
    }
}

impl Write {
    /// Replaces the sealed value `old` of `owner` with `new`. Returns `false`, changing nothing, if the column no
    /// longer holds `old`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn reseal<T>(
        &mut self,
        sealed: SealedColumn,
        owner: &str,
        old: &Sealed<T>,
        new: &Sealed<T>,
    ) -> Result<bool, Error> {
        let (table, name, column) = sealed.location();
        let sql =
            format!("UPDATE {table} SET {column} = $3 WHERE {name} = $1 AND {column} = $2 RETURNING {name}");
        Ok(self.count_rows(sql, vec![sealed.owner_value(owner), Value::from(old), Value::from(new)]).await?
            > 0)
    }
}
