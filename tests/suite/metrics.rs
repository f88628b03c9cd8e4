//! Metrics: every metric is exposed in the OpenMetrics format with the expected values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

use app::SystemClock;
use device::{Answer as Word, Platform};
use domain::Clock as _;
use harness::{Answer, Auth, Http, Receiver, Storage, wait_until};
use telemetry::metrics::TABLE;

use crate::pushes;
use crate::totp::TotpFixture;
use crate::webhooks::webhook;
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, entity};

/// The arguments for a metrics listener on a free port.
pub(crate) const LISTEN: [&str; 2] = ["--metrics-listen", "127.0.0.1:0"];

/// Waits until the server logs the address of its metrics listener, and returns the last logged address.
pub(crate) async fn address(log: impl Fn() -> String) -> String {
    wait_until("the server logs the address of its metrics listener", WAIT_TIMEOUT, async || {
        let log = log();
        let (_, address) = log.rsplit_once("metrics served at ")?;
        Some(address.split_once("/metrics")?.0.to_owned())
    })
    .await
}

/// Fetches and parses the current metrics from the listener at `address`.
pub(crate) async fn read(address: &str) -> Exposition {
    let reply = Http::new(address).get("/metrics", &[]).await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some(telemetry::metrics::CONTENT_TYPE)),
        "{reply:?}"
    );
    Exposition::parse(&reply.text)
}

/// One metric with its metadata and samples.
#[derive(Clone, Debug, Default)]
struct Family {
    kind: String,
    help: String,
    unit: Option<String>,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    /// The suffix of the sample's name after the metric's name, such as `_total`.
    suffix: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A parsed exposition: every metric with its samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition(BTreeMap<String, Family>);

impl Exposition {
    /// Parses the OpenMetrics text format strictly.
    #[track_caller]
    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the `# EOF` line at the end");
        let (mut exposition, mut current) = (Self::default(), String::new());
        for line in body.lines() {
            if let Some(about) = line.strip_prefix("# ") {
                let (word, rest) = about.split_once(' ').unwrap();
                let (name, what) = rest.split_once(' ').unwrap();
                if word == "HELP" {
                    assert!(is_name(name), "{line}");
                    assert!(!exposition.0.contains_key(name), "told twice: {line}");
                    current = name.to_owned();
                    exposition
                        .0
                        .insert(current.clone(), Family { help: what.to_owned(), ..Family::default() });
                }
                let family = exposition.0.get_mut(name).unwrap();
                assert!(
                    name == current && family.samples.is_empty(),
                    "unexpected position of this line: {line}"
                );
                match word {
                    "HELP" => {}
                    "TYPE" => assert!(std::mem::replace(&mut family.kind, what.to_owned()).is_empty()),
                    "UNIT" => {
                        assert!(name.ends_with(&format!("_{what}")), "{line}");
                        assert_eq!(family.unit.replace(what.to_owned()), None);
                    }
                    _ => panic!("{line}"),
                }
            } else {
                let family = exposition.0.get_mut(&current).expect("a metric's metadata before its samples");
                let rest = line
                    .strip_prefix(&current)
                    .unwrap_or_else(|| panic!("a sample of another family: {line}"));
                family.samples.push(Sample::parse(rest));
            }
        }
        for (name, family) in &exposition.0 {
            family.check(name);
        }
        exposition
    }

    /// Returns the sum of the samples of a metric that have these labels; for a histogram, the number of
    /// observations.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let has = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|it| it == value))
                && matches!(sample.suffix.as_str(), "" | "_total" | "_count")
        };
        family.samples.iter().filter(has).map(|sample| sample.value).sum()
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_part)
}

impl Sample {
    /// Parses the rest of a sample's line, such as `_total{name="value"} 1`.
    #[track_caller]
    fn parse(text: &str) -> Self {
        let (head, value) = text.rsplit_once(' ').unwrap();
        let (suffix, labels) = match head.split_once('{') {
            Some((suffix, labels)) => (suffix, labels.strip_suffix('}').unwrap()),
            None => (head, ""),
        };
        let mut found = BTreeMap::new();
        for label in labels.split_terminator("\",") {
            let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
            let value = value.strip_suffix('"').unwrap_or(value);
            assert!(is_name(name) && !value.contains(['"', '\\', '\n']), "{text}");
            assert_eq!(found.insert(name.to_owned(), value.to_owned()), None, "{text}");
        }
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{text}");
        Self { suffix: suffix.to_owned(), labels: found, value }
    }

