//! The audit log: a line for each change, which says who, from where and in which request; a chain that shows what
//! was done to it; and the events of an account.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use device::Style;
use harness::{Auth, Http, Reply, Server, Storage, wait_until};
use serde_json::{Value, json};

use crate::world::{BINARY, World, assert_error, created, entity, on_every_database, signed_in};

/// How long a machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The chained lines, oldest first, once none waits any more.
pub(crate) async fn exported(world: &World) -> Vec<Value> {
    wait_until("every line is chained", PATIENCE, async || {
        (!world.command(&["audit", "verify"]).contains("not chained")).then_some(())
    })
    .await;
    let export = world.command(&["audit", "export"]);
    export.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The mark of the newest line.
pub(crate) fn head(world: &World) -> String {
    let said = world.command(&["audit", "verify"]);
    said.lines().find_map(|line| line.strip_prefix("head")).unwrap().trim().to_owned()
}

/// The events of a list.
async fn events(backend: &Http, query: &[(&str, &str)]) -> Vec<Value> {
    let reply = backend.get("/v1/Events", query).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["events"].as_array().unwrap().clone()
}

/// A backend that signs in with an API key, and its SID.
fn with_api_key(world: &World) -> (Http, String) {
    let made = world.command(&["api-key", "create", world.server.account_sid()]);
    let value = |words: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(words)).unwrap();
        line.trim().to_owned()
    };
    let (sid, secret) = (value("api key sid"), value("secret"));
    (Http::new(world.server.url()).auth(Auth::Basic(sid.clone(), secret)), sid)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key}: {value}"))
}

/// A line that is expected: who did what to what, in which request.
struct Expected {
    actor_type: &'static str,
    actor: String,
    event_type: &'static str,
    resource: String,
    request: Option<String>,
}

