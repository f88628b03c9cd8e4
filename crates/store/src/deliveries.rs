//! Queries for the outbox: pending and finished deliveries, and their attempts.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use domain::deliveries::{
    AttemptOutcome, Delivery, DeliveryId, DeliveryState, Destination, Next, Stranded, Work,
};
use domain::{Timestamp, TraceParent};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind, to_json};

const COLUMNS: &str = "id, account_sid, kind, subject, work, destination, state, attempts, lease, due_at, \
    give_up_at, created_at, finished_at";

/// SQL condition that a delivery is stranded (see [`Stranded`]) and not held by the lease `$1`. A delivery is never due
/// before it was scheduled, so the index on pending deliveries serves both cases of a stranded delivery.
const STRANDED: &str = "state = 'owed' AND due_at > $2 AND (lease IS NULL OR lease <> $1) \
    AND (due_at > $3 OR scheduled_at > $2)";

/// The contents of the column `work`, stored as JSON.
#[derive(Serialize, Deserialize)]
struct StoredWork<W> {
    #[serde(flatten)]
    work: W,
    /// The delivery's `traceparent`, kept as text so that a newer format does not prevent the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

fn parse_delivery(row: &Row) -> Result<Delivery, Error> {
    let StoredWork { work, trace } = row.json("work")?;
    let trace = trace.as_deref().and_then(TraceParent::parse);
    Ok(Delivery {
        id: parse_id(row, "id")?,
        account_sid: row.sid("account_sid")?,
        work,
        trace,
        destination: Destination::from_stored(row.text("destination")?),
        attempts: u32::try_from(row.int("attempts")?).map_err(|_| Error::Corrupt("attempts".into()))?,
        created_at: row.timestamp("created_at")?,
        next_attempt_at: row.timestamp("due_at")?,
        expires_at: row.timestamp("give_up_at")?,
    })
}

fn parse_id(row: &Row, column: &str) -> Result<DeliveryId, Error> {
    row.id(column).map(DeliveryId::from_bytes)
}

/// The due deliveries among which a worker leases some. A worker skips those that it cannot attempt yet, because there may
/// be many of them.
#[derive(Clone, Debug)]
pub enum DueDeliveries {
    /// Deliveries that became due at an instant or later, except those to some destinations.
    Except {
        /// Excludes deliveries that were due before this instant.
        from: Timestamp,
        /// Excludes deliveries to these destinations.
        destinations: Vec<Destination>,
    },
    /// Deliveries to this destination.
    To(Destination),
}

/// Deliveries that a worker has leased.
#[derive(Debug)]
pub struct LeasedDeliveries {
    /// Those that this version can read.
    pub readable: Vec<Delivery>,
    /// Whether the limit was reached, so that more may be due.
    pub is_limited: bool,
}

impl DueDeliveries {
    /// All due deliveries.
    pub const ALL: Self = Self::Except { from: Timestamp::MIN, destinations: Vec::new() };
}

/// A delivery together with its state, for lists that operators read.
#[derive(Clone, Debug)]
pub struct DeliveryStatus {
    /// The delivery.
    pub delivery: Delivery,
    /// The delivery's state; docs/deliveries.md lists the states.
    pub state: DeliveryState,
    /// When the delivery was finished; `None` while it is pending.
    pub finished_at: Option<Timestamp>,
}

/// The stored result of one delivery attempt.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The attempt's position among the delivery's recorded attempts, counted from 1. Assigned when the attempt is
    /// recorded.
    pub number: u32,
    /// When the attempt began.
    pub began_at: Timestamp,
    /// Duration of the attempt, in milliseconds.
    pub milliseconds: i64,
    /// The attempt's outcome, stored as `delivered`, `skipped`, `again` or `failed`.
    pub outcome: AttemptOutcome,
    /// Error code of a failed attempt (docs/protocol/errors.md, section 6); `None` for other outcomes.
    pub error_code: Option<u32>,
    /// Status code of the HTTP response to a webhook or an event; `None` for a push or a message, or if there was no
    /// response.
    pub status: Option<u16>,
    /// A description of the result, at most 1024 characters long and without secrets.
    pub detail: Option<String>,
}

/// A summary of the pending deliveries of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDeliveries {
    /// Kind of the deliveries, as [`Kind::as_str`](domain::deliveries::Kind::as_str) returns it.
    pub kind: String,
    /// Number of pending deliveries.
    pub deliveries: i64,
    /// Creation time of the oldest pending delivery.
    pub oldest: Timestamp,
}

