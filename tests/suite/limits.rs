//! Limits against abuse: they hold under races, say when it goes on, and are told in the form that every client expects.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use app::SystemClock;
use device::{Answer, SigningKey, Style};
use domain::Clock as _;
use harness::{Reply, wait_until};
use serde_json::Value;

use crate::races::{Request, at_once, divided, enrollment, factors, newcomer_and_regular, sid_of};
use crate::world::{World, assert_error, created, entity, on_every_database};

/// For what happens within seconds, and a slow machine on top.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds after which a refusal says that it passes.
fn retry_after(reply: &Reply) -> u32 {
    reply.header("retry-after").unwrap().parse::<NonZeroU32>().unwrap().get()
}

/// Waits until a request is not refused any more, which must be so as soon as the refusal said.
async fn passes(refused: &Reply, mut request: impl AsyncFnMut() -> Reply) {
    let (refused_at, seconds) = (Instant::now(), retry_after(refused));
    wait_until("the limit has room again", PATIENCE, async || {
        let is_time = refused_at.elapsed() >= Duration::from_secs(seconds.into());
        let reply = request().await;
        assert!(!is_time || reply.status < 300, "{seconds} seconds were not enough: {reply:?}");
        (reply.status < 300).then_some(())
    })
    .await;
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "3"];
    async fn so_many_challenges_to_a_factor_are_pending_and_no_more(world: World) {
        let service = world.service().await;
        let (phone, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let ask = async || world.backend().post(&path, &form).await;

        let requests = (0..15).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = divided(&at_once(requests.collect()).await);
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
    async fn what_expires_makes_room_when_it_was_said_to(world: World) {
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
        passes(&refused, ask).await;
    }
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "1", "--challenges-per-factor-and-minute", "1"];
    async fn where_two_limits_are_met_the_later_room_is_told(world: World) {
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
    serving &["--challenges-per-factor-and-minute", "4"];
    async fn so_many_challenges_to_a_factor_are_made_in_a_minute(world: World) {
        let service = world.service().await;
        let (_, enrolled) = world.enrolled(Style::Android, &service, "weary-0001").await;
        let path = format!("{}/Challenges", entity(&service, "weary-0001"));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let ask = async || world.backend().post(&path, &form).await;
        let began = Instant::now();

        let requests = (0..15).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = divided(&at_once(requests.collect()).await);
        assert_eq!((made.len(), refused), (4, vec![(429, 60312); 11]));
        let full = ask().await;
        assert_error(&full, 429, 60312);
        let waited = u32::try_from(began.elapsed().as_secs()).unwrap();
        assert!((59_u32.saturating_sub(waited)..=60).contains(&retry_after(&full)), "{full:?}");

        // One service may have limits of its own, which the running server heeds.
        let limit = |limits: &[&str]| world.command(&[&["service", "limit", &service], limits].concat());
        limit(&["--challenges-per-minute", "off"]);
        created(&ask().await);
        let shown = limit(&["--max-pending-challenges", "6"]);
        assert!(shown.contains("max pending challenges  6\nchallenges per minute   off\n"), "{shown}");
        created(&ask().await);
        let full = ask().await;
        assert_error(&full, 429, 60312);
        assert!(full.json()["message"].as_str().unwrap().contains("6 are pending"), "{full:?}");
        limit(&["--max-pending-challenges", "default", "--challenges-per-minute", "7"]);
        created(&ask().await);
        assert_error(&ask().await, 429, 60312);
        assert!(world.refusal(&["service", "limit", "VA00000000000000000000000000000000"]).contains("there is no VA0"));

        let shown = world.backend().get(&format!("/v2/Services/{service}"), &[]).await;
        assert!(!shown.json().to_string().contains("limit\""), "no client sees it: {shown:?}");
    }
}

on_every_database! {
    serving &["--factors-per-entity-and-day", "4"];
    async fn an_entity_gets_so_many_factors_a_day_deleted_ones_included(world: World) {
        let service = world.service().await;
        for identity in newcomer_and_regular(&world, &service).await {
            let mut phones = Vec::new();
            for _ in 0..12 {
                phones.push((world.new_factor(&service, identity).await, SigningKey::generate()));
            }
            let requests = phones.iter().map(|(new, key)| enrollment(&world.server, new, key));
            let outcomes = at_once(requests.collect()).await;
            let (made, refused) = divided(&outcomes);
            assert_eq!((made.len(), refused), (4, vec![(429, 60326); 8]));

            // Who repeats himself makes no other one.
            let winner = outcomes.iter().position(Result::is_ok).unwrap();
            let (new, key) = &phones[winner];
            let (again, _) = divided(&at_once(vec![enrollment(&world.server, new, key)]).await);
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
    serving &["--entities-per-service-and-second", "3"];
    async fn a_service_gets_so_many_entities_a_second(world: World) {
        let service = world.service().await;
        let path = format!("/v2/Services/{service}/Entities");
        let mut requests = Vec::new();
        for number in 0..18 {
            let identity = format!("backend-{number:04}");
            requests.push(Request::of_backend(&world.server, "POST", &path, &[("Identity", &identity)]));
        }
        for number in 0..6 {
            // A phone makes an entity too.
            let new = world.new_factor(&service, &format!("newcomer-{number:04}")).await;
            requests.insert(3 * number, enrollment(&world.server, &new, &SigningKey::generate()));
        }
        let (made, refused) = divided(&at_once(requests).await);
        assert!(made.len() >= 3 && !refused.is_empty(), "{made:?}");
        assert_eq!(refused, vec![(429, 60328); refused.len()]);

        // A SID begins with the millisecond of its making.
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
        let refused = wait_until("there are too many", PATIENCE, async || {
            let reply = another().await;
            (reply.status != 201).then_some(reply)
        });
        let refused = refused.await;
        assert_error(&refused, 429, 60328);
        assert_eq!(retry_after(&refused), 1);
        passes(&refused, another).await;
    }
}

#[tokio::test]
async fn what_is_stored_is_counted_over_all_servers() {
    let limits = ["--max-pending-challenges-per-factor", "3", "--factors-per-entity-and-day", "4"];
    let test = "limits::what_is_stored_is_counted_over_all_servers";
    let Some(world) = World::postgres_with(test, &limits) else { return };
    let other = world.another_server(&limits);
    let here_and_there = |requests: Vec<Request>| {
        let place =
            |(number, request): (usize, Request)| if number % 2 == 0 { request } else { request.at(&other) };
        at_once(requests.into_iter().enumerate().map(place).collect())
    };
    let service = world.service().await;
    for round in 0..3 {
        let (_, enrolled) = world.enrolled(Style::Android, &service, &format!("weary-{round:04}")).await;
        let path = format!("{}/Challenges", entity(&service, &enrolled.identity));
        let form = [("FactorSid", enrolled.factor_sid.as_str()), ("Details.Message", "Yes?")];
        let requests = (0..20).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = divided(&here_and_there(requests.collect()).await);
        assert_eq!((made.len(), refused), (3, vec![(429, 60312); 17]));

        let mut requests = Vec::new();
        for _ in 0..10 {
            let new = world.new_factor(&service, &format!("newcomer-{round:04}")).await;
            requests.push(enrollment(&world.server, &new, &SigningKey::generate()));
        }
        let (made, refused) = divided(&here_and_there(requests).await);
        assert_eq!((made.len(), refused), (4, vec![(429, 60326); 6]));
    }
}

#[tokio::test]
async fn an_account_makes_so_many_requests_a_second_and_so_many_do_its_devices() {
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
            // What it may not do counts too.
            device_at_work.get("/v2/Services", &[]).await,
        ] {
            match reply.status {
                200 | 403 => taken += 1,
                _ => refused.push(reply),
            }
        }
    }
    // What the devices share, and what one has for an answer of its own: six, and one a second.
    let most = 2.0 + 6.0 + (2.0 + 1.0) * began.elapsed().as_secs_f64();
    assert!(f64::from(taken) <= most && taken >= 8, "{taken} in {:?}", began.elapsed());
    let last = refused.last().unwrap();
    assert_error(last, 429, 20429);
    assert_eq!(retry_after(last), 1);
    // The devices have not used up what the backends have.
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
        passes(&again, async || world.backend().get("/v2/Services", &[]).await).await;
    }
}

