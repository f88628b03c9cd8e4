//! Tests of the limits, names and URLs of webhooks.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use domain::webhooks::{
    Condition, EventType, Status, Subscription, Version, Webhook, require_webhook_capacity,
};
use domain::{CallbackUrl, Code, FriendlyName, Parameter, Timestamp};

fn url(text: &str) -> CallbackUrl {
    CallbackUrl::from_parameter(text).unwrap()
}

fn is_url(text: &str) -> bool {
    CallbackUrl::from_parameter(text).is_ok()
}

fn webhook() -> Webhook {
    Webhook {
        sid: "YW11111111111111111111111111111111".parse().unwrap(),
        account_sid: "AC11111111111111111111111111111111".parse().unwrap(),
        service_sid: "VA11111111111111111111111111111111".parse().unwrap(),
        friendly_name: FriendlyName::from_stored("hook".into()),
        event_types: vec![Subscription::All],
        url: url("https://h.example/"),
        status: Status::Enabled,
        version: Version::V2,
        created_at: Timestamp::from_seconds(0),
        updated_at: Timestamp::from_seconds(0),
    }
}

#[test]
fn webhook_beyond_the_limit_of_fifty_is_refused() {
    assert_eq!(require_webhook_capacity(0), Ok(()));
    assert_eq!(require_webhook_capacity(49), Ok(()));
    for webhooks in [50, 51] {
        assert_eq!(
            require_webhook_capacity(webhooks).unwrap_err().code(),
            Code::InvalidRequest,
            "{webhooks}"
        );
    }
}

#[test]
fn webhook_update_lists_the_names_of_the_changed_fields() {
    let before = webhook();
    assert_eq!(before.changed_fields(&before), [""; 0]);
    for (name, after) in [
        ("friendly_name", Webhook { friendly_name: FriendlyName::from_stored("other".into()), ..webhook() }),
        ("event_types", Webhook { event_types: Vec::new(), ..webhook() }),
        ("webhook_url", Webhook { url: url("https://other.example/"), ..webhook() }),
        ("status", Webhook { status: Status::Disabled, ..webhook() }),
        ("version", Webhook { version: Version::V1, ..webhook() }),
    ] {
        assert_eq!(after.changed_fields(&before), [name]);
    }
}

#[test]
fn webhook_statuses_versions_and_event_types_have_the_names_used_by_the_api() {
    for (word, status) in [("enabled", Status::Enabled), ("disabled", Status::Disabled)] {
        assert_eq!((status.as_str(), Status::from_parameter(word)), (word, Ok(status)));
    }
    for (word, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        assert_eq!((version.as_str(), Version::from_parameter(word)), (word, Ok(version)));
    }
    assert!(Status::from_parameter("on").is_err() && Version::from_parameter("V1").is_err());
    let words =
        ["factor.created", "factor.verified", "factor.deleted", "challenge.approved", "challenge.denied"];
    for (word, event_type) in words.into_iter().zip(EventType::ALL) {
        let subscription = Subscription::Only(event_type);
        assert_eq!((event_type.as_str(), Subscription::from_parameter(word)), (word, Ok(subscription)));
        assert_eq!(serde_json::to_value(subscription).unwrap(), word);
    }
    assert_eq!(Subscription::from_parameter("*"), Ok(Subscription::All));
    assert!(Subscription::from_parameter("factor.*").is_err());
}

#[test]
fn webhook_url_must_have_at_most_2048_permitted_characters() {
    let of_length = |length: usize| format!("https://h.example/{}", "x".repeat(length - 18));
    assert!(is_url(&of_length(2047)) && is_url(&of_length(2048)));
    assert!(!is_url(&of_length(2049)));
    for bad in ["https://h.example/\u{7f}", "https://h.example/\u{a0}x", "https://h.example/\\x"] {
        assert!(!is_url(bad), "{bad}");
    }
}

#[test]
fn destination_of_a_webhook_url_is_its_host_and_port() {
    assert_eq!(url("https://h.example/x").destination(), "h.example:443");
    assert_eq!(url("http://h.example/y#rc=1").destination(), "h.example:80");
    assert_eq!(url("http://[::1]:8080/").destination(), "[::1]:8080");
    assert_eq!(url("https://h.example/y#rc=1").url().as_str(), "https://h.example/y");
    assert_eq!(url("https://h.example/y#rc=1").as_str(), "https://h.example/y#rc=1");
}

#[test]
fn connection_override_outside_its_bounds_is_refused() {
    for (name, least, most) in [("ct", 100, 10_000), ("rt", 100, 15_000), ("tt", 100, 15_000), ("rc", 0, 5)] {
        for number in [least, most] {
            let overrides = url(&format!("https://h.example/#{name}={number}")).overrides().clone();
            let parsed = match name {
                "ct" => overrides.connect,
                "rt" => overrides.read,
                "tt" => overrides.total,
                _ => overrides.retries.map(|retries| Duration::from_millis(retries.into())),
            };
            assert_eq!(parsed, Some(Duration::from_millis(number)), "{name}={number}");
        }
        assert!(!is_url(&format!("https://h.example/#{name}={}", most + 1)), "{name}");
        let too_few = least.checked_sub(1).map_or("-1".to_owned(), |number| number.to_string());
        assert!(!is_url(&format!("https://h.example/#{name}={too_few}")), "{name}");
        assert!(!is_url(&format!("https://h.example/#{name}=")), "{name}");
    }
}

#[test]
fn url_with_a_retry_count_or_policy_overrides_the_retry_schedule() {
    for (fragment, decides) in [("rc=0", true), ("rp=all", true), ("rc=1&rp=ct", true), ("ct=100", false)] {
        let url = url(&format!("https://h.example/#{fragment}"));
        assert_eq!(url.overrides().has_retry_policy(), decides, "{fragment}");
    }
    let policy = url("https://h.example/#rp=4xx,5xx,ct,rt,all").overrides().policy.clone();
    let all =
        [Condition::ClientError, Condition::ServerError, Condition::Connect, Condition::Read, Condition::All];
    assert_eq!(policy.as_deref(), Some(&all[..]));
}
