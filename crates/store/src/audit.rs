//! The audit log, and its chain.

use domain::audit::{Line, Mac, Mark};
use domain::paging::{Page, PageRequest};
use domain::{AccountSid, EventSid, Sealed, Timestamp};
use serde_json::json;

use crate::error::Error;
use crate::listing::List;
use crate::sql::{Row, Value, bind, to_json};
use crate::{Read, Write};

const COLUMNS: &str = "sid, number, mac, actor_type, actor, event_type, account_sid, resource_sid, data, address, \
    request_sid, created_at";

fn line(row: &Row) -> Result<Line, Error> {
    let account_sid = row.optional_text("account_sid")?.map(|sid| sid.parse()).transpose();
    Ok(Line {
        sid: row.sid("sid")?,
        actor_type: row.text("actor_type")?,
        actor: row.optional_text("actor")?,
        event_type: row.text("event_type")?,
        account_sid: account_sid.map_err(|_| Error::Corrupt("account_sid".into()))?,
        resource_sid: row.optional_text("resource_sid")?,
        data: row.text("data")?,
        address: row.optional_text("address")?,
        request_sid: row.optional_text("request_sid")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// A line and its place in the chain, which it gets a moment after it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// The line.
    pub line: Line,
    /// Its number and MAC.
    pub mark: Option<Mark>,
}

fn audit_line(row: &Row) -> Result<AuditLine, Error> {
    let mac = row.optional_text("mac")?.map(|mac| mac.parse()).transpose();
    let mac = mac.map_err(|_| Error::Corrupt("mac".into()))?;
    let mark = row.optional_int("number")?.zip(mac).map(|(number, mac)| Mark { number, mac });
    Ok(AuditLine { line: line(row)?, mark })
}

/// A line of the chain as it was found: somebody may have altered it.
#[derive(Clone, Debug)]
pub struct ChainedLine {
    /// Its number.
    pub number: i64,
    /// Its MAC and what it says; `None` when that can't be read.
    pub contents: Option<(Mac, Line)>,
}

fn chained_line(row: &Row) -> Result<ChainedLine, Error> {
    let mac = row.optional_text("mac")?.and_then(|mac| mac.parse().ok());
    Ok(ChainedLine { number: row.int("number")?, contents: mac.zip(line(row).ok()) })
}

/// A line that is not chained yet, as it was found: it may have been written or altered past the server.
#[derive(Clone, Debug)]
pub struct WaitingLine {
    /// Its place among the lines that wait.
    pub place: WaitingPlace,
    /// What it says; `None` when that can't be read.
    pub line: Option<Line>,
    /// The MAC that was made with it; `None` when there is none.
    pub mac: Option<Mac>,
}

/// A place among the lines that wait, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPlace {
    created_at: i64,
    /// The line's SID, which may be none in a line that was altered.
    pub sid: String,
}

impl WaitingPlace {
    /// Before the first line.
    pub const START: Self = Self { created_at: i64::MIN, sid: String::new() };
}

fn waiting_line(row: &Row) -> Result<WaitingLine, Error> {
    let mac = row.optional_text("waiting_mac")?.and_then(|mac| mac.parse().ok());
    let place = WaitingPlace { created_at: row.int("created_at")?, sid: row.text("sid")? };
    Ok(WaitingLine { place, line: line(row).ok(), mac })
}

/// What there is beside the chain, and what can't be there unless the schema was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditTail {
    /// Number of a line outside of the chain's ends, where none is.
    pub added: Option<i64>,
    /// A number that more than one line has.
    pub repeated_number: Option<i64>,
    /// A SID that more than one line has.
    pub repeated_sid: Option<String>,
    /// SID of a line with a number and no MAC, or with a MAC and no number.
    pub half_chained: Option<String>,
    /// How many rows say where the chain ends.
    pub ends: i64,
    /// Lines that are not chained yet.
    pub waiting: i64,
}

/// The two ends of the chain: `K` is the type of its key in the open.
#[derive(Debug)]
pub struct AuditChain<K> {
    /// The key of all MACs.
    pub key: Sealed<K>,
    /// The last line that went after its time.
    pub removed: Mark,
    /// The last line that was chained.
    pub head: Mark,
    /// MAC over both.
    pub seal: Mac,
}

fn audit_chain<K>(row: &Row) -> Result<AuditChain<K>, Error> {
    let mac = |column: &str| row.text(column)?.parse().map_err(|_| Error::Corrupt(column.to_owned()));
    Ok(AuditChain {
        key: row.sealed("key")?,
        removed: Mark { number: row.int("removed_number")?, mac: mac("removed_mac")? },
        head: Mark { number: row.int("head_number")?, mac: mac("head_mac")? },
        seal: mac("seal")?,
    })
}

const CHAIN: &str = "SELECT key, removed_number, removed_mac, head_number, head_mac, seal FROM audit_chain";

