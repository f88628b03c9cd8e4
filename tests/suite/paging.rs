//! Pages of lists: every item appears once and in order, in either direction.

use std::collections::BTreeSet;

use device::Style;
use harness::{Http, Reply};
use serde_json::{Value, json};

use crate::fixture::{Fixture, IDENTITY};
use crate::world::{World, assert_error, created, entity, on_every_database};

/// A list with its items in the order of their creation.
struct List {
    path: String,
    key: &'static str,
    items: Vec<String>,
}

/// Creates lists of every kind with `count` items each.
async fn lists(world: &World, count: usize) -> Vec<List> {
    let backend = world.backend();
    let fixture = Fixture::create(world).await;
    let user = entity(&fixture.service, IDENTITY);
    let mut made = [
        ("/v2/Services".to_owned(), "services"),
        (format!("/v2/Services/{}/Entities", fixture.service), "entities"),
        (format!("{user}/Factors"), "factors"),
        (format!("/v2/Services/{}/Webhooks", fixture.service), "webhooks"),
        (format!("/v2/Services/{}/RateLimits", fixture.service), "rate_limits"),
        (fixture.path("/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets"), "buckets"),
        (format!("/v2/Services/{}/MessagingConfigurations", fixture.service), "messaging_configurations"),
        ("/v1/Credentials".to_owned(), "credentials"),
        (format!("{user}/Challenges"), "challenges"),
    ]
    .map(|(path, key)| (path, key, Vec::new()));
    for (path, key, items) in &mut made {
        *items = sids(&page(&backend.get(path, &[]).await), key);
        while items.len() < count {
            let number = items.len();
            let mut form = fixture.form(match *key {
                "services" => "/v2/Services",
                "entities" => "/v2/Services/{ServiceSid}/Entities",
                "factors" => "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors",
                "webhooks" => "/v2/Services/{ServiceSid}/Webhooks",
                "rate_limits" => "/v2/Services/{ServiceSid}/RateLimits",
                "buckets" => "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets",
                "messaging_configurations" => "/v2/Services/{ServiceSid}/MessagingConfigurations",
                "credentials" => "/v1/Credentials",
                _ => "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges",
            });
            // These parameters must differ.
            match *key {
                "entities" => form = vec![("Identity", format!("user-of-list-{number}"))],
                "rate_limits" => form = vec![("UniqueName", format!("list-{number}"))],
                "buckets" => form = vec![("Max", "1".to_owned()), ("Interval", (number + 100).to_string())],
                "messaging_configurations" => {
                    let mut countries = "BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS".split(' ');
                    form[0] = ("Country", countries.nth(number).unwrap().to_owned());
                }
                _ => {}
            }
            let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            items.push(name(&created(&backend.post(path, &form).await)));
        }
    }
    made.map(|(path, key, items)| List { path, key, items }).into()
}

/// Returns the body of a page.
#[track_caller]
fn page(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Returns the SID of an item, or the country of a messaging configuration, which has no SID.
fn name(item: &Value) -> String {
    item["sid"].as_str().or(item["country"].as_str()).unwrap().to_owned()
}

fn sids(page: &Value, key: &str) -> Vec<String> {
    page[key].as_array().unwrap().iter().map(name).collect()
}

/// Fetches the page at the URL in the member `address` of the page's `meta`. Returns `None` if that URL is
/// null.
async fn follow_link(client: &Http, page_: &Value, address: &str) -> Option<Value> {
    let url = page_["meta"][address].as_str()?;
    Some(page(&client.get(url, &[]).await))
}

/// Returns the page at `path` and all later pages, by following `next_page_url`.
async fn pages(client: &Http, path: &str) -> Vec<Value> {
    let mut pages = vec![page(&client.get(path, &[]).await)];
    while let Some(next) = follow_link(client, &pages[pages.len() - 1], "next_page_url").await {
        pages.push(next);
        assert!(pages.len() < 100, "the list has no end");
    }
    pages
}

/// Returns the value of a parameter in a URL.
fn parameter<'u>(url: &'u Value, name: &str) -> Option<&'u str> {
    let query = url.as_str()?.split_once('?')?.1;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

