//! Webhooks: URLs of a backend that receive events about factors and challenges.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Serialize, Serializer};
use url::{Host, Url};

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::Problem;
use crate::sids::{AccountSid, ServiceSid, WebhookSid};
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// A webhook of a service, as it is stored (docs/protocol/resources.md, section 7).
#[derive(Clone, Debug)]
pub struct Webhook {
    /// SID of the webhook (`YW…`).
    pub sid: WebhookSid,
    /// Account that owns the webhook.
    pub account_sid: AccountSid,
    /// Service whose events are sent to the webhook.
    pub service_sid: ServiceSid,
    /// Display name of the webhook.
    pub friendly_name: FriendlyName,
    /// Types of events that are sent to the webhook.
    pub event_types: Vec<Subscription>,
    /// URL that receives the events.
    pub url: CallbackUrl,
    /// Whether events are sent to the webhook.
    pub status: Status,
    /// Version of the parameters that the webhook receives.
    pub version: Version,
    /// Creation time of the webhook.
    pub created_at: Timestamp,
    /// Time of the last change to the webhook.
    pub updated_at: Timestamp,
}

/// Maximum number of webhooks per service. It limits the number of deliveries that one transaction creates, one for
/// each subscribed webhook.
pub const MAX_PER_SERVICE: i64 = 50;

/// Checks that a service with `webhooks` existing webhooks may add one more.
///
/// # Errors
/// Returns error 60306 if the service already has [`MAX_PER_SERVICE`] webhooks.
pub fn require_webhook_capacity(webhooks: i64) -> Result<(), Problem> {
    if webhooks < MAX_PER_SERVICE {
        return Ok(());
    }
    let expected = format!(
        "must not be added to a service that has {MAX_PER_SERVICE} webhooks, the maximum; delete a webhook first"
    );
    Err(Problem::invalid("WebhookUrl", &Expected::new(expected)))
}

impl Listed for Webhook {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Webhook {
    /// Returns the names of the fields that differ from `before`, as API responses spell them.
    pub fn changed_fields(&self, before: &Self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name != before.friendly_name),
            ("event_types", self.event_types != before.event_types),
            ("webhook_url", self.url != before.url),
            ("status", self.status != before.status),
            ("version", self.version != before.version),
        ];
        names.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// Returns whether events of this type are sent to the webhook: it must be enabled and subscribed to the type.
    pub fn is_subscribed_to(&self, event_type: EventType) -> bool {
        let includes = |subscription: &Subscription| {
            matches!(subscription, Subscription::All) || *subscription == Subscription::Only(event_type)
        };
        self.status == Status::Enabled && self.event_types.iter().any(includes)
    }
}

/// The type of an event (docs/protocol/webhooks.md, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// A factor was created. The factor cannot be challenged before it is verified.
    FactorCreated,
    /// A device proved that it holds the private key of its factor.
    FactorVerified,
    /// A factor was deleted.
    FactorDeleted,
    /// The user approved a challenge.
    ChallengeApproved,
    /// The user denied a challenge.
    ChallengeDenied,
}

impl EventType {
    /// All event types.
    pub const ALL: [Self; 5] = [
        Self::FactorCreated,
        Self::FactorVerified,
        Self::FactorDeleted,
        Self::ChallengeApproved,
        Self::ChallengeDenied,
    ];

    /// Returns the event type's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FactorCreated => "factor.created",
            Self::FactorVerified => "factor.verified",
            Self::FactorDeleted => "factor.deleted",
            Self::ChallengeApproved => "challenge.approved",
            Self::ChallengeDenied => "challenge.denied",
        }
    }
}

/// An entry in a webhook's `EventTypes`: the events that are sent to the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Events of all types, written `*`.
    All,
    /// Events of one type.
    Only(EventType),
}

impl Subscription {
    /// Returns the entry's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Only(event_type) => event_type.as_str(),
        }
    }
}

