//! The audit log: who changed what, when, and from where.
//!
//! A line names SIDs, parameters and words such as a status. Never an identity, a detail, a token or anything
//! else that is personal or secret: it is kept for long, and shown to many.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::paging::{Listed, Position, position};
use crate::sids::{AccessTokenSid, AccountSid, ApiKeySid, EventSid, FactorSid, RequestSid};
use crate::time::Timestamp;

/// Most characters of an operator's name that are kept.
const LONGEST_NAME: usize = 64;

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A backend, with the account's auth token.
    Account(AccountSid),
    /// A backend, with an API key.
    ApiKey(ApiKeySid),
    /// A phone, with an access token.
    Enrollee(AccessTokenSid),
    /// A registered device.
    Device(FactorSid),
    /// Somebody at the command line.
    Operator(OperatorName),
    /// The server itself, which removes what is done with.
    Housekeeping,
}

impl Actor {
    /// What kind of actor it is: the word in the API and in the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::ApiKey(_) => "api-key",
            Self::Enrollee(_) => "enrollee",
            Self::Device(_) => "device",
            Self::Operator(_) => "operator",
            Self::Housekeeping => "housekeeping",
        }
    }

    /// Its SID, or an operator's name.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Account(sid) => Some(sid.to_string()),
            Self::ApiKey(sid) => Some(sid.to_string()),
            Self::Enrollee(sid) => Some(sid.to_string()),
            Self::Device(sid) => Some(sid.to_string()),
            Self::Operator(name) => Some(name.to_string()),
            Self::Housekeeping => None,
        }
    }
}

/// What an operator is called on the machine: at most 64 letters, digits and `.`, `-`, `_`, `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorName(String);