on_every_database! {
    async fn lists_can_be_paged_forward_and_backward(world: World) {
        let client = world.backend();
        for List { path, key, items } in lists(&world, 7).await {
            for (size, count) in [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (8, 1), (1000, 1)] {
                let pages = pages(&client, &format!("{path}?PageSize={size}")).await;
                assert_eq!(pages.len(), count, "{key} by {size}");
                let found: Vec<_> = pages.iter().flat_map(|page| sids(page, key)).collect();
                assert_eq!(found, items, "{key} by {size}");
                for (index, page) in pages.iter().enumerate() {
                    let meta = &page["meta"];
                    assert_eq!((&meta["page"], &meta["page_size"]), (&json!(index), &json!(size)));
                    assert_eq!(meta["key"], key);
                    let full = index + 1 < count || items.len() % size == 0;
                    assert_eq!(sids(page, key).len() == size, full, "{key} by {size}: {meta}");
                }

                // The way back shows the same pages under the same URLs.
                let mut at = pages[count - 1].clone();
                for index in (0..count - 1).rev() {
                    at = follow_link(&client, &at, "previous_page_url").await.expect("a previous page");
                    assert_eq!(at[key], pages[index][key], "{key} by {size}, back to {index}");
                    assert_eq!(at["meta"]["page"], index);
                    let again = follow_link(&client, &at, "next_page_url").await.expect("a next page");
                    assert_eq!(again[key], pages[index + 1][key]);
                }
                assert_eq!(at["meta"]["previous_page_url"], Value::Null, "{key} by {size}");
            }
        }
    }
}

on_every_database! {
    async fn challenges_can_be_listed_in_either_order(world: World) {
        let client = world.backend();
        let list = lists(&world, 5).await.pop().unwrap();
        let newest_first: Vec<_> = list.items.iter().rev().cloned().collect();
        let oldest_first = &list.items;
        for (order, expected) in
            [("", oldest_first), ("&Order=asc", oldest_first), ("&Order=desc", &newest_first)]
        {
            let pages = pages(&client, &format!("{}?PageSize=2{order}", list.path)).await;
            let found: Vec<_> = pages.iter().flat_map(|page| sids(page, list.key)).collect();
            assert_eq!(found, *expected, "{order}");
            let back = follow_link(&client, &pages[2], "previous_page_url").await.unwrap();
            assert_eq!(back[list.key], pages[1][list.key], "{order}");
            let first = follow_link(&client, &back, "previous_page_url").await.unwrap();
            assert_eq!(first[list.key], pages[0][list.key], "{order}");
            assert_eq!(first["meta"]["previous_page_url"], Value::Null);
        }
    }
}

#[tokio::test]
async fn list_metadata_describes_the_returned_page() {
    let world = World::ephemeral();
    let client = world.backend();
    for List { path, key, items } in lists(&world, 3).await {
        let url = format!("{}{path}", world.server.url());
        let plain = page(&client.get(&path, &[]).await);
        let keys: BTreeSet<_> = plain.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from([key, "meta"]));
        let whole = json!({
            "page": 0,
            "page_size": 50,
            "first_page_url": format!("{url}?PageSize=50&Page=0"),
            "previous_page_url": null,
            "url": format!("{url}?PageSize=50&Page=0"),
            "next_page_url": null,
            "key": key,
        });
        assert_eq!(plain["meta"], whole);
        assert_eq!(sids(&plain, key), items);

        let first = page(&client.get(&format!("{path}?PageSize=2"), &[]).await);
        let next = first["meta"]["next_page_url"].as_str().unwrap();
        let token = parameter(&first["meta"]["next_page_url"], "PageToken").unwrap();
        assert_eq!(next, format!("{url}?PageSize=2&Page=1&PageToken={token}"));
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        assert!(token.bytes().all(plain), "the iOS SDK would escape the token a second time: {token}");
        let second = page(&client.get(next, &[]).await);
        let expected = json!({
            "page": 1,
            "page_size": 2,
            "first_page_url": format!("{url}?PageSize=2&Page=0"),
            "previous_page_url": second["meta"]["previous_page_url"],
            "url": next,
            "next_page_url": null,
            "key": key,
        });
        assert_eq!(second["meta"], expected);
        for address in ["first_page_url", "previous_page_url"] {
            let back = follow_link(&client, &second, address).await.unwrap();
            assert_eq!((&back[key], &back["meta"]["page"]), (&first[key], &json!(0)), "{address}");
        }
        let itself = follow_link(&client, &second, "url").await.unwrap();
        assert_eq!(itself, second);
    }
}

