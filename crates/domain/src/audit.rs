//! The audit log: who changed what, when, and from which address.
//!
//! An audit record contains SIDs, names of parameters, and words such as a status. It never contains an identity,
//! challenge details, a token or other personal or secret data. Records are kept for a long time, and many people can
//! read them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::paging::{Listed, Position, position};
use crate::sids::{AccessTokenSid, AccountSid, ApiKeySid, EventSid, FactorSid, RequestSid};
use crate::time::Timestamp;

/// Maximum length of an operator's name. Longer names are truncated.
const MAX_OPERATOR_NAME_CHARACTERS: usize = 64;

/// The originator of a change that is recorded in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A backend that authenticated with the account's auth token.
    Account(AccountSid),
    /// A backend that authenticated with an API key.
    ApiKey(ApiKeySid),
    /// An enrollee: a phone that authenticated with an access token.
    Enrollee(AccessTokenSid),
    /// A device that authenticated with the key of its factor.
    Device(FactorSid),
    /// An operator who ran a `countersign` command.
    Operator(OperatorName),
    /// The server's housekeeping, which removes expired data.
    Housekeeping,
}

impl Actor {
    /// Returns the word for this kind of actor in the API and in the database.
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

    /// Returns the actor's SID or the operator's name; `None` for housekeeping.
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

/// The login name of an operator: 1 to 64 letters, digits, `.`, `-`, `_` and `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorName(String);

impl OperatorName {
    /// Creates a name from the permitted characters of `name`, truncated to 64 characters. If nothing remains, the name
    /// is `operator`.
    pub fn new(name: &str) -> Self {
        let is_allowed =
            |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '@');
        let name: String = name.chars().filter(is_allowed).take(MAX_OPERATOR_NAME_CHARACTERS).collect();
        Self(if name.is_empty() { "operator".to_owned() } else { name })
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! audit_actions {
    ($($name:ident $word:literal;)*) => {
        /// An action that is recorded in the audit log: the kind of changed resource, and the kind of change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuditAction {
            $(#[doc = concat!("The action with the event type `", $word, "`.")] $name,)*
        }

        impl AuditAction {
            /// All actions that are recorded in the audit log.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the event type, as in Twilio's Monitor API: the kind of resource, a dot, and the kind of change,
            /// such as `factor.created`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

audit_actions! {
    AccountCreated "account.created";
    AccountUpdated "account.updated";
    AuthTokenRotated "account.token-rotated";
    ApiKeyCreated "api-key.created";
    ApiKeyUpdated "api-key.updated";
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
    FactorCounterRefused "factor.counter";
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
    VerificationCreated "verification.created";
    VerificationSent "verification.sent";
    VerificationApproved "verification.approved";
    VerificationCanceled "verification.canceled";
    VerificationRefused "verification.refused";
    RateLimitCreated "rate-limit.created";
    RateLimitUpdated "rate-limit.updated";
    RateLimitDeleted "rate-limit.deleted";
    BucketCreated "bucket.created";
    BucketUpdated "bucket.updated";
    BucketDeleted "bucket.deleted";
    MessagingConfigurationCreated "messaging-configuration.created";
    MessagingConfigurationUpdated "messaging-configuration.updated";
    MessagingConfigurationDeleted "messaging-configuration.deleted";
    SafeNumberCreated "safe-number.created";
    SafeNumberDeleted "safe-number.deleted";
    TemplateCreated "template.created";
    TemplateUpdated "template.updated";
    TemplateDeleted "template.deleted";
    OutletCreated "outlet.created";
    OutletUpdated "outlet.updated";
    OutletDeleted "outlet.deleted";
    OutletTested "outlet.tested";
    ChallengesRemoved "challenges.removed";
    VerificationsRemoved "verifications.removed";
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

/// A change to be recorded in the audit log: the action, the resource, and details.
#[derive(Clone, Debug)]
pub struct Change {
    /// Action that changed the resource.
    pub action: AuditAction,
    /// Account concerned; `None` if the change concerns the whole server.
    pub account_sid: Option<AccountSid>,
    /// SID of the changed resource; `None` if the change concerns the whole server.
    pub resource_sid: Option<String>,
    /// Details of the change: further SIDs, names of parameters, and words such as a status.
    pub data: Map<String, Value>,
}

impl Change {
    /// Creates a change to the resource `resource_sid` of an account, without details.
    pub fn new(action: AuditAction, account_sid: AccountSid, resource_sid: impl fmt::Display) -> Self {
        let (account_sid, resource_sid) = (Some(account_sid), Some(resource_sid.to_string()));
        Self { action, account_sid, resource_sid, data: Map::new() }
    }

    /// Creates a change that concerns the whole server, without details.
    pub fn of_server(action: AuditAction) -> Self {
        Self { action, account_sid: None, resource_sid: None, data: Map::new() }
    }

    /// Adds a detail to the change and returns the change. The detail must be neither personal nor secret.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Serialize) -> Self {
        self.data.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }
}

/// An audit record as it is stored.
///
/// The types of the actor and of the event are strings, so that a server can chain records whose types only a newer
/// version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// SID of the audit record (`AE…`).
    pub sid: EventSid,
    /// Kind of actor, as returned by [`Actor::kind`].
    pub actor_type: String,
    /// SID of the actor, or the operator's name; `None` for housekeeping.
    pub actor: Option<String>,
    /// Event type, as returned by [`AuditAction::as_str`].
    pub event_type: String,
    /// Account concerned; `None` if the change concerns the whole server.
    pub account_sid: Option<AccountSid>,
    /// SID of the changed resource; `None` if the change concerns the whole server.
    pub resource_sid: Option<String>,
    /// Details of the change, as the text of a JSON object.
    pub data: String,
    /// IP address of the client; `None` if it is unknown, or if the change was not made by a request.
    pub address: Option<String>,
    /// SID of the request that made the change; `None` if the change was not made by a request.
    pub request_sid: Option<RequestSid>,
    /// Time of the change.
    pub created_at: Timestamp,
}

impl Listed for AuditRecord {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl AuditRecord {
    /// Creates the audit record of a change that `actor` made at `now`.
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
            event_type: change.action.as_str().to_owned(),
            account_sid: change.account_sid,
            resource_sid: change.resource_sid,
            data: Value::Object(change.data).to_string(),
            address: address.map(|address| address.to_string()),
            request_sid,
            created_at: now,
        }
    }

    /// Returns the kind of the changed resource: the part of the event type before the dot.
    pub fn resource_type(&self) -> &str {
        self.event_type.split('.').next().unwrap_or_default()
    }

    /// Returns the details of the change as JSON, or null if their text is not valid JSON.
    pub fn data(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }

    /// Returns the canonical form of the record, over which its MAC is computed: a JSON array of all fields, without
    /// white space. Neither the order of the fields nor the form may ever change, because that would invalidate the
    /// MACs of existing records.
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

/// A message authentication code (MAC), HMAC-SHA256. The MAC of a chained record covers the record, its number and the
/// previous MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

/// Formats the MAC as 64 lowercase hexadecimal digits.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The error for a text that is not a [`ChainPosition`] or a [`Mac`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseChainPositionError;

impl fmt::Display for ParseChainPositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected NUMBER:MAC, as `countersign audit verify` prints it")
    }
}

impl std::error::Error for ParseChainPositionError {}

impl FromStr for Mac {
    type Err = ParseChainPositionError;

