//! Queries for the audit log and its chain.
//!
//! A record is *unchained* until a background task assigns it a number and its final MAC, which make it part of the
//! chain.

use domain::audit::{AuditAction, AuditRecord, ChainPosition, Mac};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, EventSid, FactorSid, Sealed, Sid, Timestamp};
use serde_json::json;

use crate::error::Error;
use crate::paging::{ListQuery, number_placeholders};
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind, to_hex, to_json};

const COLUMNS: &str = "sid, number, mac, actor_type, actor, event_type, account_sid, resource_sid, data, address, \
    request_sid, created_at";

fn parse_record(row: &Row) -> Result<AuditRecord, Error> {
    Ok(AuditRecord {
        sid: row.sid("sid")?,
        actor_type: row.text("actor_type")?,
        actor: row.optional_text("actor")?,
        event_type: row.text("event_type")?,
        account_sid: row.optional_sid("account_sid")?,
        resource_sid: row.optional_text("resource_sid")?,
        data: row.text("data")?,
        address: row.optional_text("address")?,
        request_sid: row.optional_sid("request_sid")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// An audit record and its position in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    /// The audit record.
    pub record: AuditRecord,
    /// The record's number and MAC in the chain. `None` until a background task chains the record, a moment after it is
    /// written.
    pub position: Option<ChainPosition>,
}

fn parse_listed_record(row: &Row) -> Result<ListedRecord, Error> {
    let position = match row.optional_int("number")? {
        Some(number) => Some(ChainPosition { number, mac: row.mac("mac")? }),
        None => None,
    };
    Ok(ListedRecord { record: parse_record(row)?, position })
}

/// A chained record as read from the database, possibly altered by tampering.
#[derive(Clone, Debug)]
pub struct ChainedRecord {
    /// The record's number in the chain.
    pub number: i64,
    /// The MAC and the record, or `None` if either is unreadable.
    pub contents: Option<(Mac, AuditRecord)>,
}

fn parse_chained_record(row: &Row) -> Result<ChainedRecord, Error> {
    let contents = row.mac("mac").ok().zip(parse_record(row).ok());
    Ok(ChainedRecord { number: row.int("number")?, contents })
}

/// An unchained record as read from the database. It may have been inserted or altered by a program other than the
/// server.
#[derive(Clone, Debug)]
pub struct UnchainedRecord {
    /// The record's position among the unchained records.
    pub position: UnchainedPosition,
    /// The audit record, or `None` if it is unreadable.
    pub record: Option<AuditRecord>,
    /// The MAC stored with the record, or `None` if there is none or it is unreadable.
    pub mac: Option<Mac>,
}

/// A position in the list of unchained records, which is sorted from oldest to newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnchainedPosition {
    created_at: i64,
    /// The bytes of the record's SID. Tampering may have stored any number of them.
    sid: Vec<u8>,
}

impl UnchainedPosition {
    /// The position from which to read all unchained records: before the first of them.
    pub const START: Self = Self { created_at: i64::MIN, sid: Vec::new() };

    /// Returns the record's SID as text.
    pub fn sid(&self) -> String {
        sid_text(&self.sid)
    }

    /// Returns the bytes of the SID as a parameter. On PostgreSQL they are always 16, except those of
    /// [`START`](Self::START).
    fn sid_value(&self, is_postgres: bool) -> Value {
        match <[u8; 16]>::try_from(self.sid.as_slice()) {
            Ok(bytes) => Value::Id(Some(bytes)),
            Err(_) if is_postgres => Value::Id(Some([0; 16])),
            Err(_) => Value::Bytes(Some(self.sid.clone())),
        }
    }
}

/// Returns the text of a SID of an audit record, or the bytes in hexadecimal if they are not those of a SID.
fn sid_text(bytes: &[u8]) -> String {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => EventSid::from_bytes(bytes).to_string(),
        Err(_) => format!("{bytes:02x?}"),
    }
}

fn parse_unchained_record(row: &Row) -> Result<UnchainedRecord, Error> {
    let position = UnchainedPosition { created_at: row.int("created_at")?, sid: row.unchecked_id("sid")? };
    Ok(UnchainedRecord { position, record: parse_record(row).ok(), mac: row.mac("waiting_mac").ok() })
}

