//! What a login with TOTP leaves behind: audit records, and no deliveries.

use std::time::Duration;

use harness::{Answer, Receiver};
use serde_json::{Value, json};

use super::{TotpFixture, assert_status, ok};
use crate::webhooks::LOOPBACK_ARGUMENTS;
use crate::world::{World, created, on_every_database};

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn totp_leaves_audit_records_and_sends_no_webhooks(world: World) {
        let service = world.service().await;
        let receiver = Receiver::start([Answer::ok()]);
        let form = [("FriendlyName", "All"), ("WebhookUrl", &*receiver.at("/")), ("EventTypes", "*")];
        created(&world.backend().post(&format!("/v2/Services/{service}/Webhooks"), &form).await);

        let factor = TotpFixture::create(&world, &service, "user-0001", &[("Config.Skew", "2")]).await;
        ok(&factor.update(&world, &[("AuthPayload", &factor.wrong_code())]).await);
        let form = [("Config.Skew", "1"), ("FriendlyName", "Tablet"), ("AuthPayload", &*factor.code(0))];
        assert_status(&factor.update(&world, &form).await, 200, "verified");
        let approved = factor.challenge(&world, &[("AuthPayload", &factor.code(1))]).await;
        assert_status(&approved, 201, "approved");
        let pending = created(&factor.challenge(&world, &[]).await);
        let form = [("AuthPayload", &*factor.wrong_code()), ("Metadata", r#"{"a":"b"}"#)];
        assert_status(&factor.answer(&world, &pending, &form).await, 200, "pending");
        assert_eq!(world.backend().delete(&factor.path, &[]).await.status, 204);

        let events = ok(&world.backend().get("/v1/Events", &[("PageSize", "100")]).await);
        let mut events = events["events"].as_array().unwrap().clone();
        events.reverse();
        let of_totp = |event: &&Value| {
            let sid = event["resource_sid"].as_str().unwrap();
            sid.starts_with("YF02") || sid.starts_with("YC02")
        };
        let types: Vec<_> = events.iter().filter(of_totp).map(|event| event["event_type"].clone()).collect();
        let expected = [
            "factor.created",
            "factor.updated",
            "factor.verified",
            "challenge.created",
            "challenge.approved",
            "challenge.created",
            "challenge.updated",
            "factor.deleted",
        ];
        assert_eq!(types, expected);
        let updated = events.iter().find(|event| event["event_type"] == "factor.updated").unwrap();
        assert_eq!(updated["event_data"]["changed"], json!(["friendly_name", "config.skew"]), "{updated}");

        // Deliveries are stored with their cause, and a push factor of the same service has one.
        world.enrolled(device::Style::Ios, &service, "user-0001").await;
        harness::wait_until("the push factor's webhooks arrive", Duration::from_secs(60), async || {
            (receiver.calls().len() >= 2).then_some(())
        })
        .await;
        let attempts = world.command(&["webhooks", "attempts", "--all"]);
        assert!(!attempts.contains("totp") && !attempts.contains(&factor.sid), "{attempts}");
        assert_eq!(receiver.calls().len(), 2, "factor.created and factor.verified");
    }
}