    fn from_str(text: &str) -> Result<Self, ParseChainPositionError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseChainPositionError)?;
        Ok(Self(bytes))
    }
}

/// A position in the audit chain: the number and the MAC of a record. Its text form is `42:MAC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPosition {
    /// Number of the record in the chain. Records are numbered from 1; 0 is the position before the first record.
    pub number: i64,
    /// MAC of the record; all zeros at the position before the first record.
    pub mac: Mac,
}

impl ChainPosition {
    /// The position before the first record.
    pub const START: Self = Self { number: 0, mac: Mac([0; 32]) };
}

impl fmt::Display for ChainPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.mac)
    }
}

impl FromStr for ChainPosition {
    type Err = ParseChainPositionError;

    fn from_str(text: &str) -> Result<Self, ParseChainPositionError> {
        let (number, mac) = text.split_once(':').ok_or(ParseChainPositionError)?;
        let number = number.parse().ok().filter(|number| *number >= 0).ok_or(ParseChainPositionError)?;
        Ok(Self { number, mac: mac.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sids::Sid;

    /// MACs of existing records depend on the canonical form.
    #[test]
    fn canonical_form_of_an_audit_record_never_changes() {
        let (sid, now) = (EventSid::from_bytes([2; 16]), Timestamp::from_micros(1_767_225_600_000_001));
        let change = Change::new(AuditAction::FactorUpdated, AccountSid::from_bytes([1; 16]), "YF04")
            .detail("changed", ["friendly_name"])
            .detail("service_sid", "VA05");
        let device = Actor::Device(FactorSid::from_bytes([3; 16]));
        let (address, request_sid) = (IpAddr::from([192, 0, 2, 1]), RequestSid::from_bytes([6; 16]));
        let record = AuditRecord::new(sid, &device, change, Some(address), Some(request_sid), now);
        let [a, b, c, d] = [1, 2, 3, 6].map(|digit| format!("0{digit}").repeat(16));
        let expected = format!(
            r#"["AE{b}","device","YF{c}","factor.updated","AC{a}","YF04",{},"192.0.2.1","RQ{d}",1767225600000001]"#,
            r#""{\"changed\":[\"friendly_name\"],\"service_sid\":\"VA05\"}""#
        );
        assert_eq!(record.canonical(), expected);
        assert_eq!(record.resource_type(), "factor");
        assert_eq!(record.data()["changed"][0], "friendly_name");

        let record = AuditRecord::new(
            sid,
            &Actor::Housekeeping,
            Change::of_server(AuditAction::AlertsRemoved),
            None,
            None,
            now,
        );
        let expected = format!(
            r#"["AE{b}","housekeeping",null,"alerts.removed",null,null,"{{}}",null,null,1767225600000001]"#
        );
        assert_eq!(record.canonical(), expected);
    }

    #[test]
    fn audit_event_types_are_unique_and_consist_of_two_words() {
        for action in AuditAction::ALL {
            let (kind, verb) = action.as_str().split_once('.').unwrap();
            let is_plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            assert!(is_plain(kind) && is_plain(verb), "{action:?}");
            assert_eq!(
                AuditAction::ALL.iter().filter(|other| other.as_str() == action.as_str()).count(),
                1,
                "{action:?}"
            );
        }
    }

    #[test]
    fn operator_name_keeps_only_allowed_characters() {
        for (given, kept) in [("ann", "ann"), ("a b\n\u{1b}c", "abc"), ("", "operator"), ("ü", "operator")] {
            assert_eq!(OperatorName::new(given).to_string(), kept);
        }
        assert_eq!(OperatorName::new(&"a".repeat(100)).to_string().len(), MAX_OPERATOR_NAME_CHARACTERS);
    }

    #[test]
    fn audit_chain_position_must_be_a_number_and_a_mac() {
        let position = ChainPosition { number: 42, mac: Mac([0xa0; 32]) };
        assert_eq!(position.to_string(), format!("42:{}", "a0".repeat(32)));
        for bad in ["", "42", "42:", "42:a0", &format!("-1:{}", "a0".repeat(32)), &"ä".repeat(32)] {
            assert_eq!(bad.parse::<ChainPosition>(), Err(ParseChainPositionError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn formatted_audit_chain_position_parses_back_to_the_same_position(number in 0_i64.., mac: [u8; 32]) {
            let position = ChainPosition { number, mac: Mac(mac) };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn parsing_an_audit_chain_position_never_panics(text in ".*") {
            let _ = text.parse::<ChainPosition>();
        }
    }

    #[test]
    fn each_actor_is_recorded_with_the_documented_kind_and_name() {
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
    fn mac_is_64_hexadecimal_digits_in_either_case() {
        assert_eq!(ChainPosition::START.to_string().parse(), Ok(ChainPosition::START));
        let upper = format!("1:{}", "A0".repeat(32));
        assert_eq!(upper.parse(), Ok(ChainPosition { number: 1, mac: Mac([0xa0; 32]) }));
        for digits in [62, 63, 65, 66] {
            assert_eq!("a".repeat(digits).parse::<Mac>(), Err(ParseChainPositionError), "{digits} digits");
        }
        assert_eq!("g".repeat(64).parse::<Mac>(), Err(ParseChainPositionError));
        assert!(ParseChainPositionError.to_string().contains("NUMBER:MAC"));
    }
}