/// The two ends of the audit chain, and unchained records about an account, all read at one time.
#[derive(Clone, Debug, Default)]
pub struct AuditTail {
    /// The number of the newest record that was removed at the end of its retention.
    pub removed: i64,
    /// The number of the newest record in the chain.
    pub head: i64,
    /// Unchained records about the account, oldest first.
    pub unchained: Vec<UnchainedRecord>,
}

/// The result of checking the audit log for rows that do not belong to the chain. The check also finds rows that the
/// schema would not allow unless it was tampered with. A field that is `None` means that no such row was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLogCheck {
    /// The chain number of a record that lies before the start of the chain or after its head (see [`AuditChain`]).
    pub outside_ends: Option<i64>,
    /// A chain number that more than one record has.
    pub repeated_number: Option<i64>,
    /// A SID that more than one record has.
    pub repeated_sid: Option<String>,
    /// The SID of a record with a number but no MAC, or with a MAC but no number.
    pub half_chained: Option<String>,
    /// The number of rows that store the two ends of the chain (see [`AuditChain`]). An intact database has exactly
    /// one.
    pub end_rows: i64,
    /// The number of unchained records.
    pub unchained: i64,
}

/// Returns the text of a column that holds the SID of an audit record, or `None` if the column is null.
fn optional_sid_text(row: &Row<'_>, column: &str) -> Result<Option<String>, Error> {
    let is_null = row.is_null(column)?;
    (!is_null).then(|| row.unchecked_id(column).map(|bytes| sid_text(&bytes))).transpose()
}

/// Returns the lowest SID that an audit record with this creation time can have.
fn first_sid(created_at: Timestamp) -> [u8; 16] {
    let milliseconds = created_at.micros().div_euclid(1000).max(0) as u128;
    (milliseconds << 80).to_be_bytes()
}

/// The two ends of the audit chain (the position before its oldest record, and that of its newest), and the MAC that
/// protects them.
#[derive(Debug)]
pub struct AuditChain {
    /// The position of the newest record that was removed at the end of its retention. The chain starts after this
    /// position.
    pub removed: ChainPosition,
    /// The position of the newest record in the chain, called the chain head.
    pub head: ChainPosition,
    /// The MAC that covers both positions.
    pub seal: Mac,
}

fn parse_audit_chain(row: &Row) -> Result<AuditChain, Error> {
    Ok(AuditChain {
        removed: ChainPosition { number: row.int("removed_number")?, mac: row.mac("removed_mac")? },
        head: ChainPosition { number: row.int("head_number")?, mac: row.mac("head_mac")? },
        seal: row.mac("seal")?,
    })
}

const CHAIN: &str = "SELECT removed_number, removed_mac, head_number, head_mac, seal FROM audit_chain";

/// A filter for listing audit records. A field that is `None` does not restrict the list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Matches only records of this actor, given as a SID or an operator's name.
    pub actor: Option<String>,
    /// Matches only records of this event type.
    pub event_type: Option<String>,
    /// Matches only records about the resource with this SID.
    pub resource_sid: Option<String>,
    /// Matches only records of requests from this client address.
    pub address: Option<String>,
    /// Matches only records created at this instant or later.
    pub from: Option<Timestamp>,
    /// Matches only records created before this instant.
    pub to: Option<Timestamp>,
}

/// The condition that a record has an event type that is not among those that every login writes. The index on event
/// types excludes these, and databases use it only for queries that say so.
const HAS_RARE_TYPE: &str =
    "event_type NOT IN ('challenge.created', 'challenge.approved') AND event_type = ?";

/// Sorts records from newest to oldest, and keeps the first `limit`.
fn keep_newest(records: &mut Vec<ListedRecord>, limit: i64) {
    records.sort_by_key(|listed| std::cmp::Reverse((listed.record.created_at, listed.record.sid)));
    records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
}

/// The order of the newest records first, for which the indexes of the filters exist.
const BY_TIME: &str = "created_at DESC, sid DESC";