#[tokio::test]
async fn empty_list_is_one_empty_page() {
    let world = World::ephemeral();
    let client = world.backend();
    let nothing = |page: Value, key: &str| {
        assert_eq!(page[key], json!([]), "{page}");
        assert_eq!(page["meta"]["next_page_url"], Value::Null);
        assert_eq!(page["meta"]["previous_page_url"], Value::Null);
        assert_eq!(page["meta"]["key"], key);
    };
    nothing(page(&client.get("/v2/Services", &[]).await), "services");
    nothing(page(&client.get("/v2/Templates", &[]).await), "templates");
    nothing(page(&client.get("/v2/Attempts", &[]).await), "attempts");
    let entities = format!("/v2/Services/{}/Entities", world.service().await);
    nothing(page(&client.get(&entities, &[]).await), "entities");
    let service = entities.trim_end_matches("/Entities");
    let limits = format!("{service}/RateLimits");
    nothing(page(&client.get(&limits, &[]).await), "rate_limits");
    created(&client.post(&limits, &[("UniqueName", "a")]).await);
    nothing(page(&client.get(&format!("{limits}/a/Buckets"), &[]).await), "buckets");
    let configurations = format!("{service}/MessagingConfigurations");
    nothing(page(&client.get(&configurations, &[]).await), "messaging_configurations");
    created(&client.post(&entities, &[("Identity", IDENTITY)]).await);
    nothing(page(&client.get(&format!("{entities}/{IDENTITY}/Factors"), &[]).await), "factors");
    nothing(page(&client.get(&format!("{entities}/{IDENTITY}/Challenges"), &[]).await), "challenges");
}

#[tokio::test]
async fn page_token_is_accepted_in_both_parameter_spellings() {
    let world = World::ephemeral();
    let client = world.backend();
    for List { path, key, .. } in lists(&world, 4).await {
        let first = page(&client.get(&format!("{path}?PageSize=2"), &[]).await);
        let token = parameter(&first["meta"]["next_page_url"], "PageToken").unwrap();
        let expected = follow_link(&client, &first, "next_page_url").await.unwrap();
        for spelling in ["PageToken", "pageToken"] {
            // Devices build the URL from the token; the page number is only informative.
            let form = [("PageSize", "2"), (spelling, token)];
            let found = page(&client.get(&path, &form).await);
            assert_eq!(found[key], expected[key], "{spelling}");
            assert_eq!(found["meta"]["page"], 0);
        }
        let numbered =
            page(&client.get(&path, &[("PageSize", "2"), ("Page", "3"), ("PageToken", token)]).await);
        assert_eq!((&numbered[key], &numbered["meta"]["page"]), (&expected[key], &json!(3)));
        for form in [&[("Page", "0")][..], &[("Page", "0"), ("PageToken", "")]] {
            let form = [&[("PageSize", "2")], form].concat();
            assert_eq!(page(&client.get(&path, &form).await), first);
        }
        for form in
            [&[("Page", "1")][..], &[("Page", "7"), ("PageToken", "")], &[("Page", "18446744073709551616")]]
        {
            let reply = client.get(&path, form).await;
            assert_error(&reply, 400, 20001);
            assert_eq!(
                reply.json()["message"],
                "PageToken is required for paging.",
                "the number alone leads nowhere"
            );
        }
        // A token works with any page size.
        let larger = page(&client.get(&path, &[("PageSize", "1000"), ("PageToken", token)]).await);
        assert_eq!(larger[key], expected[key]);
    }
}