impl Parameter for Subscription {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let named = EventType::ALL.into_iter().map(Self::Only).chain([Self::All]);
        named.into_iter().find(|subscription| subscription.as_str() == text).ok_or_else(|| {
            Expected::new(
                "must be *, factor.created, factor.verified, factor.deleted, challenge.approved or challenge.denied",
            )
        })
    }
}

impl Serialize for Subscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The status of a webhook: whether events are sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Events are sent to the webhook.
    #[default]
    Enabled,
    /// No events are sent to the webhook.
    Disabled,
}

impl Status {
    /// Returns the name of the status in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl Parameter for Status {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            _ => Err(Expected::new("must be enabled or disabled")),
        }
    }
}

/// The version of the event parameters (docs/protocol/decisions.md, No. 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Version 1: webhooks receive only the seven parameters that identify the event, the factor and the challenge
    /// (docs/protocol/webhooks.md, section 2).
    V1,
    /// Version 2: webhooks also receive the factor's type and name, and the challenge's details and metadata.
    #[default]
    V2,
}

impl Version {
    /// Returns the name of the version in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

impl Parameter for Version {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(Expected::new("must be v1 or v2")),
        }
    }
}

/// The URL of a webhook: an absolute `http` or `https` URL without user info, of at most 2048 characters.
///
/// The fragment of the URL may contain connection overrides, which are neither sent nor signed
/// (docs/protocol/webhooks.md, section 3). The addresses to which the host resolves are checked only when a request is
/// sent.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    text: String,
    url: Url,
    overrides: Overrides,
}

impl CallbackUrl {
    /// Returns the URL as configured, including the fragment.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL to request, without the fragment.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the text that is signed: the URL as configured, byte for byte, without the fragment
    /// (docs/protocol/decisions.md, No. 34).
    pub fn signed(&self) -> &str {
        without_fragment(&self.text)
    }

    /// Returns the request target: path and query as configured. Characters that HTTP does not permit are
    /// percent-encoded, and an empty path becomes a slash.
    pub fn request_target(&self) -> String {
        let signed = self.signed();
        let path_and_query = &signed[authority_range(signed).end..];
        let (path, query) = match path_and_query.find('?') {
            Some(at) => path_and_query.split_at(at),
            None => (path_and_query, ""),
        };
        let path = if path.is_empty() { "/" } else { path };
        format!("{}{}", utf8_percent_encode(path, NOT_IN_A_PATH), utf8_percent_encode(query, NOT_IN_A_QUERY))
    }

    /// Returns the value of the header `Host`: the host name as configured, or in normalized form if that differs in
    /// more than case. The default port of the scheme is omitted. Signature validators try the URL with and without
    /// that port.
    pub fn host_header(&self) -> String {
        let authority = &self.text[authority_range(&self.text)];
        let normalized = self.url.host_str().unwrap_or_default();
        let written = authority.get(..normalized.len()).unwrap_or_default();
        let host = if written.eq_ignore_ascii_case(normalized) { written } else { normalized };
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns whether a receiver that reconstructs the URL from the request obtains the signed text. The default port
    /// of the scheme may be present or absent.
    pub fn is_sent_as_signed(&self) -> bool {
        let scheme = self.url.scheme();
        let sent = |host: &str| format!("{scheme}://{host}{}", self.request_target());
        let default_port = match scheme {
            "https" => 443,
            _ => 80,
        };
        let host = self.host_header();
        self.signed() == sent(&host) || self.signed() == sent(&format!("{host}:{default_port}"))
    }

    /// Returns the host and port, as `host:port`. Deliveries to the same destination share a concurrency limit.
    pub fn destination(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }

    /// Returns the URL of a request with a JSON body whose SHA-256 hash, in hexadecimal digits, is `hash`. The hash is
    /// added to the query, where it is signed (docs/protocol/webhooks.md, section 4).
    pub fn with_body_hash(&self, hash: &str) -> Self {
        let signed = self.signed();
        let fragment = &self.text[signed.len()..];
        let separator = if signed.contains('?') { '&' } else { '?' };
        let text = format!("{signed}{separator}bodySHA256={hash}{fragment}");
        let mut url = self.url.clone();
        let query = url.query().map(|query| format!("{query}&")).unwrap_or_default();
        url.set_query(Some(&format!("{query}bodySHA256={hash}")));
        Self { text, url, overrides: self.overrides.clone() }
    }

    /// Returns the connection overrides that the fragment contains.
    pub const fn overrides(&self) -> &Overrides {
        &self.overrides
    }
}

/// The ASCII characters to percent-encode in a query, because the HTTP library refuses them. The library accepts
/// braces, bars and apostrophes.
const NOT_IN_A_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The ASCII characters to percent-encode in a path, because the HTTP library refuses them.
const NOT_IN_A_PATH: &AsciiSet = &NOT_IN_A_QUERY.add(b'`');

fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(address, _)| address)
}

