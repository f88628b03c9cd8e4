//! The account and its API keys over HTTP: the formats of both APIs, and what a key may do while it exists.
//!
//! The matrix covers which callers may manage API keys, and `audit/changes.rs` the audit records.

use harness::{Auth, Http, Reply};
use serde_json::{Value, json};

use crate::world::{World, assert_error, created, on_every_database};

const KEYS: &str = "/v1/Keys";

/// Returns the path of the account in the API version 2010-04-01.
fn account_path(world: &World) -> String {
    format!("/2010-04-01/Accounts/{}", world.server.account_sid())
}

/// Returns the body of a reply, which must have status 200.
#[track_caller]
fn ok(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{member}: {value}"))
}

/// Checks that `value` is a date in the format of RFC 2822, such as `Thu, 30 Jul 2015 20:00:00 +0000`.
#[track_caller]
fn assert_rfc2822(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape = text.chars().map(|letter| match letter {
        '0'..='9' => '9',
        'A'..='Z' => 'A',
        'a'..='z' => 'a',
        other => other,
    });
    assert_eq!(shape.collect::<String>(), "Aaa, 99 Aaa 9999 99:99:99 +9999", "{value}");
    assert!(text.ends_with(" +0000"), "{value}");
}

/// Returns a client with a new API key's credentials.
fn client_with(url: &str, key: &Value) -> Http {
    Http::new(url).auth(Auth::Basic(text(key, "sid").to_owned(), text(key, "secret").to_owned()))
}

/// One of the two addresses of API keys.
struct Address {
    /// The path of the list.
    path: String,
    /// The suffix that every path may have.
    suffix: &'static str,
    /// The members of a key beside the common ones: in the response to its creation, of its own, and in a list.
    members: [Value; 2],
}

/// Returns both addresses, each with and without the suffix `.json`.
fn addresses(world: &World) -> Vec<Address> {
    let (policy, flags) = (json!({ "policy": null }), json!({ "flags": ["rest_api"] }));
    let mut all = Vec::new();
    for suffix in ["", ".json"] {
        let members = [json!({}), json!({})];
        all.push(Address { path: format!("{}/Keys", account_path(world)), suffix, members });
        all.push(Address { path: KEYS.to_owned(), suffix, members: [policy.clone(), flags.clone()] });
    }
    all
}

/// Returns an object with the members of both.
fn merged(one: &Value, other: &Value) -> Value {
    let members = [one, other].into_iter().flat_map(|object| object.as_object().unwrap().clone());
    Value::Object(members.collect())
}

