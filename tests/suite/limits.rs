//! Limits against abuse: they hold under races, state when to retry, and use the error format that clients
//! expect.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use app::SystemClock;
use device::{Answer, SigningKey, Style};
use domain::Clock as _;
use harness::{Reply, wait_until};
use serde_json::Value;

use crate::races::{
    Request, enrollment, factors, new_and_existing_identity, send_at_once, sid_of, split_outcomes,
};
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, entity, on_every_database};

/// Returns the reply's `Retry-After` in seconds.
fn retry_after(reply: &Reply) -> u32 {
    reply.header("retry-after").unwrap().parse::<NonZeroU32>().unwrap().get()
}

/// Repeats a refused request until it succeeds, which must be as soon as `Retry-After` states.
async fn wait_until_accepted(refused: &Reply, mut request: impl AsyncFnMut() -> Reply) {
    let (refused_at, seconds) = (Instant::now(), retry_after(refused));
    wait_until("the limit has room again", WAIT_TIMEOUT, async || {
        let is_time = refused_at.elapsed() >= Duration::from_secs(seconds.into());
        let reply = request().await;
        assert!(!is_time || reply.status < 300, "{seconds} seconds were not enough: {reply:?}");
        (reply.status < 300).then_some(())
    })
    .await;
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "3"];
    async fn pending_challenges_per_factor_are_limited(world: World) {
        let service = world.service().await;
        let (phone, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let ask = async || world.backend().post(&path, &form).await;

        let requests = (0..15).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);
        assert_eq!(made.len(), 3);
        assert_eq!(refused, vec![(429, 60312); 12]);
        let pending = world.backend().get(&path, &[("Status", "pending")]).await.json();
        assert_eq!(pending["challenges"].as_array().unwrap().len(), 3);
        let full = ask().await;
        assert_error(&full, 429, 60312);
        assert!((1..=300).contains(&retry_after(&full)), "until one expires: {full:?}");

        let (_, other) = world.enrolled(Style::Ios, &service, "weary-0002").await;
        world.challenge(&other, &[]).await;

        phone.answer(&enrolled, &sid_of(&made[0]), Answer::Denied).await.unwrap();
        created(&ask().await);
        assert_error(&ask().await, 429, 60312);
    }
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "1"];
    async fn challenge_is_accepted_after_retry_after_once_a_pending_one_expires(world: World) {
        let service = world.service().await;
        let (_, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let soon = SystemClock.now().plus_seconds(10).to_string();
        world.challenge(&enrolled, &[("ExpirationDate", &soon)]).await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let ask = async || world.backend().post(&path, &form).await;
        let refused = ask().await;
        if refused.status == 201 {
            return; // So slow a machine that it has expired already.
        }
        assert_error(&refused, 429, 60312);
        assert!(retry_after(&refused) <= 10, "{refused:?}");
        wait_until_accepted(&refused, ask).await;
    }
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "1", "--max-challenges-per-factor-per-minute", "1"];
    async fn retry_after_is_the_longer_wait_of_two_exhausted_limits(world: World) {
        let service = world.service().await;
        let (_, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let soon = SystemClock.now().plus_seconds(20).to_string();
        let began = Instant::now();
        world.challenge(&enrolled, &[("ExpirationDate", &soon)]).await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let refused = world.backend().post(&path, &form).await;
        assert_error(&refused, 429, 60312);
        let waited = u32::try_from(began.elapsed().as_secs()).unwrap();
        assert!(retry_after(&refused) >= 59_u32.saturating_sub(waited), "a minute, and not until the first expires: {refused:?}");
    }
}