impl OperatorName {
    /// Strips characters that are not allowed in a name; returns `operator` if nothing remains.
    pub fn new(name: &str) -> Self {
        let is_usual =
            |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '@');
        let name: String = name.chars().filter(is_usual).take(LONGEST_NAME).collect();
        Self(if name.is_empty() { "operator".to_owned() } else { name })
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! acts {
    ($($name:ident $word:literal;)*) => {
        /// What was done, and to what kind of thing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act {
            $(#[doc = concat!("`", $word, "`")] $name,)*
        }

        impl Act {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The event type, as Monitor has it: the kind of thing, a dot, and what became of it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

acts! {
    AccountCreated "account.created";
    AccountUpdated "account.updated";
    AuthTokenRotated "account.token-rotated";
    ApiKeyCreated "api-key.created";
    ApiKeyRevoked "api-key.revoked";
    ServiceCreated "service.created";
    ServiceUpdated "service.updated";
    ServiceDeleted "service.deleted";
    EntityCreated "entity.created";
    EntityDeleted "entity.deleted";
    AccessTokenCreated "access-token.created";
    FactorCreated "factor.created";
    FactorVerified "factor.verified";
    FactorUpdated "factor.updated";
    FactorDeleted "factor.deleted";
    ChallengeCreated "challenge.created";
    ChallengeApproved "challenge.approved";
    ChallengeDenied "challenge.denied";
    ChallengeUpdated "challenge.updated";
    NotificationCreated "notification.created";
    WebhookCreated "webhook.created";
    WebhookUpdated "webhook.updated";
    WebhookDeleted "webhook.deleted";
    WebhookTested "webhook.tested";
    DeliveryRepeated "delivery.repeated";
    CredentialCreated "credential.created";
    CredentialUpdated "credential.updated";
    CredentialDeleted "credential.deleted";
    ChallengesRemoved "challenges.removed";
    AccessTokensRemoved "access-tokens.removed";
    DeliveriesRemoved "deliveries.removed";
    AlertsRemoved "alerts.removed";
    EnrollmentKeysRemoved "enrollment-keys.removed";
    EnrollmentKeyRotated "enrollment-key.rotated";
    MasterKeyRotated "master-key.rotated";
    EventsRemoved "events.removed";
    EventsAccepted "events.accepted";
    ClockTrusted "clock.trusted";
}

/// What was done, to what, and what else is to be known of it.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was done.
    pub act: Act,
    /// The account that it concerns; `None` when it concerns the whole server.
    pub account_sid: Option<AccountSid>,
    /// SID of the thing.
    pub resource_sid: Option<String>,
    /// SIDs of other things, names of parameters, words such as a status.
    pub data: Map<String, Value>,
}

impl Change {
    /// A change to something of an account.
    pub fn new(act: Act, account_sid: AccountSid, resource_sid: impl fmt::Display) -> Self {
        let (account_sid, resource_sid) = (Some(account_sid), Some(resource_sid.to_string()));
        Self { act, account_sid, resource_sid, data: Map::new() }
    }

    /// A change that concerns the whole server.
    pub fn of_server(act: Act) -> Self {
        Self { act, account_sid: None, resource_sid: None, data: Map::new() }
    }

    /// Says something else of it: nothing personal, nothing secret.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.data.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }
}

/// A line of the log, in the words in which it is stored: a server that does not know one of them, since a newer
/// one wrote it, can still chain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `AE…`
    pub sid: EventSid,
    /// What kind of actor it was; see [`Actor::kind`].
    pub actor_type: String,
    /// SID of the actor, or an operator's name.
    pub actor: Option<String>,
    /// What was done; see [`Act::as_str`].
    pub event_type: String,
    /// The account that it concerns; `None` when it concerns the whole server.
    pub account_sid: Option<AccountSid>,
    /// SID of the thing.
    pub resource_sid: Option<String>,
    /// What else is to be known: a JSON object.
    pub data: String,
    /// Where the request came from.
    pub address: Option<String>,
    /// SID of the request.
    pub request_sid: Option<String>,
    /// When it was done.
    pub created_at: Timestamp,
}

impl Listed for Line {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Line {
    /// The line about a change.
    pub fn new(
        sid: EventSid,
        actor: &Actor,
        change: Change,
        address: Option<IpAddr>,
        request_sid: Option<RequestSid>,
        now: Timestamp,
    ) -> Self {
        Self {
            sid,
            actor_type: actor.kind().to_owned(),
            actor: actor.name(),
            event_type: change.act.as_str().to_owned(),
            account_sid: change.account_sid,
            resource_sid: change.resource_sid,
            data: Value::Object(change.data).to_string(),
            address: address.map(|address| address.to_string()),
            request_sid: request_sid.map(|sid| sid.to_string()),
            created_at: now,
        }
    }

    /// What kind of thing it is about: the event type up to its dot.
    pub fn resource_type(&self) -> &str {
        self.event_type.split('.').next().unwrap_or_default()
    }

    /// What else is to be known, taken apart.
    pub fn data(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }

    /// All that the line says, as one text: a JSON array without white space, in this order. What is chained stays
    /// so: the form may never change.
    pub fn canonical(&self) -> String {
        serde_json::json!([
            self.sid,
            self.actor_type,
            self.actor,
            self.event_type,
            self.account_sid,
            self.resource_sid,
            self.data,
            self.address,
            self.request_sid,
            self.created_at.micros(),
        ])
        .to_string()
    }
}

/// What makes a line part of the chain: a code over it, its number, and the code before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

/// 64 hexadecimal digits.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMark;

impl fmt::Display for NotAMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected NUMBER:MAC, as `countersign audit verify` prints it")
    }
}

impl std::error::Error for NotAMark {}

impl FromStr for Mac {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Self, NotAMark> {
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(NotAMark);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).ok_or(NotAMark);
            *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

/// A place in the chain, which an operator can note down: `42:` and the MAC of line 42.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Number of the line, from 1; 0 stands before the first.
    pub number: i64,
    /// Its MAC.
    pub mac: Mac,
}

impl Mark {
    /// Before the first line.
    pub const START: Self = Self { number: 0, mac: Mac([0; 32]) };
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.mac)
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Self, NotAMark> {
        let (number, mac) = text.split_once(':').ok_or(NotAMark)?;
        let number = number.parse().ok().filter(|number| *number >= 0).ok_or(NotAMark)?;
        Ok(Self { number, mac: mac.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sids::Sid;

    /// What is chained stays so.
    #[test]
    fn the_canonical_form_stands() {
        let (sid, now) = (EventSid::from_bytes([2; 16]), Timestamp::from_micros(1_767_225_600_000_001));
        let change = Change::new(Act::FactorUpdated, AccountSid::from_bytes([1; 16]), "YF04")
            .with("changed", ["friendly_name"])
            .with("service_sid", "VA05");
        let device = Actor::Device(FactorSid::from_bytes([3; 16]));
        let (address, request_sid) = (IpAddr::from([192, 0, 2, 1]), RequestSid::from_bytes([6; 16]));
        let line = Line::new(sid, &device, change, Some(address), Some(request_sid), now);
        let [a, b, c, d] = [1, 2, 3, 6].map(|digit| format!("0{digit}").repeat(16));
        let expected = format!(
            r#"["AE{b}","device","YF{c}","factor.updated","AC{a}","YF04",{},"192.0.2.1","RQ{d}",1767225600000001]"#,
            r#""{\"changed\":[\"friendly_name\"],\"service_sid\":\"VA05\"}""#
        );
        assert_eq!(line.canonical(), expected);
        assert_eq!(line.resource_type(), "factor");
        assert_eq!(line.data()["changed"][0], "friendly_name");

        let line =
            Line::new(sid, &Actor::Housekeeping, Change::of_server(Act::AlertsRemoved), None, None, now);
        let expected = format!(
            r#"["AE{b}","housekeeping",null,"alerts.removed",null,null,"{{}}",null,null,1767225600000001]"#
        );
        assert_eq!(line.canonical(), expected);
    }

    #[test]
    fn event_types_are_a_kind_and_what_became_of_it() {
        for act in Act::ALL {
            let (kind, verb) = act.as_str().split_once('.').unwrap();
            let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            assert!(plain(kind) && plain(verb), "{act:?}");
            assert_eq!(Act::ALL.iter().filter(|other| other.as_str() == act.as_str()).count(), 1, "{act:?}");
        }
    }

    #[test]
    fn an_operators_name_is_a_name() {
        for (given, kept) in [("ann", "ann"), ("a b\n\u{1b}c", "abc"), ("", "operator"), ("ü", "operator")] {
            assert_eq!(OperatorName::new(given).to_string(), kept);
        }
        assert_eq!(OperatorName::new(&"a".repeat(100)).to_string().len(), LONGEST_NAME);
    }

    #[test]
    fn a_mark_is_a_number_and_a_mac() {
        let mark = Mark { number: 42, mac: Mac([0xa0; 32]) };
        assert_eq!(mark.to_string(), format!("42:{}", "a0".repeat(32)));
        for bad in ["", "42", "42:", "42:a0", &format!("-1:{}", "a0".repeat(32)), &"ä".repeat(32)] {
            assert_eq!(bad.parse::<Mark>(), Err(NotAMark), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(number in 0_i64.., mac: [u8; 32]) {
            let mark = Mark { number, mac: Mac(mac) };
            prop_assert_eq!(mark.to_string().parse(), Ok(mark));
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<Mark>();
        }
    }

    #[test]
    fn actors_are_named_by_their_sids() {
        let bytes = [7; 16];
        let digits = "07".repeat(16);
        for (actor, kind, name) in [
            (Actor::Account(AccountSid::from_bytes(bytes)), "account", Some(format!("AC{digits}"))),
            (Actor::ApiKey(ApiKeySid::from_bytes(bytes)), "api-key", Some(format!("SK{digits}"))),
            (Actor::Enrollee(AccessTokenSid::from_bytes(bytes)), "enrollee", Some(format!("YK{digits}"))),
            (Actor::Device(FactorSid::from_bytes(bytes)), "device", Some(format!("YF{digits}"))),
            (Actor::Operator(OperatorName::new("ann")), "operator", Some("ann".to_owned())),
            (Actor::Housekeeping, "housekeeping", None),
        ] {
            assert_eq!((actor.kind(), actor.name()), (kind, name));
        }
    }

    #[test]
    fn a_mark_may_stand_before_the_first_line() {
        assert_eq!(Mark::START.to_string().parse(), Ok(Mark::START));
        let upper = format!("1:{}", "A0".repeat(32));
        assert_eq!(upper.parse(), Ok(Mark { number: 1, mac: Mac([0xa0; 32]) }));
        for digits in [62, 63, 65, 66] {
            assert_eq!("a".repeat(digits).parse::<Mac>(), Err(NotAMark), "{digits} digits");
        }
        assert_eq!("g".repeat(64).parse::<Mac>(), Err(NotAMark));
        assert!(NotAMark.to_string().contains("NUMBER:MAC"));
    }
}