/// Returns the byte range of the authority, the part of the URL between the scheme and the path.
fn authority_range(text: &str) -> Range<usize> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let length = text[start..].find(['/', '?', '#']).unwrap_or(text.len() - start);
    start..start + length
}

impl Parameter for CallbackUrl {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        const EXPECTED: &str = "must be an absolute http or https URL of at most 2048 characters";
        if text.len() > 2048 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Expected::new(EXPECTED));
        }
        let mut url = Url::parse(text).map_err(|_| Expected::new(EXPECTED))?;
        let has_host = match url.host() {
            Some(Host::Domain(name)) => !name.is_empty(),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            None => false,
        };
        // The parser accepts missing slashes, and backslashes instead of slashes. Refuse both, so that the signed text
        // is unambiguous.
        let has_plain_authority = text
            .split_at_checked(url.scheme().len() + 3)
            .is_some_and(|(start, rest)| start.ends_with("://") && !rest.starts_with('/'));
        if !matches!(url.scheme(), "http" | "https")
            || !has_host
            || !has_plain_authority
            || text.contains('\\')
        {
            return Err(Expected::new(EXPECTED));
        }
        // The parser drops empty user info, as in `https://:@host/`, so look for it in the text.
        if text[authority_range(text)].contains('@') {
            return Err(Expected::new("must not contain a user name or a password"));
        }
        let overrides = url.fragment().map(Overrides::parse).transpose()?.unwrap_or_default();
        url.set_fragment(None);
        Ok(Self { text: text.to_owned(), url, overrides })
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may contain a secret of the receiver, so show only host and port.
        write!(f, "CallbackUrl({})", self.destination())
    }
}

/// Connection overrides from the fragment of a webhook's URL: the timeouts `ct`, `rt` and `tt` in milliseconds, and
/// `rc` retries on the conditions `rp`. Unknown keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Timeout for connecting (`ct`), 100 to 10000 ms.
    pub connect: Option<Duration>,
    /// Timeout for the first bytes of the response and between its parts (`rt`), 100 to 15000 ms.
    pub read: Option<Duration>,
    /// Timeout for all attempts together (`tt`), 100 to 15000 ms.
    pub total: Option<Duration>,
    /// Maximum number of retries (`rc`), 0 to 5. If `retries` or `policy` is present, the two replace the server's
    /// retry schedule. Without `retries`, one retry is permitted.
    pub retries: Option<u32>,
    /// Conditions under which a request is retried (`rp`). Without `policy`, the condition is [`Condition::Connect`].
    pub policy: Option<Vec<Condition>>,
}

/// A condition under which a webhook request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The response has a client error status (`4xx`).
    ClientError,
    /// The response has a server error status (`5xx`).
    ServerError,
    /// The connection failed or timed out (`ct`).
    Connect,
    /// The response timed out (`rt`).
    Read,
    /// Any of the conditions above (`all`).
    All,
}

