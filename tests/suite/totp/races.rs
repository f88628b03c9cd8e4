//! Equal and wrong codes that arrive at the same time.

use serde_json::Value;

use super::{SECRET, TotpFixture, ok};
use crate::races::{Request, send_at_once, split_outcomes};
use crate::world::{World, created, entity, on_every_database};

/// Returns how many of these resources have this status.
fn count(resources: &[Value], status: &str) -> usize {
    resources.iter().filter(|resource| resource["status"] == status).count()
}

on_every_database! {
    async fn exactly_one_of_a_hundred_equal_codes_approves_a_challenge(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "racer-0001", &[]).await;
        // Updates of fifty challenges, two of each.
        let mut challenges = Vec::new();
        for _ in 0..49 {
            challenges.push(created(&factor.challenge(&world, &[]).await)["sid"].as_str().unwrap().to_owned());
        }
        let code = factor.code(0);
        let form = [("AuthPayload", code.as_str())];
        let answer = |sid: &String| {
            Request::of_backend(&world.server, "POST", &format!("{}/{sid}", factor.challenges), &form)
        };
        let mut requests: Vec<_> = challenges.iter().chain(&challenges).map(answer).collect();
        // And two new challenges with the code, of which the hourly limit permits one.
        for _ in 0..2 {
            let form = [("FactorSid", factor.sid.as_str()), ("AuthPayload", code.as_str())];
            requests.push(Request::of_backend(&world.server, "POST", &factor.challenges, &form));
        }
        let (answered, refused) = split_outcomes(&send_at_once(requests).await);
        assert_eq!(count(&answered, "approved"), 1, "{refused:?}");
        // Refused: the new challenge over the limit, and perhaps the second code of the approved challenge.
        assert!(refused.iter().all(|refusal| [(429, 60312), (403, 60322)].contains(refusal)), "{refused:?}");
        assert!(refused.len() <= 2 && refused.contains(&(429, 60312)), "{refused:?}");
        let listed = ok(&world.backend().get(&factor.challenges, &[("PageSize", "100")]).await);
        let listed = listed["challenges"].as_array().unwrap();
        assert_eq!((listed.len(), count(listed, "approved"), count(listed, "pending")), (50, 1, 49));
    }
}

on_every_database! {
    async fn exactly_one_of_many_new_challenges_with_an_equal_code_is_approved(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "racer-0001", &[]).await;
        let code = factor.code(0);
        let form = [("FactorSid", factor.sid.as_str()), ("AuthPayload", code.as_str())];
        // On PostgreSQL, half of the requests are sent to a second server.
        let other = world.database.as_ref().map(|_| world.another_server(&[]));
        let request = |number: usize| {
            let request = Request::of_backend(&world.server, "POST", &factor.challenges, &form);
            match &other {
                Some(other) if number.is_multiple_of(2) => request.at(other),
                _ => request,
            }
        };
        let (made, refused) = split_outcomes(&send_at_once((0..50).map(request).collect()).await);
        assert_eq!((count(&made, "approved"), count(&made, "pending"), refused), (1, 49, Vec::new()));
    }
}

on_every_database! {
    async fn five_of_many_concurrent_wrong_codes_are_tried(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::create(&world, &service, "racer-0001", &[]).await;
        let wrong = factor.wrong_codes(40);
        let request = |path: &str, code: &String| {
            Request::of_backend(&world.server, "POST", path, &[("AuthPayload", code.as_str())])
        };
        let requests = wrong.iter().map(|code| request(&factor.path, code)).collect();
        let (tried, refused) = split_outcomes(&send_at_once(requests).await);
        assert_eq!((count(&tried, "unverified"), refused), (5, vec![(429, 60310); 35]));

        let factor = TotpFixture::verified(&world, &service, "racer-0001", &[]).await;
        let challenge = created(&factor.challenge(&world, &[]).await);
        let path = format!("{}/{}", factor.challenges, challenge["sid"].as_str().unwrap());
        let requests = wrong.iter().map(|code| request(&path, code)).collect();
        let (tried, refused) = split_outcomes(&send_at_once(requests).await);
        assert_eq!((tried.len(), refused), (5, vec![(429, 60308); 35]));
    }
}

on_every_database! {
    async fn concurrent_imports_of_one_secret_create_exactly_one_factor(world: World) {
        let service = world.service().await;
        let path = format!("{}/Factors", entity(&service, "racer-0001"));
        let form = [("FactorType", "totp"), ("FriendlyName", "Phone"), ("Binding.Secret", SECRET)];
        let request = |_| Request::of_backend(&world.server, "POST", &path, &form);
        let (made, refused) = split_outcomes(&send_at_once((0..20).map(request).collect()).await);
        assert_eq!((made.len(), refused), (1, vec![(409, 60317); 19]));
    }
}

on_every_database! {
    async fn codes_during_deletion_of_their_factor_are_accepted_or_refused(world: World) {
        let service = world.service().await;
        for round in 0..6 {
            let factor = TotpFixture::verified(&world, &service, "racer-0001", &[]).await;
            let challenge = created(&factor.challenge(&world, &[]).await);
            let path = format!("{}/{}", factor.challenges, challenge["sid"].as_str().unwrap());
            let code = factor.code(0);
            let mut requests = vec![Request::of_backend(&world.server, "POST", &path, &[("AuthPayload", &code)])];
            requests.insert(round % 2, Request::of_backend(&world.server, "DELETE", &factor.path, &[]));
            let mut outcomes = send_at_once(requests).await;
            assert_eq!(outcomes.remove(round % 2), Ok(Value::Null));
            let stored = ok(&world.backend().get(&path, &[]).await);
            match outcomes.remove(0) {
                Ok(answered) => assert_eq!((&answered["status"], &stored["status"]), (&"approved".into(), &"approved".into())),
                Err(refusal) => assert_eq!((refusal, &stored["status"]), ((403, 60323), &"expired".into())),
            }
        }
    }
}
