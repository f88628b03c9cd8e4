//! How messages reach the gateway.

use harness::{Answer, wait_until};
use serde_json::json;

use super::{Gateway, NUMBER};
use crate::world::{WAIT_TIMEOUT, World, created, on_every_database};

on_every_database! {
    async fn message_is_sent_again_until_the_gateway_accepts_it(world: World) {
        let unavailable = || Answer::of("503 Service Unavailable", "", "");
        let gateway = Gateway::answering(world, [unavailable(), unavailable()]).await;
        created(&gateway.send(&[]).await);
        let last = gateway.message(3).await;
        for call in gateway.receiver.calls() {
            let message: serde_json::Value = serde_json::from_slice(&call.bytes()).unwrap();
            assert_eq!(message, last);
        }
        assert_eq!((&last["to"], &last["locale"]), (&json!(NUMBER), &json!("de")));
        assert!(last["body"].as_str().unwrap().contains(last["code"].as_str().unwrap()), "{last}");
    }
}

on_every_database! {
    async fn refused_message_raises_an_alert_with_the_reason_of_the_gateway(world: World) {
        let refusal = Answer::of("400 Bad Request", "", "unknown subscriber");
        let gateway = Gateway::answering(world, [refusal]).await;
        let verification = created(&gateway.send(&[]).await);
        let backend = gateway.world.backend();
        let raised = async || {
            let alerts = backend.get("/v1/Alerts", &[]).await.json();
            alerts["alerts"].as_array().unwrap().first().cloned()
        };
        let alert = wait_until("an alert is raised", WAIT_TIMEOUT, raised).await;
        assert_eq!((&alert["error_code"], &alert["resource_sid"]), (&json!("30008"), &verification["sid"]));
        let attempt = verification["send_code_attempts"][0]["attempt_sid"].as_str().unwrap();
        let attempt = backend.get(&format!("/v2/Attempts/{attempt}"), &[]).await.json();
        let data = &attempt["channel_data"];
        assert_eq!((&data["message_status"], &data["country"]), (&json!("failed"), &json!("AT")), "{attempt}");
        assert_eq!(gateway.receiver.calls().len(), 1);
    }
}

on_every_database! {
    async fn code_is_stored_and_logged_nowhere(world: World) {
        let mut gateway = Gateway::new(world).await;
        let service = format!("/v2/Services/{}", gateway.service);
        assert_eq!(gateway.world.backend().post(&service, &[("CustomCodeEnabled", "true")]).await.status, 200);
        let code = "7h1s1s1t";
        let created = created(&gateway.send(&[("CustomCode", code)]).await);
        gateway.message(1).await;
        assert!(!created.to_string().contains(code));
        for list in ["/v1/Events", "/v1/Alerts", "/v2/Attempts"] {
            let listed = gateway.world.backend().get(list, &[]).await;
            assert_eq!(listed.status, 200);
            assert!(!listed.text.contains(code), "{list}");
        }
        let attempts = gateway.world.command(&["webhooks", "attempts", "--all"]);
        assert!(!attempts.contains(code) && !attempts.contains(NUMBER), "{attempts}");
        gateway.world.server.terminate();
        assert!(!gateway.world.server.log().contains(code));
        assert!(!gateway.world.server.log().contains(NUMBER));
    }
}