impl Overrides {
    fn parse(fragment: &str) -> Result<Self, Expected> {
        let mut overrides = Self::default();
        for (name, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
            let number = |min: u64, max: u64| {
                // `u64::from_str` would also accept a sign.
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|number| digits && (min..=max).contains(number));
                number.ok_or_else(|| {
                    Expected::new(format!("must set the override {name} to a number from {min} to {max}"))
                })
            };
            match name {
                "ct" => overrides.connect = Some(Duration::from_millis(number(100, 10_000)?)),
                "rt" => overrides.read = Some(Duration::from_millis(number(100, 15_000)?)),
                "tt" => overrides.total = Some(Duration::from_millis(number(100, 15_000)?)),
                "rc" => overrides.retries = u32::try_from(number(0, 5)?).ok(),
                "rp" => overrides.policy = Some(conditions(value)?),
                _ => {}
            }
        }
        Ok(overrides)
    }

    /// Returns whether these overrides replace the server's retry schedule.
    pub const fn has_retry_policy(&self) -> bool {
        self.retries.is_some() || self.policy.is_some()
    }
}

fn conditions(text: &str) -> Result<Vec<Condition>, Expected> {
    let condition = |word: &str| match word {
        "4xx" => Ok(Condition::ClientError),
        "5xx" => Ok(Condition::ServerError),
        "ct" => Ok(Condition::Connect),
        "rt" => Ok(Condition::Read),
        "all" => Ok(Condition::All),
        _ => Err(Expected::new("must set the override rp to a list of 4xx, 5xx, ct, rt or all")),
    };
    text.split(',').map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> CallbackUrl {
        CallbackUrl::from_parameter(text).unwrap()
    }

    #[test]
    fn webhook_url_of_permitted_characters_is_requested_exactly_as_signed() {
        for (text, target, host) in [
            ("https://h.example/x?a=b", "/x?a=b", "h.example"),
            ("https://h.example/o'hare?n=d'arc", "/o'hare?n=d'arc", "h.example"),
            ("https://h.example/{id}|[7]?f={a|b}&c=^", "/{id}|[7]?f={a|b}&c=^", "h.example"),
            ("https://h.example/%7e%2F/a%27?b=%7E+%20", "/%7e%2F/a%27?b=%7E+%20", "h.example"),
            ("https://h.example/a/../b//c/.", "/a/../b//c/.", "h.example"),
            ("https://h.example/x?", "/x?", "h.example"),
            ("https://H.Example:8443/x", "/x", "H.Example:8443"),
            ("https://h.example:443/x", "/x", "h.example"),
            ("http://h.example:80/x", "/x", "h.example"),
            ("http://h.example:443/x", "/x", "h.example:443"),
            ("http://[::1]/x", "/x", "[::1]"),
            ("http://[::1]:8080/?q", "/?q", "[::1]:8080"),
        ] {
            for fragment in ["", "#rc=2", "#"] {
                let configured = url(&format!("{text}{fragment}"));
                assert_eq!(configured.signed(), text);
                assert_eq!(
                    (configured.request_target().as_str(), configured.host_header().as_str()),
                    (target, host)
                );
                assert!(configured.is_sent_as_signed(), "{text}");
            }
        }
    }

    #[test]
    fn normalized_webhook_url_is_requested_but_the_configured_one_is_signed() {
        for (text, target, host) in [
            ("https://h.example", "/", "h.example"),
            ("https://h.example?a='", "/?a='", "h.example"),
            ("https://h.example/ü?ü=日", "/%C3%BC?%C3%BC=%E6%97%A5", "h.example"),
            ("https://h.example/a<b>`?\"`", "/a%3Cb%3E%60?%22`", "h.example"),
            ("https://bücher.example/x", "/x", "xn--bcher-kva.example"),
            ("HTTPS://h.example/x", "/x", "h.example"),
            ("http://h.example:/x", "/x", "h.example"),
            ("https://h.example:08443/x", "/x", "h.example:8443"),
            ("http://0x7f.1/x", "/x", "127.0.0.1"),
        ] {
            let configured = url(&format!("{text}#ct=2000"));
            assert_eq!(configured.signed(), text);
            assert_eq!(
                (configured.request_target().as_str(), configured.host_header().as_str()),
                (target, host)
            );
            assert!(!configured.is_sent_as_signed(), "{text}");
        }
    }

    #[test]
    fn hash_of_a_body_is_added_to_the_query_before_the_fragment() {
        for (configured, expected, target) in [
            ("https://h.example/a#rc=2", "https://h.example/a?bodySHA256=0f#rc=2", "/a?bodySHA256=0f"),
            (
                "https://h.example/a?b=%7e",
                "https://h.example/a?b=%7e&bodySHA256=0f",
                "/a?b=%7e&bodySHA256=0f",
            ),
            ("https://h.example", "https://h.example?bodySHA256=0f", "/?bodySHA256=0f"),
        ] {
            let url = CallbackUrl::from_parameter(configured).unwrap().with_body_hash("0f");
            assert_eq!(url.as_str(), expected);
            assert_eq!(url.request_target(), target);
            assert_eq!(url, CallbackUrl::from_parameter(expected).unwrap());
        }
    }

    #[test]
    fn malformed_or_unsupported_webhook_url_is_refused() {
        for bad in
            ["http:///x", "http:x", "http:/h/x", "https:\\\\h/x", "http://u@h/", "ftp://h/", "//h/", ""]
        {
            assert!(CallbackUrl::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn connection_overrides_are_parsed_from_the_url_fragment() {
        let overrides =
            url("https://h.example/#ct=2000&rt=3000&tt=4000&rc=2&rp=5xx,ct&e=x").overrides().clone();
        assert_eq!(overrides.connect, Some(Duration::from_secs(2)));
        assert_eq!(overrides.retries, Some(2));
        assert_eq!(overrides.policy, Some(vec![Condition::ServerError, Condition::Connect]));
        assert!(overrides.has_retry_policy());
        assert_eq!(url("https://h.example/#top").overrides(), &Overrides::default());
        for bad in ["ct=99", "ct=10001", "rt=x", "tt=20000", "tt=+200", "rc=6", "rp=often", "rp="] {
            assert!(CallbackUrl::from_parameter(&format!("https://h.example/#{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn webhook_url_must_be_absolute_http_or_https_without_user_info() {
        for good in ["http://127.0.0.1:8080/hook", "https://[::1]/x", "https://h.example/a?b=c&d=e"] {
            assert!(CallbackUrl::from_parameter(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "h.example/hook",
            "/hook",
            "ftp://h.example/",
            "file:///etc/passwd",
            "https://user@h.example/",
            "https://user:pass@h.example/",
            "https://@h.example/",
            "https://:@h.example/",
            "https:h.example",
            "https:/h.example",
            "https://",
            "https://h.example/a b",
            "https:\\\\h.example",
            " https://h.example",
        ] {
            assert!(CallbackUrl::from_parameter(bad).is_err(), "{bad}");
        }
        assert!(CallbackUrl::from_parameter(&format!("https://h.example/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn disabled_webhook_receives_no_events() {
        let mut webhook = Webhook {
            sid: "YW11111111111111111111111111111111".parse().unwrap(),
            account_sid: "AC11111111111111111111111111111111".parse().unwrap(),
            service_sid: "VA11111111111111111111111111111111".parse().unwrap(),
            friendly_name: FriendlyName::from_stored("hook".into()),
            event_types: vec![Subscription::Only(EventType::ChallengeApproved)],
            url: url("https://h.example/"),
            status: Status::Enabled,
            version: Version::V2,
            created_at: Timestamp::from_seconds(0),
            updated_at: Timestamp::from_seconds(0),
        };
        assert!(
            webhook.is_subscribed_to(EventType::ChallengeApproved)
                && !webhook.is_subscribed_to(EventType::ChallengeDenied)
        );
        webhook.event_types = vec![Subscription::All];
        assert!(webhook.is_subscribed_to(EventType::ChallengeDenied));
        webhook.status = Status::Disabled;
        assert!(!webhook.is_subscribed_to(EventType::ChallengeDenied));
    }
}