/// SQL conditions on audit records, each with the values for its `?` placeholders.
type Conditions = Vec<(&'static str, Vec<Value>)>;

impl AuditFilter {
    /// Returns the filter's SQL conditions, and whether one of them selects an index.
    ///
    /// Databases cannot know which of several conditions matches the fewest records. Therefore only the first given one
    /// is written as a plain comparison with the column, in an order in which it usually matches the fewest: resource,
    /// device, address, rare event type, another actor. The others are comparisons with an expression, for which no
    /// index can be used.
    fn conditions(&self) -> (Conditions, bool) {
        let is_device = self.actor.as_deref().is_some_and(|actor| actor.starts_with(FactorSid::PREFIX));
        let device = self.actor.as_ref().filter(|_| is_device);
        let other_actor = self.actor.as_ref().filter(|_| !is_device);
        let rare_type = self.event_type.as_ref().filter(|event_type| is_rare(event_type));
        let frequent_type = self.event_type.as_ref().filter(|event_type| !is_rare(event_type));
        let (mut conditions, mut is_indexed) = (Conditions::new(), false);
        for (value, plain, unindexed) in [
            (&self.resource_sid.as_ref(), "resource_sid = ?", "resource_sid || '' = ?"),
            (&device, "actor = ?", "actor || '' = ?"),
            (&self.address.as_ref(), "address = ?", "address || '' = ?"),
            (&rare_type, HAS_RARE_TYPE, "event_type || '' = ?"),
            (&other_actor, "actor = ?", "actor || '' = ?"),
        ] {
            if let Some(value) = value {
                conditions.push((if is_indexed { unindexed } else { plain }, bind![value.as_str()]));
                is_indexed = true;
            }
        }
        if let Some(event_type) = frequent_type {
            conditions.push(("event_type || '' = ?", bind![event_type.as_str()]));
        }
        if let Some(from) = self.from {
            conditions.push(("created_at >= ?", bind![from]));
        }
        if let Some(to) = self.to {
            conditions.push(("created_at < ?", bind![to]));
        }
        (conditions, is_indexed)
    }
}

/// Returns whether the index on event types contains this one.
fn is_rare(event_type: &str) -> bool {
    ![AuditAction::ChallengeCreated, AuditAction::ChallengeApproved]
        .iter()
        .any(|frequent| frequent.as_str() == event_type)
}

impl Read {
    /// Returns the audit record with this SID if it is about this account, or `None` otherwise.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn event(
        &mut self,
        account_sid: AccountSid,
        sid: EventSid,
    ) -> Result<Option<AuditRecord>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM audit_log WHERE sid = $1 AND account_sid = $2");
        self.fetch_optional(sql, bind![sid, account_sid], parse_record).await
    }

    /// Returns the requested page of the audit records about an account that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn events(
        &mut self,
        account_sid: AccountSid,
        filter: &AuditFilter,
        request: &PageRequest,
    ) -> Result<Page<AuditRecord>, Error> {
        let (conditions, _) = filter.conditions();
        let mut list = ListQuery::select(COLUMNS, "audit_log").filter("account_sid = ?", bind![account_sid]);
        for (condition, values) in conditions {
            list = list.filter(condition, values);
        }
        list.page(self, request, parse_record).await
    }

    /// Returns the newest audit records that match `filter`, at most `limit`, sorted from newest to oldest. Includes
    /// the records of all accounts and of the server itself.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn newest_audit_records(
        &mut self,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<ListedRecord>, Error> {
        let (_, is_indexed) = filter.conditions();
        let mut records = Vec::new();
        if is_indexed {
            // Each index begins with the account.
            records = self.newest_records("account_sid IS NULL", bind![], filter, BY_TIME, limit).await?;
            let mut account = self.audited_account_after(None).await?;
            while let Some(sid) = account {
                records.extend(
                    self.newest_records("account_sid = ?", bind![sid], filter, BY_TIME, limit).await?,
                );
                keep_newest(&mut records, limit);
                account = self.audited_account_after(Some(sid)).await?;
            }
        } else {
            // Without an index of the filter, the records are read in the order of their SIDs, which begin with the
            // creation time in milliseconds.
            let (mut bounds, mut values) = ("true".to_owned(), bind![]);
            let next_millisecond =
                filter.to.map(|to| Timestamp::from_micros(to.micros().saturating_add(1000)));
            for (bound, condition) in [(filter.from, " AND sid >= ?"), (next_millisecond, " AND sid < ?")] {
                if let Some(bound) = bound {
                    values.push(Value::Id(Some(first_sid(bound))));
                    bounds.push_str(condition);
                }
            }
            records.extend(self.newest_records(&bounds, values, filter, "sid DESC", limit).await?);
        }
        keep_newest(&mut records, limit);
        Ok(records)
    }

    /// Returns the first `limit` audit records in `order` that match `filter` and fulfill `condition` with `values`.
    async fn newest_records(
        &mut self,
        condition: &str,
        mut values: Vec<Value>,
        filter: &AuditFilter,
        order: &str,
        limit: i64,
    ) -> Result<Vec<ListedRecord>, Error> {
        let mut sql = format!("SELECT {COLUMNS} FROM audit_log WHERE {condition}");
        for (condition, given) in filter.conditions().0 {
            values.extend(given);
            sql.push_str(&format!(" AND {condition}"));
        }
        values.push(Value::from(limit));
        sql.push_str(&format!(" ORDER BY {order} LIMIT ?"));
        self.fetch_all(number_placeholders(&sql, 1), values, parse_listed_record).await
    }

    /// Returns the first account about which there are audit records, in the order of SIDs, or the first one after
    /// `after`.
    async fn audited_account_after(
        &mut self,
        after: Option<AccountSid>,
    ) -> Result<Option<AccountSid>, Error> {
        let (condition, values) = match after {
            Some(after) => ("account_sid > $1", bind![after]),
            None => ("account_sid IS NOT NULL", bind![]),
        };
        let sql = format!("SELECT account_sid FROM audit_log WHERE {condition} ORDER BY account_sid LIMIT 1");
        self.fetch_optional(sql, values, |row| row.sid("account_sid")).await
    }

    /// Returns up to `limit` unchained records after the position `after`, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn unchained_records(
        &mut self,
        after: &UnchainedPosition,
        limit: i64,
    ) -> Result<Vec<UnchainedRecord>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, waiting_mac FROM audit_log WHERE number IS NULL AND (created_at, sid) > ($1, $2) \
             ORDER BY created_at, sid LIMIT $3"
        );
        let sid = after.sid_value(self.connection.is_postgres());
        let values = vec![Value::from(after.created_at), sid, Value::from(limit)];
        self.fetch_all(sql, values, parse_unchained_record).await
    }

    /// Returns up to `limit` chained records whose numbers are above `after` and at most `up_to`, in ascending order of
    /// number.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn chained_records(
        &mut self,
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<ChainedRecord>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_log WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3"
        );
        self.fetch_all(sql, bind![after, up_to, limit], parse_chained_record).await
    }

    /// Returns the chained records about an account whose numbers are above `after` and at most `up_to`, in ascending
    /// order of number. Reads all records in between, so the range must be short.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn chained_records_of_account(
        &mut self,
        account_sid: AccountSid,
        after: i64,
        up_to: i64,
    ) -> Result<Vec<ChainedRecord>, Error> {
        // The function hides the column, so that the index on the numbers is used.
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_log WHERE number > $1 AND number <= $2 \
             AND COALESCE(account_sid, account_sid) = $3 ORDER BY number"
        );
        self.fetch_all(sql, bind![after, up_to, account_sid], parse_chained_record).await
    }

    /// Returns the ends of the chain and up to `limit` unchained records about an account. Every committed record about
    /// the account is either among these or in the chain up to its head, unless there are more than `limit`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn audit_tail(&mut self, account_sid: AccountSid, limit: i64) -> Result<AuditTail, Error> {
        // A single statement reads one consistent snapshot: no record is chained between its parts.
        let sql = format!(
            "SELECT removed_number, head_number, {COLUMNS}, waiting_mac FROM audit_chain LEFT JOIN \
             (SELECT {COLUMNS}, waiting_mac FROM audit_log WHERE number IS NULL \
             AND COALESCE(account_sid, account_sid) = $1 ORDER BY created_at, sid LIMIT $2) AS unchained ON true \
             ORDER BY created_at, sid"
        );
        let mut tail = AuditTail::default();
        let rows = self.fetch_all(sql, bind![account_sid, limit], |row| {
            let is_alone = row.is_null("sid")?;
            let record = (!is_alone).then(|| parse_unchained_record(row)).transpose()?;
            Ok((row.int("removed_number")?, row.int("head_number")?, record))
        });
        for (removed, head, record) in rows.await? {
            (tail.removed, tail.head) = (removed, head);
            tail.unchained.extend(record);
        }
        Ok(tail)
    }

    /// Returns the two ends of the chain, or `None` if there is no chain yet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn audit_chain(&mut self) -> Result<Option<AuditChain>, Error> {
        self.fetch_optional(CHAIN, bind![], parse_audit_chain).await
    }

    /// Returns the sealed key of the audit chain, or `None` if there is no chain yet. `K` is the type of the key when
    /// decrypted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn audit_key<K>(&mut self) -> Result<Option<Sealed<K>>, Error> {
        self.fetch_optional("SELECT key FROM audit_chain", bind![], |row| row.sealed("key")).await
    }

    /// Checks the audit log for rows that do not belong to the chain. Returns the findings, or `None` if there is no
    /// chain yet.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn check_audit_log(&mut self) -> Result<Option<AuditLogCheck>, Error> {
        // A single statement reads one consistent snapshot. It also looks for rows that an index or a constraint would
        // prevent, because an attacker who can change the schema may have dropped both.
        let sql = "SELECT (SELECT COUNT(*) FROM audit_log WHERE number IS NULL) AS waiting, COALESCE(\
                   (SELECT MIN(number) FROM audit_log WHERE number <= removed_number), \
                   (SELECT MAX(number) FROM audit_log WHERE number > head_number)) AS added, \
                   (SELECT MIN(number) FROM (SELECT number FROM audit_log WHERE number IS NOT NULL \
                   GROUP BY number HAVING COUNT(*) > 1) AS numbers) AS repeated_number, \
                   (SELECT sid FROM audit_log GROUP BY sid HAVING COUNT(*) > 1 ORDER BY sid LIMIT 1) AS repeated_sid, \
                   (SELECT sid FROM audit_log WHERE (number IS NULL) <> (mac IS NULL) ORDER BY sid LIMIT 1) \
                   AS half_chained, \
                   (SELECT COUNT(*) FROM audit_chain) AS ends FROM audit_chain";
        let check = |row: &Row<'_>| {
            Ok(AuditLogCheck {
                outside_ends: row.optional_int("added")?,
                repeated_number: row.optional_int("repeated_number")?,
                repeated_sid: optional_sid_text(row, "repeated_sid")?,
                half_chained: optional_sid_text(row, "half_chained")?,
                end_rows: row.int("ends")?,
                unchained: row.int("waiting")?,
            })
        };
        Ok(self.fetch_all_of_large_table(sql, bind![], check).await?.pop())
    }

    /// Returns the creation time of the newest audit record, or `None` if the audit log is empty.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn newest_audit_record_at(&mut self) -> Result<Option<Timestamp>, Error> {
        // The SID of an audit record begins with its creation time in milliseconds, so sorting by SID sorts by time.
        let sql = "SELECT created_at FROM audit_log ORDER BY sid DESC LIMIT 1";
        self.fetch_optional(sql, bind![], |row| row.timestamp("created_at")).await
    }
}

