//! The stream of a factor: the challenges that are pending, and what becomes of them.

use device::Answer;

use super::*;
use crate::totp::TotpFixture;
use crate::world::{created, on_every_database};

on_every_database! {
    async fn stream_sends_pending_challenges_new_ones_and_their_ends(world: World) {
        let service = world.service().await;
        let device = world.device(&service, "user-0001").await;
        let sibling = world.device(&service, "user-0001").await;
        let [first, second] = [world.challenge(&device.enrollment, &[]).await, world.challenge(&device.enrollment, &[]).await];
        world.challenge(&sibling.enrollment, &[]).await;
        let client = Http::new(world.server.url()).auth(device.auth());
        let mut of_device = open(&client, &device.path()).await;
        let mut of_backend = open(&world.backend(), &device.path()).await;
        for events in [&mut of_device, &mut of_backend] {
            for challenge in [&first, &second] {
                let event = next(events).await;
                assert_eq!((event.name.as_deref(), event.id.as_deref()), (Some("challenge.pending"), None));
                assert_eq!(event.json(), shown(&world, challenge).await);
            }
            let (name, mut data) = named(events).await;
            data["pending"].as_array_mut().unwrap().sort_by_key(|sid| sid.as_str().unwrap().to_owned());
            assert_eq!((name.as_str(), data), ("snapshot", json!({ "pending": [first["sid"], second["sid"]] })));
        }
        answer(&device.phone, &device.enrollment, &second, Answer::Denied).await;
        let third = world.challenge(&device.enrollment, &[("ExpirationDate", &date_in(15))]).await;
        for events in [&mut of_device, &mut of_backend] {
            for (challenge, expected) in [(&second, "denied"), (&third, "pending"), (&third, "expired")] {
                let (name, data) = named(events).await;
                assert_eq!((name, &data["sid"]), (format!("challenge.{expected}"), &challenge["sid"]));
                assert_eq!(data["status"], expected);
            }
        }
        assert_eq!(world.backend().delete(&device.path(), &[]).await.status, 204);
        let (name, data) = named(&mut of_backend).await;
        assert_eq!((name.as_str(), &data["sid"]), ("challenge.expired", &first["sid"]));
        assert_ends(&mut of_backend, "gone").await;
        assert_ends(&mut of_device, "unauthorized").await;
    }
}

#[tokio::test]
async fn backend_follows_the_challenges_of_a_totp_factor() {
    let world = World::sqlite();
    let service = world.service().await;
    let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
    let mut events = open(&world.backend(), &factor.path).await;
    assert_eq!(named(&mut events).await, ("snapshot".to_owned(), json!({ "pending": [] })));
    let challenge = created(&factor.challenge(&world, &[]).await);
    assert_eq!(named(&mut events).await, ("challenge.pending".to_owned(), shown(&world, &challenge).await));
    let path = challenge_path(&challenge);
    assert_eq!(world.backend().post(&path, &[("AuthPayload", &factor.code(0))]).await.status, 200);
    assert_eq!(named(&mut events).await, ("challenge.approved".to_owned(), shown(&world, &challenge).await));
}