#[tokio::test]
async fn a_phones_answer_fits_whatever_the_other_devices_of_its_account_do() {
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
        wait_until("the devices have used up what they share", PATIENCE, async || {
            (busy_at_work.get(&busy.challenges(), &[]).await.status == 429).then_some(())
        })
        .await;
    };
    exhaust().await;
    // The SDKs look, answer, and look again; none of it is refused.
    phone.pending(&enrollment).await.unwrap();
    let answered = phone.answer(&enrollment, &sid_of(&challenges[0]), Answer::Approved).await.unwrap();
    assert_eq!(answered.status.as_str(), "approved");
    // What a device has of its own ends too.
    exhaust().await;
    let calm = world.server.http().auth(crate::world::signed_in(device::signing::device_token(
        Style::Android,
        &enrollment,
        SystemClock.now(),
    )));
    let path = format!("{}/Challenges", entity(&service, "calm-00001"));
    let refused = wait_until("it is refused", PATIENCE, async || {
        let reply = calm.get(&path, &[]).await;
        (reply.status != 200).then_some(reply)
    });
    let refused = refused.await;
    assert_error(&refused, 429, 20429);
    assert_eq!(retry_after(&refused), 1);
}

#[tokio::test]
async fn an_account_has_so_many_requests_under_way_and_each_ends() {
    let world = World::ephemeral_with(&["--account-concurrency", "1"]);
    for path in ["/v2/Services", "/v2/Services/VA0", "/v1/Alerts", "/v2/Services?PageSize=0"] {
        // However it ends, the next one may come.
        for _ in 0..3 {
            assert_ne!(world.backend().get(path, &[]).await.status, 429, "{path}");
        }
    }
    let form = [("FriendlyName", "Owl Bank")];
    let requests = (0..50).map(|_| Request::of_backend(&world.server, "POST", "/v2/Services", &form));
    let (made, refused) = divided(&at_once(requests.collect()).await);
    assert!(!made.is_empty());
    assert_eq!(refused, vec![(429, 20429); refused.len()]);
    created(&world.backend().post("/v2/Services", &form).await);
}

