//! Rows, and how they are compared.
//!
//! A row lives as long as the test process (`&'static`): what the store runs must own all that it uses,
//! and a row that never goes can be had by everyone, as often as they like.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::access_tokens::{Grant, Ttl};
use domain::alerts::{Alert, Level};
use domain::audit::{Line, Mac};
use domain::challenges::{AnswerDigest, Details, Field, Message, State};
use domain::credentials::{Credential, CredentialType};
use domain::deliveries::{Delivery, DeliveryId, Work};
use domain::factors::{self, Notification, PublicKey};
use domain::limits::ServiceLimits;
use domain::notifications;
use domain::services::Settings;
use domain::text::StringMap;
use domain::webhooks::{self, Subscription, Version};
use domain::{
    AccessToken, Account, ApiKey, CallbackUrl, Challenge, Entity, EntityPath, Factor, FactorType,
    FriendlyName, Identity, Page, Parameter as _, Sealed, Service, Sid, Timestamp, TraceParent, Webhook,
};
use serde_json::{Value, json};
use store::{AttemptRecord, DeliveryStatus, EnrollmentKeyRow, Error, Store, Write};

/// When the tests take place.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// The digest of a payload that answers a challenge.
pub(crate) const DIGEST: AnswerDigest = AnswerDigest([0xd1; 32]);

/// Long before [`NOW`], and long after it: the ends of time.
pub(crate) const FIRST: Timestamp = Timestamp::from_micros(i64::MIN);
pub(crate) const LAST: Timestamp = Timestamp::from_micros(i64::MAX);

/// What SQL, JSON, or an encoding may trip over. No control characters, which only a message can have.
pub(crate) const AWKWARD: &str =
    "it's \"so\" \\ \\u0000 %_ ?1 $1 :x ; -- é e\u{301} ß 日本 🦉 👩\u{200d}🔬 \u{10fffd}";

/// `store.read` for one call: `read!(store, |db| db.account(sid))`.
macro_rules! read {
    ($store:expr, |$db:ident| $work:expr) => {
        $store.read(async move |$db: &mut store::Read| $work.await).await
    };
}

/// `store.write` for one call: `transact!(store, |tx| tx.insert_account(account))`.
macro_rules! transact {
    ($store:expr, |$tx:ident| $work:expr) => {
        $store.write(async move |$tx: &mut store::Write| $work.await).await
    };
}

/// That two rows, or two collections of them, hold the same.
macro_rules! assert_same {
    ($found:expr, $expected:expr $(,)?) => {
        assert_eq!(
            $crate::fixtures::Contents::contents(&$found),
            $crate::fixtures::Contents::contents(&$expected)
        )
    };
}

/// That something was refused, and why.
macro_rules! assert_refused {
    ($result:expr, $reason:pat $(if $condition:expr)? $(,)?) => {
        match $result {
            Err($reason) $(if $condition)? => {}
            other => panic!("{other:?} instead of {}", stringify!($reason)),
        }
    };
}

/// This value, for ever.
pub(crate) fn keep<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A row like this one, but for a change.
pub(crate) fn changed<T: Clone>(row: &T, change: impl FnOnce(&mut T)) -> &'static T {
    let mut row = row.clone();
    change(&mut row);
    keep(row)
}

/// A number that was not there before.
fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// A SID that was not there before, greater than those before it.
pub(crate) fn sid<S: Sid>() -> S {
    S::from_bytes(u128::from(next()).to_be_bytes())
}

pub(crate) fn name(text: &str) -> FriendlyName {
    FriendlyName::from_stored(text.to_owned())
}

pub(crate) fn identity(text: &str) -> Identity {
    Identity::from_stored(text.to_owned())
}

pub(crate) fn string_map(entries: &[(&str, &str)]) -> StringMap {
    let entries: serde_json::Map<_, _> =
        entries.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
    StringMap::from_parameter(&Value::Object(entries).to_string()).unwrap()
}

pub(crate) fn field(label: &str, value: &str) -> Field {
    Field::from_parameter(&json!({ "label": label, "value": value }).to_string()).unwrap()
}

/// All bytes that there are.
pub(crate) fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// A key that no other factor has.
pub(crate) fn public_key() -> PublicKey {
    PublicKey::from_checked_der([b"key ".as_slice(), &next().to_be_bytes()].concat())
}

pub(crate) fn account() -> &'static Account {
    keep(Account {
        sid: sid(),
        friendly_name: name("Owl Bank"),
        auth_token: Sealed::from_bytes(b"sealed auth token".to_vec()),
        debugger_webhook: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

pub(crate) fn api_key(account: &Account) -> &'static ApiKey {
    keep(ApiKey {
        sid: sid(),
        account_sid: account.sid,
        friendly_name: name("deployment"),
        secret_hash: b"hash of a secret".to_vec(),
        created_at: NOW,
    })
}

/// What the store knows of an enrollment key in the open: nothing.
#[derive(Debug)]
pub(crate) struct RingKey;

pub(crate) fn enrollment_key(kid: &str) -> &'static EnrollmentKeyRow<RingKey> {
    keep(EnrollmentKeyRow {
        kid: kid.to_owned(),
        secret: Sealed::from_bytes(format!("sealed key {kid}").into_bytes()),
    })
}

