//! The outbox.

use std::collections::HashSet;

use domain::deliveries::{Delivery, DeliveryId, Next, Stranded, Work};
use domain::{AccountSid, ServiceSid, Timestamp, TraceParent};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Error;
use crate::sql::{Row, Value, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str = "id, account_sid, kind, subject, work, destination, state, attempts, lease, due_at, \
    give_up_at, created_at, finished_at";

/// The condition for a delivery that is stranded, and not held by the lease `$1`. A delivery is due no earlier
/// than it was scheduled, so the index of what is owed finds both kinds.
const STRANDED: &str = "state = 'owed' AND due_at > $2 AND (lease IS NULL OR lease <> $1) \
    AND (due_at > $3 OR COALESCE(scheduled_at, created_at) > $2)";

/// What is in the column `work`.
#[derive(Serialize, Deserialize)]
struct Kept<W> {
    #[serde(flatten)]
    work: W,
    /// As text: one of a later version that this one can't read must not keep the delivery from being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

fn delivery(row: &Row) -> Result<Delivery, Error> {
    let Kept { work, trace } = row.json("work")?;
    let trace = trace.as_deref().and_then(TraceParent::parse);
    Ok(Delivery {
        id: id(row, "id")?,
        account_sid: row.sid("account_sid")?,
        work,
        trace,
        destination: row.text("destination")?,
        attempts: u32::try_from(row.int("attempts")?).map_err(|_| Error::Corrupt("attempts".into()))?,
        created_at: row.timestamp("created_at")?,
        due_at: row.timestamp("due_at")?,
        give_up_at: row.timestamp("give_up_at")?,
    })
}

fn id(row: &Row, column: &str) -> Result<DeliveryId, Error> {
    row.text(column)?.parse().map_err(|_| Error::Corrupt(column.to_owned()))
}

/// A delivery as an operator looks at it.
#[derive(Clone, Debug)]
pub struct DeliveryStatus {
    /// The delivery.
    pub delivery: Delivery,
    /// `owed`, `delivered`, `skipped` or `failed`.
    pub state: String,
    /// When it was done with.
    pub finished_at: Option<Timestamp>,
}

/// One attempt, as it is remembered.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Which of the recorded ones, from 1; given when it is recorded.
    pub number: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took.
    pub milliseconds: i64,
    /// `delivered`, `skipped`, `again` or `failed`.
    pub ending: String,
    /// One of the codes of docs/protocol/errors.md, section 6.
    pub error_code: Option<u32>,
    /// Status of the HTTP response.
    pub status: Option<u16>,
    /// What happened, in words; at most 1024 characters, no secrets.
    pub detail: Option<String>,
}

/// What is owed of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// `webhook`, `push` or `debugger`.
    pub kind: String,
    /// How many there are.
    pub deliveries: i64,
    /// When the oldest of them was owed.
    pub oldest: Timestamp,
}

/// Which deliveries an operator looks at.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only those to this webhook, factor, or about this alert.
    pub subject: Option<String>,
    /// Only those of this kind: `webhook`, `push` or `debugger`.
    pub kind: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
}

impl Read {
    /// The newest deliveries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries(
        &mut self,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        let mut values = bind![limit];
        let mut conditions = String::from("true");
        for (column, wanted) in
            [("subject", &filter.subject), ("kind", &filter.kind), ("state", &filter.state)]
        {
            if let Some(wanted) = wanted {
                values.push(Value::from(wanted.as_str()));
                conditions.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        // The ids begin with the time.
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE {conditions} ORDER BY id DESC LIMIT $1");
        self.all(sql, values).await?.iter().map(delivery_status).collect()
    }

    /// A delivery, and its attempts, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delivery(
        &mut self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryStatus, Vec<AttemptRecord>)>, Error> {
        let row = self
            .one(format!("SELECT {COLUMNS} FROM deliveries WHERE id = $1"), bind![id.to_string()])
            .await?;
        let Some(row) = row else { return Ok(None) };
        let sql = "SELECT number, began_at, milliseconds, ending, error_code, status, detail \
                   FROM delivery_attempts WHERE delivery_id = $1 ORDER BY number";
        let attempts = self.all(sql, bind![id.to_string()]).await?;
        Ok(Some((delivery_status(&row)?, attempts.iter().map(attempt).collect::<Result<_, _>>()?)))
    }

