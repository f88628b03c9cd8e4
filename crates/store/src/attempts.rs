//! Queries for attempts to deliver the codes of verifications.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::paging::{Page, PageRequest};
use domain::verifications::{
    Attempt, AttemptSummary, Conversion, DeliveryProgress, DestinationPrefix, PrefixTraffic,
};
use domain::{
    AccountSid, AttemptSid, Channel, Country, Parameter as _, PhoneNumber, Recipient, ServiceSid, Timestamp,
    VerificationSid,
};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_json};

const COLUMNS: &str = "sid, account_sid, service_sid, verification_sid, recipient, channel, country, \
    code_length, locale, is_converted, message_status, error_code, message, tags, expires_at, created_at, updated_at";

fn parse_attempt(row: &Row) -> Result<Attempt, Error> {
    let corrupt = |column: &str| Error::Corrupt(column.to_owned());
    let country = row.optional_text("country")?;
    let country = country.map(|code| Country::from_parameter(&code)).transpose();
    let progress = row.optional_text("message_status")?;
    let progress =
        progress.map(|word| DeliveryProgress::from_name(&word).ok_or_else(|| corrupt("message_status")));
    let error_code = row.optional_int("error_code")?;
    Ok(Attempt {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        verification_sid: row.sid("verification_sid")?,
        to: Recipient::from_stored(row.text("recipient")?),
        channel: row.keyword::<Channel>("channel")?,
        country: country.map_err(|_| corrupt("country"))?,
        code_length: row.number("code_length")?,
        locale: row.optional_text("locale")?,
        is_converted: row.int("is_converted")? != 0,
        progress: progress.transpose()?,
        error_code: error_code.map(u32::try_from).transpose().map_err(|_| corrupt("error_code"))?,
        message: row.optional_json("message")?,
        tags: row.optional_json("tags")?,
        expires_at: row.timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// A filter for an account's attempts. A field that is `None` does not restrict them.
#[derive(Clone, Debug, Default)]
pub struct AttemptFilter {
    /// Matches only attempts created at this instant or later.
    pub from: Option<Timestamp>,
    /// Matches only attempts created before this instant.
    pub to: Option<Timestamp>,
    /// Matches only attempts to this recipient.
    pub recipient: Option<Recipient>,
    /// Matches only attempts to phone numbers with this beginning.
    pub prefix: Option<DestinationPrefix>,
    /// Matches only attempts to phone numbers of this country.
    pub country: Option<Country>,
    /// Matches only attempts through this channel.
    pub channel: Option<Channel>,
    /// Matches only attempts of this service.
    pub service_sid: Option<ServiceSid>,
    /// Matches only attempts of this verification.
    pub verification_sid: Option<VerificationSid>,
    /// Matches only attempts that are converted, or that are not.
    pub conversion: Option<Conversion>,
}

/// SQL condition that the service of an attempt is not deleted. Deleted services are few, because their rows are soon
/// removed. So the database reads them once, and does not look up the service of each attempt.
const SERVICE_NOT_DELETED: &str =
    "service_sid NOT IN (SELECT services.sid FROM services WHERE services.deleted_at IS NOT NULL)";

impl AttemptFilter {
    /// Returns a query that selects `columns` of the account's attempts that match.
    ///
    /// Databases cannot know which of several conditions matches the fewest attempts. Therefore only the first given
    /// one of verification, recipient, service, country, channel and conversion is written as a plain comparison with
    /// the column. The others are comparisons with an expression, for which no index can be used.
    fn query(&self, columns: &str, account_sid: AccountSid) -> ListQuery {
        let is_converted = self.conversion.map(|conversion| conversion == Conversion::Converted);
        let conditions = [
            (
                self.verification_sid.map(|sid| bind![sid]),
                "verification_sid = ?",
                "COALESCE(verification_sid, verification_sid) = ?",
            ),
            (
                self.recipient.as_ref().map(|recipient| bind![recipient.key()]),
                "recipient_key = ?",
                "recipient_key || '' = ?",
            ),
            (
                self.service_sid.map(|sid| bind![sid, account_sid]),
                "service_sid = (SELECT sid FROM services WHERE sid = ? AND account_sid = ?)",
                "COALESCE(service_sid, service_sid) = (SELECT sid FROM services WHERE sid = ? AND account_sid = ?)",
            ),
            (self.country.map(|country| bind![country.as_str()]), "country = ?", "country || '' = ?"),
            (self.channel.map(|channel| bind![channel.as_str()]), "channel = ?", "channel || '' = ?"),
            (
                is_converted.map(|is_converted| bind![i64::from(is_converted)]),
                "is_converted = ?",
                "is_converted + 0 = ?",
            ),
        ];
        // The indexes of verifications and services do not begin with the account. The function hides its column, so
        // that they are used instead of that of the account. The attempts of another account's service are not read,
        // because there may be many.
        let has_other_index =
            self.verification_sid.is_some() || self.recipient.is_none() && self.service_sid.is_some();
        let of_account =
            if has_other_index { "COALESCE(account_sid, account_sid) = ?" } else { "account_sid = ?" };
        let mut query =
            ListQuery::select(columns, "verification_attempts").filter(of_account, bind![account_sid]);
        query = query.filter(SERVICE_NOT_DELETED, bind![]);
        let mut is_indexed = false;
        for (values, plain, unindexed) in conditions {
            let Some(values) = values else { continue };
            query = query.filter(if is_indexed { unindexed } else { plain }, values);
            is_indexed = true;
        }
        if let Some(from) = self.from {
            query = query.filter("created_at >= ?", bind![from]);
        }
        if let Some(to) = self.to {
            query = query.filter("created_at < ?", bind![to]);
        }
        if let Some(prefix) = &self.prefix {
            let prefix = prefix.as_str();
            // A mail address can begin with a plus sign and digits, too.
            let of_phones = "channel || '' <> 'email' AND substr(recipient_key, 1, length(?)) = ?";
            query = query.filter(of_phones, bind![prefix, prefix]);
        }
        query
    }
}

impl Read {
    /// Returns an account's attempt by SID, or `None` if the account has no such attempt.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn attempt(
        &mut self,
        account_sid: AccountSid,
        sid: AttemptSid,
    ) -> Result<Option<Attempt>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM verification_attempts WHERE sid = $1 AND account_sid = $2 AND {SERVICE_NOT_DELETED}"
        );
        self.fetch_optional(sql, bind![sid, account_sid], parse_attempt).await
    }

    /// Returns a service's attempt by SID, or `None` if the service has no such attempt.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn attempt_of_service(
        &mut self,
        service_sid: ServiceSid,
        sid: AttemptSid,
    ) -> Result<Option<Attempt>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM verification_attempts WHERE sid = $1 AND service_sid = $2");
        self.fetch_optional(sql, bind![sid, service_sid], parse_attempt).await
    }

    /// Returns the attempts of a verification, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn attempts_of_verification(
        &mut self,
        verification_sid: VerificationSid,
    ) -> Result<Vec<Attempt>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM verification_attempts WHERE verification_sid = $1 ORDER BY created_at, sid"
        );
        self.fetch_all(sql, bind![verification_sid], parse_attempt).await
    }

    /// Returns the requested page of an account's attempts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn attempts(
        &mut self,
        account_sid: AccountSid,
        filter: &AttemptFilter,
        request: &PageRequest,
    ) -> Result<Page<Attempt>, Error> {
        filter.query(COLUMNS, account_sid).page(self, request, parse_attempt).await
    }

    /// Counts an account's attempts that match `filter`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn attempt_summary(
        &mut self,
        account_sid: AccountSid,
        filter: &AttemptFilter,
    ) -> Result<AttemptSummary, Error> {
        let columns = "count(*) AS total, count(CASE WHEN is_converted = 1 THEN 1 END) AS converted";
        let parse = |row: &Row| {
            Ok(AttemptSummary { total: row.number("total")?, converted: row.number("converted")? })
        };
        Ok(filter.query(columns, account_sid).single(self, parse).await?.unwrap_or_default())
    }

    /// Returns the creation time of a service's `most`-th newest attempt within `span`, or `None` if there are fewer.
    /// Counts attempts created after the start of `span` and no later than its end.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn nth_latest_attempt_created_at(
        &mut self,
        service_sid: ServiceSid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM verification_attempts WHERE service_sid = $1 AND created_at > $2 \
                   AND created_at <= $3 ORDER BY created_at DESC, sid DESC LIMIT 1 OFFSET $4";
        let values = bind![service_sid, span.start, span.end, i64::from(most.get()) - 1];
        self.fetch_optional(sql, values, |row| row.timestamp("created_at")).await
    }

    /// Returns what became of a service's newest attempts within `span` to phone numbers with the same prefix as
    /// `number`, at most `most` of them. Considers attempts created after the start of `span` and no later than its
    /// end.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn prefix_traffic(
        &mut self,
        service_sid: ServiceSid,
        number: &PhoneNumber,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<PrefixTraffic, Error> {
        let sql = "SELECT count(*) AS total, count(CASE WHEN is_converted = 1 THEN 1 END) AS converted, \
                   min(created_at) AS oldest FROM (SELECT created_at, is_converted FROM verification_attempts \
                   WHERE service_sid = $1 AND number_prefix = $2 AND created_at > $3 AND created_at <= $4 \
                   ORDER BY created_at DESC, sid DESC LIMIT $5) AS newest";
        let values = bind![service_sid, number.prefix(), span.start, span.end, i64::from(most.get())];
        let parse = |row: &Row| {
            Ok(PrefixTraffic {
                summary: AttemptSummary { total: row.number("total")?, converted: row.number("converted")? },
                oldest: row.optional_timestamp("oldest")?,
            })
        };
        Ok(self.fetch_optional(sql, values, parse).await?.unwrap_or_default())
    }
}

