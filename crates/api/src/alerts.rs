//! `/v1/Alerts`: what was not delivered, as Monitor has it (docs/protocol/push.md, section 4).

use actix_web::HttpResponse;
use app::alerts::AlertFilter;
use domain::alerts::{Alert, LevelFilter};
use domain::parameter::{Expected, Parameter};
use domain::{AccountSid, Order, Timestamp};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::list::Listing;

pub(crate) async fn fetch(call: Call<Alert>) -> Result<HttpResponse, Error> {
    let alert = &call.resource;
    let mut body = view(alert, &call.root());
    let failed = alert.call.as_ref();
    let response = failed.and_then(|failed| failed.response.as_ref());
    body["request_variables"] = json!(failed.map(|failed| encoded(&failed.variables)));
    body["request_headers"] = Value::Null;
    body["response_body"] = json!(response.map(|response| &response.body));
    body["response_headers"] = json!(response.map(|response| encoded(&response.headers)));
    Ok(HttpResponse::Ok().json(body))
}

pub(crate) async fn list(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Descending, &["LogLevel", "StartDate", "EndDate"])?;
    let level = call.query.optional::<LevelFilter>("LogLevel")?;
    let end = call.query.optional::<Day>("EndDate")?;
    let filter = AlertFilter {
        level: match level {
            Some(LevelFilter::Is(level)) => Some(level),
            _ => None,
        },
        from: call.query.optional::<Day>("StartDate")?.map(|day| day.begin),
        // Nothing lies before the beginning of time.
        to: match level {
            Some(LevelFilter::Never) => Some(Timestamp::from_micros(i64::MIN)),
            _ => end.map(|day| day.end()),
        },
    };
    let page = call.app.alerts(call.resource, filter, listing.page).await?;
    Ok(listing.body("alerts", &page, |alert| view(alert, &call.root())))
}

/// A second, or a whole day.
pub(crate) struct Day {
    pub(crate) begin: Timestamp,
    seconds: i64,
}

impl Day {
    /// Its end, which lies in the next one.
    pub(crate) const fn end(&self) -> Timestamp {
        self.begin.plus_seconds(self.seconds)
    }
}

impl Parameter for Day {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if let Ok(instant) = Timestamp::from_parameter(text) {
            return Ok(Self { begin: instant.whole_second(), seconds: 1 });
        }
        let begin = Timestamp::from_parameter(&format!("{text}T00:00:00Z"))?;
        Ok(Self { begin, seconds: 86_400 })
    }
}

/// Pairs as one text, in the encoding of forms.
fn encoded(pairs: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn view(alert: &Alert, origin: &str) -> Value {
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
        "url": format!("{origin}/v1/Alerts/{}", alert.sid),
    })
}