/// Which lines are listed.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only those of this actor: a SID, or an operator's name.
    pub actor: Option<String>,
    /// Only those of this event type.
    pub event_type: Option<String>,
    /// Only those about this thing.
    pub resource_sid: Option<String>,
    /// Only those that came from this address.
    pub address: Option<String>,
    /// Only those from this instant on.
    pub from: Option<Timestamp>,
    /// Only those before this instant.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// The conditions that a line must fulfil.
    fn conditions(&self) -> Vec<(&'static str, Value)> {
        let text = |condition, value: &Option<String>| Some((condition, Value::from(value.as_deref()?)));
        let time = |condition, value: Option<Timestamp>| Some((condition, Value::from(value?)));
        [
            text("actor = ?", &self.actor),
            text("event_type = ?", &self.event_type),
            text("resource_sid = ?", &self.resource_sid),
            text("address = ?", &self.address),
            time("created_at >= ?", self.from),
            time("created_at < ?", self.to),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Read {
    /// A line that concerns this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event(&mut self, account_sid: AccountSid, sid: EventSid) -> Result<Option<Line>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM audit_log WHERE sid = $1 AND account_sid = $2");
        self.one(sql, bind![sid, account_sid]).await?.as_ref().map(line).transpose()
    }

    /// The lines that concern an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(
        &mut self,
        account_sid: AccountSid,
        filter: &AuditFilter,
        request: &PageRequest,
    ) -> Result<Page<Line>, Error> {
        let mut list = List::of(COLUMNS, "audit_log").only("account_sid = ?", bind![account_sid]);
        for (condition, value) in filter.conditions() {
            list = list.only(condition, vec![value]);
        }
        list.page::<EventSid, _>(self, request, line).await
    }

    /// The newest lines of all accounts and of the server, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_lines(&mut self, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditLine>, Error> {
        let mut values = bind![limit];
        let mut conditions = String::from("true");
        for (condition, value) in filter.conditions() {
            values.push(value);
            conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
        }
        // The SIDs begin with the time.
        let sql = format!("SELECT {COLUMNS} FROM audit_log WHERE {conditions} ORDER BY sid DESC LIMIT $1");
        let rows = self.all(sql, values).await?;
        let mut lines = rows.iter().map(audit_line).collect::<Result<Vec<_>, _>>()?;
        // Those of one millisecond.
        lines.sort_by_key(|found| std::cmp::Reverse((found.line.created_at, found.line.sid)));
        Ok(lines)
    }

    /// At most `limit` lines that are not chained yet, from behind a place, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_lines(
        &mut self,
        after: &WaitingPlace,
        limit: i64,
    ) -> Result<Vec<WaitingLine>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, waiting_mac FROM audit_log WHERE number IS NULL AND (created_at, sid) > ($1, $2) \
             ORDER BY created_at, sid LIMIT $3"
        );
        let values = bind![after.created_at, after.sid.as_str(), limit];
        self.all(sql, values).await?.iter().map(waiting_line).collect()
    }

    /// At most `limit` lines of the chain, from the one after `after` up to `up_to`, in its order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn chained_lines(
        &mut self,
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<ChainedLine>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_log WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3"
        );
        self.all(sql, bind![after, up_to, limit]).await?.iter().map(chained_line).collect()
    }

    /// The two ends of the chain; `None` while there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_chain<K>(&mut self) -> Result<Option<AuditChain<K>>, Error> {
        self.one(CHAIN, bind![]).await?.as_ref().map(audit_chain).transpose()
    }

    /// What there is beside the chain; `None` while there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_tail(&mut self) -> Result<Option<AuditTail>, Error> {
        // One statement, so that it is all of one moment. What an index or a constraint rules out is counted all the
        // same: an attacker who may change the schema can have dropped both.
        let sql = "SELECT (SELECT COUNT(*) FROM audit_log WHERE number IS NULL) AS waiting, COALESCE(\
                   (SELECT MIN(number) FROM audit_log WHERE number <= removed_number), \
                   (SELECT MAX(number) FROM audit_log WHERE number > head_number)) AS added, \
                   (SELECT MIN(number) FROM (SELECT number FROM audit_log WHERE number IS NOT NULL \
                   GROUP BY number HAVING COUNT(*) > 1) AS numbers) AS repeated_number, \
                   (SELECT MIN(sid) FROM (SELECT sid FROM audit_log GROUP BY sid HAVING COUNT(*) > 1) AS sids) \
                   AS repeated_sid, \
                   (SELECT MIN(sid) FROM audit_log WHERE (number IS NULL) <> (mac IS NULL)) AS half_chained, \
                   (SELECT COUNT(*) FROM audit_chain) AS ends FROM audit_chain";
        let tail = |row: Row| {
            Ok(AuditTail {
                added: row.optional_int("added")?,
                repeated_number: row.optional_int("repeated_number")?,
                repeated_sid: row.optional_text("repeated_sid")?,
                half_chained: row.optional_text("half_chained")?,
                ends: row.int("ends")?,
                waiting: row.int("waiting")?,
            })
        };
        self.one(sql, bind![]).await?.map(tail).transpose()
    }

    /// When the newest line was written; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_audit_line_at(&mut self) -> Result<Option<Timestamp>, Error> {
        // The SIDs begin with the time.
        let sql = "SELECT created_at FROM audit_log ORDER BY sid DESC LIMIT 1";
        self.one(sql, bind![]).await?.map(|row| row.timestamp("created_at")).transpose()
    }
}