on_every_database! {
    async fn page_links_keep_the_filters(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, IDENTITY).await;
        let (_, other) = world.enrolled(Style::Ios, &service, IDENTITY).await;
        let path = format!("{}/Challenges", entity(&service, IDENTITY));
        let mut wanted = Vec::new();
        for index in 0..5 {
            wanted.push(world.challenge(&enrollment, &[]).await["sid"].as_str().unwrap().to_owned());
            world.challenge(&other, &[]).await;
            if index % 2 == 0 {
                let answered = world.challenge(&enrollment, &[]).await;
                let sid = answered["sid"].as_str().unwrap();
                phone.answer(&enrollment, sid, device::Answer::Denied).await.unwrap();
            }
        }
        wanted.reverse();
        let filters = format!("FactorSid={}&Status=pending&Order=desc&PageSize=2", enrollment.factor_sid);
        let found = pages(&backend, &format!("{path}?{filters}")).await;
        assert_eq!(found.iter().flat_map(|page| sids(page, "challenges")).collect::<Vec<_>>(), wanted);
        assert_eq!(found.len(), 3);
        for page in &found {
            for address in ["first_page_url", "previous_page_url", "url", "next_page_url"] {
                if let Some(url) = page["meta"][address].as_str() {
                    let (_, query) = url.split_once('?').unwrap();
                    assert!(query.starts_with(&format!("{filters}&Page=")), "{address}: {query}");
                }
            }
        }
        let back = follow_link(&backend, &found[2], "previous_page_url").await.unwrap();
        assert_eq!(back["challenges"], found[1]["challenges"]);

        for (status, count) in [("pending", 10), ("denied", 3), ("approved", 0), ("expired", 0)] {
            let list = page(&backend.get(&path, &[("Status", status)]).await);
            assert_eq!(list["challenges"].as_array().unwrap().len(), count, "{status}");
            let all = list["challenges"].as_array().unwrap();
            assert!(all.iter().all(|challenge| challenge["status"] == status));
        }
        for (factor, count) in [(&enrollment, 8), (&other, 5)] {
            let list = page(&backend.get(&path, &[("FactorSid", &factor.factor_sid)]).await);
            assert_eq!(list["challenges"].as_array().unwrap().len(), count);
        }
        assert_eq!(sids(&page(&backend.get(&path, &[]).await), "challenges").len(), 13);
    }
}

on_every_database! {
    async fn pages_are_stable_while_items_are_added_and_deleted(world: World) {
        let client = world.backend();
        let service = world.service().await;
        let path = format!("/v2/Services/{service}/Entities");
        let add = async |name: &str| {
            created(&client.post(&path, &[("Identity", name)]).await)["sid"].as_str().unwrap().to_owned()
        };
        let mut items = Vec::new();
        for index in 0..6 {
            items.push(add(&format!("user-000{index}")).await);
        }
        let first = page(&client.get(&path, &[("PageSize", "2")]).await);
        let second = follow_link(&client, &first, "next_page_url").await.unwrap();

        // One item is added at the end, one removed from the first page, and one removed at the boundary.
        items.push(add("user-0006").await);
        for gone in [0, 3] {
            assert_eq!(client.delete(&format!("{path}/user-000{gone}"), &[]).await.status, 204);
        }
        let third = follow_link(&client, &second, "next_page_url").await.unwrap();
        assert_eq!(sids(&third, "entities"), items[4..6]);
        let fourth = follow_link(&client, &third, "next_page_url").await.unwrap();
        assert_eq!(sids(&fourth, "entities"), items[6..]);
        assert_eq!(fourth["meta"]["next_page_url"], Value::Null);
        let back = follow_link(&client, &third, "previous_page_url").await.unwrap();
        assert_eq!(sids(&back, "entities"), items[1..3], "the two that are left before it");
        assert_eq!(back["meta"]["previous_page_url"], Value::Null);
    }
}