/// A filter for listing deliveries. A field that is `None` does not restrict the list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Matches only deliveries to the webhook or factor with this SID, or about the verification or alert with this SID.
    pub subject: Option<String>,
    /// Matches only deliveries of this kind, as [`Kind::as_str`](domain::deliveries::Kind::as_str) returns it.
    pub kind: Option<String>,
    /// Matches only deliveries in this state, given as the word that the database stores.
    pub state: Option<String>,
}

impl Read {
    /// Returns the newest deliveries that match `filter`, at most `limit`, sorted from newest to oldest.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn deliveries(
        &mut self,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        let is_pending = filter.state.as_deref() == Some(DeliveryState::Pending.as_str());
        let mut values = bind![limit];
        let mut sql = format!("SELECT {COLUMNS} FROM deliveries WHERE true");
        let mut restrict = |condition: &str, wanted: &Option<String>| {
            if let Some(wanted) = wanted {
                values.push(Value::from(wanted.as_str()));
                sql.push_str(&format!(" AND {condition} = ${}", values.len()));
            }
        };
        // Pending deliveries are few, and are found with the index on them. The columns whose index must not be used
        // are compared as expressions.
        restrict(if is_pending { "subject || ''" } else { "subject" }, &filter.subject);
        restrict("kind || ''", &filter.kind);
        restrict("state", &filter.state);
        // A database uses a partial index only if the query repeats the condition of the index.
        sql.push_str(match (filter.state.as_deref(), filter.kind.as_deref(), &filter.subject) {
            (Some("owed"), ..) => " AND state = 'owed' AND due_at IS NOT NULL",
            (Some("skipped" | "failed"), ..) => " AND state IN ('skipped', 'failed')",
            (_, Some("webhook"), None) => " AND kind = 'webhook'",
            _ => "",
        });
        // Delivery IDs begin with the creation time, so sorting by ID sorts by age. The function keeps the database
        // from reading all deliveries in this order to find the pending ones.
        sql.push_str(if is_pending { " ORDER BY COALESCE(id, id) DESC" } else { " ORDER BY id DESC" });
        sql.push_str(" LIMIT $1");
        self.fetch_all(sql, values, parse_delivery_status).await
    }

    /// Returns a delivery with its attempts, oldest attempt first, or `None` if there is no such delivery.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delivery(
        &mut self,
        id: DeliveryId,
    ) -> Result<Option<(DeliveryStatus, Vec<AttemptRecord>)>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = $1");
        let status = self.fetch_optional(sql, bind![id], parse_delivery_status).await?;
        let Some(status) = status else { return Ok(None) };
        let sql = "SELECT number, began_at, milliseconds, ending, error_code, status, detail \
                   FROM delivery_attempts WHERE delivery_id = $1 ORDER BY number";
        let attempts = self.fetch_all(sql, bind![id], parse_attempt).await?;
        Ok(Some((status, attempts)))
    }

    /// Counts the pending deliveries of each kind, omitting kinds that have none. Takes time linear in the number of
    /// pending deliveries.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn pending_deliveries(&mut self) -> Result<Vec<PendingDeliveries>, Error> {
        let sql = "SELECT kind, COUNT(*) AS deliveries, MIN(created_at) AS oldest FROM deliveries \
                   WHERE state = 'owed' GROUP BY kind";
        self.fetch_all(sql, bind![], |row| {
            let (kind, deliveries) = (row.text("kind")?, row.int("deliveries")?);
            Ok(PendingDeliveries { kind, deliveries, oldest: row.timestamp("oldest")? })
        })
        .await
    }

    /// Returns whether any delivery is stranded, apart from those that `lease` holds.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn has_stranded_deliveries(&mut self, lease: &str, stranded: Stranded) -> Result<bool, Error> {
        let sql = format!("SELECT id FROM deliveries WHERE {STRANDED} LIMIT 1");
        let values = bind![lease, stranded.scheduled_after, stranded.due_after];
        Ok(self.count_rows(sql, values).await? > 0)
    }

    /// Returns when the next pending delivery is due within `range`, or `None` if none is. Ignores deliveries to the
    /// destinations in `except`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn next_delivery_due_at(
        &mut self,
        range: RangeInclusive<Timestamp>,
        except: &[Destination],
    ) -> Result<Option<Timestamp>, Error> {
        let sql = format!(
            "SELECT MIN(due_at) AS due_at FROM deliveries \
             WHERE state = 'owed' AND due_at >= $1 AND due_at <= $2 AND destination {}",
            self.is_not_among("$3")
        );
        let values = bind![*range.start(), *range.end(), to_json(&destination_texts(except))];
        Ok(self.fetch_optional(sql, values, |row| row.optional_timestamp("due_at")).await?.flatten())
    }

    /// Returns an SQL condition that an ID is in the JSON array that is passed as `parameter`.
    fn is_id_among(&self, parameter: &str) -> String {
        if self.connection.is_postgres() {
            format!(
                "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST({parameter} AS JSONB)) AS UUID)))"
            )
        } else {
            format!("IN (SELECT unhex(value, '-') FROM json_each({parameter}))")
        }
    }

    /// Returns an SQL condition that a text is not in the JSON array that is passed as `parameter`.
    fn is_not_among(&self, parameter: &str) -> String {
        if self.connection.is_postgres() {
            format!("<> ALL (ARRAY(SELECT jsonb_array_elements_text(CAST({parameter} AS JSONB))))")
        } else {
            format!("NOT IN (SELECT value FROM json_each({parameter}))")
        }
    }
}