on_every_database! {
    serving &["--max-challenges-per-factor-per-minute", "4"];
    async fn challenges_per_factor_and_minute_are_limited(world: World) {
        let service = world.service().await;
        let (_, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let ask = async || world.backend().post(&path, &form).await;
        let began = Instant::now();

        let requests = (0..15).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);
        assert_eq!((made.len(), refused), (4, vec![(429, 60312); 11]));
        let full = ask().await;
        assert_error(&full, 429, 60312);
        let waited = u32::try_from(began.elapsed().as_secs()).unwrap();
        assert!((59_u32.saturating_sub(waited)..=60).contains(&retry_after(&full)), "{full:?}");

        // A service may have its own limits, which a running server applies.
        let limit = |limits: &[&str]| world.command(&[&["service", "limit", &service], limits].concat());
        limit(&["--challenges-per-minute", "off"]);
        created(&ask().await);
        let shown = limit(&["--max-pending-challenges", "6"]);
        assert!(shown.contains("max pending challenges  6\nchallenges per minute   off\n"), "{shown}");
        created(&ask().await);
        let full = ask().await;
        assert_error(&full, 429, 60312);
        assert!(full.json()["message"].as_str().unwrap().contains("6 challenges are pending"), "{full:?}");
        limit(&["--max-pending-challenges", "default", "--challenges-per-minute", "7"]);
        created(&ask().await);
        assert_error(&ask().await, 429, 60312);
        assert!(world.refusal(&["service", "limit", "VA00000000000000000000000000000000"]).contains("there is no VA0"));

        let shown = world.backend().get(&format!("/v2/Services/{service}"), &[]).await;
        assert!(!shown.json().to_string().contains("limit\""), "the limit must not be visible to clients: {shown:?}");
    }
}

on_every_database! {
    serving &["--max-factors-per-entity-per-day", "4"];
    async fn factors_per_entity_and_day_are_limited_including_deleted_ones(world: World) {
        let service = world.service().await;
        for identity in new_and_existing_identity(&world, &service).await {
            let mut phones = Vec::new();
            for _ in 0..12 {
                phones.push((world.new_factor(&service, identity).await, SigningKey::generate()));
            }
            let requests = phones.iter().map(|(new, key)| enrollment(&world.server, new, key));
            let outcomes = send_at_once(requests.collect()).await;
            let (made, refused) = split_outcomes(&outcomes);
            assert_eq!((made.len(), refused), (4, vec![(429, 60326); 8]));

            // A repetition with the same parameters creates no other factor.
            let winner = outcomes.iter().position(Result::is_ok).unwrap();
            let (new, key) = &phones[winner];
            let (again, _) = split_outcomes(&send_at_once(vec![enrollment(&world.server, new, key)]).await);
            assert_eq!(sid_of(&again[0]), sid_of(outcomes[winner].as_ref().unwrap()));

            let path = format!("{}/Factors", entity(&service, identity));
            let factor = format!("{path}/{}", sid_of(&made[0]));
            assert_eq!(world.backend().delete(&factor, &[]).await.status, 204);
            assert_eq!(factors(&world.backend(), &service, identity).await.len(), 3);
            let key = SigningKey::generate().public_key_base64();
            let form = [
                ("FactorType", "push"), ("FriendlyName", "Phone"), ("Binding.Alg", "ES256"),
                ("Binding.PublicKey", key.as_str()), ("Config.AppId", "com.example.app"),
                ("Config.NotificationPlatform", "none"),
            ];
            let full = world.backend().post(&path, &form).await;
            assert_error(&full, 429, 60326);
            assert!((86_000..=86_400).contains(&retry_after(&full)), "{full:?}");
        }
    }
}

