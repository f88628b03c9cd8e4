//! The events of an account: filters, pages, and what other accounts see.

use harness::{Auth, Http};
use serde_json::json;

use super::{events, text, with_api_key};
use crate::world::{World, assert_error, on_every_database};

on_every_database! {
    async fn events_can_be_filtered_and_paged(world: World) {
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
        let unknown_sid = format!("YF{}", "0".repeat(32));
        for (query, count) in [
            (&[("ActorSid", &*key_sid)][..], 1),
            (&[("ActorSid", &capitals)], 1),
            (&[("ActorSid", account)], 2),
            (&[("ActorSid", &unknown_sid)], 0),
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

        // Other accounts see none of these events.
        let made = world.command(&["account", "create", "--name", "Other"]);
        let words: Vec<_> = made.split_whitespace().collect();
        let other = words.iter().find(|word| word.starts_with("AC")).unwrap();
        let password = words[words.len() - 1];
        let other_account = Http::new(world.server.url()).auth(Auth::Basic((*other).to_owned(), password.to_owned()));
        let theirs = events(&other_account, &[]).await;
        assert_eq!((theirs.len(), text(&theirs[0], "event_type")), (1, "account.created"));
        assert_error(&other_account.get(&format!("/v1/Events/{sid}"), &[]).await, 404, 20404);
    }
}