    /// Returns the labels that all samples of one histogram series share.
    fn series(&self) -> BTreeMap<String, String> {
        self.labels.iter().filter(|(name, _)| *name != "le").map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

impl Family {
    #[track_caller]
    fn check(&self, name: &str) {
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            kind => panic!("{name} is a {kind}"),
        };
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            assert!(suffixes.contains(&sample.suffix.as_str()), "{name}: {sample:?}");
            assert!(seen.insert((&sample.suffix, &sample.labels)), "{name} twice: {sample:?}");
            assert_eq!(sample.labels.contains_key("le"), sample.suffix == "_bucket", "{name}: {sample:?}");
        }
        if self.kind == "histogram" {
            let series: BTreeSet<_> = self.samples.iter().map(Sample::series).collect();
            for series in series {
                let of = |suffix: &str| {
                    let of = |sample: &&Sample| sample.suffix == suffix && sample.series() == series;
                    self.samples.iter().filter(of).collect::<Vec<_>>()
                };
                let (buckets, count) = (of("_bucket"), of("_count"));
                assert_eq!((count.len(), of("_sum").len()), (1, 1), "{name}");
                let bound = |sample: &Sample| sample.labels["le"].parse::<f64>().unwrap();
                assert!(buckets.is_sorted_by(|a, b| bound(a) < bound(b) && a.value <= b.value), "{name}");
                let last = buckets.last().unwrap();
                assert_eq!((last.labels["le"].as_str(), last.value), ("+Inf", count[0].value), "{name}");
            }
        }
    }
}

/// Compares an exposition with the table: the same metrics with the same types and labels, whose values are
/// bounded in number.
#[track_caller]
fn assert_matches_table(exposition: &Exposition) {
    let names: BTreeSet<_> = exposition.0.keys().map(String::as_str).collect();
    assert_eq!(names, TABLE.iter().map(|metric| metric.name).collect());
    let routes: BTreeSet<_> = api::ROUTES.iter().map(|route| route.path).chain(["-"]).collect();
    for metric in TABLE {
        let family = &exposition.0[metric.name];
        assert_eq!((family.kind.as_str(), family.unit.as_deref()), (metric.kind, metric.unit));
        assert_eq!(family.help, format!("{}.", metric.help));
        assert!(!family.samples.is_empty(), "{metric:?}");
        for sample in &family.samples {
            let labels: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
            let extra = if sample.suffix == "_bucket" { &["le"][..] } else { &[] };
            assert_eq!(labels, metric.labels.iter().chain(extra).copied().collect(), "{metric:?}");
            for (name, value) in &sample.labels {
                let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let is_fine = match name.as_str() {
                    "route" => routes.contains(value.as_str()),
                    "method" => value == "-" || value.bytes().all(|byte| byte.is_ascii_uppercase()),
                    "status" => (200..600).contains(&value.parse::<u16>().unwrap()),
                    "version" => value == env!("CARGO_PKG_VERSION"),
                    "le" => true,
                    _ => is_word,
                };
                assert!(is_fine, "{metric:?}: {name}={value}");
            }
        }
    }
}

#[tokio::test]
async fn every_metric_changes_with_the_activity_that_it_measures() {
    let fixture = pushes::PushFixture::start(&LISTEN, World::sqlite_with).await.with_credentials().await;
    let metrics = address(|| fixture.world.server.log()).await;
    let _receivers = start_receivers(&fixture).await;
    answer_and_miss_challenges(&fixture).await;
    sign_in_with_codes(&fixture.world).await;
    send_failing_requests(&fixture).await;

    let exposition = wait_for_expected_values(&metrics).await;
    assert_matches_table(&exposition);
    assert_database_metrics(&exposition);
    assert_housekeeping_metrics(&exposition);
    assert_process_metrics(&exposition);
}

/// Starts a receiver that accepts every webhook, one that refuses them, and the debugger webhook, which is called
/// for each failed delivery.
async fn start_receivers(fixture: &pushes::PushFixture) -> [Receiver; 3] {
    let (good, bad, debugger) = (
        Receiver::start([Answer::ok()]),
        Receiver::start([Answer::of("404 Not Found", "", "")]),
        Receiver::start([Answer::ok()]),
    );
    let world = &fixture.world;
    webhook(world, &fixture.service, &good.at("/"), &[]).await;
    webhook(world, &fixture.service, &bad.at("/"), &[("EventTypes", "factor.verified")]).await;
    let account = world.server.account_sid();
    world.command(&["account", "set", account, "--debugger-webhook", &debugger.at("/")]);
    [good, bad, debugger]
}

