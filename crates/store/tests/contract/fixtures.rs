//! Sample rows, and the macros and traits with which tests insert and compare rows.
//!
//! The functions return leaked rows (`&'static`), because the closures that the store runs must be `'static`. Any
//! number of closures can capture a leaked row without cloning it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::access_tokens::{Grant, Ttl};
use domain::alerts::{Alert, Level};
use domain::audit::{AuditRecord, Mac};
use domain::challenges::{
    AnswerDigest, ChallengeKind, Details, Field, Message, PasskeyChallenge, PasskeyTarget, PushChallenge,
    State, Target, TotpChallenge,
};
use domain::credentials::{Credential, CredentialType};
use domain::deliveries::{AttemptOutcome, Delivery, DeliveryId, Destination, Work};
use domain::factors::passkey::{
    CoseAlgorithm, CredentialId, PasskeyCredential, RelyingParty, WebAuthnChallengeDigest,
};
use domain::factors::{self, FactorKind, Notification, PasskeyFactor, PublicKey, PushFactor, TotpFactor};
use domain::limits::ServiceLimits;
use domain::messaging_configurations::MessagingCountry;
use domain::notifications;
use domain::outlets::{Outlet, OutletKind, OutletSid};
use domain::rate_limits::{Interval, MaxRequests, RateLimitKey};
use domain::services::{Attachment, Requirement, Settings};
use domain::templates::{Template, TemplateBody, TemplateChannels, Translation};
use domain::text::{StringMap, Text, UniqueName};
use domain::verifications::{self, Attempt, DeliveryProgress, Verification};
use domain::webhooks::{self, Subscription, Version};
use domain::{
    AccessToken, Account, ApiKey, CallbackUrl, Challenge, Channel, Country, Entity, EntityPath, Factor,
    FactorType, FriendlyName, HasFactorType, Identity, Locale, MessagingConfiguration, Page, Parameter as _,
    PhoneNumber, RateLimit, RateLimitBucket, Recipient, SafeNumber, Sealed, Service, Sid, Timestamp,
    TraceParent, Webhook,
};
use serde_json::{Value, json};
use store::{AttemptRecord, DeliveryStatus, EnrollmentKeyRow, Error, Store, Write};

/// The time that tests use as the current time: 2026-01-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// An arbitrary digest of the payload that answers a challenge.
pub(crate) const DIGEST: AnswerDigest = AnswerDigest([0xd1; 32]);

/// The minimum timestamp.
pub(crate) const MIN_TIME: Timestamp = Timestamp::from_micros(i64::MIN);
/// The maximum timestamp.
pub(crate) const MAX_TIME: Timestamp = Timestamp::from_micros(i64::MAX);

/// Text with characters that need care in SQL, in JSON and in character encodings. It contains no control characters,
/// because only messages may contain them.
pub(crate) const TRICKY_TEXT: &str =
    "it's \"so\" \\ \\u0000 %_ ?1 $1 :x ; -- é e\u{301} ß 日本 🦉 👩\u{200d}🔬 \u{10fffd}";

/// Runs one query with `store.read` and returns its result: `read!(store, |db| db.account(sid))`.
macro_rules! read {
    ($store:expr, |$db:ident| $work:expr) => {
        $store.read(async move |$db: &mut store::Read| $work.await).await
    };
}

/// Runs one statement with `store.write` and returns its result:
/// `transact!(store, |tx| tx.insert_account(account))`.
macro_rules! transact {
    ($store:expr, |$tx:ident| $work:expr) => {
        $store.write(async move |$tx: &mut store::Write| $work.await).await
    };
}

/// Asserts that two rows, or two collections of rows, are equal in every field. Compares them as JSON, see [`ToJson`].
macro_rules! assert_same {
    ($found:expr, $expected:expr $(,)?) => {
        assert_eq!($crate::fixtures::ToJson::to_json(&$found), $crate::fixtures::ToJson::to_json(&$expected))
    };
}

/// Asserts that a result is `Err` with an error that matches the pattern.
macro_rules! assert_refused {
    ($result:expr, $reason:pat $(if $condition:expr)? $(,)?) => {
        match $result {
            Err($reason) $(if $condition)? => {}
            other => panic!("{other:?} instead of {}", stringify!($reason)),
        }
    };
}

/// Leaks `value` and returns a reference to it.
pub(crate) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Returns a leaked copy of `row` to which `change` was applied.
pub(crate) fn changed<T: Clone>(row: &T, change: impl FnOnce(&mut T)) -> &'static T {
    let mut row = row.clone();
    change(&mut row);
    leak(row)
}

/// Returns a number that is unique in this process, counting up from 0.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns a new SID. It is greater than all SIDs that this function has returned before.
pub(crate) fn sid<S: Sid>() -> S {
    S::from_bytes(u128::from(next()).to_be_bytes())
}

/// Returns `text` as a friendly name, without checking it.
pub(crate) fn name(text: &str) -> FriendlyName {
    FriendlyName::from_stored(text.to_owned())
}

/// Creates an identity from `text` without validating it.
pub(crate) fn identity(text: &str) -> Identity {
    Identity::from_stored(text.to_owned())
}

