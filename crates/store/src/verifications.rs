//! Queries for verifications.

use domain::text::Text;
use domain::verifications::{Payment, Status, Verification, VerificationTarget};
use domain::{Channel, Recipient, ServiceSid, Timestamp, VerificationSid};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind, to_hex, to_json};

const COLUMNS: &str = "sid, account_sid, service_sid, recipient, channel, status, code, is_custom, amount, payee, \
    sends, wrong_checks, expires_at, closed_at, created_at, updated_at";

fn parse_verification(row: &Row<'_>) -> Result<Verification, Error> {
    let corrupt = |column: &str| Error::Corrupt(column.to_owned());
    let payment = match (row.optional_text("amount")?, row.optional_text("payee")?) {
        (Some(amount), Some(payee)) => {
            Some(Payment { amount: Text::from_stored(amount), payee: Text::from_stored(payee) })
        }
        _ => None,
    };
    let wrong_checks: Vec<i64> = row.json("wrong_checks")?;
    Ok(Verification {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        to: Recipient::from_stored(row.text("recipient")?),
        channel: row.keyword::<Channel>("channel")?,
        stored_status: Status::from_stored(&row.text("status")?).ok_or_else(|| corrupt("status"))?,
        code: row.optional_bytes("code")?.map(domain::Sealed::from_bytes),
        is_custom: row.int("is_custom")? != 0,
        payment,
        sends: row.number("sends")?,
        wrong_checks: wrong_checks.into_iter().map(Timestamp::from_micros).collect(),
        expires_at: row.timestamp("expires_at")?,
        closed_at: row.optional_timestamp("closed_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn wrong_checks_json(verification: &Verification) -> String {
    let instants: Vec<_> = verification.wrong_checks.iter().map(|at| at.micros()).collect();
    to_json(&instants)
}

/// Returns the SQL query for the open verification of a service that `target` names, and its parameters. `lock` is the
/// locking clause, or empty for no lock.
fn select_open(service_sid: ServiceSid, target: &VerificationTarget, lock: &str) -> (String, Vec<Value>) {
    let (column, value) = match target {
        VerificationTarget::Sid(sid) => ("sid", Value::from(*sid)),
        VerificationTarget::Recipient(recipient) => ("recipient_key", Value::from(recipient.key())),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM verifications WHERE service_sid = $1 AND {column} = $2 AND closed_at IS NULL{lock}"
    );
    (sql, vec![Value::from(service_sid), value])
}

impl Read {
    /// Returns the verification of a service that `target` names, or `None` if it does not exist or is closed. It may
    /// have expired.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn open_verification(
        &mut self,
        service_sid: ServiceSid,
        target: &VerificationTarget,
    ) -> Result<Option<Verification>, Error> {
        let (sql, values) = select_open(service_sid, target, "");
        self.fetch_optional(sql, values, parse_verification).await
    }

    /// Returns the state of an open or closed verification, as it is stored. Returns `None` if the verification does not
    /// exist.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn verification_status(
        &mut self,
        service_sid: ServiceSid,
        sid: VerificationSid,
    ) -> Result<Option<Status>, Error> {
        let sql = "SELECT status FROM verifications WHERE service_sid = $1 AND sid = $2";
        let status = self.fetch_optional(sql, bind![service_sid, sid], |row| row.text("status")).await?;
        let parse = |word: String| Status::from_stored(&word).ok_or_else(|| Error::Corrupt("status".into()));
        status.map(parse).transpose()
    }
}

impl Write {
    /// Returns a verification like [`open_verification`](Read::open_verification), locked against changes by other
    /// transactions until this one ends.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_open_verification(
        &mut self,
        service_sid: ServiceSid,
        target: &VerificationTarget,
    ) -> Result<Option<Verification>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let (sql, values) = select_open(service_sid, target, lock);
        self.fetch_optional(sql, values, parse_verification).await
    }

    /// Inserts an open verification. Returns `false`, changing nothing, if its recipient has an open one in the
    /// service.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    pub async fn insert_verification(&mut self, verification: &Verification) -> Result<bool, Error> {
        // On PostgreSQL, the statement waits for another transaction that inserts the same recipient.
        let sql = "INSERT INTO verifications (sid, account_sid, service_sid, recipient, recipient_key, channel, status, \
                   code, is_custom, amount, payee, sends, wrong_checks, expires_at, closed_at, created_at, \
                   updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
                   ON CONFLICT (service_sid, recipient_key) WHERE closed_at IS NULL DO NOTHING RETURNING sid";
        let payment = verification.payment.as_ref();
        let values = bind![
            verification.sid,
            verification.account_sid,
            verification.service_sid,
            verification.to.as_str(),
            verification.to.key(),
            verification.channel.as_str(),
            verification.stored_status.as_str(),
            verification.code.as_ref().map(domain::Sealed::as_bytes),
            i64::from(verification.is_custom),
            payment.map(|payment| payment.amount.as_str()),
            payment.map(|payment| payment.payee.as_str()),
            i64::from(verification.sends),
            wrong_checks_json(verification),
            verification.expires_at,
            verification.closed_at,
            verification.created_at,
            verification.updated_at
        ];
        Ok(self.count_rows(sql, values).await? > 0)
    }

    /// Stores the fields of a locked verification that can change. If it is closed, its attempts forget what their
    /// messages are made of.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_verification(&mut self, verification: &Verification) -> Result<(), Error> {
        let sql = "UPDATE verifications SET channel = $2, status = $3, code = $4, is_custom = $5, amount = $6, \
                   payee = $7, sends = $8, wrong_checks = $9, closed_at = $10, updated_at = $11 WHERE sid = $1";
        let payment = verification.payment.as_ref();
        let values = bind![
            verification.sid,
            verification.channel.as_str(),
            verification.stored_status.as_str(),
            verification.code.as_ref().map(domain::Sealed::as_bytes),
            i64::from(verification.is_custom),
            payment.map(|payment| payment.amount.as_str()),
            payment.map(|payment| payment.payee.as_str()),
            i64::from(verification.sends),
            wrong_checks_json(verification),
            verification.closed_at,
            verification.updated_at
        ];
        self.execute(sql, values).await?;
        if verification.closed_at.is_some() {
            let sql = "UPDATE verification_attempts SET message = NULL \
                       WHERE verification_sid = $1 AND message IS NOT NULL";
            self.execute(sql, bind![verification.sid]).await?;
        }
        Ok(())
    }

    /// Closes up to `limit` verifications whose validity ended before the instant `before`: forgets their codes and
    /// their payments. Returns the verifications. What their messages are made of is kept until
    /// [`forget_messages`](Self::forget_messages) is called.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn close_expired_verifications(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<Verification>, Error> {
        let lock = if self.connection.is_postgres() { " FOR UPDATE" } else { "" };
        let sql = format!(
            "WITH expired AS MATERIALIZED (SELECT sid FROM verifications WHERE closed_at IS NULL AND expires_at < $1 \
             ORDER BY expires_at LIMIT $2{lock}) \
             UPDATE verifications SET closed_at = expires_at, code = NULL, amount = NULL, payee = NULL, \
             status = CASE WHEN status = 'pending' THEN 'expired' ELSE status END \
             WHERE sid IN (SELECT sid FROM expired) RETURNING {COLUMNS}"
        );
        self.fetch_all(sql, bind![before, limit], parse_verification).await
    }

    /// Forgets what the messages of these verifications are made of.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn forget_messages(
        &mut self,
        verifications: impl Iterator<Item = VerificationSid>,
    ) -> Result<(), Error> {
        let sids: Vec<_> = verifications.map(to_hex).collect();
        let among = if self.connection.is_postgres() {
            "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST($1 AS JSONB)) AS UUID)))"
        } else {
            "IN (SELECT unhex(value) FROM json_each($1))"
        };
        let sql = format!(
            "UPDATE verification_attempts SET message = NULL \
             WHERE verification_sid {among} AND message IS NOT NULL"
        );
        self.execute(sql, bind![to_json(&sids)]).await
    }

    /// Deletes up to `limit` verifications that were closed before the instant `before`, with their attempts. Returns
    /// the number of verifications deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_verifications(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM verifications WHERE sid IN \
                   (SELECT sid FROM verifications WHERE closed_at < $1 ORDER BY closed_at LIMIT $2) RETURNING sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