impl Write {
    /// Adds a line, which is not chained yet, with its MAC.
    ///
    /// # Errors
    /// When the database fails, or does not keep the line.
    pub async fn insert_audit_line(&mut self, line: &Line, mac: &Mac) -> Result<(), Error> {
        let sql = "INSERT INTO audit_log (sid, actor_type, actor, event_type, account_sid, resource_sid, data, \
                   address, request_sid, created_at, waiting_mac) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING sid";
        let values = bind![
            line.sid,
            line.actor_type.as_str(),
            line.actor.clone(),
            line.event_type.as_str(),
            line.account_sid.map(|sid| sid.to_string()),
            line.resource_sid.clone(),
            line.data.as_str(),
            line.address.clone(),
            line.request_sid.clone(),
            line.created_at,
            mac.to_string()
        ];
        // A trigger that was added to the schema can take a line away without an error.
        self.one(sql, values).await?.map(drop).ok_or_else(|| Error::Corrupt("audit_log".to_owned()))
    }

    /// Gives a line that waits a MAC.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_waiting_mac(&mut self, sid: EventSid, mac: &Mac) -> Result<(), Error> {
        let sql = "UPDATE audit_log SET waiting_mac = $2 WHERE sid = $1 AND number IS NULL";
        self.all(sql, bind![sid, mac.to_string()]).await.map(drop)
    }

    /// Makes the chain, if there is none yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn insert_audit_chain<K>(&mut self, chain: &AuditChain<K>) -> Result<(), Error> {
        let sql = "INSERT INTO audit_chain (name, key, removed_number, removed_mac, head_number, head_mac, seal) \
                   VALUES ('audit', $1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        let values = bind![
            &chain.key,
            chain.removed.number,
            chain.removed.mac.to_string(),
            chain.head.number,
            chain.head.mac.to_string(),
            chain.seal.to_string()
        ];
        self.all(sql, values).await.map(drop)
    }

    /// The two ends of the chain, held until the transaction ends; `None` when somebody else holds them, or there
    /// is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_audit_chain<K>(&mut self) -> Result<Option<AuditChain<K>>, Error> {
        // SQLite needs no lock: this is the only write connection.
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE SKIP LOCKED" } else { "" };
        self.one(format!("{CHAIN}{lock}"), bind![]).await?.as_ref().map(audit_chain).transpose()
    }

    /// Gives lines that wait their places in the chain, for good.
    ///
    /// # Errors
    /// When the database fails, or one of the lines does not wait, or is there twice.
    pub async fn chain_lines(&mut self, marks: &[(EventSid, Mark)]) -> Result<(), Error> {
        let rows = marks
            .iter()
            .map(|(sid, mark)| json!({ "sid": sid, "number": mark.number, "mac": mark.mac.to_string() }));
        // Pass the rows as one JSON parameter, so that the prepared statement does not depend on their number.
        let rows = to_json(&rows.collect::<Vec<_>>());
        let table = if self.connection.is_postgres() {
            "jsonb_to_recordset(CAST($1 AS JSONB)) AS v (sid TEXT, number BIGINT, mac TEXT)"
        } else {
            "(SELECT value->>'sid' AS sid, value->>'number' AS number, value->>'mac' AS mac FROM json_each($1)) AS v"
        };
        let sql = format!(
            "UPDATE audit_log SET number = v.number, mac = v.mac, waiting_mac = NULL FROM {table} \
             WHERE audit_log.sid = v.sid AND audit_log.number IS NULL RETURNING audit_log.sid"
        );
        match self.all(sql, bind![rows]).await?.len() == marks.len() {
            true => Ok(()),
            false => Err(Error::Corrupt("audit_log.sid".to_owned())),
        }
    }

    /// Moves the two ends of the chain.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn move_audit_ends(&mut self, removed: &Mark, head: &Mark, seal: &Mac) -> Result<(), Error> {
        let sql = "UPDATE audit_chain SET removed_number = $1, removed_mac = $2, head_number = $3, head_mac = $4, \
                   seal = $5";
        let values = bind![
            removed.number,
            removed.mac.to_string(),
            head.number,
            head.mac.to_string(),
            seal.to_string()
        ];
        self.all(sql, values).await.map(drop)
    }

    /// Removes the lines in front of the chain's first end that come after one, where that end was before; returns how
    /// many. What somebody has put in front of that stays, to be found.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_removed_lines(&mut self, after: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM audit_log \
                   WHERE number > $1 AND number <= (SELECT removed_number FROM audit_chain) RETURNING sid";
        Ok(self.all(sql, bind![after]).await?.len())
    }
}
