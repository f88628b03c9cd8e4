//! `/v1/Events`: the lines of the audit log that concern the account, as Monitor has them.

use std::net::IpAddr;

use actix_web::HttpResponse;
use app::audit::AuditFilter;
use domain::audit::Line;
use domain::parameter::{Expected, Parameter};
use domain::{AccountSid, Order};
use serde_json::{Value, json};

use crate::alerts::Day;
use crate::call::Call;
use crate::error::Error;
use crate::list::Listing;

/// What chooses the events of a list.
const FILTERS: [&str; 6] =
    ["ActorSid", "EventType", "ResourceSid", "SourceIpAddress", "StartDate", "EndDate"];

pub(crate) async fn fetch(call: Call<Line>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.root())))
}

pub(crate) async fn list(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Descending, &FILTERS)?;
    let query = &call.query;
    let filter = AuditFilter {
        actor: query.optional::<AnySid>("ActorSid")?.map(|sid| sid.0),
        event_type: query.optional("EventType")?,
        resource_sid: query.optional::<AnySid>("ResourceSid")?.map(|sid| sid.0),
        address: query.optional::<Address>("SourceIpAddress")?.map(|address| address.0.to_string()),
        from: query.optional::<Day>("StartDate")?.map(|day| day.begin),
        to: query.optional::<Day>("EndDate")?.map(|day| day.end()),
    };
    let page = call.app.events(call.resource, filter, listing.page).await?;
    Ok(listing.body("events", &page, |line| view(line, &call.root())))
}

/// A SID of any kind; as it is stored, its digits are small letters.
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

struct Address(IpAddr);

impl Parameter for Address {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let address = text.parse::<IpAddr>().map_err(|_| Expected::new("must be an IP address"))?;
        Ok(Self(address.to_canonical()))
    }
}

fn view(line: &Line, root: &str) -> Value {
    // An operator's name is for operators.
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
        "url": format!("{root}/v1/Events/{}", line.sid),
        "links": { "resource": resource(line, root) },
    })
}

/// Where the thing itself is, or was. What hangs on an entity has an identity in its address, which no line knows.
fn resource(line: &Line, root: &str) -> Option<String> {
    let sid = line.resource_sid.as_ref()?;
    let data = line.data();
    let service = data["service_sid"].as_str();
    match (line.resource_type(), service) {
        ("service", _) => Some(format!("{root}/v2/Services/{sid}")),
        ("webhook", Some(service)) => Some(format!("{root}/v2/Services/{service}/Webhooks/{sid}")),
        ("access-token", Some(service)) => Some(format!("{root}/v2/Services/{service}/AccessTokens/{sid}")),
        ("credential", _) => Some(format!("{root}/v1/Credentials/{sid}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_sid_is_a_sid_of_some_kind() {
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
