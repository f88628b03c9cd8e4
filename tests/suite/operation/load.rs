//! The command `load`, against a real server.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::world::World;

/// A folder from which the command is called, and the server that it puts under load.
struct LoadFixture {
    world: World,
    place: Place,
}

impl LoadFixture {
    fn new() -> Self {
        Self { world: World::ephemeral(), place: Place::new() }
    }

    /// Returns the command for this server, with the account's credentials in the environment.
    fn command(&self, arguments: &str) -> Command {
        let mut command = load(&self.place.folder, arguments);
        command.args(["--host", self.world.server.url()]);
        command.env("COUNTERSIGN_ACCOUNT_SID", self.world.server.account_sid());
        command.env("COUNTERSIGN_AUTH_TOKEN", self.world.server.auth_token());
        command
    }

    /// Runs the command with `--json` and returns its report.
    fn report(&self, arguments: &str) -> Value {
        let output = succeed(self.command(arguments).arg("--json"));
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// Like [`report`](Self::report), for a load of `count` requests at fixed times. Repeats a run in which a busy machine
    /// left requests out at the end.
    fn report_of_all(&self, arguments: &str, count: u64) -> Value {
        let mut rounds = 0;
        loop {
            let report = self.report(arguments);
            let number = |name: &str| report[name].as_u64().unwrap();
            assert_eq!(
                (number("failed"), number("completed") + number("not_started")),
                (0, count),
                "{report}"
            );
            rounds += 1;
            if number("not_started") == 0 || rounds == 3 {
                return report;
            }
        }
    }

    async fn service_count(&self) -> usize {
        let reply = self.world.backend().get("/v2/Services", &[]).await;
        reply.json()["services"].as_array().unwrap().len()
    }
}

/// Returns the command `load` with these arguments and without credentials.
fn load(folder: &Path, arguments: &str) -> Command {
    let mut command = countersign(folder, &["load"]);
    command.args(arguments.split_whitespace());
    command
}

/// Returns the number of requests of each step, by name.
fn step_counts(report: &Value) -> Vec<(&str, u64)> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|step| (step["step"].as_str().unwrap(), step["count"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn full_cycles_are_counted_measured_and_cleaned_up() {
    let fixture = LoadFixture::new();
    let report = fixture.report("--duration 3s --warmup 200ms --concurrency 4 --phones 6");
    let completed = report["completed"].as_u64().unwrap();
    assert!(completed >= 4, "{report}");
    assert_eq!((&report["failed"], &report["errors"]), (&0.into(), &Value::Array(Vec::new())), "{report}");
    let steps = ["create", "list", "get", "answer", "read"].map(|step| (step, completed));
    assert_eq!(step_counts(&report), steps, "{report}");
    assert_eq!(report["requests"], completed * 5);

    // The latency of a cycle is that of its five requests, one after the other.
    let median = |latency: &Value| latency["p50_ms"].as_f64().unwrap();
    let (cycle, longest) = (median(&report["latency"]), report["latency"]["max_ms"].as_f64().unwrap());
    assert!(report["steps"].as_array().unwrap().iter().all(|step| median(step) < cycle), "{report}");
    assert!(cycle > 0.0 && longest >= cycle, "{report}");

    assert!(report["driver"]["cpu_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["server"]["pid"], fixture.world.server.pid(), "{report}");
    assert!(report["server"]["cpu_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["server"]["context_switches_per_request"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(fixture.service_count().await, 0, "the service of the run still exists");
}

#[tokio::test]
async fn codes_are_sent_and_checked() {
    let fixture = LoadFixture::new();
    let report = fixture.report("--scenario codes --duration 500ms --warmup 0s --concurrency 4");
    let completed = report["completed"].as_u64().unwrap();
    assert!(completed >= 4, "{report}");
    assert_eq!((&report["unit"], &report["failed"]), (&"code".into(), &0.into()), "{report}");
    assert_eq!(step_counts(&report), ["send", "check"].map(|step| (step, completed)), "{report}");
    assert_eq!(fixture.service_count().await, 0, "the service of the run still exists");

    // The run ends when every prepared code is checked.
    let mix = "--scenario send,check=2 --challenges 40 --concurrency 4 --duration 20s --warmup 0s";
    let report = fixture.report(mix);
    assert_eq!(report["failed"], 0, "{report}");
    assert!(step_counts(&report).contains(&("check", 40)), "{report}");
}

#[tokio::test]
async fn fixed_rate_is_kept() {
    let fixture = LoadFixture::new();
    let arguments = "--scenario service --rate 50 --duration 2s --warmup 100ms --phones 1";
    let report = fixture.report_of_all(arguments, 100);
    assert_eq!((&report["completed"], &report["not_started"]), (&100.into(), &0.into()), "{report}");
    assert_eq!(step_counts(&report), [("service", 100)], "{report}");
    let per_second = report["per_second"].as_f64().unwrap();
    assert!((45.0..=55.0).contains(&per_second), "{report}");
}

#[tokio::test]
async fn each_kind_of_request_can_be_mixed() {
    let fixture = LoadFixture::new();
    let mix = "--scenario create,list,get=2,answer,read,service --challenges 40 --concurrency 4 --phones 4 --threads 2";
    let report = fixture.report(&format!("{mix} --duration 20s --warmup 0s"));
    assert_eq!((&report["failed"], &report["errors"]), (&0.into(), &Value::Array(Vec::new())), "{report}");
    // The run ends when every prepared challenge is answered.
    let counts = step_counts(&report);
    assert!(counts.contains(&("answer", 40)), "{report}");
    assert_eq!(counts.len(), 6, "{report}");
}

#[tokio::test]
async fn each_phone_polls_once_per_interval() {
    let fixture = LoadFixture::new();
    let arguments = "--scenario poll --phones 20 --poll-interval 500ms --duration 1s --warmup 0s";
    let report = fixture.report_of_all(arguments, 40);
    assert_eq!((&report["unit"], &report["completed"]), (&"poll".into(), &40.into()), "{report}");
}

#[tokio::test]
async fn users_of_an_existing_service_are_deleted_and_the_service_is_kept() {
    let fixture = LoadFixture::new();
    let service = fixture.world.service().await;
    let arguments =
        format!("--service {service} --push --duration 300ms --warmup 0s --concurrency 2 --phones 3");
    let entities = async || {
        let path = format!("/v2/Services/{service}/Entities");
        fixture.world.backend().get(&path, &[]).await.json()["entities"].as_array().unwrap().len()
    };
    let kept = fixture.report(&format!("{arguments} --keep"));
    assert_eq!((&kept["failed"], &kept["service"]), (&0.into(), &service.as_str().into()), "{kept}");
    assert_eq!(entities().await, 3);
    fixture.report(&arguments);
    assert_eq!(entities().await, 3);
}

#[tokio::test]
async fn refused_requests_are_reported_by_status_and_code() {
    let limited = World::ephemeral_with(&["--max-challenges-per-factor-per-minute", "1"]);
    let fixture = LoadFixture { world: limited, place: Place::new() };
    let arguments = "--scenario create --duration 3s --warmup 0s --concurrency 2 --phones 2";
    let report = fixture.report(arguments);
    assert_eq!(report["completed"], 2, "{report}");
    let error = &report["errors"][0];
    assert_eq!((&error["step"], &error["status"]), (&"create".into(), &429.into()), "{report}");
    assert!(error["code"].as_i64().is_some() && error["count"] == report["failed"], "{report}");
}

#[tokio::test]
async fn text_report_shows_throughput_latencies_and_usage() {
    let fixture = LoadFixture::new();
    let printed = succeed(&mut fixture.command("--duration 300ms --warmup 0s --concurrency 2 --phones 2"));
    for expected in ["cycles, ", " per second", "p99.9", "  answer", "ms of CPU per cycle", "MiB resident"] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[tokio::test]
async fn load_without_host_credentials_or_server_is_refused() {
    let fixture = LoadFixture::new();
    let folder = &fixture.place.folder;
    refuse(&mut load(folder, ""), &["--host", "no default"]);
    refuse(&mut load(folder, "--host http://127.0.0.1:1"), &["COUNTERSIGN_ACCOUNT_SID"]);
    let mut command = fixture.command("");
    refuse(command.env_remove("COUNTERSIGN_AUTH_TOKEN"), &["COUNTERSIGN_AUTH_TOKEN_FILE"]);
    let mut command = fixture.command("");
    refuse(command.env("COUNTERSIGN_AUTH_TOKEN", "wrong"), &["refused the credentials"]);
    let mut command = load(folder, "--host http://127.0.0.1:1 --account-sid AC --auth-token x");
    refuse(&mut command, &["cannot connect to http://127.0.0.1:1"]);
    let other_service = format!("--service VA{}", "0".repeat(32));
    refuse(&mut fixture.command(&other_service), &["cannot read the service", "404"]);
    refuse(&mut fixture.command("--phones 1"), &["--phones 1", "--concurrency 32"]);
}
