//! Handlers for `/v1/Events`: the account's audit records, in the format of Twilio Monitor.

use std::net::IpAddr;

use actix_web::HttpResponse;
use app::Backend;
use app::audit::AuditFilter;
use domain::audit::AuditRecord;
use domain::parameter::{Expected, Parameter};
use domain::{AccountSid, Order};
use serde_json::{Value, json};

use crate::date_range::DateRange;
use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

/// The query parameters that filter events.
const FILTERS: [&str; 6] =
    ["ActorSid", "EventType", "ResourceSid", "SourceIpAddress", "StartDate", "EndDate"];

pub(crate) async fn fetch(request: AuthorizedRequest<AuditRecord, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Descending, &FILTERS)?;
    let query = &request.query;
    let filter = AuditFilter {
        actor: query.optional::<AnySid>("ActorSid")?.map(|sid| sid.0),
        event_type: query.optional("EventType")?,
        resource_sid: query.optional::<AnySid>("ResourceSid")?.map(|sid| sid.0),
        address: query.optional::<Address>("SourceIpAddress")?.map(|address| address.0.to_string()),
        from: query.optional::<DateRange>("StartDate")?.map(|date| date.start),
        to: query.optional::<DateRange>("EndDate")?.map(|date| date.end()),
    };
    let page = request.app.events(request.resource, filter, listing.page).await?;
    Ok(listing.body("events", &page, |line| view(line, &request.public_url)))
}

/// A SID of any kind. Its hexadecimal digits are converted to lowercase, to match how SIDs are stored.
struct AnySid(String);

impl Parameter for AnySid {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text.split_at_checked(2) {
            Some((prefix, digits))
                if prefix.bytes().all(|byte| byte.is_ascii_alphabetic())
                    && digits.len() == 32
                    && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Ok(Self(format!("{prefix}{}", digits.to_ascii_lowercase())))
            }
            _ => Err(Expected::new("must be a SID: two letters and 32 hexadecimal digits")),
        }
    }
}

/// An IP address. IPv4-mapped IPv6 addresses are converted to IPv4, to match how addresses are stored.
struct Address(IpAddr);

impl Parameter for Address {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let address = text.parse::<IpAddr>().map_err(|_| Expected::new("must be an IP address"))?;
        Ok(Self(address.to_canonical()))
    }
}

fn view(line: &AuditRecord, public_url: &str) -> Value {
    // Operators' names are shown to operators only, not to the account.
    let actor_sid = line.actor.as_ref().filter(|_| line.actor_type != "operator");
    let source = match line.actor_type.as_str() {
        "operator" => "command-line",
        "housekeeping" => "server",
        _ => "api",
    };
    json!({
        "sid": line.sid,
        "account_sid": line.account_sid,
        "actor_sid": actor_sid,
        "actor_type": line.actor_type,
        "description": null,
        "event_data": line.data(),
        "event_date": line.created_at,
        "event_type": line.event_type,
        "resource_sid": line.resource_sid,
        "resource_type": line.resource_type(),
        "source": source,
        "source_ip_address": line.address,
        "url": format!("{public_url}/v1/Events/{}", line.sid),
        "links": { "resource": resource_url(line, public_url) },
    })
}

/// Returns the URL of the record's resource, which may since have been deleted. Returns `None` if the resource belongs
/// to an entity: its URL would contain an identity, and audit records contain no identities.
fn resource_url(line: &AuditRecord, public_url: &str) -> Option<String> {
    let sid = line.resource_sid.as_ref()?;
    let data = line.data();
    let service = data["service_sid"].as_str();
    match (line.resource_type(), service) {
        ("service", _) => Some(format!("{public_url}/v2/Services/{sid}")),
        ("webhook", Some(service)) => Some(format!("{public_url}/v2/Services/{service}/Webhooks/{sid}")),
        ("access-token", Some(service)) => {
            Some(format!("{public_url}/v2/Services/{service}/AccessTokens/{sid}"))
        }
        ("credential", _) => Some(format!("{public_url}/v1/Credentials/{sid}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sid_of_any_kind_is_accepted_and_converted_to_lowercase() {
        let sid = |digit: &str| format!("YF{}", digit.repeat(32));
        assert_eq!(AnySid::from_parameter(&sid("A")).unwrap().0, sid("a"));
        for bad in [
            "",
            "YF",
            &sid("g"),
            &format!("{}0", sid("0")),
            &"ä".repeat(17),
            &format!("1F{}", "0".repeat(32)),
        ] {
            assert!(AnySid::from_parameter(bad).is_err(), "{bad}");
        }
    }
}