    /// What is owed: for each kind how many, and when the oldest was owed. As quick as there are few.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owed(&mut self) -> Result<Vec<Owed>, Error> {
        let sql = "SELECT kind, COUNT(*) AS deliveries, MIN(created_at) AS oldest FROM deliveries \
                   WHERE state = 'owed' GROUP BY kind";
        let owed = |row: &Row| {
            let (kind, deliveries) = (row.text("kind")?, row.int("deliveries")?);
            Ok(Owed { kind, deliveries, oldest: row.timestamp("oldest")? })
        };
        self.all(sql, bind![]).await?.iter().map(owed).collect()
    }

    /// Whether there is a stranded delivery that `lease` does not hold.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_stranded_deliveries(&mut self, lease: &str, stranded: Stranded) -> Result<bool, Error> {
        let sql = format!("SELECT id FROM deliveries WHERE {STRANDED} LIMIT 1");
        let values = bind![lease, stranded.scheduled_after, stranded.due_after];
        Ok(self.one(sql, values).await?.is_some())
    }

    /// When the next delivery is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_due(&mut self) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT MIN(due_at) AS due_at FROM deliveries WHERE state = 'owed'";
        self.one(sql, bind![]).await?.map_or(Ok(None), |row| row.optional_timestamp("due_at"))
    }
}

fn delivery_status(row: &Row) -> Result<DeliveryStatus, Error> {
    Ok(DeliveryStatus {
        delivery: delivery(row)?,
        state: row.text("state")?,
        finished_at: row.optional_timestamp("finished_at")?,
    })
}

fn attempt(row: &Row) -> Result<AttemptRecord, Error> {
    let number = |value: i64| u32::try_from(value).map_err(|_| Error::Corrupt("number".into()));
    let status = row.optional_int("status")?.map(u16::try_from).transpose();
    Ok(AttemptRecord {
        number: number(row.int("number")?)?,
        began_at: row.timestamp("began_at")?,
        milliseconds: row.int("milliseconds")?,
        ending: row.text("ending")?,
        error_code: row.optional_int("error_code")?.map(number).transpose()?,
        status: status.map_err(|_| Error::Corrupt("status".into()))?,
        detail: row.optional_text("detail")?,
    })
}

/// Binds the ids, and returns their placeholders. SQL knows no empty list: then it is one that is nothing.
fn one_of(values: &mut Vec<Value>, ids: &[DeliveryId]) -> String {
    let placeholders = ids.iter().map(|id| {
        values.push(Value::from(id.to_string()));
        format!("${}", values.len())
    });
    let placeholders = placeholders.collect::<Vec<_>>().join(", ");
    if placeholders.is_empty() { "NULL".to_owned() } else { placeholders }
}

/// What a delivery is about, for those who look for it.
fn subject(work: &Work) -> String {
    match work {
        Work::Webhook { webhook_sid, .. } => webhook_sid.to_string(),
        Work::Push(asked) => asked.factor_sid.to_string(),
        Work::Debugger { alert_sid, .. } => alert_sid.to_string(),
    }
}