impl Write {
    /// Inserts an unchained audit record together with its MAC.
    ///
    /// # Errors
    /// Returns [`Error::NotStored`] if the database does not store the record, or another error if the database
    /// operation fails.
    pub async fn insert_audit_record(&mut self, record: &AuditRecord, mac: &Mac) -> Result<(), Error> {
        let sql = "INSERT INTO audit_log (sid, actor_type, actor, event_type, account_sid, resource_sid, data, \
                   address, request_sid, created_at, waiting_mac) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING sid";
        let values = bind![
            record.sid,
            record.actor_type.as_str(),
            record.actor.clone(),
            record.event_type.as_str(),
            record.account_sid,
            record.resource_sid.clone(),
            record.data.as_str(),
            record.address.clone(),
            record.request_sid,
            record.created_at,
            mac
        ];
        // A trigger that was added to the schema could discard the record without an error.
        match self.count_rows(sql, values).await? {
            0 => Err(Error::NotStored("audit_log")),
            _ => Ok(()),
        }
    }

    /// Replaces the MACs that are stored with unchained records. Leaves records alone that are already chained.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_unchained_macs(&mut self, macs: &[(EventSid, Mac)]) -> Result<(), Error> {
        let rows = macs.iter().map(|(sid, mac)| json!({ "sid": to_hex(*sid), "mac": mac.to_string() }));
        let rows = to_json(&rows.collect::<Vec<_>>());
        let table = if self.connection.is_postgres() {
            "(SELECT sid, decode(mac, 'hex') AS mac \
             FROM jsonb_to_recordset(CAST($1 AS JSONB)) AS r (sid UUID, mac TEXT)) AS v"
        } else {
            "(SELECT unhex(value->>'sid') AS sid, unhex(value->>'mac') AS mac FROM json_each($1)) AS v"
        };
        let sql = format!(
            "UPDATE audit_log SET waiting_mac = v.mac FROM {table} \
             WHERE audit_log.sid = v.sid AND audit_log.number IS NULL"
        );
        self.execute(sql, bind![rows]).await
    }

    /// Creates the audit chain by storing its two ends and its sealed key. Does nothing if there already is a chain.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_audit_chain<K>(&mut self, chain: &AuditChain, key: &Sealed<K>) -> Result<(), Error> {
        let sql = "INSERT INTO audit_chain (name, key, removed_number, removed_mac, head_number, head_mac, seal) \
                   VALUES ('audit', $1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        let values = bind![
            key,
            chain.removed.number,
            &chain.removed.mac,
            chain.head.number,
            &chain.head.mac,
            &chain.seal
        ];
        self.execute(sql, values).await
    }

    /// Locks the two ends of the chain until the transaction ends, and returns them. Returns `None` if another
    /// transaction holds the lock, or if there is no chain.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn try_lock_audit_chain(&mut self) -> Result<Option<AuditChain>, Error> {
        // SQLite needs no lock: this is the only write connection.
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE SKIP LOCKED" } else { "" };
        self.fetch_optional(format!("{CHAIN}{lock}"), bind![], parse_audit_chain).await
    }

    /// Appends unchained records to the chain by assigning each its final number and MAC.
    ///
    /// # Errors
    /// Returns [`Error::NotStored`] if one of the records is missing, already chained or present twice, or another
    /// error if the database operation fails.
    pub async fn append_to_audit_chain(
        &mut self,
        positions: &[(EventSid, ChainPosition)],
    ) -> Result<(), Error> {
        let rows = positions.iter().map(|(sid, position)| {
            json!({ "sid": to_hex(*sid), "number": position.number, "mac": position.mac.to_string() })
        });
        // Pass the rows as one JSON parameter, so that the prepared statement does not depend on their number.
        let rows = to_json(&rows.collect::<Vec<_>>());
        let table = if self.connection.is_postgres() {
            "(SELECT sid, number, decode(mac, 'hex') AS mac \
             FROM jsonb_to_recordset(CAST($1 AS JSONB)) AS r (sid UUID, number BIGINT, mac TEXT)) AS v"
        } else {
            "(SELECT unhex(value->>'sid') AS sid, value->>'number' AS number, unhex(value->>'mac') AS mac \
             FROM json_each($1)) AS v"
        };
        let sql = format!(
            "UPDATE audit_log SET number = v.number, mac = v.mac, waiting_mac = NULL FROM {table} \
             WHERE audit_log.sid = v.sid AND audit_log.number IS NULL RETURNING audit_log.sid"
        );
        match self.count_rows(sql, bind![rows]).await? == positions.len() {
            true => Ok(()),
            false => Err(Error::NotStored("audit_log")),
        }
    }

    /// Replaces the stored ends of the chain and the MAC over them.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_audit_chain(
        &mut self,
        removed: &ChainPosition,
        head: &ChainPosition,
        seal: &Mac,
    ) -> Result<(), Error> {
        let sql = "UPDATE audit_chain SET removed_number = $1, removed_mac = $2, head_number = $3, head_mac = $4, \
                   seal = $5";
        let values = bind![removed.number, &removed.mac, head.number, &head.mac, seal];
        self.execute(sql, values).await
    }

    /// Deletes the records that were removed from the chain at the end of their retention: those with numbers above
    /// `after`, the chain's previous lower end, and at most its current lower end. Returns the number of records
    /// deleted.
    ///
    /// Keeps rows with lower numbers: they were inserted by tampering, and [`check_audit_log`](Read::check_audit_log)
    /// must find them.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_removed_records(&mut self, after: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM audit_log \
                   WHERE number > $1 AND number <= (SELECT removed_number FROM audit_chain) RETURNING sid";
        self.count_rows(sql, bind![after]).await
    }
}