/// Somebody who asks for the services on behalf of others.
struct Proxy {
    http: reqwest::Client,
    url: String,
}

impl Proxy {
    fn of(world: &World) -> Self {
        Self { http: reqwest::Client::new(), url: format!("{}/v2/Services", world.server.url()) }
    }

    /// Asks for a client of this address; status and `Retry-After`.
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
async fn an_address_from_which_too_much_failed_is_not_heard_for_a_while() {
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
        assert_eq!(proxy.ask("198.51.100.7", None).await, (401, None), "no credentials are no bad ones");
        assert_eq!(proxy.ask("198.51.100.7", good).await.0, 200);
    }
    let mut failed = 0;
    let refused = wait_until("not even good ones are looked at", PATIENCE, async || {
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
    assert!(failed > 30 && (1..=2).contains(&seconds), "one every two seconds: {failed}, {seconds}");
    for elsewhere in ["198.51.100.8", "2001:db8::7", "198.51.100.7, 198.51.100.9"] {
        assert_eq!(proxy.ask(elsewhere, good).await.0, 200, "{elsewhere}");
    }
    wait_until("it is heard again", PATIENCE, async || {
        let is_time = refused_at.elapsed() >= Duration::from_secs(seconds.into());
        let (status, _) = proxy.ask("198.51.100.7", good).await;
        assert!(!is_time || status == 200, "{seconds} seconds were not enough");
        (status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_access_token_that_is_spent_is_a_credential_that_failed() {
    let world = World::ephemeral_with(&["--failed-authentications-per-minute", "5"]);
    let service = world.service().await;
    let new = world.new_factor(&service, "newcomer-0001").await;
    world.phone(Style::Android).create_factor(&new).await.unwrap();
    let again =
        async || divided(&at_once(vec![enrollment(&world.server, &new, &SigningKey::generate())]).await).1;
    assert_eq!(again().await, [(401, 20003)]);
    let refused = wait_until("too much has failed", PATIENCE, async || {
        let refused = again().await;
        (refused != [(401, 20003)]).then_some(refused)
    });
    assert_eq!(refused.await, [(429, 20429)]);
}

#[tokio::test]
async fn who_is_not_trusted_cant_say_that_it_was_somebody_else() {
    let world = World::ephemeral_with(&["--failed-authentications-per-minute", "30"]);
    let proxy = Proxy::of(&world);
    let mut number = 0;
    let refused = wait_until("too much has failed", PATIENCE, async || {
        number += 1;
        let client = format!("198.51.{}.{}", number / 250, number % 250);
        let (status, _) = proxy.ask(&client, Some(("nobody", "wrong"))).await;
        (status != 401).then_some(status)
    });
    assert_eq!(refused.await, 429);
}