on_every_database! {
    async fn account_is_described_without_its_auth_token(world: World) {
        let (path, sid) = (account_path(&world), world.server.account_sid());
        let key = created(&world.backend().post(KEYS, &[("AccountSid", sid)]).await);
        for client in [world.backend(), client_with(world.server.url(), &key)] {
            for suffix in [".json", ""] {
                let reply = client.get(&format!("{path}{suffix}"), &[]).await;
                assert!(!reply.text.contains(world.server.auth_token()), "{reply:?}");
                let account = ok(&reply);
                assert_rfc2822(&account["date_created"]);
                assert_rfc2822(&account["date_updated"]);
                assert_eq!(
                    account,
                    json!({
                        "sid": sid,
                        "friendly_name": account["friendly_name"],
                        "status": "active",
                        "type": "Full",
                        "auth_token": "",
                        "owner_account_sid": sid,
                        "date_created": account["date_created"],
                        "date_updated": account["date_updated"],
                        "uri": format!("{path}.json"),
                        "subresource_uris": { "keys": format!("{path}/Keys.json") },
                    })
                );
                assert!(!text(&account, "friendly_name").is_empty());
                let keys = client.get(text(&account["subresource_uris"], "keys"), &[]).await;
                assert_eq!(ok(&keys)["keys"][0]["sid"], key["sid"]);
            }
        }
        for method in [world.backend().post(&path, &[]).await, world.backend().delete(&path, &[]).await] {
            assert_error(&method, 405, 20004);
        }
        let other = format!("/2010-04-01/Accounts/AC{}.json", "0".repeat(32));
        assert_error(&world.backend().get(&other, &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn api_key_can_be_created_used_renamed_and_deleted_at_both_addresses(world: World) {
        let (backend, account) = (world.backend(), world.server.account_sid());
        let other_server = world.another_server(&[]);
        for Address { path, suffix, members: [own, listed] } in addresses(&world) {
            let list = format!("{path}{suffix}");
            let form = [("AccountSid", account), ("FriendlyName", "Nächtliche Löschung 🦉")];
            let key = created(&backend.post(&list, &form).await);
            let (sid, secret) = (text(&key, "sid").to_owned(), text(&key, "secret"));
            assert!(sid.starts_with("SK") && sid.len() == 34, "{sid}");
            let is_plain = secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(is_plain, "the Go library accepts letters and digits only");
            assert_rfc2822(&key["date_created"]);
            let mut shown = json!({
                "sid": sid,
                "friendly_name": "Nächtliche Löschung 🦉",
                "date_created": key["date_created"],
                "date_updated": key["date_created"],
            });
            assert_eq!(key, merged(&merged(&shown, &own), &json!({ "secret": secret })));

            // The key works at once, on every server.
            let clients = [world.server.url(), other_server.url()].map(|url| client_with(url, &key));
            for client in &clients {
                assert_eq!(client.get("/v2/Services", &[]).await.status, 200);
            }

            let one = format!("{path}/{sid}{suffix}");
            for client in [&backend, &clients[0]] {
                assert_eq!(ok(&client.get(&one, &[]).await), merged(&shown, &own));
                let page = ok(&client.get(&list, &[("AccountSid", account)]).await);
                assert_eq!(page["keys"], json!([merged(&shown, &listed)]));
            }

            let renamed = ok(&backend.post(&one, &[("FriendlyName", "Renamed")]).await);
            shown["friendly_name"] = json!("Renamed");
            assert_eq!(renamed, merged(&shown, &own));
            // A request without a name changes nothing.
            assert_eq!(ok(&backend.post(&one, &[]).await), renamed);
            assert_eq!(ok(&backend.get(&one, &[]).await), renamed);
            let refusal = backend.post(&one, &[("FriendlyName", &"x".repeat(65))]).await;
            assert_error(&refusal, 400, 60306);

            // No key may change itself or another key.
            for refusal in [
                clients[0].post(&list, &form).await,
                clients[0].post(&one, &[("FriendlyName", "Mine")]).await,
                clients[0].delete(&one, &[]).await,
            ] {
                assert_error(&refusal, 403, 20403);
                assert!(text(&refusal.json(), "message").contains("auth token"), "{refusal:?}");
            }

            let deleted = backend.delete(&one, &[]).await;
            assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
            for client in &clients {
                assert_error(&client.get("/v2/Services", &[]).await, 401, 20003);
            }
            for reply in [
                backend.get(&one, &[]).await,
                backend.post(&one, &[("FriendlyName", "Late")]).await,
                backend.delete(&one, &[]).await,
            ] {
                assert_error(&reply, 404, 20404);
            }
            assert_eq!(ok(&backend.get(&list, &[("AccountSid", account)]).await)["keys"], json!([]));
        }
    }
}

on_every_database! {
    async fn api_keys_of_the_command_line_and_of_both_addresses_are_the_same(world: World) {
        let (backend, account) = (world.backend(), world.server.account_sid());
        world.command(&["api-key", "create", account]);
        created(&backend.post(KEYS, &[("AccountSid", account)]).await);
        created(&backend.post(&format!("{}/Keys", account_path(&world)), &[]).await);
        let lists = [
            ok(&backend.get(KEYS, &[("AccountSid", account)]).await),
            ok(&backend.get(&format!("{}/Keys", account_path(&world)), &[]).await),
        ];
        let printed = world.command(&["api-key", "list", account]);
        for list in &lists {
            let keys = list["keys"].as_array().unwrap();
            assert_eq!(keys.len(), 3);
            for (key, line) in keys.iter().zip(printed.lines()) {
                assert!(line.starts_with(text(key, "sid")), "{line}: {key}");
                assert_eq!(key["friendly_name"], "API key", "the name of a key that was created without one");
            }
        }
        let newest = text(&lists[0]["keys"][2], "sid");
        world.command(&["api-key", "revoke", newest]);
        assert_error(&backend.get(&format!("{KEYS}/{newest}"), &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn account_cannot_reach_the_api_keys_of_another_account(world: World) {
        let printed = world.command(&["account", "create", "--name", "Other"]);
        let words: Vec<_> = printed.split_whitespace().collect();
        let sid = words.iter().find(|word| word.starts_with("AC")).unwrap();
        let token = words.last().unwrap();
        let other = Http::new(world.server.url()).auth(Auth::Basic((*sid).to_owned(), (*token).to_owned()));
        let (backend, account) = (world.backend(), world.server.account_sid());
        let key = created(&backend.post(KEYS, &[("AccountSid", account)]).await);
        let one = text(&key, "sid");
        for path in [
            format!("{KEYS}/{one}"),
            format!("{}/Keys/{one}", account_path(&world)),
            format!("/2010-04-01/Accounts/{sid}/Keys/{one}"),
        ] {
            assert_error(&other.get(&path, &[]).await, 404, 20404);
            assert_error(&other.post(&path, &[("FriendlyName", "Mine")]).await, 404, 20404);
            assert_error(&other.delete(&path, &[]).await, 404, 20404);
        }
        for refusal in [
            other.get(KEYS, &[("AccountSid", account)]).await,
            other.post(KEYS, &[("AccountSid", account)]).await,
            other.get(&account_path(&world), &[]).await,
            other.get(&format!("{}/Keys.json", account_path(&world)), &[]).await,
            other.post(&format!("{}/Keys.json", account_path(&world)), &[]).await,
        ] {
            assert_error(&refusal, 404, 20404);
        }
        assert_eq!(ok(&other.get(KEYS, &[("AccountSid", sid)]).await)["keys"], json!([]));
        let keys = ok(&backend.get(KEYS, &[("AccountSid", account)]).await);
        assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
        assert_eq!(keys["keys"][0]["friendly_name"], "API key");
    }
}

#[tokio::test]
async fn iam_parameters_that_cannot_be_honored_are_refused() {
    let world = World::ephemeral();
    let (backend, account) = (world.backend(), world.server.account_sid());
    for (parameters, code, word) in [
        (&[][..], 20001, "AccountSid"),
        (&[("AccountSid", "")], 20001, "AccountSid"),
        (&[("AccountSid", "AC1")], 60306, "AccountSid"),
        (&[("AccountSid", account), ("KeyType", "restricted")], 60306, "no restricted API keys"),
        (&[("AccountSid", account), ("KeyType", "main")], 60306, "KeyType must be standard"),
        (
            &[("AccountSid", account), ("Policy", r#"{"allow":["/twilio/verify/services/read"]}"#)],
            60306,
            "Policy must be absent",
        ),
        (&[("AccountSid", account), ("FriendlyName", "\u{7}")], 60306, "FriendlyName"),
    ] {
        let refusal = backend.post(KEYS, parameters).await;
        assert_error(&refusal, 400, code);
        assert!(text(&refusal.json(), "message").contains(word), "{refusal:?}");
    }
    for (parameters, code) in [(&[][..], 20001), (&[("AccountSid", "AC1")], 60306)] {
        assert_error(&backend.get(KEYS, parameters).await, 400, code);
    }
    assert_eq!(ok(&backend.get(KEYS, &[("AccountSid", account)]).await)["keys"], json!([]));

    let form = [("AccountSid", account), ("KeyType", "standard"), ("Policy", "null")];
    let key = created(&backend.post(KEYS, &form).await);
    let refusal = backend
        .post(&format!("{KEYS}/{}", text(&key, "sid")), &[("FriendlyName", "New"), ("Policy", "{}")])
        .await;
    assert_error(&refusal, 400, 60306);
    let keys = ok(&backend.get(KEYS, &[("AccountSid", account)]).await);
    assert_eq!(keys["keys"][0]["friendly_name"], "API key");
}

on_every_database! {
    async fn api_keys_can_be_paged_forward_and_backward_at_both_addresses(world: World) {
        let (backend, account) = (world.backend(), world.server.account_sid());
        let mut expected = Vec::new();
        for _ in 0..5 {
            let key = created(&backend.post(KEYS, &[("AccountSid", account)]).await);
            expected.push(text(&key, "sid").to_owned());
        }
        let path = format!("{}/Keys", account_path(&world));
        let first = async |form: &[(&str, &str)]| ok(&backend.get(&path, form).await);
        let whole = first(&[]).await;
        assert_eq!(
            whole,
            json!({
                "keys": whole["keys"],
                "page": 0,
                "page_size": 50,
                "start": 0,
                "end": 4,
                "first_page_uri": format!("{path}.json?PageSize=50&Page=0"),
                "previous_page_uri": null,
                "uri": format!("{path}.json?PageSize=50&Page=0"),
                "next_page_uri": null,
            })
        );
        let sids = |page: &Value| -> Vec<String> {
            page["keys"].as_array().unwrap().iter().map(|key| text(key, "sid").to_owned()).collect()
        };
        assert_eq!(sids(&whole), expected);

        let mut pages = vec![first(&[("PageSize", "2")]).await];
        while let Some(next) = pages.last().unwrap()["next_page_uri"].as_str() {
            assert!(next.starts_with(&format!("{path}.json?PageSize=2&Page={}&PageToken=", pages.len())), "{next}");
            let page = ok(&backend.get(next, &[]).await);
            pages.push(page);
        }
        let bounds: Vec<_> = pages.iter().map(|page| (page["start"].as_u64(), page["end"].as_u64())).collect();
        assert_eq!(bounds, [(Some(0), Some(1)), (Some(2), Some(3)), (Some(4), Some(4))]);
        assert_eq!(pages.iter().flat_map(sids).collect::<Vec<_>>(), expected);
        let back = ok(&backend.get(text(&pages[2], "previous_page_uri"), &[]).await);
        assert_eq!(back["keys"], pages[1]["keys"]);
        assert_eq!(ok(&backend.get(text(&back, "first_page_uri"), &[]).await), pages[0]);
        assert_eq!(ok(&backend.get(text(&back, "uri"), &[]).await), back);

        // The links of the other address are absolute and keep the account.
        let base = format!("{}{KEYS}?AccountSid={account}&PageSize=2&Page=", world.server.url());
        let mut page = ok(&backend.get(KEYS, &[("AccountSid", account), ("PageSize", "2")]).await);
        assert_eq!(page["meta"]["first_page_url"], format!("{base}0"));
        let mut found = sids(&page);
        while let Some(next) = page["meta"]["next_page_url"].as_str() {
            assert!(next.starts_with(&base), "{next}");
            page = ok(&backend.get(next, &[]).await);
            found.extend(sids(&page));
        }
        assert_eq!(found, expected);
        assert_eq!(page["meta"]["key"], "keys");

        for sid in &expected {
            assert_eq!(backend.delete(&format!("{KEYS}/{sid}"), &[]).await.status, 204);
        }
        let empty = first(&[]).await;
        assert_eq!((&empty["keys"], &empty["start"], &empty["end"]), (&json!([]), &json!(0), &json!(0)));
    }
}

on_every_database! {
    async fn exactly_one_of_several_deletions_of_an_api_key_succeeds(world: World) {
        let (backend, account) = (world.backend(), world.server.account_sid());
        let key = created(&backend.post(KEYS, &[("AccountSid", account)]).await);
        let path = format!("{KEYS}/{}", text(&key, "sid"));
        let deletions: Vec<_> = (0..8)
            .map(|_| {
                let (backend, path) = (world.backend(), path.clone());
                tokio::spawn(async move { backend.delete(&path, &[]).await.status })
            })
            .collect();
        let mut statuses = Vec::new();
        for deletion in deletions {
            statuses.push(deletion.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [&[204][..], &[404; 7]].concat());
        let revoked = [("ResourceSid", text(&key, "sid")), ("EventType", "api-key.revoked")];
        let events = ok(&backend.get("/v1/Events", &revoked).await);
        assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    }
}
