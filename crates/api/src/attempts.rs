//! Handlers for `/v2/Attempts`: reports on the messages with one-time codes (docs/protocol/verifications.md, section
//! 4).

use actix_web::HttpResponse;
use app::Backend;
use app::attempts::AttemptFilter;
use domain::verifications::{Attempt, ChannelFilter, DeliveryProgress};
use domain::{AccountSid, Channel, Order, Problem, Timestamp};
use serde_json::{Value, json};
use web::Form;

use crate::date_range::{DateRange, UpperBound};
use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

/// The parameters that filter the attempts of a list.
const FILTERS: [&str; 8] = [
    "DateCreatedAfter",
    "DateCreatedBefore",
    "ChannelData.To",
    "Country",
    "Channel",
    "VerifyServiceSid",
    "VerificationSid",
    "Status",
];

pub(crate) async fn fetch(request: AuthorizedRequest<Attempt, Backend>) -> Result<HttpResponse, Error> {
    let now = request.app.now();
    Ok(HttpResponse::Ok().json(view(&request.resource, now, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Descending, &FILTERS)?;
    let query = &request.query;
    let filter = AttemptFilter {
        recipient: query.optional("ChannelData.To")?,
        verification_sid: query.optional("VerificationSid")?,
        conversion: query.optional("Status")?,
        ..common_filter(query)?
    };
    let page = request.app.attempts(request.resource, filter, listing.page).await?;
    let now = request.app.now();
    Ok(listing.body("attempts", &page, |attempt| view(attempt, now, &request.public_url)))
}

pub(crate) async fn summary(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let query = &request.query;
    let filter = AttemptFilter { prefix: query.optional("DestinationPrefix")?, ..common_filter(query)? };
    let summary = request.app.attempt_summary(request.resource, filter).await?;
    Ok(HttpResponse::Ok().json(json!({
        "total_attempts": summary.total,
        "total_converted": summary.converted,
        "total_unconverted": summary.unconverted(),
        "conversion_rate_percentage": summary.to_string(),
        "url": format!("{}/v2/Attempts/Summary", request.public_url),
    })))
}

/// Parses the filters that a list and a summary have in common.
fn common_filter(query: &Form) -> Result<AttemptFilter, Problem> {
    let channel = query.optional::<ChannelFilter>("Channel")?;
    let before = query.optional::<UpperBound>("DateCreatedBefore")?.map(|UpperBound(end)| end);
    Ok(AttemptFilter {
        from: query.optional::<DateRange>("DateCreatedAfter")?.map(|date| date.start),
        // No attempt has this channel, so the filter must match nothing.
        to: match channel {
            Some(ChannelFilter::Never) => Some(Timestamp::from_micros(i64::MIN)),
            _ => before,
        },
        country: query.optional("Country")?,
        channel: match channel {
            Some(ChannelFilter::Is(channel)) => Some(channel),
            _ => None,
        },
        service_sid: query.optional("VerifyServiceSid")?,
        ..AttemptFilter::default()
    })
}

fn view(attempt: &Attempt, now: Timestamp, public_url: &str) -> Value {
    json!({
        "sid": attempt.sid,
        "account_sid": attempt.account_sid,
        "service_sid": attempt.service_sid,
        "verification_sid": attempt.verification_sid,
        "date_created": attempt.created_at,
        "date_updated": attempt.updated_at,
        "conversion_status": attempt.conversion().as_str(),
        "channel": attempt.channel.as_str(),
        "price": null,
        "channel_data": channel_data(attempt, now),
        "url": format!("{public_url}/v2/Attempts/{}", attempt.sid),
    })
}

fn channel_data(attempt: &Attempt, now: Timestamp) -> Value {
    let mut data = json!({
        "verification_sid": attempt.verification_sid,
        "to": attempt.to.as_str(),
        "status": attempt.status(now).as_str(),
        "error_code": attempt.error_code.map(|code| code.to_string()),
        "country": attempt.country.map(|country| country.to_string()),
        "code_length": attempt.code_length,
        "locale": attempt.locale,
        "mcc": null,
        "mnc": null,
        "carrier": null,
    });
    let (member, status) = match attempt.channel {
        Channel::Call => ("call_status", attempt.progress.map(DeliveryProgress::call_status)),
        _ => ("message_status", attempt.progress.map(DeliveryProgress::message_status)),
    };
    data[member] = json!(status);
    data
}
