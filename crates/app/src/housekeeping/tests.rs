//! Tests of retention, with a manually controlled clock.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crypto::{MasterKey, MasterKeys, SystemEntropy};
use domain::access_tokens::Ttl;
use domain::deliveries::Work;
use domain::factors::{AppId, Notification, PublicKey};
use domain::services::Settings;
use domain::webhooks::Subscription;
use domain::{
    AccessTokenSid, Clock, Code, EntityPath, FactorSid, FactorType, FriendlyName, Identity, Order,
    PageRequest, Parameter as _,
};
use store::{DeliveryFilter, Location, OldSchema, Read, Store};

use super::*;
use crate::audit::{AuditFilter, Origin, chain};
use crate::caller::Caller;
use crate::factors::NewPushFactor;
use crate::webhooks::NewWebhook;
use crate::{AppConfig, MasterKeySource, NewAccessToken};

const DAY_SECONDS: i64 = 24 * 3600;

/// A wall clock and a monotonic clock that change only when the test sets them.
struct ManualClock(Mutex<(Timestamp, Duration)>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

impl ManualClock {
    /// Advances both clocks by this many seconds.
    fn pass(&self, seconds: i64) {
        self.jump(seconds);
        self.0.lock().unwrap().1 += Duration::from_secs(seconds.unsigned_abs());
    }

    /// Moves only the wall clock by this many seconds, forward or back.
    fn jump(&self, seconds: i64) {
        let mut readings = self.0.lock().unwrap();
        readings.0 = readings.0.plus_seconds(seconds);
    }
}

/// A housekeeper, and an entity whose data expires.
struct Fixture {
    housekeeper: Housekeeper,
    clock: Arc<ManualClock>,
    caller: Caller,
    path: EntityPath,
}

/// Creates a housekeeper that applies retention as the node `node`.
fn housekeeper(app: Arc<App>, node: &str) -> Housekeeper {
    Housekeeper::new(app, node.to_owned(), Duty::Retention, watch::channel(false).1)
}

impl Fixture {
    async fn new() -> Self {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
        let clock =
            Arc::new(ManualClock(Mutex::new((Timestamp::from_seconds(1_767_225_600), Duration::ZERO))));
        let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
        let keys = MasterKeySource::fixed(keys);
        let shared_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let (entropy, cipher) = (Arc::new(SystemEntropy), Arc::new(jwe::Josekit));
        let config = AppConfig::default();
        let app = App::start(store, shared_clock, entropy, cipher, keys, config).await.unwrap();
        let origin = Origin::operator("ann");
        let name = |text| FriendlyName::from_parameter(text).unwrap();
        let account =
            app.create_account(&origin, None, None, name("Owl Bank")).await.unwrap().unwrap().account;
        let service =
            app.create_service(&origin, account.sid, Settings::with_defaults(name("App"))).await.unwrap();
        let webhook = NewWebhook {
            friendly_name: name("All"),
            event_types: vec![Subscription::from_parameter("*").unwrap()],
            url: domain::CallbackUrl::from_parameter("https://receiver.example.com/").unwrap(),
            status: Default::default(),
            version: Default::default(),
        };
        app.create_webhook(&origin, account.sid, service.sid, webhook).await.unwrap();
        let identity = Identity::from_parameter("user-0001").unwrap();
        Self {
            housekeeper: housekeeper(Arc::new(app), "one"),
            clock,
            caller: Caller::Account(account.sid),
            path: EntityPath { account_sid: account.sid, service_sid: service.sid, identity },
        }
    }

    fn origin(&self) -> Origin {
        Origin::request(&self.caller, None, None)
    }

    /// Returns the type and the resource SID of each audit record that housekeeping wrote, oldest first.
    async fn recorded(&self) -> Vec<(String, Option<String>)> {
        let filter = AuditFilter::default();
        let records = self.housekeeper.app.audit_records(filter, 99).await.unwrap().into_iter().rev();
        let own = records.map(|found| found.record).filter(|record| record.actor_type == "housekeeping");
        own.map(|record| (record.event_type, record.resource_sid)).collect()
    }

    async fn create_factor(&self, key: u8) -> FactorSid {
        let new = NewPushFactor {
            friendly_name: FriendlyName::from_parameter("Telephone").unwrap(),
            public_key: PublicKey::from_checked_der(vec![key; 91]),
            app_id: AppId::from_parameter("com.example.owl").unwrap(),
            notification: Notification::None,
            sdk_version: None,
            metadata: None,
        };
        self.housekeeper
            .app
            .create_push_factor(
                &self.origin(),
                &self.caller.clone().try_into().unwrap(),
                self.path.clone(),
                new,
            )
            .await
            .unwrap()
            .sid
    }

    async fn factors(&self) -> Vec<FactorSid> {
        let page = PageRequest { size: 50, order: Order::Ascending, cursor: None };
        let page = self
            .housekeeper
            .app
            .factors(self.caller.clone().try_into().unwrap(), self.path.clone(), page)
            .await
            .unwrap();
        page.items.iter().map(|factor| factor.sid).collect()
    }

    async fn create_token(&self) -> AccessTokenSid {
        let new = NewAccessToken {
            identity: self.path.identity.clone(),
            factor_type: FactorType::Push,
            factor_friendly_name: None,
            ttl: Ttl::new(60).unwrap(),
        };
        let backend = self.caller.clone().try_into().unwrap();
        let origin = self.origin();
        let created = self.housekeeper.app.create_access_token(&origin, backend, self.path.service_sid, new);
        created.await.unwrap().0.grant.sid
    }

    /// Returns whether the database still contains an access token, whether valid or expired.
    async fn has_token(&self, token: AccessTokenSid) -> bool {
        let (account_sid, service_sid) = (self.path.account_sid, self.path.service_sid);
        let read = async move |db: &mut Read| {
            Ok::<_, Error>(db.access_token(account_sid, service_sid, token).await?)
        };
        self.housekeeper.app.store.read(read).await.unwrap().is_some()
    }

    /// Returns the SIDs of the factors whose deletion is enqueued as an event for the webhook.
    async fn enqueued_deletions(&self) -> Vec<String> {
        let read = async |db: &mut Read| Ok::<_, Error>(db.deliveries(&DeliveryFilter::default(), 99).await?);
        let deliveries = self.housekeeper.app.store.read(read).await.unwrap();
        let events = deliveries.into_iter().filter_map(|status| match status.delivery.work {
            Work::Webhook { parameters, .. } => Some(BTreeMap::from_iter(parameters)),
            _ => None,
        });
        let deleted = events.filter(|parameters| parameters["type"] == "factor.deleted");
        deleted.map(|parameters| parameters["factor_sid"].clone()).collect()
    }
}

#[tokio::test]
async fn unverified_factor_is_deleted_after_retention_with_a_webhook_event() {
    let fixture = Fixture::new().await;
    let retention = Retention { unverified_factors: 2 * 3600, ..Retention::default() };
    let old = fixture.create_factor(1).await;
    fixture.housekeeper.apply_retention(retention).await.unwrap();
    fixture.clock.pass(3600);
    let young = fixture.create_factor(2).await;
    fixture.clock.pass(3600);
    fixture.housekeeper.apply_retention(retention).await.unwrap();
    assert_eq!(
        fixture.factors().await,
        [old, young],
        "a factor that is exactly two hours old has not expired"
    );
    fixture.clock.pass(1);
    fixture.housekeeper.apply_retention(retention).await.unwrap();
    assert_eq!(fixture.factors().await, [young]);
    assert_eq!(fixture.enqueued_deletions().await, [old.to_string()]);
    assert_eq!(fixture.recorded().await, [("factor.deleted".to_owned(), Some(old.to_string()))]);
}

#[tokio::test]
async fn access_token_is_removed_an_hour_after_expiry() {
    let fixture = Fixture::new().await;
    let token = fixture.create_token().await;
    fixture.housekeeper.apply_retention(Retention::default()).await.unwrap();
    for (seconds, is_left) in [(60 + 3600, true), (1, false)] {
        fixture.clock.pass(seconds);
        fixture.housekeeper.apply_retention(Retention::default()).await.unwrap();
        assert_eq!(fixture.has_token(token).await, is_left);
    }
    assert_eq!(fixture.recorded().await, [("access-tokens.removed".to_owned(), None)]);
    let gone = fixture.housekeeper.app.access_token(
        fixture.caller.clone().try_into().unwrap(),
        fixture.path.service_sid,
        token,
    );
    assert!(matches!(gone.await, Err(Error::Problem(problem)) if problem.code() == Code::NotFound));
}

#[tokio::test]
async fn another_server_takes_over_housekeeping_when_the_lease_expires() {
    let fixture = Fixture::new().await;
    let other = housekeeper(Arc::clone(&fixture.housekeeper.app), "two");
    let retention = Retention { unverified_factors: 1, ..Retention::default() };
    fixture.housekeeper.apply_retention(retention).await.unwrap();
    fixture.create_factor(1).await;
    fixture.clock.pass(RETENTION_LEASE_SECONDS - 1);
    assert!(matches!(other.apply_retention(retention).await, Err(Interrupted::OtherNode)));
    assert_eq!(fixture.factors().await.len(), 1);
    fixture.clock.pass(1);
    other.apply_retention(retention).await.unwrap();
    assert_eq!(fixture.factors().await.len(), 0);
    assert!(matches!(fixture.housekeeper.apply_retention(retention).await, Err(Interrupted::OtherNode)));
}

impl Fixture {
    /// Replaces the housekeeper with the housekeeper of a new process on the same database.
    fn restart(&mut self) {
        self.housekeeper = housekeeper(Arc::clone(&self.housekeeper.app), &self.housekeeper.node);
    }

    /// Runs one round of retention that removes all data older than a day.
    async fn round(&self) -> Result<(), Interrupted> {
        let retention = Retention {
            unverified_factors: DAY_SECONDS,
            challenges: DAY_SECONDS,
            deliveries: DAY_SECONDS,
            audit_log: Some(DAY_SECONDS),
            access_tokens: DAY_SECONDS,
        };
        self.housekeeper.apply_retention(retention).await
    }

    /// Returns the number of factors, and the number of audit records that housekeeping did not write.
    async fn count_rows(&self) -> (usize, usize) {
        let records = self.housekeeper.app.audit_records(AuditFilter::default(), 99).await.unwrap();
        let others = records.iter().filter(|found| found.record.actor_type != "housekeeping").count();
        (self.factors().await.len(), others)
    }
}

#[tokio::test]
async fn housekeeping_removes_nothing_while_the_clock_is_wrong() {
    for jump in [400 * DAY_SECONDS, 2 * DAY_SECONDS, -400 * DAY_SECONDS] {
        for restarts in [false, true] {
            let mut fixture = Fixture::new().await;
            fixture.create_factor(1).await;
            let token = fixture.create_token().await;
            chain::finish(&fixture.housekeeper.app).await;
            fixture.round().await.unwrap();
            let rows = fixture.count_rows().await;
            fixture.clock.jump(jump);
            for _ in 0..3 {
                if restarts {
                    fixture.restart();
                }
                let doubted = fixture.round().await;
                assert!(matches!(doubted, Err(Interrupted::ClockDoubted)), "{jump} {restarts} {doubted:?}");
                fixture.clock.pass(100);
            }
            assert_eq!(fixture.count_rows().await, rows, "{jump} {restarts}");
            assert!(fixture.has_token(token).await);
            assert!(fixture.recorded().await.is_empty());
            // The clock is trusted again as soon as it shows the right time.
            fixture.clock.jump(-jump);
            fixture.round().await.unwrap();
            assert_eq!(fixture.count_rows().await, rows);
        }
    }
}

#[tokio::test]
async fn jumped_clock_is_trusted_after_six_hours_or_on_command() {
    for on_command in [false, true] {
        let fixture = Fixture::new().await;
        fixture.create_factor(1).await;
        fixture.round().await.unwrap();
        fixture.clock.jump(400 * DAY_SECONDS);
        for _ in 0..=359 {
            assert!(matches!(fixture.round().await, Err(Interrupted::ClockDoubted)));
            fixture.clock.pass(60);
            if on_command {
                fixture.housekeeper.app.trust_clock(&Origin::operator("ann")).await.unwrap();
                break;
            }
        }
        assert_eq!(fixture.count_rows().await.0, 1);
        fixture.round().await.unwrap();
        assert_eq!(fixture.count_rows().await.0, 0, "{on_command}");
    }
}

/// A database that was created by an older version has no clock record.
#[tokio::test]
async fn clock_is_compared_with_the_newest_audit_record_if_there_is_no_clock_record() {
    let fixture = Fixture::new().await;
    fixture.create_factor(1).await;
    fixture.clock.pass(2 * DAY_SECONDS);
    assert!(matches!(fixture.round().await, Err(Interrupted::ClockDoubted)));
    assert_eq!(fixture.count_rows().await.0, 1);
}