/// Enrolls two phones, one of which loses its app. Approves one challenge, denies one, and lets one expire.
async fn answer_and_miss_challenges(fixture: &pushes::PushFixture) {
    let (phone, android) = fixture.phone("user-0001", Platform::Fcm, pushes::ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, pushes::IPHONE).await;
    let (approved, denied) = (fixture.challenge(&android).await, fixture.challenge(&android).await);
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 2).await;
    phone.answer(&android, &approved, Word::Approved).await.unwrap();
    phone.answer(&android, &denied, Word::Denied).await.unwrap();
    fixture.google.unregister(pushes::ANDROID);
    let soon = SystemClock.now().plus_seconds(15).to_string();
    fixture.world.challenge(&android, &[("ExpirationDate", &soon)]).await;
}

/// Verifies a TOTP factor after a wrong code, and approves a challenge of it after another one. The service is another
/// one, so that its webhooks stay as they are.
async fn sign_in_with_codes(world: &World) {
    let service = world.service().await;
    let factor = TotpFixture::create(world, &service, "user-0003", &[("Config.Skew", "2")]).await;
    for code in [factor.wrong_codes(1).remove(0), factor.code(0)] {
        assert_eq!(factor.update(world, &[("AuthPayload", &code)]).await.status, 200);
    }
    let wrong = factor.wrong_codes(1).remove(0);
    let challenge = created(&factor.challenge(world, &[("AuthPayload", &wrong)]).await);
    let approved = factor.answer(world, &challenge, &[("AuthPayload", &factor.code(1))]).await;
    assert_eq!(approved.json()["status"], "approved", "{approved:?}");
}

/// Sends requests with wrong credentials of every type, and for resources that do not exist.
async fn send_failing_requests(fixture: &pushes::PushFixture) {
    let world = &fixture.world;
    let service = format!("/v2/Services/{}", fixture.service);
    for (user, password) in [
        (world.server.account_sid().to_owned(), "wrong"),
        (format!("SK{}", "0".repeat(32)), "wrong"),
        ("token".to_owned(), "wrong"),
        ("token".to_owned(), "a.b.c"),
        ("unknown".to_owned(), "wrong"),
    ] {
        let client = Http::new(world.server.url()).auth(Auth::Basic(user, password.to_owned()));
        assert_error(&client.get(&service, &[]).await, 401, 20003);
    }
    assert_error(&Http::new(world.server.url()).get(&service, &[]).await, 401, 20003);
    let unknown = entity(&fixture.service, "unknown-0001");
    assert_error(&world.backend().get(&unknown, &[]).await, 404, 20404);
    assert_error(&world.backend().get("/v2/nothing/user-0001", &[]).await, 404, 20404);
}

/// An expected sum: the metric's name, the labels that select samples, and the sum of those samples' values.
type ExpectedValue = (&'static str, &'static [(&'static str, &'static str)], f64);

const ROUTE: (&str, &str) = ("route", "/v2/Services/{ServiceSid}");
const METHOD: (&str, &str) = ("method", "GET");