/// Returns a string map with these keys and values.
pub(crate) fn string_map(entries: &[(&str, &str)]) -> StringMap {
    let entries: serde_json::Map<_, _> =
        entries.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
    StringMap::from_parameter(&Value::Object(entries).to_string()).unwrap()
}

/// Returns a field of a challenge's details, with this label and value.
pub(crate) fn field(label: &str, value: &str) -> Field {
    Field::from_parameter(&json!({ "label": label, "value": value }).to_string()).unwrap()
}

/// Returns all 256 byte values in ascending order.
pub(crate) fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// Returns a unique public key. It is not a valid P-256 key, but the store does not check keys.
pub(crate) fn public_key() -> PublicKey {
    PublicKey::from_checked_der([b"key ".as_slice(), &next().to_be_bytes()].concat())
}

/// Returns a new account without a debugger webhook. Like the functions below, it does not insert the row.
pub(crate) fn account() -> &'static Account {
    leak(Account {
        sid: sid(),
        friendly_name: name("Owl Bank"),
        auth_token: Sealed::from_bytes(b"sealed auth token".to_vec()),
        debugger_webhook: None,
        verification_events_url: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new API key of `account`.
pub(crate) fn api_key(account: &Account) -> &'static ApiKey {
    leak(ApiKey {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: name("deployment"),
        secret_hash: b"hash of a secret".to_vec(),
        created_at: NOW,
    })
}

/// A placeholder for the plaintext type of sealed values. The store never opens a sealed value.
#[derive(Debug)]
pub(crate) struct Plaintext;

/// Returns an enrollment key with the key id `kid`.
pub(crate) fn enrollment_key(kid: &str) -> &'static EnrollmentKeyRow<Plaintext> {
    leak(EnrollmentKeyRow {
        kid: kid.to_owned(),
        secret: Sealed::from_bytes(format!("sealed key {kid}").into_bytes()),
    })
}

/// Returns a new service of `account`, with default settings and limits.
pub(crate) fn service(account: &Account) -> &'static Service {
    leak(Service {
        sid: sid(),
        account_sid: account.sid,
        settings: Settings::with_defaults(name("Owl Bank app")),
        limits: ServiceLimits::default(),
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new entity of `service` with this identity.
pub(crate) fn entity(service: &Service, identity: &str) -> &'static Entity {
    leak(Entity {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        identity: self::identity(identity),
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns the path under which `entity` and its resources are found.
pub(crate) fn path_of(entity: &Entity) -> &'static EntityPath {
    leak(EntityPath {
        account_sid: entity.account_sid,
        service_sid: entity.service_sid,
        identity: entity.identity.clone(),
    })
}

/// Returns three wrong paths. Each differs from `path` in one component: account, service or identity.
pub(crate) fn wrong_paths(path: &EntityPath) -> [&'static EntityPath; 3] {
    [
        changed(path, |path| path.account_sid = sid()),
        changed(path, |path| path.service_sid = sid()),
        changed(path, |path| path.identity = identity("other-user")),
    ]
}

/// Returns a new verified factor of `entity` of this kind.
pub(crate) fn factor_of<Kind: HasFactorType>(entity: &Entity, kind: Kind) -> &'static Factor<Kind> {
    leak(Factor {
        sid: sid(),
        account_sid: entity.account_sid,
        service_sid: entity.service_sid,
        entity_sid: entity.sid,
        identity: entity.identity.clone(),
        friendly_name: name("Telephone"),
        status: factors::Status::Verified,
        metadata: None,
        created_at: NOW,
        updated_at: NOW,
        kind,
    })
}

/// Returns a new verified push factor of `entity`, without a registration token.
pub(crate) fn factor(entity: &Entity) -> &'static Factor<PushFactor> {
    let push = PushFactor {
        public_key: public_key(),
        credential_sid: sid(),
        app_id: factors::AppId::from_stored("com.example.owl".to_owned()),
        sdk_version: None,
        notification: Notification::None,
        unreachable: false,
        token_registered_at: NOW,
    };
    factor_of(entity, push)
}

/// Returns a new verified TOTP factor of `entity`, with which no code was used.
pub(crate) fn totp_factor(entity: &Entity) -> &'static Factor<TotpFactor> {
    let totp = TotpFactor {
        secret: Sealed::from_bytes(b"sealed secret".to_vec()),
        algorithm: factors::totp::Algorithm::Sha1,
        time_step: factors::totp::TimeStep::new(30).unwrap(),
        code_length: factors::totp::CodeLength::new(6).unwrap(),
        skew: factors::totp::Skew::new(1).unwrap(),
        last_step: None,
        failed_verifications: 0,
    };
    factor_of(entity, totp)
}