pub(crate) fn service(account: &Account) -> &'static Service {
    keep(Service {
        sid: sid(),
        account_sid: account.sid,
        settings: Settings::named(name("Owl Bank app")),
        limits: ServiceLimits::default(),
        created_at: NOW,
        updated_at: NOW,
    })
}

pub(crate) fn entity(service: &Service, identity: &str) -> &'static Entity {
    keep(Entity {
        sid: sid(),
        account_sid: service.account_sid,
        service_sid: service.sid,
        identity: self::identity(identity),
        created_at: NOW,
        updated_at: NOW,
    })
}

/// Where an entity, and what is under it, is found.
pub(crate) fn path_of(entity: &Entity) -> &'static EntityPath {
    keep(EntityPath {
        account_sid: entity.account_sid,
        service_sid: entity.service_sid,
        identity: entity.identity.clone(),
    })
}

/// Paths that differ from this one in a single word, and so lead elsewhere.
pub(crate) fn wrong_paths(path: &EntityPath) -> [&'static EntityPath; 3] {
    [
        changed(path, |path| path.account_sid = sid()),
        changed(path, |path| path.service_sid = sid()),
        changed(path, |path| path.identity = identity("somebody-else")),
    ]
}

pub(crate) fn factor(entity: &Entity) -> &'static Factor {
    keep(Factor {
        sid: sid(),
        account_sid: entity.account_sid,
        service_sid: entity.service_sid,
        entity_sid: entity.sid,
        identity: entity.identity.clone(),
        friendly_name: name("Telephone"),
        public_key: public_key(),
        credential_sid: sid(),
        status: factors::Status::Verified,
        app_id: factors::AppId::from_stored("com.example.owl".to_owned()),
        sdk_version: None,
        notification: Notification::None,
        unreachable: false,
        token_registered_at: NOW,
        metadata: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

/// A pending challenge, five minutes of it left.
pub(crate) fn challenge(factor: &Factor) -> &'static Challenge {
    keep(Challenge {
        sid: sid(),
        account_sid: factor.account_sid,
        service_sid: factor.service_sid,
        entity_sid: factor.entity_sid,
        identity: factor.identity.clone(),
        factor_sid: factor.sid,
        state: State::Pending,
        details: Details {
            message: Message::from_stored("Sign in?".to_owned()),
            fields: Vec::new(),
            date: None,
        },
        hidden_details: None,
        metadata: None,
        expires_at: NOW.plus_seconds(300),
        created_at: NOW,
        updated_at: NOW,
    })
}

pub(crate) fn access_token(service: &Service, identity: &str) -> &'static AccessToken {
    keep(AccessToken {
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

pub(crate) fn url(text: &str) -> CallbackUrl {
    CallbackUrl::from_parameter(text).unwrap()
}

pub(crate) fn webhook(service: &Service) -> &'static Webhook {
    keep(Webhook {
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

/// One that doesn't end.
pub(crate) fn credential(account: &Account) -> &'static Credential {
    keep(Credential {
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

pub(crate) fn notification(challenge: &Challenge) -> &'static notifications::Notification {
    keep(notifications::Notification {
        sid: sid(),
        challenge_sid: challenge.sid,
        ttl: notifications::Ttl::new(300).unwrap(),
        created_at: NOW,
    })
}

pub(crate) fn alert(account: &Account) -> &'static Alert {
    keep(Alert {
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

/// The name of a delivery that was not there before, greater than those before it.
pub(crate) fn delivery_id() -> DeliveryId {
    format!("019b76da-a800-7000-8000-{:012x}", next()).parse().unwrap()
}

/// One to this webhook, due at once, a day left of it.
pub(crate) fn delivery(webhook: &Webhook) -> &'static Delivery {
    keep(Delivery {
        id: delivery_id(),
        account_sid: webhook.account_sid,
        work: Work::Webhook {
            webhook_sid: webhook.sid,
            service_sid: webhook.service_sid,
            parameters: vec![("type".to_owned(), "factor.created".to_owned())],
            once: false,
        },
        destination: webhook.url.destination(),
        attempts: 0,
        created_at: NOW,
        due_at: NOW,
        give_up_at: NOW.plus_seconds(86_400),
        trace: Some(TraceParent { trace_id: u128::MAX, span_id: next() + 1, flags: 1 }),
    })
}

/// The last attempt of a delivery, of which there is little to say.
pub(crate) fn attempt(delivery: &Delivery, ending: &str) -> &'static AttemptRecord {
    keep(AttemptRecord {
        number: delivery.attempts,
        began_at: NOW,
        milliseconds: 12,
        ending: ending.to_owned(),
        error_code: None,
        status: None,
        detail: None,
    })
}

/// A row that can be added.
pub(crate) trait Add: Sync + 'static {
    async fn add(&self, tx: &mut Write) -> Result<(), Error>;
}

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
    Factor: insert_factor;
    Challenge: insert_challenge;
    AccessToken: insert_access_token;
    Webhook: insert_webhook;
    Credential: insert_credential;
    notifications::Notification: insert_notification;
    Alert: insert_alert;
    Delivery: owe;
}

impl Add for Line {
    async fn add(&self, tx: &mut Write) -> Result<(), Error> {
        tx.insert_audit_line(self, &Mac([5; 32])).await
    }
}

/// Adds rows.
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

/// One of each that others hang on, in the store.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) account: &'static Account,
    pub(crate) service: &'static Service,
    pub(crate) entity: &'static Entity,
    /// Where the entity is found.
    pub(crate) path: &'static EntityPath,
    pub(crate) factor: &'static Factor,
}

/// Adds one of each that others hang on.
pub(crate) async fn family(store: &Store) -> Family {
    let account = account();
    let service = service(account);
    let entity = entity(service, "user-0001");
    let factor = factor(entity);
    add(store, [account]).await;
    add(store, [service]).await;
    add(store, [entity]).await;
    add(store, [factor]).await;
    Family { account, service, entity, path: path_of(entity), factor }
}

/// A family with everything that a family can have.
pub(crate) struct Clan {
    pub(crate) family: Family,
    pub(crate) challenge: &'static Challenge,
    pub(crate) token: &'static AccessToken,
    pub(crate) webhook: &'static Webhook,
    pub(crate) credential: &'static Credential,
    pub(crate) alert: &'static Alert,
    /// To the webhook.
    pub(crate) delivery: &'static Delivery,
}

impl Clan {
    /// What remains of a clan that nobody touched.
    pub(crate) const ALL: [&'static str; 11] = [
        "account",
        "credential",
        "alert",
        "service",
        "webhook",
        "entity",
        "factor",
        "challenge",
        "notification",
        "access token",
        "delivery",
    ];

    pub(crate) async fn settle(store: &Store) -> Self {
        let family = family(store).await;
        let challenge = challenge(family.factor);
        let token = access_token(family.service, "user-0001");
        let webhook = webhook(family.service);
        let (credential, alert) = (credential(family.account), alert(family.account));
        let delivery = delivery(webhook);
        add(store, [challenge]).await;
        add(store, [notification(challenge)]).await;
        add(store, [token]).await;
        add(store, [webhook]).await;
        add(store, [credential]).await;
        add(store, [alert]).await;
        add(store, [delivery]).await;
        Self { family, challenge, token, webhook, credential, alert, delivery }
    }

    /// What the store still has of it.
    pub(crate) async fn remains(&self, store: &Store) -> Vec<&'static str> {
        let Self { family, challenge, token, webhook, credential, alert, delivery } = *self;
        let Family { account, service, path, factor, .. } = family;
        // A write only since notifications are counted in one.
        let look = async move |tx: &mut Write| {
            let found = [
                tx.account(account.sid).await?.is_some(),
                tx.credential(account.sid, credential.sid).await?.is_some(),
                tx.alert(account.sid, alert.sid).await?.is_some(),
                tx.service(account.sid, service.sid).await?.is_some(),
                tx.webhook(account.sid, service.sid, webhook.sid).await?.is_some(),
                tx.entity(path).await?.is_some(),
                tx.factor(path, factor.sid).await?.is_some(),
                tx.challenge(path, challenge.sid).await?.is_some(),
                tx.count_notifications(challenge.sid).await? > 0,
                tx.access_token(account.sid, service.sid, token.grant.sid).await?.is_some(),
                tx.delivery(delivery.id).await?.is_some(),
            ];
            Ok::<_, Error>(found)
        };
        let found = store.write(look).await.unwrap();
        Self::ALL.into_iter().zip(found).filter_map(|(what, found)| found.then_some(what)).collect()
    }
}

/// Removes the rows of all that is deleted, at most `limit` in each transaction; returns how many.
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

/// All that a row holds. The domain's types can't be compared, and show of some fields only that they
/// are there.
pub(crate) trait Contents {
    fn contents(&self) -> Value;
}

impl<T: Contents + ?Sized> Contents for &T {
    fn contents(&self) -> Value {
        (**self).contents()
    }
}

impl<T: Contents> Contents for Option<T> {
    fn contents(&self) -> Value {
        self.as_ref().map(Contents::contents).into()
    }
}

impl<T: Contents> Contents for Vec<T> {
    fn contents(&self) -> Value {
        self.iter().map(Contents::contents).collect()
    }
}

impl<T: Contents, const N: usize> Contents for [T; N] {
    fn contents(&self) -> Value {
        self.iter().map(Contents::contents).collect()
    }
}

impl<T: Contents> Contents for Page<T> {
    fn contents(&self) -> Value {
        self.items.contents()
    }
}

fn time(time: Timestamp) -> Value {
    time.micros().into()
}

impl Contents for Account {
    fn contents(&self) -> Value {
        let Self { sid, friendly_name, auth_token, debugger_webhook, created_at, updated_at } = self;
        json!({
            "sid": sid,
            "friendly_name": friendly_name,
            "auth_token": auth_token.as_bytes(),
            "debugger_webhook": debugger_webhook.as_ref().map(|url| url.as_str()),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl Contents for ApiKey {
    fn contents(&self) -> Value {
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

impl<K> Contents for EnrollmentKeyRow<K> {
    fn contents(&self) -> Value {
        let Self { kid, secret } = self;
        json!({ "kid": kid, "secret": secret.as_bytes() })
    }
}

impl Contents for Service {
    fn contents(&self) -> Value {
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

impl Contents for Entity {
    fn contents(&self) -> Value {
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

impl Contents for Factor {
    fn contents(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            entity_sid,
            identity,
            friendly_name,
            public_key,
            credential_sid,
            status,
            app_id,
            sdk_version,
            notification,
            unreachable,
            token_registered_at,
            metadata,
            created_at,
            updated_at,
        } = self;
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "entity_sid": entity_sid,
            "identity": identity,
            "friendly_name": friendly_name,
            "public_key": public_key.as_der(),
            "credential_sid": credential_sid,
            "status": status.as_str(),
            "app_id": app_id,
            "sdk_version": sdk_version,
            "notification_platform": notification.platform().as_str(),
            "notification_token": notification.token(),
            "unreachable": unreachable,
            "token_registered_at": time(*token_registered_at),
            "metadata": metadata,
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl Contents for Challenge {
    fn contents(&self) -> Value {
        let Self {
            sid,
            account_sid,
            service_sid,
            entity_sid,
            identity,
            factor_sid,
            state,
            details: Details { message, fields, date },
            hidden_details,
            metadata,
            expires_at,
            created_at,
            updated_at,
        } = self;
        let state = match state {
            State::Pending => json!("pending"),
            State::Voided => json!("voided"),
            State::Answered { answer, at } => json!([answer.as_str(), time(*at)]),
        };
        json!({
            "sid": sid,
            "account_sid": account_sid,
            "service_sid": service_sid,
            "entity_sid": entity_sid,
            "identity": identity,
            "factor_sid": factor_sid,
            "state": state,
            "message": message.as_str(),
            "fields": fields,
            "date": date.map(time),
            "hidden_details": hidden_details,
            "metadata": metadata,
            "expires_at": time(*expires_at),
            "created_at": time(*created_at),
            "updated_at": time(*updated_at),
        })
    }
}

impl Contents for AccessToken {
    fn contents(&self) -> Value {
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

impl Contents for Webhook {
    fn contents(&self) -> Value {
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

impl Contents for Credential {
    fn contents(&self) -> Value {
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

impl Contents for Alert {
    fn contents(&self) -> Value {
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

impl Contents for Delivery {
    fn contents(&self) -> Value {
        let Self { id, account_sid, work, destination, attempts, created_at, due_at, give_up_at, trace } =
            self;
        json!({
            "id": id.to_string(),
            "account_sid": account_sid,
            "work": work,
            "destination": destination,
            "attempts": attempts,
            "created_at": time(*created_at),
            "due_at": time(*due_at),
            "give_up_at": time(*give_up_at),
            "trace": trace.as_ref().map(TraceParent::to_string),
        })
    }
}

impl Contents for DeliveryStatus {
    fn contents(&self) -> Value {
        let Self { delivery, state, finished_at } = self;
        json!({
            "delivery": delivery.contents(),
            "state": state,
            "finished_at": finished_at.map(time),
        })
    }
}

impl Contents for AttemptRecord {
    fn contents(&self) -> Value {
        let Self { number, began_at, milliseconds, ending, error_code, status, detail } = self;
        json!({
            "number": number,
            "began_at": time(*began_at),
            "milliseconds": milliseconds,
            "ending": ending,
            "error_code": error_code,
            "status": status,
            "detail": detail,
        })
    }
}

impl<A: Contents, B: Contents> Contents for (A, B) {
    fn contents(&self) -> Value {
        json!([self.0.contents(), self.1.contents()])
    }
}