on_every_database! {
    async fn new_challenges_do_not_shift_pages_in_descending_order(world: World) {
        let fixture = Fixture::create(&world).await;
        let client = world.backend();
        let mut items = sids(&page(&client.get(&fixture.device.challenges(), &[]).await), "challenges");
        for _ in 0..3 {
            let made = world.challenge(&fixture.device.enrollment, &[]).await;
            items.push(made["sid"].as_str().unwrap().to_owned());
        }
        items.reverse();
        let form = [("PageSize", "2"), ("Order", "desc")];
        let first = page(&client.get(&fixture.device.challenges(), &form).await);
        assert_eq!(sids(&first, "challenges"), items[..2]);
        let newer = world.challenge(&fixture.device.enrollment, &[]).await;
        let second = follow_link(&client, &first, "next_page_url").await.unwrap();
        assert_eq!(sids(&second, "challenges"), items[2..4]);
        let third = follow_link(&client, &second, "next_page_url").await.unwrap();
        assert_eq!(sids(&third, "challenges"), items[4..]);
        // Paging backward shows the item at its position.
        let second = follow_link(&client, &third, "previous_page_url").await.unwrap();
        let first = follow_link(&client, &second, "previous_page_url").await.unwrap();
        assert_eq!(sids(&first, "challenges"), items[..2]);
        let newest = follow_link(&client, &first, "previous_page_url").await.expect("a previous page with the new item");
        assert_eq!(newest["challenges"], json!([newer]));
    }
}

on_every_database! {
    async fn emptied_pages_link_back_to_the_remaining_items(world: World) {
        let client = world.backend();
        let fixture = Fixture::create(&world).await;
        let path = fixture.device.challenges();
        for order in ["asc", "desc"] {
            // Answered challenges disappear from the pending ones.
            let mut items = Vec::new();
            for _ in 0..4 {
                let made = world.challenge(&fixture.device.enrollment, &[]).await;
                items.push(made["sid"].as_str().unwrap().to_owned());
            }
            let answer = async |sid: &str| {
                let answer = device::Answer::Approved;
                fixture.device.phone.answer(&fixture.device.enrollment, sid, answer).await.unwrap();
            };
            if order == "asc" {
                answer(fixture.challenge["sid"].as_str().unwrap()).await;
            } else {
                items.reverse();
            }
            let by = async |size: &str| {
                let factor = fixture.device.enrollment.factor_sid.as_str();
                let form = [("Status", "pending"), ("FactorSid", factor), ("Order", order), ("PageSize", size)];
                page(&client.get(&path, &form).await)
            };
            let first = by("2").await;
            assert_eq!(sids(&first, "challenges"), items[..2]);
            let second = follow_link(&client, &first, "next_page_url").await.unwrap();

            // All earlier items are gone: the previous page is empty and links to the remaining ones.
            answer(&items[0]).await;
            answer(&items[1]).await;
            let before = follow_link(&client, &second, "previous_page_url").await.unwrap();
            assert_eq!(before["challenges"], json!([]));
            assert_eq!(before["meta"]["previous_page_url"], Value::Null);
            let behind = follow_link(&client, &before, "next_page_url").await.expect("a next page");
            assert_eq!(sids(&behind, "challenges"), items[2..], "{order}");

            // All later items are gone: the next page is empty and links back to the remaining ones.
            let one = by("1").await;
            answer(&items[3]).await;
            let after = follow_link(&client, &one, "next_page_url").await.unwrap();
            assert_eq!(after["challenges"], json!([]));
            assert_eq!(after["meta"]["next_page_url"], Value::Null);
            let before = follow_link(&client, &after, "previous_page_url").await.expect("a previous page");
            assert_eq!(sids(&before, "challenges"), items[2..3], "{order}");
            answer(&items[2]).await;
        }
    }
}