/// Returns a new verified passkey of `entity`, whose credential has this identifier.
pub(crate) fn passkey_factor(entity: &Entity, credential: &[u8]) -> &'static Factor<PasskeyFactor> {
    let passkey = PasskeyFactor {
        relying_party: RelyingParty {
            id: Text::from_stored("example.com".to_owned()),
            name: Text::from_stored("Example Bank".to_owned()),
            origins: vec![Text::from_stored("https://example.com".to_owned())],
        },
        authenticator_attachment: Attachment::Platform,
        discoverable_credentials: Requirement::Required,
        user_verification: Requirement::Preferred,
        challenge_digest: WebAuthnChallengeDigest([3; 32]),
        credential: Some(PasskeyCredential {
            id: CredentialId::new(credential.to_vec()).unwrap(),
            public_key: all_bytes(),
            algorithm: CoseAlgorithm::Es256,
            sign_count: u32::MAX,
            user_verified: true,
            backup_eligible: true,
            backed_up: false,
            transports: vec!["internal".to_owned(), TRICKY_TEXT.to_owned()],
            aaguid: [7; 16],
            last_used_at: Some(NOW),
        }),
    };
    factor_of(entity, passkey)
}

/// Returns `factor` without what its type adds, as a deletion returns it.
pub(crate) fn without_kind<Kind: Clone + HasFactorType>(factor: &Factor<Kind>) -> Factor<FactorType> {
    let factor_type = factor.factor_type();
    factor.clone().split().0.with(factor_type)
}

/// Returns a new pending challenge of this kind to `factor`. It expires five minutes after [`NOW`].
pub(crate) fn challenge_of<Of, Kind>(
    factor: &Factor<Of>,
    kind: impl FnOnce(Target) -> Kind,
) -> &'static Challenge<Kind> {
    let target =
        Target { entity_sid: factor.entity_sid, identity: factor.identity.clone(), factor_sid: factor.sid };
    leak(Challenge {
        sid: sid(),
        account_sid: factor.account_sid,
        service_sid: factor.service_sid,
        state: State::Pending,
        metadata: None,
        expires_at: NOW.plus_seconds(300),
        created_at: NOW,
        updated_at: NOW,
        kind: kind(target),
    })
}

/// Returns a new pending push challenge for `factor`. It expires five minutes after [`NOW`].
pub(crate) fn challenge(factor: &Factor<PushFactor>) -> &'static Challenge<PushChallenge> {
    challenge_of(factor, |target| PushChallenge {
        target,
        details: Details {
            message: Message::from_stored("Sign in?".to_owned()),
            fields: Vec::new(),
            date: None,
        },
        hidden_details: None,
    })
}

/// Returns a new pending TOTP challenge for `factor`, without details.
pub(crate) fn totp_challenge(factor: &Factor<TotpFactor>) -> &'static Challenge<TotpChallenge> {
    challenge_of(factor, |target| TotpChallenge {
        target,
        message: None,
        fields: Vec::new(),
        hidden_details: None,
        attempts: 0,
    })
}

/// Returns a new pending passkey challenge for `factor`.
pub(crate) fn passkey_challenge(factor: &Factor<PasskeyFactor>) -> &'static Challenge<PasskeyChallenge> {
    challenge_of(factor, |target| PasskeyChallenge {
        target: PasskeyTarget::Factor(target),
        challenge_digest: WebAuthnChallengeDigest([4; 32]),
        relying_party_id: factor.kind.relying_party.id.clone(),
        origins: factor.kind.relying_party.origins.clone(),
        user_verification: Requirement::Required,
        options: json!({ "publicKey": { "timeout": 300_000, "rpId": TRICKY_TEXT } }),
    })
}

/// Returns a new unspent access token for `identity`. It expires 60 seconds after [`NOW`].
pub(crate) fn access_token(service: &Service, identity: &str) -> &'static AccessToken {
    leak(AccessToken {
        grant: Grant {
            sid: sid(),
            account_sid: service.account_sid,
            service_sid: service.sid,
            identity: self::identity(identity),
            factor_type: FactorType::Push,
            expires_at: NOW.plus_seconds(60),
        },
        factor_friendly_name: None,
        ttl: Ttl::new(60).unwrap(),
        token: Sealed::from_bytes(b"sealed token".to_vec()),
        spent_on: None,
        created_at: NOW,
    })
}

/// Parses `text` as a callback URL.
///
/// # Panics
/// Panics if `text` is not a valid callback URL.
pub(crate) fn url(text: &str) -> CallbackUrl {
    CallbackUrl::from_parameter(text).unwrap()
}