impl Write {
    /// Owes a delivery: it is made at least once if this transaction commits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owe(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let sql = "INSERT INTO deliveries (id, account_sid, kind, subject, work, destination, state, attempts, \
                   due_at, give_up_at, created_at, scheduled_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, 'owed', 0, $7, $8, $9, $9)";
        let values = bind![
            delivery.id.to_string(),
            delivery.account_sid,
            delivery.work.kind().as_str(),
            subject(&delivery.work),
            to_json(&Kept {
                work: &delivery.work,
                trace: delivery.trace.as_ref().map(TraceParent::to_string)
            }),
            delivery.destination.as_str(),
            delivery.due_at,
            delivery.give_up_at,
            delivery.created_at
        ];
        self.all(sql, values).await.map(drop)
    }

    /// Leases at most `limit` deliveries that are due, but none to the destinations in `full`, to `lease`
    /// until `until`. Each counts as an attempt from now on, whether or not the process lives to make it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lease_deliveries(
        &mut self,
        lease: &str,
        full: &[String],
        limit: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Delivery>, Error> {
        let mut values = bind![lease, now, until, i64::try_from(limit).unwrap_or(i64::MAX)];
        let mut elsewhere = String::new();
        for destination in full {
            values.push(Value::from(destination.as_str()));
            elsewhere.push_str(&format!(" AND destination <> ${}", values.len()));
        }
        // Several workers share a PostgreSQL: none waits for what another is taking.
        let sharing = if self.connection.is_postgres() { " FOR UPDATE SKIP LOCKED" } else { "" };
        // Materialized, since PostgreSQL might otherwise choose, and lock, more than once.
        let sql = format!(
            "WITH due AS MATERIALIZED (SELECT id FROM deliveries WHERE state = 'owed' AND due_at <= $2{elsewhere} \
             ORDER BY due_at LIMIT $4{sharing}) \
             UPDATE deliveries SET lease = $1, due_at = $3, scheduled_at = $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM due) RETURNING {COLUMNS}"
        );
        // What this version can't read belongs to a newer one, which gets it when the lease runs out.
        let rows = self.all(sql, values).await?;
        let readable = rows.iter().map(delivery).inspect(|delivery| {
            if let Err(fault) = delivery {
                tracing::error!("a delivery can't be read: {fault}");
            }
        });
        Ok(readable.flatten().collect())
    }

    /// Hands back deliveries that `lease` holds and did not attempt: they are due now, and that they were
    /// leased does not count as an attempt.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_deliveries(
        &mut self,
        lease: &str,
        ids: &[DeliveryId],
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut values = bind![lease, now];
        let sql = format!(
            "UPDATE deliveries SET lease = NULL, due_at = $2, scheduled_at = $2, attempts = attempts - 1 \
             WHERE id IN ({}) AND lease = $1 AND state = 'owed'",
            one_of(&mut values, ids)
        );
        self.all(sql, values).await.map(drop)
    }

    /// Makes at most `limit` stranded deliveries due now, but none that `lease` holds; returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reschedule_stranded_deliveries(
        &mut self,
        lease: &str,
        stranded: Stranded,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let sharing = if self.connection.is_postgres() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "WITH stranded AS MATERIALIZED (SELECT id FROM deliveries WHERE {STRANDED} \
             ORDER BY due_at DESC LIMIT $5{sharing}) \
             UPDATE deliveries SET due_at = $4, scheduled_at = $4 WHERE id IN (SELECT id FROM stranded) RETURNING id"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = bind![lease, stranded.scheduled_after, stranded.due_after, now, limit];
        Ok(self.all(sql, values).await?.len())
    }

    /// Extends the leases of these deliveries, as far as they are still this worker's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew_leases(
        &mut self,
        lease: &str,
        ids: &[DeliveryId],
        until: Timestamp,
    ) -> Result<(), Error> {
        let mut values = bind![lease, until];
        let sql = format!(
            "UPDATE deliveries SET due_at = $2 WHERE id IN ({}) AND lease = $1 AND state = 'owed'",
            one_of(&mut values, ids)
        );
        self.all(sql, values).await.map(drop)
    }

    /// Records an attempt and what becomes of the delivery; `false`, with nothing written, when the lease
    /// is not this worker's any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_attempt(
        &mut self,
        lease: &str,
        delivery: &Delivery,
        attempt: &AttemptRecord,
        next: Next,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (state, due_at, finished_at) = match next {
            Next::At(at) => ("owed", at, None),
            Next::Delivered => ("delivered", delivery.due_at, Some(now)),
            Next::Skipped => ("skipped", delivery.due_at, Some(now)),
            Next::Failed => ("failed", delivery.due_at, Some(now)),
        };
        let finish = "UPDATE deliveries SET state = $3, due_at = $4, finished_at = $5, scheduled_at = $6, lease = NULL \
                      WHERE id = $1 AND lease = $2 AND state = 'owed' RETURNING id";
        let values = bind![delivery.id.to_string(), lease, state, due_at, finished_at, now];
        if self.one(finish, values).await?.is_none() {
            return Ok(false);
        }
        let sql = "INSERT INTO delivery_attempts (delivery_id, number, began_at, milliseconds, ending, error_code, \
                   status, detail) SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7 \
                   FROM delivery_attempts WHERE delivery_id = $1";
        let values = bind![
            delivery.id.to_string(),
            attempt.began_at,
            attempt.milliseconds,
            attempt.ending.as_str(),
            attempt.error_code.map(i64::from),
            attempt.status.map(i64::from),
            attempt.detail.clone()
        ];
        self.all(sql, values).await.map(|_| true)
    }

    /// Records attempts that succeeded, with the instant at which each did, and ends their deliveries. Those
    /// whose lease is not this worker's any more are left alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_delivered(
        &mut self,
        lease: &str,
        attempts: &[(DeliveryId, AttemptRecord, Timestamp)],
    ) -> Result<(), Error> {
        let Some((.., now)) = attempts.last() else { return Ok(()) };
        // Pass the rows as one JSON parameter, so that the prepared statement does not depend on their number.
        let ids: Vec<String> = attempts.iter().map(|(id, ..)| id.to_string()).collect();
        let among = if self.connection.is_postgres() {
            "= ANY (ARRAY(SELECT jsonb_array_elements_text(CAST($3 AS JSONB))))"
        } else {
            "IN (SELECT value FROM json_each($3))"
        };
        let finish = format!(
            "UPDATE deliveries SET state = 'delivered', finished_at = $2, lease = NULL \
             WHERE id {among} AND lease = $1 AND state = 'owed' RETURNING id"
        );
        let ended = self.all(finish, bind![lease, *now, to_json(&ids)]).await?;
        let ended = ended.iter().map(|row| id(row, "id")).collect::<Result<HashSet<_>, _>>()?;
        let rows = attempts.iter().filter(|(id, ..)| ended.contains(id)).map(|(id, attempt, _)| {
            json!({
                "id": id.to_string(),
                "began_at": attempt.began_at.micros(),
                "milliseconds": attempt.milliseconds,
                "status": attempt.status,
                "detail": attempt.detail,
            })
        });
        let rows: Vec<_> = rows.collect();
        let table = if self.connection.is_postgres() {
            "jsonb_to_recordset(CAST($1 AS JSONB)) \
             AS v (id TEXT, began_at BIGINT, milliseconds BIGINT, status BIGINT, detail TEXT)"
        } else {
            "(SELECT value->>'id' AS id, value->>'began_at' AS began_at, \
             value->>'milliseconds' AS milliseconds, value->>'status' AS status, \
             value->>'detail' AS detail FROM json_each($1)) AS v"
        };
        let insert = format!(
            "INSERT INTO delivery_attempts (delivery_id, number, began_at, milliseconds, ending, status, detail) \
             SELECT v.id, (SELECT COALESCE(MAX(number), 0) + 1 FROM delivery_attempts WHERE delivery_id = v.id), \
             v.began_at, v.milliseconds, 'delivered', v.status, v.detail FROM {table}"
        );
        self.all(insert, bind![to_json(&rows)]).await.map(drop)
    }

    /// Owes a finished delivery once more, as if it were new, until `give_up_at`; returns it, `None` when there is
    /// none, it is owed, or it is a push, which has its time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owe_again(
        &mut self,
        id: DeliveryId,
        now: Timestamp,
        give_up_at: Timestamp,
    ) -> Result<Option<Delivery>, Error> {
        let sql = format!(
            "UPDATE deliveries SET state = 'owed', due_at = $2, scheduled_at = $2, give_up_at = $3, finished_at = NULL, \
             attempts = 0 \
             WHERE id = $1 AND state <> 'owed' AND kind <> 'push' RETURNING {COLUMNS}"
        );
        let row = self.one(sql, bind![id.to_string(), now, give_up_at]).await?;
        row.as_ref().map(delivery).transpose()
    }

    /// Remembers that the provider said a factor's token leads nowhere; `false` when that was known, or when
    /// the device has sent a token since `registered_at`, be it the same one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_unreachable(
        &mut self,
        factor_sid: domain::FactorSid,
        token: &str,
        registered_at: Timestamp,
    ) -> Result<bool, Error> {
        let sql = "UPDATE factors SET unreachable = 1 \
                   WHERE sid = $1 AND notification_token = $2 AND unreachable = 0 \
                   AND COALESCE(token_registered_at, created_at) <= $3 RETURNING sid";
        Ok(self.one(sql, bind![factor_sid, token, registered_at]).await?.is_some())
    }

    /// Tries the factors of an account, or of one of its services, again that could not be reached: the
    /// reason may have been the credential.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_unreachable(
        &mut self,
        account_sid: AccountSid,
        service_sid: Option<ServiceSid>,
    ) -> Result<(), Error> {
        let sql = "UPDATE factors SET unreachable = 0 WHERE unreachable = 1 AND account_sid = $1 \
                   AND (CAST($2 AS TEXT) IS NULL OR service_sid = $2)";
        self.all(sql, bind![account_sid, service_sid.map(|sid| sid.to_string())]).await.map(drop)
    }

    /// Removes at most `limit` deliveries that were finished before an instant, with their attempts;
    /// returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_old_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM deliveries WHERE id IN \
                   (SELECT id FROM deliveries WHERE finished_at < $1 ORDER BY finished_at LIMIT $2) RETURNING id";
        Ok(self.all(sql, bind![before, limit]).await?.len())
    }
}