on_every_database! {
    serving &["--max-entities-per-service-per-second", "3"];
    async fn entities_per_service_and_second_are_limited(world: World) {
        let service = world.service().await;
        let path = format!("/v2/Services/{service}/Entities");
        let mut requests = Vec::new();
        for number in 0..18 {
            let identity = format!("backend-{number:04}");
            requests.push(Request::of_backend(&world.server, "POST", &path, &[("Identity", &identity)]));
        }
        for number in 0..6 {
            // An enrollment creates an entity too.
            let new = world.new_factor(&service, &format!("newcomer-{number:04}")).await;
            requests.insert(3 * number, enrollment(&world.server, &new, &SigningKey::generate()));
        }
        let (made, refused) = split_outcomes(&send_at_once(requests).await);
        assert!(made.len() >= 3 && !refused.is_empty(), "{made:?}");
        assert_eq!(refused, vec![(429, 60328); refused.len()]);

        // A SID begins with the millisecond of its creation.
        let sid = |made: &Value| made["entity_sid"].as_str().map_or_else(|| sid_of(made), str::to_owned);
        let mut times: Vec<_> =
            made.iter().map(|made| i64::from_str_radix(&sid(made)[2..14], 16).unwrap()).collect();
        times.sort_unstable();
        for four in times.windows(4) {
            assert!(four[3] - four[0] >= 999, "four within a second: {times:?}");
        }

        let mut number = 0;
        let mut another = async || {
            number += 1;
            world.backend().post(&path, &[("Identity", &format!("another-{number:04}"))]).await
        };
        let refused = wait_until("the limit is reached", WAIT_TIMEOUT, async || {
            let reply = another().await;
            (reply.status != 201).then_some(reply)
        });
        let refused = refused.await;
        assert_error(&refused, 429, 60328);
        assert_eq!(retry_after(&refused), 1);
        wait_until_accepted(&refused, another).await;
    }
}

#[tokio::test]
async fn limits_on_stored_resources_hold_across_servers() {
    let limits = ["--max-pending-challenges-per-factor", "3", "--max-factors-per-entity-per-day", "4"];
    let test = "limits::limits_on_stored_resources_hold_across_servers";
    let Some(world) = World::postgres_with(test, &limits) else { return };
    let other = world.another_server(&limits);
    let here_and_there = |requests: Vec<Request>| {
        let place =
            |(number, request): (usize, Request)| if number % 2 == 0 { request } else { request.at(&other) };
        send_at_once(requests.into_iter().enumerate().map(place).collect())
    };
    let service = world.service().await;
    for round in 0..3 {
        let (_, enrolled) = world.enrolled(Style::Android, &service, &format!("weary-{round:04}")).await;
        let path = format!("{}/Challenges", entity(&service, &enrolled.identity));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let requests = (0..20).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = split_outcomes(&here_and_there(requests.collect()).await);
        assert_eq!((made.len(), refused), (3, vec![(429, 60312); 17]));

        let mut requests = Vec::new();
        for _ in 0..10 {
            let new = world.new_factor(&service, &format!("newcomer-{round:04}")).await;
            requests.push(enrollment(&world.server, &new, &SigningKey::generate()));
        }
        let (made, refused) = split_outcomes(&here_and_there(requests).await);
        assert_eq!((made.len(), refused), (4, vec![(429, 60326); 6]));
    }
}

#[tokio::test]
async fn backend_and_device_requests_per_second_are_limited_separately() {
    let mut world = World::sqlite();
    let service = world.service().await;
    let device = world.device(&service, "busy-0001").await;
    world.server.restart_with(&["--account-requests-per-second", "2"]);
    let device_at_work = world.server.http().auth(device.auth());
    let began = Instant::now();
    let (mut taken, mut refused) = (0, Vec::new());
    for _ in 0..20 {
        for reply in [
            device_at_work.get(&device.challenges(), &[]).await,
            // A request that is not allowed counts too.
            device_at_work.get("/v2/Services", &[]).await,
        ] {
            match reply.status {
                200 | 403 => taken += 1,
                _ => refused.push(reply),
            }
        }
    }
    // At most the burst and rate of the limit that devices share, plus each device's own burst of six and one
    // request per second.
    let most = 2.0 + 6.0 + (2.0 + 1.0) * began.elapsed().as_secs_f64();
    assert!(f64::from(taken) <= most && taken >= 8, "{taken} in {:?}", began.elapsed());
    let last = refused.last().unwrap();
    assert_error(last, 429, 20429);
    assert_eq!(retry_after(last), 1);
    // The devices' requests do not count toward the backends' limit.
    for _ in 0..2 {
        assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
    }
    let mut replies = Vec::new();
    for _ in 0..20 {
        replies.push(world.backend().get("/v2/Services", &[]).await.status);
    }
    assert!(replies.contains(&429), "{replies:?}");
    let again = world.backend().get("/v2/Services", &[]).await;
    if again.status == 429 {
        wait_until_accepted(&again, async || world.backend().get("/v2/Services", &[]).await).await;
    }
}