/// The metric values expected at the end of the test.
const EXPECTED_VALUES: &[ExpectedValue] = &[
    ("countersign_ready", &[], 1.0),
    ("countersign_build_info", &[], 1.0),
    ("countersign_http_requests", &[ROUTE, METHOD, ("status", "401")], 6.0),
    ("countersign_http_request_duration_seconds", &[ROUTE, METHOD], 6.0),
    ("countersign_http_requests", &[("route", "-"), ("status", "404")], 1.0),
    ("countersign_http_requests_in_flight", &[], 0.0),
    ("countersign_authentication_failures", &[("caller", "account")], 1.0),
    ("countersign_authentication_failures", &[("caller", "api_key")], 1.0),
    ("countersign_authentication_failures", &[("caller", "enrollee")], 1.0),
    ("countersign_authentication_failures", &[("caller", "device")], 1.0),
    ("countersign_authentication_failures", &[("caller", "unknown")], 1.0),
    ("countersign_authentication_failures", &[("caller", "none")], 1.0),
    ("countersign_faults", &[], 0.0),
    ("countersign_challenges_created", &[("factor_type", "push")], 4.0),
    ("countersign_challenges_answered", &[("factor_type", "push"), ("answer", "approved")], 1.0),
    ("countersign_challenges_answered", &[("factor_type", "push"), ("answer", "denied")], 1.0),
    ("countersign_challenges_created", &[("factor_type", "totp")], 1.0),
    ("countersign_challenges_answered", &[("factor_type", "totp"), ("answer", "approved")], 1.0),
    ("countersign_challenges_expired", &[], 1.0),
    ("countersign_challenge_answer_time_seconds", &[], 3.0),
    ("countersign_factors_created", &[("factor_type", "push")], 2.0),
    ("countersign_factors_verified", &[("factor_type", "push")], 2.0),
    ("countersign_factors_created", &[("factor_type", "totp")], 1.0),
    ("countersign_factors_verified", &[("factor_type", "totp")], 1.0),
    ("countersign_totp_codes_refused", &[], 2.0),
    // Two factors created and two verified, two answers.
    ("countersign_delivery_attempts", &[("kind", "webhook"), ("outcome", "delivered")], 6.0),
    ("countersign_delivery_attempts", &[("kind", "webhook"), ("outcome", "failed")], 2.0),
    // Two webhooks that failed, and a push.
    ("countersign_delivery_attempts", &[("kind", "debugger"), ("outcome", "delivered")], 3.0),
    ("countersign_delivery_attempts", &[("kind", "push_fcm"), ("outcome", "delivered")], 2.0),
    ("countersign_delivery_attempts", &[("kind", "push_fcm"), ("outcome", "failed")], 1.0),
    ("countersign_delivery_attempts", &[("kind", "push_apns"), ("outcome", "delivered")], 1.0),
    ("countersign_delivery_time_seconds", &[("kind", "webhook")], 6.0),
    ("countersign_deliveries_owed", &[], 0.0),
    ("countersign_deliveries_oldest_owed_age_seconds", &[], 0.0),
    ("countersign_deliveries_overdue_seconds", &[], 0.0),
    ("countersign_pushes", &[("provider", "fcm"), ("outcome", "delivered")], 2.0),
    ("countersign_pushes", &[("provider", "fcm"), ("outcome", "gone")], 1.0),
    ("countersign_pushes", &[("provider", "apns"), ("outcome", "delivered")], 1.0),
    ("countersign_push_duration_seconds", &[("provider", "fcm")], 3.0),
    ("countersign_webhook_duration_seconds", &[], 11.0),
    ("countersign_database_connections_waiting", &[], 0.0),
    ("countersign_database_writes_waiting", &[], 0.0),
    ("countersign_database_failures", &[], 0.0),
    ("countersign_housekeeping_rounds", &[("outcome", "failed")], 0.0),
    ("countersign_tls_certificate_expiry_timestamp_seconds", &[], 0.0),
];

async fn wait_for_expected_values(metrics: &str) -> Exposition {
    let mut wrong = Vec::new();
    wait_until("the metrics have the expected values", WAIT_TIMEOUT, async || {
        let exposition = read(metrics).await;
        let is_wrong = |(name, labels, value): &&ExpectedValue| exposition.sum(name, labels) != *value;
        let now_wrong: Vec<_> = EXPECTED_VALUES.iter().filter(is_wrong).copied().collect();
        if wrong != now_wrong {
            println!("not yet: {now_wrong:?}");
            wrong = now_wrong;
        }
        wrong.is_empty().then_some(exposition)
    })
    .await
}

#[track_caller]
fn assert_database_metrics(exposition: &Exposition) {
    let sum = |name: &str| exposition.sum(name, &[]);
    let commits = sum("countersign_database_commit_seconds");
    assert!(commits >= 12.0 && sum("countersign_database_write_wait_seconds") >= commits);
    assert!(sum("countersign_database_batch_transactions") >= commits);
    let connections = sum("countersign_database_connections");
    assert!((1.0..=4.0).contains(&connections), "{connections}");
    assert!(sum("countersign_database_connections_idle") <= connections);
}

#[track_caller]
fn assert_housekeeping_metrics(exposition: &Exposition) {
    // Housekeeping runs once a minute.
    assert!(exposition.sum("countersign_housekeeping_rounds", &[("outcome", "done")]) >= 1.0);
    assert!(exposition.sum("countersign_housekeeping_duration_seconds", &[]) >= 1.0);
    assert_is_recent(exposition, "countersign_housekeeping_last_success_timestamp_seconds");
}