/// Returns a new enabled webhook of `service` that receives all events.
pub(crate) fn webhook(service: &Service) -> &'static Webhook {
    leak(Webhook {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        friendly_name: name("Back office"),
        event_types: vec![Subscription::All],
        url: url("https://bank.example.com/hooks"),
        status: webhooks::Status::Enabled,
        version: Version::V2,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new rate limit of `service` with this unique name, without a description.
pub(crate) fn rate_limit(service: &Service, name: &str) -> &'static RateLimit {
    leak(RateLimit {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        unique_name: UniqueName::from_stored(name.to_owned()),
        description: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new bucket of `limit`, which permits two verifications within so many seconds.
pub(crate) fn bucket(limit: &RateLimit, seconds: i64) -> &'static RateLimitBucket {
    leak(RateLimitBucket {
        sid: sid(),
        account_sid: limit.account_sid,
        service_sid: limit.service_sid,
        rate_limit_sid: limit.sid,
        max: MaxRequests::new(2).unwrap(),
        interval: Interval::new(seconds).unwrap(),
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new messaging configuration of `service` for a country, or for `all`.
pub(crate) fn messaging_configuration(service: &Service, country: &str) -> &'static MessagingConfiguration {
    leak(MessagingConfiguration {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        country: MessagingCountry::from_parameter(country).unwrap(),
        messaging_service_sid: sid(),
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new entry of the safe list of `account`.
pub(crate) fn safe_number(account: &Account, number: &str) -> &'static SafeNumber {
    let phone_number = PhoneNumber::from_parameter(number).unwrap();
    leak(SafeNumber { sid: sid(), account_sid: account.sid, phone_number, created_at: NOW })
}

/// Returns a new FCM push credential of `account` that does not expire.
pub(crate) fn credential(account: &Account) -> &'static Credential {
    leak(Credential {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: None,
        credential_type: CredentialType::Fcm,
        sandbox: false,
        content: Sealed::from_bytes(b"sealed key".to_vec()),
        expires_at: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new HTTP outlet of `account` for text messages, without a limit.
pub(crate) fn outlet(account: &Account) -> &'static Outlet {
    leak(Outlet {
        sid: OutletSid::Messaging(sid()),
        account_sid: account.sid,
        friendly_name: name("Gateway"),
        kind: OutletKind::Http,
        channels: vec![Channel::Sms],
        content: Sealed::from_bytes(b"sealed settings".to_vec()),
        rate: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new template of `account` for text messages, with an English text.
pub(crate) fn template(account: &Account) -> &'static Template {
    leak(Template {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: name("Login"),
        channels: TemplateChannels::from_stored(vec![Channel::Sms]),
        translations: vec![Translation {
            locale: Locale::ENGLISH,
            is_default: true,
            text: TemplateBody::from_stored("{{code}} logs you in".to_owned()),
            created_at: NOW,
            updated_at: NOW,
        }],
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new pending verification in `service`. It expires ten minutes after [`NOW`].
pub(crate) fn verification(service: &Service) -> &'static Verification {
    leak(Verification {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        to: Recipient::from_stored("+4366412345678".to_owned()),
        channel: Channel::Sms,
        stored_status: verifications::Status::Pending,
        code: Some(Sealed::from_bytes(b"sealed code".to_vec())),
        is_custom: false,
        payment: None,
        sends: 1,
        wrong_checks: Vec::new(),
        expires_at: NOW.plus_seconds(600),
        closed_at: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new attempt to deliver the code of `verification`.
pub(crate) fn verification_attempt(verification: &Verification) -> &'static Attempt {
    leak(Attempt {
        sid: sid(),
        account_sid: verification.account_sid,
        service_sid: verification.service_sid,
        verification_sid: verification.sid,
        to: verification.to.clone(),
        channel: verification.channel,
        country: Country::from_parameter("AT").ok(),
        code_length: 6,
        locale: Some("de".to_owned()),
        is_converted: false,
        progress: None,
        error_code: None,
        message: None,
        tags: None,
        expires_at: verification.expires_at,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Returns a new notification of `challenge`.
pub(crate) fn notification(challenge: &Challenge<PushChallenge>) -> &'static notifications::Notification {
    leak(notifications::Notification {
        sid: sid(),
        challenge_sid: challenge.sid,
        ttl: notifications::Ttl::new(300).unwrap(),
        created_at: NOW,
    })
}

/// Returns a new warning of `account` about an expiring certificate.
pub(crate) fn alert(account: &Account) -> &'static Alert {
    leak(Alert {
        sid: sid(),
        account_sid: account.sid,
        service_sid: None,
        resource_sid: "CR00000000000000000000000000000000".to_owned(),
        error_code: 52131,
        level: Level::Warning,
        text: "A certificate ends soon.".to_owned(),
        more_info: json!({}),
        call: None,
        created_at: NOW,
    })
}

/// Returns a new delivery id. It is greater than all ids that this function has returned before.
pub(crate) fn delivery_id() -> DeliveryId {
    format!("019b76da-a800-7000-8000-{:012x}", next()).parse().unwrap()
}

/// Returns a new delivery to `webhook`. It is due at [`NOW`] and expires one day later.
pub(crate) fn delivery(webhook: &Webhook) -> &'static Delivery {
    leak(Delivery {
        id: delivery_id(),
        account_sid: webhook.account_sid,
        work: Work::Webhook {
            webhook_sid: webhook.sid,
            service_sid: webhook.service_sid,
            parameters: vec![("type".to_owned(), "factor.created".to_owned())],
            once: false,
        },
        destination: Destination::Host(webhook.url.destination()),
        attempts: 0,
        created_at: NOW,
        next_attempt_at: NOW,
        expires_at: NOW.plus_seconds(86_400),
        trace: Some(TraceParent { trace_id: u128::MAX, span_id: next() + 1, flags: 1 }),
    })
}

/// Returns a record of the latest attempt to make `delivery`, without optional fields. `ending` is the stored word of
/// its outcome, such as `delivered`.
pub(crate) fn attempt(delivery: &Delivery, ending: &str) -> &'static AttemptRecord {
    leak(AttemptRecord {
        number: delivery.attempts,
        began_at: NOW,
        milliseconds: 12,
        outcome: AttemptOutcome::from_stored(ending).unwrap(),
        error_code: None,
        status: None,
        detail: None,
    })
}

/// A row that [`add()`] can insert.
pub(crate) trait Add: Sync + 'static {
    /// Inserts the row.
    ///
    /// # Errors
    /// Returns an error if the store refuses the row or the database fails.
    async fn add(&self, tx: &mut Write) -> Result<(), Error>;
}

/// Implements [`Add`] for row types, each with the name of the method that inserts it.
macro_rules! add {
    ($($row:ty: $insert:ident;)*) => {
        $(impl Add for $row {
            async fn add(&self, tx: &mut Write) -> Result<(), Error> {
                tx.$insert(self).await.map(drop)
            }
        })*
    };
}

add! {
    Account: insert_account;
    ApiKey: insert_api_key;
    Service: insert_service;
    Entity: insert_entity;
    Factor<PushFactor>: insert_push_factor;
    Factor<TotpFactor>: insert_totp_factor;
    Factor<PasskeyFactor>: insert_passkey_factor;
    Challenge<PushChallenge>: insert_push_challenge;
    Challenge<TotpChallenge>: insert_totp_challenge;
    Challenge<PasskeyChallenge>: insert_passkey_challenge;
    AccessToken: insert_access_token;
    Webhook: insert_webhook;
    RateLimit: insert_rate_limit;
    RateLimitBucket: insert_bucket;
    MessagingConfiguration: insert_messaging_configuration;
    SafeNumber: insert_safe_number;
    Credential: insert_credential;
    Outlet: insert_outlet;
    Template: insert_template;
    Verification: insert_verification;
    Attempt: insert_attempt;
    notifications::Notification: insert_notification;
    Alert: insert_alert;
    Delivery: insert_delivery;
}

impl Add for AuditRecord {
    async fn add(&self, tx: &mut Write) -> Result<(), Error> {
        tx.insert_audit_record(self, &Mac([5; 32])).await
    }
}

/// Inserts `rows` in one transaction.
///
/// # Panics
/// Panics if the transaction fails.
pub(crate) async fn add<R: Add>(store: &Store, rows: impl IntoIterator<Item = &'static R>) {
    let rows: Vec<_> = rows.into_iter().collect();
    let added = async move |tx: &mut Write| {
        for row in &rows {
            row.add(tx).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(added).await.unwrap();
}

/// An account, service, entity and factor that are in the store. Each is the parent of the next.
#[derive(Clone, Copy)]
pub(crate) struct EnrolledUser {
    pub(crate) account: &'static Account,
    pub(crate) service: &'static Service,
    pub(crate) entity: &'static Entity,
    /// The path of the entity, and of its factor.
    pub(crate) path: &'static EntityPath,
    pub(crate) factor: &'static Factor<PushFactor>,
}

/// Inserts and returns a new account, service, entity and verified factor. The entity's identity is `user-0001`.
pub(crate) async fn enrolled_user(store: &Store) -> EnrolledUser {
    let account = account();
    let service = service(account);
    let entity = entity(service, "user-0001");
    let factor = factor(entity);
    add(store, [account]).await;
    add(store, [service]).await;
    add(store, [entity]).await;
    add(store, [factor]).await;
    EnrolledUser { account, service, entity, path: path_of(entity), factor }
}

/// An account in the store with one resource of each type that [`AccountTree::ALL`] lists.
#[derive(Clone, Copy)]
pub(crate) struct AccountTree {
    pub(crate) user: EnrolledUser,
    pub(crate) challenge: &'static Challenge<PushChallenge>,
    pub(crate) token: &'static AccessToken,
    pub(crate) webhook: &'static Webhook,
    pub(crate) rate_limit: &'static RateLimit,
    pub(crate) bucket: &'static RateLimitBucket,
    pub(crate) messaging_configuration: &'static MessagingConfiguration,
    pub(crate) safe_number: &'static SafeNumber,
    pub(crate) credential: &'static Credential,
    pub(crate) outlet: &'static Outlet,
    pub(crate) alert: &'static Alert,
    pub(crate) template: &'static Template,
    /// A delivery to the webhook.
    pub(crate) delivery: &'static Delivery,
}

impl AccountTree {
    /// The names of the account and of all its resources, in the order in which [`Self::remaining`] returns them.
    pub(crate) const ALL: [&'static str; 17] = [
        "account",
        "safe number",
        "credential",
        "outlet",
        "alert",
        "template",
        "service",
        "webhook",
        "rate limit",
        "bucket",
        "messaging configuration",
        "entity",
        "factor",
        "challenge",
        "notification",
        "access token",
        "delivery",
    ];

    /// Inserts the account and its resources.
    pub(crate) async fn create(store: &Store) -> Self {
        let user = enrolled_user(store).await;
        let challenge = challenge(user.factor);
        let token = access_token(user.service, "user-0001");
        let webhook = webhook(user.service);
        let rate_limit = rate_limit(user.service, "end_user_ip");
        let bucket = bucket(rate_limit, 60);
        let messaging_configuration = messaging_configuration(user.service, "AT");
        let safe_number = safe_number(user.account, "+4366412345678");
        let (credential, outlet, alert) =
            (credential(user.account), outlet(user.account), alert(user.account));
        let template = template(user.account);
        let delivery = delivery(webhook);
        add(store, [challenge]).await;
        add(store, [notification(challenge)]).await;
        add(store, [token]).await;
        add(store, [webhook]).await;
        add(store, [rate_limit]).await;
        add(store, [bucket]).await;
        add(store, [messaging_configuration]).await;
        add(store, [safe_number]).await;
        add(store, [credential]).await;
        add(store, [outlet]).await;
        add(store, [alert]).await;
        add(store, [template]).await;
        add(store, [delivery]).await;
        Self {
            user,
            challenge,
            token,
            webhook,
            rate_limit,
            bucket,
            messaging_configuration,
            safe_number,
            credential,
            outlet,
            alert,
            template,
            delivery,
        }
    }

    /// Returns the names of those resources of this account tree that are still in the store, in the order of
    /// [`Self::ALL`].
    pub(crate) async fn remaining(&self, store: &Store) -> Vec<&'static str> {
        let Self {
            user,
            challenge,
            token,
            webhook,
            rate_limit,
            bucket,
            messaging_configuration,
            safe_number,
            credential,
            outlet,
            alert,
            template,
            delivery,
        } = *self;
        let rate_limit_key = RateLimitKey::Sid(rate_limit.sid);
        let country = messaging_configuration.country;
        let EnrolledUser { account, service, path, factor, .. } = user;
        // Uses a write transaction, because only a write transaction can count notifications.
        let query = async move |tx: &mut Write| {
            let found = [
                tx.account(account.sid).await?.is_some(),
                tx.safe_number(account.sid, &safe_number.phone_number).await?.is_some(),
                tx.credential(account.sid, credential.sid).await?.is_some(),
                tx.outlet(account.sid, outlet.sid).await?.is_some(),
                tx.alert(account.sid, alert.sid).await?.is_some(),
                tx.template(account.sid, template.sid).await?.is_some(),
                tx.service(account.sid, service.sid).await?.is_some(),
                tx.webhook(account.sid, service.sid, webhook.sid).await?.is_some(),
                tx.rate_limit(account.sid, service.sid, &rate_limit_key).await?.is_some(),
                tx.bucket(account.sid, rate_limit.sid, bucket.sid).await?.is_some(),
                tx.messaging_configuration(account.sid, service.sid, country).await?.is_some(),
                tx.entity(path).await?.is_some(),
                tx.factor(path, factor.sid).await?.is_some(),
                tx.challenge(path, challenge.sid).await?.is_some(),
                tx.count_notifications(challenge.sid).await? > 0,
                tx.access_token(account.sid, service.sid, token.grant.sid).await?.is_some(),
                tx.delivery(delivery.id).await?.is_some(),
            ];
            Ok::<_, Error>(found)
        };
        let found = store.write(query).await.unwrap();
        Self::ALL.into_iter().zip(found).filter_map(|(name, found)| found.then_some(name)).collect()
    }
}

/// Removes the rows of all deleted resources, at most `limit` rows per transaction. Returns how many rows were removed.
pub(crate) async fn remove_all(store: &Store, limit: i64) -> usize {
    let mut removed = 0;
    loop {
        let rows = transact!(store, |tx| tx.remove_deleted(limit)).unwrap();
        assert!(rows <= usize::try_from(limit).unwrap(), "{rows}");
        removed += rows;
        if rows == 0 {
            return removed;
        }
    }
}

/// A row that can be converted to JSON for comparison. Most domain types do not implement `PartialEq`, and their
/// `Debug` output hides secrets.
pub(crate) trait ToJson {
    /// Returns a JSON value that contains every field of the row.
    fn to_json(&self) -> Value;
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map(ToJson::to_json).into()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(ToJson::to_json).collect()
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn to_json(&self) -> Value {
        self.iter().map(ToJson::to_json).collect()
    }
}

impl<T: ToJson> ToJson for Page<T> {
    fn to_json(&self) -> Value {
        self.items.to_json()
    }
}

/// Returns `time` as a JSON number: microseconds since the Unix epoch.
fn time(time: Timestamp) -> Value {
    time.micros().into()
}

impl ToJson for Account {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            friendly_name,
            auth_token,
            debugger_webhook,
            verification_events_url,
            created_at,
            updated_at,
        } = self;
        json!({
            "sid": sid,
            "friendly_name": friendly_name,
            "auth_token": auth_token.as_bytes(),
            "debugger_webhook": debugger_webhook.as_ref().map(|url| url.as_str()),
            "verification_events_url": verification_events_url.as_ref().map(|url| url.as_str()),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for ApiKey {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, friendly_name, secret_hash, created_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "friendly_name": friendly_name,
            "secret_hash": secret_hash,
            "created_at": time(*created_at),
        })
    }
}

impl<K> ToJson for EnrollmentKeyRow<K> {
    fn to_json(&self) -> Value {
        let Self { kid, secret } = self;
        json!({ "kid": kid, "secret": secret.as_bytes() })
    }
}

impl ToJson for Service {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, settings, limits, created_at, updated_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "settings": settings,
            "limits": [limits.pending.to_string(), limits.per_minute.to_string()],
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Entity {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, service_sid, identity, created_at, updated_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "identity": identity,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl<Kind: ToJson> ToJson for Factor<Kind> {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            entity_sid,
            identity,
            friendly_name,
            status,
            metadata,
            created_at,
            updated_at,
            kind,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "entity_sid": entity_sid,
            "identity": identity,
            "friendly_name": friendly_name,
            "status": status.as_str(),
            "metadata": metadata,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
            "kind": kind.to_json(),
        })
    }
}

impl ToJson for FactorKind {
    fn to_json(&self) -> Value {
        match self {
            Self::Push(push) => push.to_json(),
            Self::Totp(totp) => totp.to_json(),
            Self::Passkey(passkey) => passkey.to_json(),
        }
    }
}

impl ToJson for FactorType {
    fn to_json(&self) -> Value {
        self.as_str().into()
    }
}

impl ToJson for PushFactor {
    fn to_json(&self) -> Value {
        let Self {
            public_key,
            credential_sid,
            app_id,
            sdk_version,
            notification,
            unreachable,
            token_registered_at,
        } = self;
        json!({
            "public_key": public_key.as_der(),
            "credential_sid": credential_sid,
            "app_id": app_id,
            "sdk_version": sdk_version,
            "notification_platform": notification.platform().as_str(),
            "notification_token": notification.token(),
            "unreachable": unreachable,
            "token_registered_at": time(*token_registered_at),
        })
    }
}

impl ToJson for TotpFactor {
    fn to_json(&self) -> Value {
        let Self { secret, algorithm, time_step, code_length, skew, last_step, failed_verifications } = self;
        json!({
            "secret": secret.as_bytes(),
            "algorithm": algorithm.as_str(),
            "time_step": time_step,
            "code_length": code_length,
            "skew": skew,
            "last_step": last_step,
            "failed_verifications": failed_verifications,
        })
    }
}

impl ToJson for PasskeyFactor {
    fn to_json(&self) -> Value {
        let Self {
            relying_party,
            authenticator_attachment,
            discoverable_credentials,
            user_verification,
            challenge_digest,
            credential,
        } = self;
        json!({
            "relying_party": relying_party,
            "authenticator_attachment": authenticator_attachment,
            "discoverable_credentials": discoverable_credentials,
            "user_verification": user_verification,
            "challenge_digest": challenge_digest.0,
            "credential": credential.to_json(),
        })
    }
}

impl ToJson for PasskeyCredential {
    fn to_json(&self) -> Value {
        let Self {
            id,
            public_key,
            algorithm,
            sign_count,
            user_verified,
            backup_eligible,
            backed_up,
            transports,
            aaguid,
            last_used_at,
        } = self;
        json!({
            "id": id.as_bytes(),
            "public_key": public_key,
            "algorithm": algorithm.identifier(),
            "sign_count": sign_count,
            "user_verified": user_verified,
            "backup_eligible": backup_eligible,
            "backed_up": backed_up,
            "transports": transports,
            "aaguid": aaguid,
            "last_used_at": last_used_at.map(time),
        })
    }
}

impl<Kind: ToJson> ToJson for Challenge<Kind> {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, service_sid, state, metadata, expires_at, created_at, updated_at, kind } =
            self;
        let state = match state {
            State::Pending => json!("pending"),
            State::Voided => json!("voided"),
            State::Answered { answer, at } => json!([answer.as_str(), time(*at)]),
        };
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "state": state,
            "metadata": metadata,
            "expires_at": time(*expires_at),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
            "kind": kind.to_json(),
        })
    }
}

impl ToJson for ChallengeKind {
    fn to_json(&self) -> Value {
        match self {
            Self::Push(push) => push.to_json(),
            Self::Totp(totp) => totp.to_json(),
            Self::Passkey(target) => target.to_json(),
        }
    }
}

impl ToJson for Target {
    fn to_json(&self) -> Value {
        let Self { entity_sid, identity, factor_sid } = self;
        json!({ "entity_sid": entity_sid, "identity": identity, "factor_sid": factor_sid })
    }
}

impl ToJson for PushChallenge {
    fn to_json(&self) -> Value {
        let Self { target, details: Details { message, fields, date }, hidden_details } = self;
        json!({
            "target": target.to_json(),
            "message": message.as_str(),
            "fields": fields,
            "date": date.map(time),
            "hidden_details": hidden_details,
        })
    }
}

impl ToJson for TotpChallenge {
    fn to_json(&self) -> Value {
        let Self { target, message, fields, hidden_details, attempts } = self;
        json!({
            "target": target.to_json(),
            "message": message.as_ref().map(|message| message.as_str()),
            "fields": fields,
            "hidden_details": hidden_details,
            "attempts": attempts,
        })
    }
}

impl ToJson for PasskeyTarget {
    fn to_json(&self) -> Value {
        match self {
            Self::Anyone => Value::Null,
            Self::Entity { entity_sid, identity } => {
                json!({ "entity_sid": entity_sid, "identity": identity })
            }
            Self::Factor(target) => target.to_json(),
        }
    }
}

impl ToJson for PasskeyChallenge {
    fn to_json(&self) -> Value {
        let Self { target, challenge_digest, relying_party_id, origins, user_verification, options } = self;
        json!({
            "target": target.to_json(),
            "challenge_digest": challenge_digest.0,
            "relying_party_id": relying_party_id,
            "origins": origins,
            "user_verification": user_verification,
            "options": options,
        })
    }
}

impl ToJson for AccessToken {
    fn to_json(&self) -> Value {
        let Self {
            grant: Grant { sid, account_sid, service_sid, identity, factor_type, expires_at },
            factor_friendly_name,
            ttl,
            token,
            spent_on,
            created_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "identity": identity,
            "factor_type": factor_type.as_str(),
            "expires_at": time(*expires_at),
            "factor_friendly_name": factor_friendly_name,
            "ttl": ttl.get(),
            "token": token.as_bytes(),
            "spent_on": spent_on,
            "created_at": time(*created_at),
        })
    }
}

impl ToJson for Webhook {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            friendly_name,
            event_types,
            url,
            status,
            version,
            created_at,
            updated_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "friendly_name": friendly_name,
            "event_types": event_types,
            "url": url.as_str(),
            "status": status.as_str(),
            "version": version.as_str(),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for RateLimit {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, service_sid, unique_name, description, created_at, updated_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "unique_name": unique_name,
            "description": description,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for RateLimitBucket {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, service_sid, rate_limit_sid, max, interval, created_at, updated_at } =
            self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "rate_limit_sid": rate_limit_sid,
            "max": max.get(),
            "interval": interval,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for MessagingConfiguration {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, service_sid, country, messaging_service_sid, created_at, updated_at } =
            self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "country": country.as_str(),
            "messaging_service_sid": messaging_service_sid,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for SafeNumber {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, phone_number, created_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "phone_number": phone_number,
            "created_at": time(*created_at),
        })
    }
}

impl ToJson for Credential {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            account_sid,
            friendly_name,
            credential_type,
            sandbox,
            content,
            expires_at,
            created_at,
            updated_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "friendly_name": friendly_name,
            "credential_type": credential_type.as_str(),
            "sandbox": sandbox,
            "content": content.as_bytes(),
            "expires_at": expires_at.map(time),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Outlet {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, friendly_name, kind, channels, content, rate, created_at, updated_at } =
            self;
        json!({
            "sid": sid.to_string(),
            "account_sid": account_sid,
            "friendly_name": friendly_name,
            "kind": kind.as_str(),
            "channels": channels,
            "content": content.as_bytes(),
            "rate": rate,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Template {
    fn to_json(&self) -> Value {
        let Self { sid, account_sid, friendly_name, channels, translations, created_at, updated_at } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "friendly_name": friendly_name,
            "channels": channels.as_slice(),
            "translations": translations.to_json(),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Translation {
    fn to_json(&self) -> Value {
        let Self { locale, is_default, text, created_at, updated_at } = self;
        json!({
            "locale": locale,
            "is_default": is_default,
            "text": text.as_str(),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Attempt {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            verification_sid,
            to,
            channel,
            country,
            code_length,
            locale,
            is_converted,
            progress,
            error_code,
            message,
            tags,
            expires_at,
            created_at,
            updated_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "verification_sid": verification_sid,
            "to": to.as_str(),
            "channel": channel,
            "country": country.map(|country| country.to_string()),
            "code_length": code_length,
            "locale": locale,
            "is_converted": is_converted,
            "progress": progress.map(DeliveryProgress::as_str),
            "error_code": error_code,
            "message": message,
            "tags": tags,
            "expires_at": time(*expires_at),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl ToJson for Alert {
    fn to_json(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            resource_sid,
            error_code,
            level,
            text,
            more_info,
            call,
            created_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "resource_sid": resource_sid,
            "error_code": error_code,
            "level": level.as_str(),
            "text": text,
            "more_info": more_info,
            "call": call,
            "created_at": time(*created_at),
        })
    }
}

impl ToJson for Delivery {
    fn to_json(&self) -> Value {
        let Self {
            id,
            account_sid,
            work,
            destination,
            attempts,
            created_at,
            next_attempt_at,
            expires_at,
            trace,
        } = self;
        json!({
            "id": id.to_string(),
            "account_sid": account_sid,
            "work": work,
            "destination": destination.to_string(),
            "attempts": attempts,
            "created_at": time(*created_at),
            "due_at": time(*next_attempt_at),
            "give_up_at": time(*expires_at),
            "trace": trace.as_ref().map(TraceParent::to_string),
        })
    }
}

impl ToJson for DeliveryStatus {
    fn to_json(&self) -> Value {
        let Self { delivery, state, finished_at } = self;
        json!({
            "delivery": delivery.to_json(),
            "state": state.as_str(),
            "finished_at": finished_at.map(time),
        })
    }
}

impl ToJson for AttemptRecord {
    fn to_json(&self) -> Value {
        let Self { number, began_at, milliseconds, outcome, error_code, status, detail } = self;
        json!({
            "number": number,
            "began_at": time(*began_at),
            "milliseconds": milliseconds,
            "ending": outcome.as_str(),
            "error_code": error_code,
            "status": status,
            "detail": detail,
        })
    }
}

impl<A: ToJson, B: ToJson> ToJson for (A, B) {
    fn to_json(&self) -> Value {
        json!([self.0.to_json(), self.1.to_json()])
    }
}