fn parse_delivery_status(row: &Row) -> Result<DeliveryStatus, Error> {
    Ok(DeliveryStatus {
        delivery: parse_delivery(row)?,
        state: DeliveryState::from_stored(&row.text("state")?)
            .ok_or_else(|| Error::Corrupt("state".into()))?,
        finished_at: row.optional_timestamp("finished_at")?,
    })
}

fn parse_attempt(row: &Row) -> Result<AttemptRecord, Error> {
    let number = |value: i64| u32::try_from(value).map_err(|_| Error::Corrupt("number".into()));
    let status = row.optional_int("status")?.map(u16::try_from).transpose();
    let outcome = AttemptOutcome::from_stored(&row.text("ending")?);
    Ok(AttemptRecord {
        number: number(row.int("number")?)?,
        began_at: row.timestamp("began_at")?,
        milliseconds: row.int("milliseconds")?,
        outcome: outcome.ok_or_else(|| Error::Corrupt("ending".into()))?,
        error_code: row.optional_int("error_code")?.map(number).transpose()?,
        status: status.map_err(|_| Error::Corrupt("status".into()))?,
        detail: row.optional_text("detail")?,
    })
}

/// Returns the stored texts of destinations.
fn destination_texts(destinations: &[Destination]) -> Vec<String> {
    destinations.iter().map(Destination::to_string).collect()
}

/// Returns the JSON array of these IDs, which is passed as one parameter, so that the prepared statement does not depend
/// on their number.
fn ids_json<'i>(ids: impl IntoIterator<Item = &'i DeliveryId>) -> String {
    to_json(&ids.into_iter().map(DeliveryId::to_string).collect::<Vec<_>>())
}

/// Returns the SID of the webhook, factor, verification or alert that a delivery is about. Operators search for
/// deliveries by this SID.
fn subject(work: &Work) -> String {
    match work {
        Work::Webhook { webhook_sid, .. } => webhook_sid.to_string(),
        Work::Push(asked) => asked.factor_sid.to_string(),
        Work::Message(message) => message.verification_sid.to_string(),
        Work::VerificationEvent { verification_sid, .. } => verification_sid.to_string(),
        Work::Debugger { alert_sid, .. } => alert_sid.to_string(),
    }
}