impl Write {
    /// Inserts an attempt.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the verification does not exist, or another error if the database operation
    /// fails.
    pub async fn insert_attempt(&mut self, attempt: &Attempt) -> Result<(), Error> {
        let sql = "INSERT INTO verification_attempts (sid, account_sid, service_sid, verification_sid, recipient, \
                   recipient_key, number_prefix, channel, country, code_length, locale, is_converted, \
                   message_status, error_code, message, tags, expires_at, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
        let values = bind![
            attempt.sid,
            attempt.account_sid,
            attempt.service_sid,
            attempt.verification_sid,
            attempt.to.as_str(),
            attempt.to.key(),
            attempt.to.phone_number().map(PhoneNumber::prefix),
            attempt.channel.as_str(),
            attempt.country.as_ref().map(Country::as_str),
            i64::from(attempt.code_length),
            attempt.locale.as_deref(),
            i64::from(attempt.is_converted),
            attempt.progress.map(DeliveryProgress::as_str),
            attempt.error_code.map(i64::from),
            attempt.message.as_ref().map(to_json),
            attempt.tags.as_ref().map(to_json),
            attempt.expires_at,
            attempt.created_at,
            attempt.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns a service's attempt, locked against changes by other transactions until this one ends. Returns `None` if
    /// the service has no such attempt.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_attempt(
        &mut self,
        service_sid: ServiceSid,
        sid: AttemptSid,
    ) -> Result<Option<Attempt>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let sql =
            format!("SELECT {COLUMNS} FROM verification_attempts WHERE sid = $1 AND service_sid = $2{lock}");
        self.fetch_optional(sql, bind![sid, service_sid], parse_attempt).await
    }

    /// Marks the latest attempt of a verification as converted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn convert_latest_attempt(
        &mut self,
        sid: VerificationSid,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = "UPDATE verification_attempts SET is_converted = 1, updated_at = $2 WHERE sid = \
                   (SELECT sid FROM verification_attempts WHERE verification_sid = $1 \
                   ORDER BY created_at DESC, sid DESC LIMIT 1)";
        self.execute(sql, bind![sid, now]).await
    }

    /// Records how far the message of an attempt got, and the error code of its failure, if it failed. Returns `false`,
    /// and changes nothing, if the message is known to have got as far already.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_attempt_progress(
        &mut self,
        sid: AttemptSid,
        progress: DeliveryProgress,
        error_code: Option<u32>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let earlier: Vec<_> = progress.earlier().map(|earlier| format!(", '{}'", earlier.as_str())).collect();
        let sql = format!(
            "UPDATE verification_attempts SET message_status = $2, error_code = $3, updated_at = $4 \
             WHERE sid = $1 AND COALESCE(message_status, '') IN (''{}) RETURNING sid",
            earlier.concat()
        );
        let values = bind![sid, progress.as_str(), error_code.map(i64::from), now];
        Ok(self.count_rows(sql, values).await? > 0)
    }
}