#[tokio::test]
async fn device_can_answer_after_other_devices_exhaust_the_shared_rate_limit() {
    let mut world = World::sqlite();
    let service = world.service().await;
    let (phone, enrollment) = world.enrolled(Style::Android, &service, "calm-00001").await;
    let busy = world.device(&service, "busy-00001").await;
    let challenges = [world.challenge(&enrollment, &[]).await, world.challenge(&enrollment, &[]).await];
    world.server.restart_with(&["--account-requests-per-second", "1"]);
    let phone = {
        drop(phone);
        world.phone(Style::Android)
    };
    let busy_at_work = world.server.http().auth(busy.auth());
    let exhaust = async || {
        wait_until("the devices have used up their shared limit", WAIT_TIMEOUT, async || {
            (busy_at_work.get(&busy.challenges(), &[]).await.status == 429).then_some(())
        })
        .await;
    };
    exhaust().await;
    // The SDKs list, answer, and fetch the challenge again; none of that is refused.
    phone.list_pending(&enrollment).await.unwrap();
    let answered = phone.answer(&enrollment, &sid_of(&challenges[0]), Answer::Approved).await.unwrap();
    assert_eq!(answered.status.as_str(), "approved");
    // The device's own limit is exhausted at some point too.
    exhaust().await;
    let calm = world.server.http().auth(crate::world::signed_in(device::signing::sign_device_token(
        Style::Android,
        &enrollment,
        SystemClock.now(),
    )));
    let path = format!("{}/Challenges", entity(&service, "calm-00001"));
    let refused = wait_until("the request is refused", WAIT_TIMEOUT, async || {
        let reply = calm.get(&path, &[]).await;
        (reply.status != 200).then_some(reply)
    });
    let refused = refused.await;
    assert_error(&refused, 429, 20429);
    assert_eq!(retry_after(&refused), 1);
}

#[tokio::test]
async fn concurrent_requests_per_account_are_limited() {
    let world = World::ephemeral_with(&["--account-concurrency", "1"]);
    for path in ["/v2/Services", "/v2/Services/VA0", "/v1/Alerts", "/v2/Services?PageSize=0"] {
        // A request frees its permit however it ends.
        for _ in 0..3 {
            assert_ne!(world.backend().get(path, &[]).await.status, 429, "{path}");
        }
    }
    let form = [("FriendlyName", "Owl Bank")];
    let requests = (0..50).map(|_| Request::of_backend(&world.server, "POST", "/v2/Services", &form));
    let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);
    assert!(!made.is_empty());
    assert_eq!(refused, vec![(429, 20429); refused.len()]);
    created(&world.backend().post("/v2/Services", &form).await);
}

/// A trusted proxy that forwards requests for the list of services.
struct Proxy {
    http: reqwest::Client,
    url: String,
}

impl Proxy {
    fn of(world: &World) -> Self {
        Self { http: reqwest::Client::new(), url: format!("{}/v2/Services", world.server.url()) }
    }