on_every_database! {
    async fn each_change_leaves_its_line(world: World) {
        let account = world.server.account_sid().to_owned();
        let (backend, (keyed, key_sid)) = (world.backend(), with_api_key(&world));
        let mut expected = Vec::new();
        let mut expect = |actor: (&'static str, &str), event_type, resource: &str, reply: Option<&Reply>| {
            let request = reply.map(|reply| {
                assert!(reply.status < 300, "{reply:?}");
                reply.header("twilio-request-id").unwrap().to_owned()
            });
            let (actor_type, actor) = (actor.0, actor.1.to_owned());
            expected.push(Expected { actor_type, actor, event_type, resource: resource.to_owned(), request });
        };
        let (by_account, by_key) = (("account", account.as_str()), ("api-key", key_sid.as_str()));
        let operator = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        let operator = if operator.is_empty() { "operator".to_owned() } else { operator };
        let by_operator = ("operator", operator.as_str());
        let sid_of = |reply: &Reply| text(&reply.json(), "sid").to_owned();

        expect(by_operator, "account.created", &account, None);
        expect(by_operator, "api-key.created", &key_sid, None);
        let reply = keyed.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
        let service = sid_of(&reply);
        expect(by_key, "service.created", &service, Some(&reply));
        let service_path = format!("/v2/Services/{service}");
        let reply = backend.post(&service_path, &[("Push.IncludeDate", "true"), ("TtsName", "Owl")]).await;
        expect(by_account, "service.updated", &service, Some(&reply));

        let form = [("Identity", "zoe-0001"), ("FactorType", "push"), ("Ttl", "300")];
        let reply = backend.post(&format!("{service_path}/AccessTokens"), &form).await;
        let token = reply.json();
        let enrollee = text(&token, "sid").to_owned();
        expect(by_account, "access-token.created", &enrollee, Some(&reply));
        let key = device::SigningKey::generate();
        let form = [
            ("FriendlyName", "Zoe's phone"),
            ("FactorType", "push"),
            ("Binding.PublicKey", &key.public_key_base64()),
            ("Config.AppId", "com.example.app"),
            ("Config.NotificationPlatform", "fcm"),
            ("Config.NotificationToken", "registration-token"),
        ];
        let phone = Http::new(world.server.url()).auth(signed_in(text(&token, "token")));
        let reply = phone.post(&format!("{}/Factors", entity(&service, "zoe-0001")), &form).await;
        let (factor, zoe) = (sid_of(&reply), text(&reply.json(), "entity_sid").to_owned());
        expect(("enrollee", &enrollee), "entity.created", &zoe, Some(&reply));
        expect(("enrollee", &enrollee), "factor.created", &factor, Some(&reply));

        // The rest is done by a device that can sign in at any time.
        let device = world.device(&service, "ann-0001").await;
        let (enrollment, by_device) = (&device.enrollment, ("device", device.enrollment.factor_sid.as_str()));
        let ann = backend.get(&entity(&service, "ann-0001"), &[]).await.json();
        let list = backend.get("/v1/Events", &[("EventType", "access-token.created")]).await.json();
        let token = text(&list["events"][0], "resource_sid").to_owned();
        assert_ne!(token, enrollee);
        expect(by_account, "access-token.created", &token, None);
        expect(("enrollee", &token), "entity.created", text(&ann, "sid"), None);
        expect(("enrollee", &token), "factor.created", &enrollment.factor_sid, None);
        expect(by_device, "factor.verified", &enrollment.factor_sid, None);
        let own = Http::new(world.server.url()).auth(device.auth());
        let reply = own.post(&device.path(), &[("FriendlyName", "Ann's phone")]).await;
        expect(by_device, "factor.updated", &enrollment.factor_sid, Some(&reply));

        let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
        let ask = async || keyed.post(&device.challenges(), &form).await;
        for (answer, event_type) in [
            (device::Answer::Approved, "challenge.approved"),
            (device::Answer::Denied, "challenge.denied"),
        ] {
            let reply = ask().await;
            let challenge = sid_of(&reply);
            expect(by_key, "challenge.created", &challenge, Some(&reply));
            device.phone.answer(enrollment, &challenge, answer).await.unwrap();
            expect(by_device, event_type, &challenge, None);
            let path = format!("{}/{challenge}", device.challenges());
            let reply = own.post(&path, &[("Metadata", r#"{"what":"secret"}"#)]).await;
            expect(by_device, "challenge.updated", &challenge, Some(&reply));
        }

        let form = [
            ("FriendlyName", "Hook"),
            ("WebhookUrl", "https://backend.example.com/secret-path"),
            ("EventTypes", "*"),
            ("Status", "disabled"),
        ];
        let reply = backend.post(&format!("{service_path}/Webhooks"), &form).await;
        let webhook = sid_of(&reply);
        expect(by_account, "webhook.created", &webhook, Some(&reply));
        let path = format!("{service_path}/Webhooks/{webhook}");
        let reply = backend.post(&path, &[("Version", "v1"), ("FriendlyName", "Hook")]).await;
        expect(by_account, "webhook.updated", &webhook, Some(&reply));
        expect(by_account, "webhook.deleted", &webhook, Some(&backend.delete(&path, &[]).await));

        let key = harness::stand_in::pki::Key::p256().pkcs8();
        let form = [("Type", "apn"), ("PrivateKey", &*key), ("KeyId", "ABC123DEFG"), ("TeamId", "TEAM123456")];
        let reply = backend.post("/v1/Credentials", &form).await;
        let credential = sid_of(&reply);
        expect(by_account, "credential.created", &credential, Some(&reply));
        let path = format!("/v1/Credentials/{credential}");
        let reply = backend.post(&path, &[("FriendlyName", "Push"), ("Sandbox", "true")]).await;
        expect(by_account, "credential.updated", &credential, Some(&reply));
        expect(by_account, "credential.deleted", &credential, Some(&backend.delete(&path, &[]).await));

        let reply = own.delete(&device.path(), &[]).await;
        expect(by_device, "factor.deleted", &enrollment.factor_sid, Some(&reply));
        let reply = backend.delete(&entity(&service, "ann-0001"), &[]).await;
        expect(by_account, "entity.deleted", text(&ann, "sid"), Some(&reply));
        let form = [("Identity", "bob-0001")];
        let reply = backend.post(&format!("{service_path}/Entities"), &form).await;
        expect(by_account, "entity.created", &sid_of(&reply), Some(&reply));
        expect(by_account, "service.deleted", &service, Some(&backend.delete(&service_path, &[]).await));
        world.command(&["account", "set", &account, "--debugger-webhook", "https://debugger.example.com/"]);
        expect(by_operator, "account.updated", &account, None);
        world.command(&["api-key", "revoke", &key_sid]);
        expect(by_operator, "api-key.revoked", &key_sid, None);

        // What changes nothing leaves no line: readings, refusals, what is done already.
        assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
        assert_error(&backend.delete(&service_path, &[]).await, 404, 20404);
        assert_error(&backend.post("/v2/Services", &[]).await, 400, 20001);

        let lines = exported(&world).await;
        let types = |lines: Vec<&str>| lines.join("\n");
        let found: Vec<_> = lines.iter().map(|line| text(line, "event_type")).collect();
        assert_eq!(types(found), types(expected.iter().map(|line| line.event_type).collect()));
        for (number, (line, expected)) in lines.iter().zip(&expected).enumerate() {
            let who = (text(line, "actor_type"), text(line, "actor"), text(line, "resource_sid"));
            assert_eq!(who, (expected.actor_type, &*expected.actor, &*expected.resource), "{line}");
            assert_eq!((line["account_sid"].as_str(), line["number"].as_u64()), (Some(&*account), Some(number as u64 + 1)));
            if expected.actor_type == "operator" {
                assert!(line["address"].is_null() && line["request_sid"].is_null(), "{line}");
            } else {
                assert_eq!(line["address"], "127.0.0.1", "{line}");
                assert!(text(line, "request_sid").starts_with("RQ"), "{line}");
            }
            if let Some(request) = &expected.request {
                assert_eq!(line["request_sid"], *request, "{line}");
            }
        }
        // The names of what was changed, and nothing of what it was or is.
        let data = |event_type: &str| {
            let found = lines.iter().find(|line| line["event_type"] == event_type).unwrap();
            found["data"].clone()
        };
        assert_eq!(data("service.updated"), json!({ "changed": ["push.include_date", "tts_name"] }));
        assert_eq!(data("factor.updated")["changed"], json!(["friendly_name"]));
        assert_eq!(data("challenge.updated")["changed"], json!(["metadata"]));
        assert_eq!(data("webhook.updated")["changed"], json!(["version"]));
        assert_eq!(data("credential.updated")["changed"], json!(["friendly_name", "sandbox"]));
        assert_eq!(data("account.updated"), json!({ "changed": ["debugger_webhook"] }));
        let all = world.command(&["audit", "export"]) + &world.command(&["audit", "list", "--limit", "1000"]);
        for personal in ["zoe", "ann-", "Ann", "Owl", "secret", "registration-token", "com.example", "debugger.example"] {
            assert!(!all.contains(personal), "{personal}");
        }

        // The account sees all of it that concerns it, but no operator's name.
        let listed = events(&backend, &[("PageSize", "1000")]).await;
        let sids = |lines: &[Value]| lines.iter().map(|line| text(line, "sid").to_owned()).collect::<Vec<_>>();
        let mut newest_first = sids(&lines);
        newest_first.reverse();
        assert_eq!(sids(&listed), newest_first);
        let by_hand = listed.iter().filter(|event| event["actor_type"] == "operator");
        assert!(by_hand.clone().count() == 4 && by_hand.clone().all(|event| event["actor_sid"].is_null()));

        // The operator finds what somebody did, and what was done to something.
        let list = |arguments: &[&str]| {
            let listed = world.command(&[&["audit", "list"], arguments].concat());
            listed.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(list(&["--actor", &key_sid]).len(), 3);
        let of_factor = list(&["--resource", &enrollment.factor_sid]);
        assert_eq!(of_factor.len(), 4);
        assert!(of_factor[0].contains("factor.deleted") && of_factor[3].contains("factor.created"), "{of_factor:?}");
        assert_eq!(list(&["--since", "2026-01-01", "--limit", "2"]).len(), 2);
        assert_eq!(list(&["--since", "2999-01-01T00:00:00Z"]), [""; 0]);
        assert!(world.refusal(&["audit", "list", "--since", "yesterday"]).contains("ISO 8601"));
    }
}

on_every_database! {
    async fn events_are_chosen_and_listed_in_pages(world: World) {
        let (backend, (keyed, key_sid)) = (world.backend(), with_api_key(&world));
        let services = [world.service().await, world.service().await];
        let path = |service: &str| format!("/v2/Services/{service}");
        assert_eq!(keyed.post(&path(&services[0]), &[("TtsName", "Owl")]).await.status, 200);
        let all = events(&backend, &[]).await;
        assert_eq!(all.len(), 5, "account, API key, two services, one of them changed: {all:?}");
        assert!(all.iter().map(|event| text(event, "event_date")).is_sorted_by(|one, next| one >= next));

        let update = &all[0];
        let (account, sid) = (world.server.account_sid(), text(update, "sid"));
        assert!(sid.starts_with("AE") && sid.len() == 34, "{update}");
        let expected = json!({
            "sid": sid,
            "account_sid": account,
            "actor_sid": key_sid,
            "actor_type": "api-key",
            "description": null,
            "event_data": { "changed": ["tts_name"] },
            "event_date": update["event_date"],
            "event_type": "service.updated",
            "resource_sid": services[0],
            "resource_type": "service",
            "source": "api",
            "source_ip_address": "127.0.0.1",
            "url": format!("{}/v1/Events/{sid}", world.server.url()),
            "links": { "resource": format!("{}{}", world.server.url(), path(&services[0])) },
        });
        assert_eq!(*update, expected);
        assert_eq!(backend.get(&format!("/v1/Events/{sid}"), &[]).await.json(), expected);
        assert_eq!(all[4]["source"], "command-line");

        let (last, first) = (text(&all[0], "event_date"), text(&all[4], "event_date"));
        let capitals = format!("SK{}", key_sid[2..].to_uppercase());
        let nobody = format!("YF{}", "0".repeat(32));
        for (query, count) in [
            (&[("ActorSid", &*key_sid)][..], 1),
            (&[("ActorSid", &capitals)], 1),
            (&[("ActorSid", account)], 2),
            (&[("ActorSid", &nobody)], 0),
            (&[("EventType", "service.created")], 2),
            (&[("EventType", "service")], 0),
            (&[("ResourceSid", &services[0])], 2),
            (&[("ResourceSid", &services[0]), ("EventType", "service.created")], 1),
            (&[("SourceIpAddress", "127.0.0.1")], 3),
            (&[("SourceIpAddress", "::ffff:127.0.0.1")], 3),
            (&[("SourceIpAddress", "192.0.2.1")], 0),
            (&[("StartDate", first), ("EndDate", last)], 5),
            (&[("StartDate", &first[..10]), ("EndDate", &last[..10])], 5),
            (&[("EndDate", "2020-01-01")], 0),
            (&[("StartDate", "2999-01-01")], 0),
            (&[("ActorSid", ""), ("EventType", ""), ("ResourceSid", ""), ("SourceIpAddress", "")], 5),
        ] {
            assert_eq!(events(&backend, query).await.len(), count, "{query:?}");
        }
        for bad in [
            ("ActorSid", "me"),
            ("ResourceSid", "VA0"),
            ("SourceIpAddress", "localhost"),
            ("StartDate", "yesterday"),
            ("EndDate", "1767225600"),
        ] {
            assert_error(&backend.get("/v1/Events", &[bad]).await, 400, 60306);
        }

        let (mut listed, mut sizes) = (Vec::new(), Vec::new());
        let mut next = Some("/v1/Events?PageSize=2&StartDate=2020-01-01".to_owned());
        while let Some(url) = next {
            let page = backend.get(&url, &[]).await.json();
            assert_eq!(page["meta"]["key"], "events");
            sizes.push(page["events"].as_array().unwrap().len());
            listed.extend(page["events"].as_array().unwrap().clone());
            next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
            assert!(next.iter().all(|url| url.contains("StartDate=2020-01-01")), "{next:?}");
        }
        assert_eq!((listed, sizes), (all.clone(), vec![2, 2, 1]));

        // Others have nothing to do with it.
        let made = world.command(&["account", "create", "--name", "Stranger"]);
        let words: Vec<_> = made.split_whitespace().collect();
        let other = words.iter().find(|word| word.starts_with("AC")).unwrap();
        let password = words[words.len() - 1];
        let stranger = Http::new(world.server.url()).auth(Auth::Basic((*other).to_owned(), password.to_owned()));
        let theirs = events(&stranger, &[]).await;
        assert_eq!((theirs.len(), text(&theirs[0], "event_type")), (1, "account.created"));
        assert_error(&stranger.get(&format!("/v1/Events/{sid}"), &[]).await, 404, 20404);
    }
}

/// Runs SQL past the server, as an attacker does who may write into the database.
pub(crate) fn sql(world: &World, text: &str) {
    match (&world.storage, &world.database) {
        (Storage::Sqlite(data_dir), _) => {
            let file = data_dir.join("countersign.db");
            // A server may be writing.
            let output =
                Command::new("sqlite3").args(["-cmd", ".timeout 10000"]).arg(file).arg(text).output();
            let output = output.unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{text}: {output:?}");
        }
        (_, Some(database)) => drop(database.psql(text)),
        _ => panic!("there is no database"),
    }
}

/// Puts the log back as it was kept.
fn undo(world: &World) {
    sql(world, "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept_log");
    sql(world, "DELETE FROM audit_chain; INSERT INTO audit_chain SELECT * FROM kept_chain");
}

on_every_database! {
    async fn whatever_is_done_to_the_chain_shows(world: World) {
        let mut world = world;
        if matches!(world.storage, Storage::Sqlite(_)) && Command::new("sqlite3").arg("-version").output().is_err() {
            eprintln!("SKIPPED whatever_is_done_to_the_chain_shows::sqlite: there is no sqlite3");
            return;
        }
        for _ in 0..5 {
            world.service().await;
        }
        let lines = exported(&world).await;
        assert_eq!(lines.len(), 6);
        world.server.terminate();
        let noted = head(&world);
        assert_eq!(noted, format!("6:{}", text(&lines[5], "mac")));
        let of_the_table = if world.database.is_some() { " ON audit_log" } else { "" };
        for trigger in ["audit_log_stays", "audit_log_is_kept"] {
            sql(&world, &format!("DROP TRIGGER {trigger}{of_the_table}"));
        }
        sql(&world, "CREATE TABLE kept_log AS SELECT * FROM audit_log");
        sql(&world, "CREATE TABLE kept_chain AS SELECT * FROM audit_chain");
        // Does this, hears what the check says of it, and undoes it.
        let try_to = |text: &str, words: &str| {
            sql(&world, text);
            let refusal = world.refusal(&["audit", "verify"]);
            assert!(refusal.contains(words), "{text}: {refusal}");
            undo(&world);
        };

        for change in [
            "actor_type = 'operator'",
            "actor = NULL",
            "event_type = 'service.deleted'",
            "resource_sid = 'VA00000000000000000000000000000000'",
            "data = '{} '",
            "address = '192.0.2.1'",
            "request_sid = NULL",
            "created_at = created_at + 1",
            "account_sid = NULL",
            "mac = 'none'",
            "sid = 'AE00000000000000000000000000000000'",
        ] {
            try_to(&format!("UPDATE audit_log SET {change} WHERE number = 3"), "line 3 was changed");
        }
        try_to("DELETE FROM audit_log WHERE number = 1", "lines are missing from 1 to 1");
        try_to("DELETE FROM audit_log WHERE number IN (3, 4)", "lines are missing from 3 to 4");
        try_to("DELETE FROM audit_log WHERE number = 6", "lines are missing from 6 to 6");
        try_to("DELETE FROM audit_log", "lines are missing from 1 to 6");
        let swap = "UPDATE audit_log SET number = 100 WHERE number = 2; \
                    UPDATE audit_log SET number = 2 WHERE number = 4; \
                    UPDATE audit_log SET number = 4 WHERE number = 100";
        try_to(swap, "line 2 now stands as line 4");
        try_to("UPDATE audit_log SET number = 7 WHERE number = 6", "lines are missing from 6 to 6");
        let line = "INSERT INTO audit_log (sid, number, mac, actor_type, event_type, data, created_at) \
                    SELECT 'AE00000000000000000000000000000000', 7, mac, actor_type, event_type, data, created_at \
                    FROM audit_log WHERE number = 6";
        try_to(line, "line 7 was added");
        // Who takes lines off an end can't say that it has always been there.
        let ends = "the two ends";
        let cut = "DELETE FROM audit_log WHERE number > 4; UPDATE audit_chain SET head_number = 4, \
                   head_mac = (SELECT mac FROM audit_log WHERE number = 4)";
        try_to(cut, ends);
        let begun_later = "UPDATE audit_chain SET removed_number = 2, \
                           removed_mac = (SELECT mac FROM audit_log WHERE number = 2); \
                           DELETE FROM audit_log WHERE number <= 2";
        try_to(begun_later, ends);
        try_to("UPDATE audit_chain SET seal = head_mac", ends);

        try_to(&line.replace(", 7, mac", ", 0, mac"), "line 0 was added");
        // An attacker who may change the schema can drop what keeps numbers apart, and number and MAC together.
        sql(&world, "DROP INDEX audit_log_chained");
        try_to(&line.replace(", 7, mac", ", 3, mac"), "line 3 ");
        let copy = line.replace("number = 6", "number = 3").replace(", 7, mac", ", 3, mac");
        // One of both is found to be another line than that which was chained, or both are found.
        try_to(&copy, "line 3 ");
        let unchecked = if world.database.is_some() {
            "ALTER TABLE audit_log DROP CONSTRAINT audit_log_check"
        } else {
            "PRAGMA ignore_check_constraints = ON"
        };
        let half = line.replace(", 7, mac", ", NULL, mac");
        try_to(&format!("{unchecked}; {half}"), "has only one of a number and a MAC");
        // What was not written by a server does not become part of the chain.
        try_to(&half.replace("number, mac,", "").replace("NULL, mac,", ""), "carry no valid MAC");

        // Nor does a server go on as if nothing had happened.
        for change in ["UPDATE audit_chain SET head_number = 4", "DELETE FROM audit_chain"] {
            let complaints = |world: &World| world.server.log().matches("the audit log is not chained for now").count();
            world.server.restart();
            let before = complaints(&world);
            sql(&world, change);
            world.service().await;
            wait_until("the server complains", PATIENCE, async || (complaints(&world) > before).then_some(())).await;
            world.server.terminate();
            undo(&world);
        }
        // Nor is what was altered taken away by housekeeping, so that nothing would show it, because it says that it is old.
        for (change, words) in [
            ("UPDATE audit_log SET created_at = 0 WHERE number <= 3", "line 1 was changed"),
            (
                "DELETE FROM audit_log WHERE number < 3; UPDATE audit_log SET created_at = 0 WHERE number = 3",
                "lines are missing from 1 to 2",
            ),
        ] {
            let rounds = |world: &World| world.server.log().matches("housekeeping failed").count();
            let before = rounds(&world);
            sql(&world, &format!("DELETE FROM leases; {change}"));
            world.server.restart();
            wait_until("housekeeping fails", PATIENCE, async || (rounds(&world) > before).then_some(())).await;
            world.server.terminate();
            let refusal = world.refusal(&["audit", "verify"]);
            assert!(refusal.contains(words), "{change}: {refusal}");
            undo(&world);
        }

        // Who kept the ends of an earlier day can put these back: that is what a mark is noted for.
        assert!(world.command(&["audit", "verify", "--since", &noted]).contains("lines         6,"));
        world.server.restart();
        world.service().await;
        assert_eq!(exported(&world).await.len(), 7);
        world.server.terminate();
        let later = head(&world);
        assert!(world.command(&["audit", "verify", "--since", &noted]).contains(&later));
        undo(&world);
        assert_eq!(head(&world), noted);
        let refusal = world.refusal(&["audit", "verify", "--since", &later]);
        assert!(refusal.contains("cut off: it ends with line 6, and line 7 was noted"), "{refusal}");
        let another = format!("5:{}", &noted[2..]);
        let refusal = world.refusal(&["audit", "verify", "--since", &another]);
        assert!(refusal.contains("line 5 is not the one that was noted"), "{refusal}");
        assert!(world.refusal(&["audit", "verify", "--since", "6"]).contains("NUMBER:MAC"));
    }
}

#[tokio::test]
async fn two_servers_make_one_chain() {
    let Some(world) = World::postgres_with("audit::two_servers_make_one_chain", &[]) else { return };
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

/// A server that stops chains what it has written, and a command does so for a server that was killed.
#[tokio::test]
async fn nothing_waits_when_a_server_has_stopped() {
    let mut world = World::sqlite();
    world.enrolled(Style::Ios, &world.service().await, "zoe-0001").await;
    world.server.terminate();
    let said = world.command(&["audit", "verify"]);
    assert!(said.starts_with("lines         6,") && !said.contains("not chained"), "{said}");
    let export = world.command(&["audit", "export", "--after", "4"]);
    assert_eq!(export.lines().count(), 2);

    world.server.restart();
    world.service().await;
    world.server.kill9();
    world.command(&["audit", "list"]);
    let said = world.command(&["audit", "verify"]);
    assert!(said.starts_with("lines         7,") && !said.contains("not chained"), "{said}");
}