#[track_caller]
fn assert_process_metrics(exposition: &Exposition) {
    let sum = |name: &str| exposition.sum(name, &[]);
    assert_is_recent(exposition, "process_start_time_seconds");
    assert!((1e6..1e9).contains(&sum("process_resident_memory_bytes")));
    assert!(sum("process_open_fds") >= 10.0 && sum("process_open_fds") < sum("process_max_fds"));
}

/// Checks that the time in this metric is within the last ten minutes.
#[track_caller]
fn assert_is_recent(exposition: &Exposition, name: &str) {
    let now = SystemClock.now().seconds() as f64;
    assert!((now - 600.0..=now).contains(&exposition.sum(name, &[])), "{name}");
}

#[tokio::test]
async fn sqlite_database_and_disk_sizes_are_sampled() {
    let world = World::sqlite_with(&LISTEN);
    let Storage::Sqlite(data_dir) = world.storage.clone() else { unreachable!() };
    world.service().await;
    let metrics = address(|| world.server.log()).await;
    let exposition = wait_until("the disk size is sampled", WAIT_TIMEOUT, async || {
        let exposition = read(&metrics).await;
        (exposition.sum("countersign_disk_size_bytes", &[]) > 0.0).then_some(exposition)
    })
    .await;
    let sum = |name: &str| exposition.sum(name, &[]);
    let length = std::fs::metadata(data_dir.join("countersign.db")).unwrap().len() as f64;
    assert!((1.0..=length).contains(&sum("countersign_database_size_bytes")));
    assert!((1.0..1e9).contains(&sum("countersign_database_wal_size_bytes")));
    let (free, size) = (sum("countersign_disk_free_bytes"), sum("countersign_disk_size_bytes"));
    assert!(1e6 < free && free < size, "{free} of {size}");
    assert_eq!(sum("countersign_last_backup_timestamp_seconds"), 0.0);
}

#[tokio::test]
async fn last_backup_time_is_exposed_as_a_metric() {
    let mut world = World::sqlite_with(&LISTEN);
    let Storage::Sqlite(data_dir) = world.storage.clone() else { unreachable!() };
    let backup = data_dir.with_file_name("backup.db");
    let before = SystemClock.now().seconds() as f64;
    world.command(&["backup", backup.to_str().unwrap()]);
    let after = SystemClock.now().seconds() as f64;
    let is_that = |exposition: &Exposition| {
        let time = exposition.sum("countersign_last_backup_timestamp_seconds", &[]);
        (before..=after).contains(&time)
    };
    // The log before the restart contains the previous process's metrics address, so skip it.
    let former = world.server.log().len();
    world.server.restart();
    let metrics = address(|| world.server.log()[former..].to_owned()).await;
    wait_until("the last backup time is exposed", WAIT_TIMEOUT, async || {
        is_that(&read(&metrics).await).then_some(())
    })
    .await;

    let ours = data_dir.join("last-backup");
    assert!(
        world.refusal(&["backup", "--force", ours.to_str().unwrap()]).contains("is a file of the server")
    );
    // A backup succeeds even if its time cannot be recorded.
    std::fs::remove_file(&ours).unwrap();
    std::fs::create_dir(&ours).unwrap();
    world.command(&["backup", "--force", backup.to_str().unwrap()]);
}

#[tokio::test]
async fn postgres_database_size_is_sampled() {
    let test = "postgres_database_size_is_sampled";
    let Some(world) = World::postgres_with(test, &LISTEN) else { return };
    let metrics = address(|| world.server.log()).await;
    let exposition = wait_until("the database size is sampled", WAIT_TIMEOUT, async || {
        let exposition = read(&metrics).await;
        (exposition.sum("countersign_database_size_bytes", &[]) > 1e6).then_some(exposition)
    })
    .await;
    for name in
        ["database_wal_size_bytes", "disk_size_bytes", "disk_free_bytes", "last_backup_timestamp_seconds"]
    {
        assert_eq!(exposition.sum(&format!("countersign_{name}"), &[]), 0.0, "{name}");
    }
}

#[tokio::test]
async fn idle_metrics_connections_do_not_block_other_scrapes() {
    let world = World::ephemeral_with(&LISTEN);
    let metrics = address(|| world.server.log()).await;
    let silent: Vec<_> =
        (0..20).map(|_| TcpStream::connect(metrics.strip_prefix("http://").unwrap()).unwrap()).collect();
    read(&metrics).await;
    drop(silent);
    let reader = Http::new(&metrics);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 404), ("/v2/Services", 404)] {
        assert_eq!(reader.get(path, &[]).await.status, status, "{path}");
    }
    let refused = reader.post("/metrics", &[]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}