    /// Forwards a request from the client address `client`. Returns the status and `Retry-After` in seconds.
    async fn ask(&self, client: &str, signed_in: Option<(&str, &str)>) -> (u16, Option<u32>) {
        let mut request = self.http.get(&self.url).header("X-Forwarded-For", client);
        if let Some((user, password)) = signed_in {
            request = request.basic_auth(user, Some(password));
        }
        let reply = request.send().await.unwrap();
        let retry_after = reply.headers().get("retry-after");
        (reply.status().as_u16(), retry_after.map(|value| value.to_str().unwrap().parse().unwrap()))
    }
}

#[tokio::test]
async fn address_with_too_many_failed_authentications_is_refused_temporarily() {
    let limit = ["--failed-authentications-per-minute", "30", "--trusted-proxies", "127.0.0.0/8"];
    let world = World::ephemeral_with(&limit);
    let proxy = Proxy::of(&world);
    let account = (world.server.account_sid().to_owned(), world.server.auth_token().to_owned());
    let good = Some((account.0.as_str(), account.1.as_str()));
    let wrong = [
        (account.0.as_str(), "wrong"),
        ("SK00000000000000000000000000000000", "wrong"),
        ("token", "a.b.c"),
        ("token", "wrong"),
        ("nobody", "wrong"),
    ];
    for _ in 0..40 {
        assert_eq!(
            proxy.ask("198.51.100.7", None).await,
            (401, None),
            "a request without credentials must not count as failed authentication"
        );
        assert_eq!(proxy.ask("198.51.100.7", good).await.0, 200);
    }
    let mut failed = 0;
    let refused = wait_until("valid credentials are refused too", WAIT_TIMEOUT, async || {
        let (status, _) = proxy.ask("198.51.100.7", Some(wrong[failed % wrong.len()])).await;
        failed += 1;
        if status == 401 {
            return None;
        }
        assert_eq!(status, 429);
        let (status, retry_after) = proxy.ask("198.51.100.7", good).await;
        (status == 429).then(|| retry_after.unwrap())
    });
    let seconds = refused.await;
    let refused_at = Instant::now();
    assert!(
        failed > 30 && (1..=2).contains(&seconds),
        "unexpected Retry-After of {seconds} s after {failed} failures"
    );
    for elsewhere in ["198.51.100.8", "2001:db8::7", "198.51.100.7, 198.51.100.9"] {
        assert_eq!(proxy.ask(elsewhere, good).await.0, 200, "{elsewhere}");
    }
    wait_until("the address is admitted again", WAIT_TIMEOUT, async || {
        let is_time = refused_at.elapsed() >= Duration::from_secs(seconds.into());
        let (status, _) = proxy.ask("198.51.100.7", good).await;
        assert!(!is_time || status == 200, "{seconds} seconds were not enough");
        (status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn spent_access_token_counts_as_failed_authentication() {
    let world = World::ephemeral_with(&["--failed-authentications-per-minute", "5"]);
    let service = world.service().await;
    let new = world.new_factor(&service, "newcomer-0001").await;
    world.phone(Style::Android).create_factor(&new).await.unwrap();
    let again = async || {
        split_outcomes(&send_at_once(vec![enrollment(&world.server, &new, &SigningKey::generate())]).await).1
    };
    assert_eq!(again().await, [(401, 20003)]);
    let refused = wait_until("too many sign-ins have failed", WAIT_TIMEOUT, async || {
        let refused = again().await;
        (refused != [(401, 20003)]).then_some(refused)
    });
    assert_eq!(refused.await, [(429, 20429)]);
}

#[tokio::test]
async fn untrusted_proxy_cannot_set_the_client_address() {
    let world = World::ephemeral_with(&["--failed-authentications-per-minute", "30"]);
    let proxy = Proxy::of(&world);
    let mut number = 0;
    let refused = wait_until("too many sign-ins have failed", WAIT_TIMEOUT, async || {
        number += 1;
        let client = format!("198.51.{}.{}", number / 250, number % 250);
        let (status, _) = proxy.ask(&client, Some(("nobody", "wrong"))).await;
        (status != 401).then_some(status)
    });
    assert_eq!(refused.await, 429);
}