impl Write {
    /// Inserts a pending delivery. If this transaction commits, the delivery is attempted at least once.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_delivery(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let sql = "INSERT INTO deliveries (id, account_sid, kind, subject, work, destination, state, attempts, \
                   due_at, give_up_at, created_at, scheduled_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, 'owed', 0, $7, $8, $9, $9)";
        let values = bind![
            delivery.id,
            delivery.account_sid,
            delivery.work.kind().as_str(),
            subject(&delivery.work),
            to_json(&StoredWork {
                work: &delivery.work,
                trace: delivery.trace.as_ref().map(TraceParent::to_string)
            }),
            delivery.destination.to_string(),
            delivery.next_attempt_at,
            delivery.expires_at,
            delivery.created_at
        ];
        self.execute(sql, values).await
    }

    /// Leases up to `limit` deliveries to `lease` until the instant `until`, and returns them: those in `due` that are due
    /// at `now`. Leasing a delivery already counts as an attempt, even if the process dies before making it.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lease_deliveries(
        &mut self,
        lease: &str,
        due: &DueDeliveries,
        limit: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<LeasedDeliveries, Error> {
        let mut values = bind![lease, now, until, i64::try_from(limit).unwrap_or(i64::MAX)];
        let (condition, order) = match due {
            DueDeliveries::Except { from, destinations } => {
                values.extend(bind![*from, to_json(&destination_texts(destinations))]);
                (format!("due_at >= $5 AND destination {}", self.is_not_among("$6")), "due_at")
            }
            // PostgreSQL reads the index on destinations only for a range in this order.
            DueDeliveries::To(destination) => {
                values.extend(bind![destination.to_string()]);
                let range = if self.connection.is_postgres() {
                    "destination >= $5 AND (destination, due_at) <= ($5, $2)"
                } else {
                    "destination = $5"
                };
                (range.to_owned(), "destination, due_at")
            }
        };
        // Several workers share a PostgreSQL database; each skips the rows that another worker is leasing.
        let lock = if self.connection.is_postgres() { " FOR UPDATE SKIP LOCKED" } else { "" };
        // The subquery is materialized because PostgreSQL might otherwise select and lock the rows several times.
        let sql = format!(
            "WITH due AS MATERIALIZED (SELECT id FROM deliveries WHERE state = 'owed' AND due_at <= $2 AND {condition} \
             ORDER BY {order} LIMIT $4{lock}) \
             UPDATE deliveries SET lease = $1, due_at = $3, scheduled_at = $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM due) RETURNING {COLUMNS}"
        );
        // A delivery that this version cannot read was written by a newer version. A node of that version leases it
        // when this lease expires.
        let leased = self.fetch_all(sql, values, |row| Ok(parse_delivery(row))).await?;
        let is_limited = leased.len() >= limit;
        let readable = leased.into_iter().inspect(|delivery| {
            if let Err(error) = delivery {
                tracing::error!("reading a leased delivery failed, leaving it to another node: {error}");
            }
        });
        Ok(LeasedDeliveries { readable: readable.flatten().collect(), is_limited })
    }

    /// Releases deliveries that `lease` holds but did not attempt. They become due at `now`, and the lease does not
    /// count as an attempt.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn release_deliveries(
        &mut self,
        lease: &str,
        ids: &[DeliveryId],
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = format!(
            "UPDATE deliveries SET lease = NULL, due_at = $2, scheduled_at = $2, attempts = attempts - 1 \
             WHERE id {} AND lease = $1 AND state = 'owed'",
            self.is_id_among("$3")
        );
        self.execute(sql, bind![lease, now, ids_json(ids)]).await
    }

    /// Makes up to `limit` stranded deliveries due at `now`, except those that `lease` holds. Returns the number of
    /// deliveries changed.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn reschedule_stranded_deliveries(
        &mut self,
        lease: &str,
        stranded: Stranded,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let lock = if self.connection.is_postgres() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "WITH stranded AS MATERIALIZED (SELECT id FROM deliveries WHERE {STRANDED} \
             ORDER BY due_at DESC LIMIT $5{lock}) \
             UPDATE deliveries SET due_at = $4, scheduled_at = $4 WHERE id IN (SELECT id FROM stranded) RETURNING id"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = bind![lease, stranded.scheduled_after, stranded.due_after, now, limit];
        self.count_rows(sql, values).await
    }

    /// Extends the leases of these deliveries until the instant `until`. Skips deliveries that `lease` no longer holds.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn renew_leases(
        &mut self,
        lease: &str,
        ids: &[DeliveryId],
        until: Timestamp,
    ) -> Result<(), Error> {
        let sql = format!(
            "UPDATE deliveries SET due_at = $2 WHERE id {} AND lease = $1 AND state = 'owed'",
            self.is_id_among("$3")
        );
        self.execute(sql, bind![lease, until, ids_json(ids)]).await
    }

    /// Records an attempt and its delivery's new state, given by `next`. Returns `false`, changing nothing, if `lease`
    /// no longer holds the delivery.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn record_attempt(
        &mut self,
        lease: &str,
        delivery: &Delivery,
        attempt: &AttemptRecord,
        next: Next,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (next_attempt_at, finished_at) = match next {
            Next::Retry(at) => (at, None),
            Next::Delivered | Next::Skipped | Next::Failed => (delivery.next_attempt_at, Some(now)),
        };
        let finish = "UPDATE deliveries SET state = $3, due_at = $4, finished_at = $5, scheduled_at = $6, lease = NULL \
                      WHERE id = $1 AND lease = $2 AND state = 'owed' RETURNING id";
        let values = bind![delivery.id, lease, next.state().as_str(), next_attempt_at, finished_at, now];
        if self.count_rows(finish, values).await? == 0 {
            return Ok(false);
        }
        let sql = "INSERT INTO delivery_attempts (delivery_id, number, began_at, milliseconds, ending, error_code, \
                   status, detail) SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7 \
                   FROM delivery_attempts WHERE delivery_id = $1";
        let values = bind![
            delivery.id,
            attempt.began_at,
            attempt.milliseconds,
            attempt.outcome.as_str(),
            attempt.error_code.map(i64::from),
            attempt.status.map(i64::from),
            attempt.detail.clone()
        ];
        self.execute(sql, values).await.map(|()| true)
    }

    /// Records successful attempts and marks their deliveries as delivered. Each attempt comes with its delivery's ID
    /// and the instant of its success. Skips deliveries that `lease` no longer holds.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn record_delivered(
        &mut self,
        lease: &str,
        attempts: &[(DeliveryId, AttemptRecord, Timestamp)],
    ) -> Result<(), Error> {
        let Some((.., now)) = attempts.last() else { return Ok(()) };
        let finish = format!(
            "UPDATE deliveries SET state = 'delivered', finished_at = $2, lease = NULL \
             WHERE id {} AND lease = $1 AND state = 'owed' RETURNING id",
            self.is_id_among("$3")
        );
        let values = bind![lease, *now, ids_json(attempts.iter().map(|(id, ..)| id))];
        let finished = self.fetch_all(finish, values, |row| parse_id(row, "id")).await?;
        let finished = HashSet::<DeliveryId>::from_iter(finished);
        let rows = attempts.iter().filter(|(id, ..)| finished.contains(id)).map(|(id, attempt, _)| {
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
             AS v (id UUID, began_at BIGINT, milliseconds BIGINT, status BIGINT, detail TEXT)"
        } else {
            "(SELECT unhex(value->>'id', '-') AS id, value->>'began_at' AS began_at, \
             value->>'milliseconds' AS milliseconds, value->>'status' AS status, \
             value->>'detail' AS detail FROM json_each($1)) AS v"
        };
        let insert = format!(
            "INSERT INTO delivery_attempts (delivery_id, number, began_at, milliseconds, ending, status, detail) \
             SELECT v.id, (SELECT COALESCE(MAX(number), 0) + 1 FROM delivery_attempts WHERE delivery_id = v.id), \
             v.began_at, v.milliseconds, 'delivered', v.status, v.detail FROM {table}"
        );
        self.execute(insert, bind![to_json(&rows)]).await
    }

    /// Makes a finished delivery pending again until `give_up_at`, like a new one, and returns the delivery. Returns
    /// `None` if the delivery does not exist, is pending, or is a push or a message. Those are excluded because their
    /// content would be outdated.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn requeue_delivery(
        &mut self,
        id: DeliveryId,
        now: Timestamp,
        give_up_at: Timestamp,
    ) -> Result<Option<Delivery>, Error> {
        let sql = format!(
            "UPDATE deliveries SET state = 'owed', due_at = $2, scheduled_at = $2, give_up_at = $3, finished_at = NULL, \
             attempts = 0 \
             WHERE id = $1 AND state <> 'owed' AND kind NOT IN ('push', 'message') RETURNING {COLUMNS}"
        );
        self.fetch_optional(sql, bind![id, now, give_up_at], parse_delivery).await
    }

    /// Deletes up to `limit` deliveries that were finished before the instant `before`, together with their attempts.
    /// Returns the number of deliveries deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM deliveries WHERE id IN \
                   (SELECT id FROM deliveries WHERE finished_at < $1 ORDER BY finished_at LIMIT $2) RETURNING id";
        self.count_rows(sql, bind![before, limit]).await
    }
}
