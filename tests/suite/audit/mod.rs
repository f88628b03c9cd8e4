//! The audit log: a record for each change with its actor, address and request; the chain that detects tampering;
//! and the events of an account.

mod changes;
mod events;
mod rollback;
mod tampering;

use std::collections::BTreeMap;
use std::process::Command;

use device::Style;
use harness::{Auth, Http, Server, Storage, wait_until};
use serde_json::Value;

use crate::world::{BINARY, WAIT_TIMEOUT, World, created};

/// Returns the chained records, oldest first, once no record is unchained.
pub(crate) async fn exported(world: &World) -> Vec<Value> {
    wait_until("every record is chained", WAIT_TIMEOUT, async || {
        (!world.command(&["audit", "verify"]).contains("not chained")).then_some(())
    })
    .await;
    let export = world.command(&["audit", "export"]);
    export.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the checkpoint of the newest record.
pub(crate) fn head(world: &World) -> String {
    let output = world.command(&["audit", "verify"]);
    output.lines().find_map(|line| line.strip_prefix("head")).unwrap().trim().to_owned()
}

/// Returns the events in the list response for `query`.
async fn events(backend: &Http, query: &[(&str, &str)]) -> Vec<Value> {
    let reply = backend.get("/v1/Events", query).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["events"].as_array().unwrap().clone()
}

/// Creates an API key. Returns a client that uses it, and the key's SID.
fn with_api_key(world: &World) -> (Http, String) {
    let made = world.command(&["api-key", "create", world.server.account_sid()]);
    let value = |label: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(label)).unwrap();
        line.trim().to_owned()
    };
    let (sid, secret) = (value("api key sid"), value("secret"));
    (Http::new(world.server.url()).auth(Auth::Basic(sid.clone(), secret)), sid)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value}"))
}

/// Runs SQL past the server, like an attacker with write access to the database.
pub(crate) fn sql(world: &World, text: &str) {
    match (&world.storage, &world.database) {
        (Storage::Sqlite(data_dir), _) => {
            let file = data_dir.join("countersign.db");
            // The server may be writing.
            let output =
                Command::new("sqlite3").args(["-cmd", ".timeout 10000"]).arg(file).arg(text).output();
            let output = output.unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{text}: {output:?}");
        }
        (_, Some(database)) => drop(database.psql(text)),
        _ => panic!("there is no database"),
    }
}

#[tokio::test]
async fn two_servers_on_one_database_extend_the_same_audit_chain() {
    let Some(world) =
        World::postgres_with("audit::two_servers_on_one_database_extend_the_same_audit_chain", &[])
    else {
        return;
    };
    let other = Server::start(BINARY, world.storage.clone(), &[]);
    let backend = |url: &str| {
        let auth = Auth::Basic(world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
        Http::new(url).auth(auth)
    };
    let work = async |backend: Http| {
        let mut sids = Vec::new();
        for _ in 0..60 {
            let reply = backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
            sids.push(text(&created(&reply), "sid").to_owned());
        }
        sids
    };
    let urls = [world.server.url(), other.url(), world.server.url(), other.url()];
    let [a, b, c, d] = urls.map(|url| work(backend(url)));
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    let lines = exported(&world).await;
    let numbers: Vec<_> = lines.iter().map(|line| line["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let mut counts = BTreeMap::new();
    for line in lines.iter().filter(|line| line["event_type"] == "service.created") {
        *counts.entry(text(line, "resource_sid").to_owned()).or_insert(0) += 1;
    }
    let made = [a, b, c, d].concat();
    assert!(made.len() == 240 && counts.len() == 240 && made.iter().all(|sid| counts.get(sid) == Some(&1)));
}

/// A server chains its records when it stops; after a kill, the next command does.
#[tokio::test]
async fn stopped_server_leaves_no_unchained_audit_record() {
    let mut world = World::sqlite();
    world.enrolled(Style::Ios, &world.service().await, "zoe-0001").await;
    world.server.terminate();
    let output = world.command(&["audit", "verify"]);
    assert!(output.starts_with("records       6,") && !output.contains("not chained"), "{output}");
    let export = world.command(&["audit", "export", "--after", "4"]);
    assert_eq!(export.lines().count(), 2);

    world.server.restart();
    world.service().await;
    world.server.kill9();
    world.command(&["audit", "list"]);
    let output = world.command(&["audit", "verify"]);
    assert!(output.starts_with("records       7,") && !output.contains("not chained"), "{output}");
}
