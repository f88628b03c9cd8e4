//! Handlers for `/v1/Alerts`: failed deliveries, in the format of Twilio Monitor (docs/protocol/push.md, section 4).

use actix_web::HttpResponse;
use app::Backend;
use app::alerts::AlertFilter;
use domain::alerts::{Alert, LevelFilter};
use domain::{AccountSid, Order, Timestamp};
use serde_json::{Value, json};

use crate::date_range::DateRange;
use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn fetch(request: AuthorizedRequest<Alert, Backend>) -> Result<HttpResponse, Error> {
    let alert = &request.resource;
    let mut body = view(alert, &request.public_url);
    let failed = alert.call.as_ref();
    let response = failed.and_then(|failed| failed.response.as_ref());
    body["request_variables"] = json!(failed.map(|failed| form_encode(&failed.variables)));
    body["request_headers"] = Value::Null;
    body["response_body"] = json!(response.map(|response| &response.body));
    body["response_headers"] = json!(response.map(|response| form_encode(&response.headers)));
    Ok(HttpResponse::Ok().json(body))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Descending, &["LogLevel", "StartDate", "EndDate"])?;
    let level = request.query.optional::<LevelFilter>("LogLevel")?;
    let end = request.query.optional::<DateRange>("EndDate")?;
    let filter = AlertFilter {
        level: match level {
            Some(LevelFilter::Is(level)) => Some(level),
            _ => None,
        },
        from: request.query.optional::<DateRange>("StartDate")?.map(|date| date.start),
        // No alert has this level, so the filter must match nothing.
        to: match level {
            Some(LevelFilter::Never) => Some(Timestamp::from_micros(i64::MIN)),
            _ => end.map(|date| date.end()),
        },
    };
    let page = request.app.alerts(request.resource, filter, listing.page).await?;
    Ok(listing.body("alerts", &page, |alert| view(alert, &request.public_url)))
}

/// Encodes pairs of names and values as `application/x-www-form-urlencoded`.
fn form_encode(pairs: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn view(alert: &Alert, public_url: &str) -> Value {
    json!({
        "sid": alert.sid,
        "account_sid": alert.account_sid,
        "service_sid": alert.service_sid,
        "resource_sid": alert.resource_sid,
        "error_code": alert.error_code.to_string(),
        "log_level": alert.level.as_str(),
        "alert_text": alert.text,
        "more_info": format!("https://www.twilio.com/docs/errors/{}", alert.error_code),
        "api_version": "2010-04-01",
        "request_method": alert.call.as_ref().map(|_| "POST"),
        "request_url": alert.call.as_ref().map(|call| &call.url),
        "date_created": alert.created_at,
        "date_generated": alert.created_at,
        "date_updated": alert.created_at,
        "url": format!("{public_url}/v1/Alerts/{}", alert.sid),
    })
}
