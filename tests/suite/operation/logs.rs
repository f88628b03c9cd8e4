//! The log: both formats, the request id of related lines, and levels that change at run time.

use std::collections::BTreeSet;
use std::io::BufRead as _;

use serde_json::Value;

use super::*;
use crate::webhooks;
use crate::world::{World, created};

const ACCOUNT: [(&str, &str); 2] = [
    ("COUNTERSIGN_ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef"),
    ("COUNTERSIGN_AUTH_TOKEN", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
];

/// Returns the lines of a JSON log, each of which must be one object with the documented keys.
#[track_caller]
pub(crate) fn objects(log: &str) -> Vec<Value> {
    let object = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}")).to_owned();
        let time = text("timestamp");
        assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level").as_str()), "{line}");
        assert!(!text("target").is_empty() && object.get("message").is_some(), "{line}");
        let known = ["timestamp", "level", "target", "message", "fields", "request_id", "delivery"];
        assert!(object.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{line}");
        object
    };
    // The last line may be incomplete.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().map(object).collect()
}

#[tokio::test]
async fn each_json_log_line_is_one_object_with_the_request_id() {
    let place = Place::new();
    let server = Serving::start(
        &place.folder,
        &["--ephemeral", "--log-format", "json", "--log", "info,app=debug"],
        &ACCOUNT,
    )
    .await;
    let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
    let reply = backend.get("/v2/Services", &[]).await;
    let request_id = reply.header("twilio-request-id").unwrap().to_owned();
    let of_the_request = async || {
        let lines: Vec<_> =
            objects(&server.stderr()).into_iter().filter(|line| line["request_id"] == *request_id).collect();
        Some(lines).filter(|lines| lines.len() == 2)
    };
    let lines = wait_until("the request is logged", WAIT_TIMEOUT, of_the_request).await;
    assert_eq!(
        (&lines[0]["target"], &lines[0]["fields"]["claimant"]),
        (&"app::caller".into(), &"account".into())
    );
    assert_eq!(
        (&lines[1]["target"], &lines[1]["message"]),
        (&"web::middleware".into(), &"request finished".into())
    );
    let fields = &lines[1]["fields"];
    assert_eq!((&fields["route"], &fields["status"]), (&"/v2/Services".into(), &200.into()));
    server.stop().await;
}

#[tokio::test]
async fn logged_sql_statements_contain_the_request_id() {
    let test = "operation::logs::logged_sql_statements_contain_the_request_id";
    let arguments =
        ["--log-format", "json", "--log", "warn,sqlx=debug", "--webhook-allow-network", "127.0.0.0/8"];
    let Some(world) = World::postgres_with(test, &arguments) else { return };
    let reply = world.backend().post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
    let request_id = reply.header("twilio-request-id").unwrap().to_owned();
    let service = created(&reply)["sid"].as_str().unwrap().to_owned();
    // If the log level excludes the request's own line, its SQL statements still have the request id.
    let asked = |key: &str, id: &str| {
        let lines = objects(&world.server.log()).into_iter().filter(|line| line[key] == *id);
        lines
            .map(|line| line["fields"]["summary"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    wait_until("the statements are logged", WAIT_TIMEOUT, async || {
        let summaries = asked("request_id", &request_id);
        let has = |expected: &str| summaries.iter().any(|summary| summary.starts_with(expected));
        (has("SELECT") && has("INSERT INTO services")).then_some(())
    })
    .await;

    // Likewise the statements of a delivery.
    let receiver = harness::Receiver::start([harness::Answer::ok()]);
    let webhook = webhooks::webhook(&world, &service, &receiver.at("/"), &[]).await;
    webhooks::event(&world, &service, "user-0001").await;
    let shown = wait_until("the webhook is delivered", WAIT_TIMEOUT, async || {
        let calls = receiver.calls();
        calls.first().map(|call| call.header("I-Twilio-Idempotency-Token").to_owned())
    })
    .await;
    wait_until("the statements are logged", WAIT_TIMEOUT, async || {
        asked("delivery", &shown).iter().any(|summary| summary.starts_with("SELECT")).then_some(())
    })
    .await;
    assert!(!webhook.is_empty());
}

#[tokio::test]
async fn log_level_can_be_changed_while_the_server_runs() {
    let place = Place::new();
    place.file("countersign.toml", "log = \"warn\"");
    let server = Serving::start(&place.folder, &["--ephemeral"], &ACCOUNT).await;
    let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
    let wait_for_line = async |expected: &str, times: usize| {
        let often = async || (server.stderr().matches(expected).count() == times).then_some(());
        wait_until(&format!("{expected} was logged {times} times"), WAIT_TIMEOUT, often).await;
    };
    // Returns the number of log lines of one request.
    let lines = async || {
        let reply = backend.get("/v2/Services", &[]).await;
        assert_eq!(reply.status, 200);
        // They are written before the response is sent.
        let id = reply.header("twilio-request-id").unwrap();
        server.stderr().lines().filter(|line| line.contains(id)).count()
    };
    assert_eq!(lines().await, 0);

    server.signal("USR1");
    wait_for_line("log level raised to debug", 1).await;
    assert_eq!(lines().await, 2);
    server.signal("USR1");
    wait_for_line("log level restored", 1).await;
    assert_eq!(lines().await, 0);

    place.file("countersign.toml", "log = \"warn,web=info\"");
    server.signal("HUP");
    wait_for_line("log levels reloaded", 1).await;
    assert_eq!(lines().await, 1);

    for wrong in ["log = \"api=much\"", "log = ", "lag = \"info\""] {
        let before = server.stderr().matches("previous ones stay in use").count();
        place.file("countersign.toml", wrong);
        server.signal("HUP");
        wait_for_line("previous ones stay in use", before + 1).await;
        assert_eq!(lines().await, 1, "{wrong}");
    }
    server.stop().await;

    // An option from a higher layer than the file does not change.
    place.file("countersign.toml", "log = \"info\"");
    let server = Serving::start(&place.folder, &["--ephemeral", "--log", "warn"], &ACCOUNT).await;
    server.signal("HUP");
    server.signal("USR1");
    wait_until("the signal was handled", WAIT_TIMEOUT, async || {
        server.stderr().contains("raised to debug").then_some(())
    })
    .await;
    assert!(!server.stderr().contains("reloaded"));
    server.stop().await;
}

#[tokio::test]
async fn closed_log_pipe_does_not_stop_the_server() {
    for format in ["human", "json"] {
        let place = Place::new();
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--ephemeral", "--log", "debug", "--log-format", format];
        let mut command = countersign(&place.folder, &arguments);
        let mut child = command.envs(ACCOUNT).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("countersign listening on ").unwrap().to_owned();
        drop(child.stderr.take());
        let backend = Http::new(&url).auth(Auth::Basic(ACCOUNT[0].1.to_owned(), ACCOUNT[1].1.to_owned()));
        let statuses: BTreeSet<_> = [
            backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await.status,
            backend.get("/v2/Services", &[]).await.status,
            backend.get("/nothing", &[]).await.status,
            backend.get("/readyz", &[]).await.status,
        ]
        .into();
        assert_eq!(statuses, BTreeSet::from([200, 201, 404]), "{format}");
        let pid = child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
        let status = wait_until("the server ends", WAIT_TIMEOUT, async || child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "{format}");
    }
}
