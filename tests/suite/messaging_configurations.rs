//! Messaging configurations: the outlets for text messages to countries.

use serde_json::json;

use crate::world::{World, assert_error, created, on_every_database};

const OUTLET: (&str, &str) = ("MessagingServiceSid", "MG0123456789abcdef0123456789abcdef");

on_every_database! {
    async fn messaging_configuration_is_returned_with_every_documented_key(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let list = format!("/v2/Services/{service}/MessagingConfigurations");
        let mut listed = Vec::new();
        for (given, country) in [("AT", "AT"), ("de", "DE"), ("all", "all")] {
            let made = created(&backend.post(&list, &[("Country", given), OUTLET]).await);
            let expected = json!({
                "account_sid": world.server.account_sid(),
                "service_sid": service,
                "country": country,
                "messaging_service_sid": OUTLET.1,
                "date_created": made["date_created"],
                "date_updated": made["date_created"],
                "url": format!("{}{list}/{country}", world.server.url()),
            });
            assert_eq!(made, expected);
            for name in [given, country] {
                assert_eq!(backend.get(&format!("{list}/{name}"), &[]).await.json(), made, "{name}");
            }
            assert_error(&backend.post(&list, &[("Country", country), OUTLET]).await, 400, 60213);
            listed.push(made);
        }
        assert_eq!(backend.get(&list, &[]).await.json()["messaging_configurations"], json!(listed));

        let path = format!("{list}/at");
        let other = ("MessagingServiceSid", "MGfedcba9876543210fedcba9876543210");
        let updated = backend.post(&path, &[other, ("Country", "FR")]).await.json();
        assert_eq!((&updated["messaging_service_sid"], &updated["country"]), (&json!(other.1), &json!("AT")));
        assert_eq!(backend.get(&path, &[]).await.json(), updated);
        assert_error(&backend.post(&path, &[("MessagingServiceSid", "")]).await, 400, 20001);
        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
        assert_error(&backend.post(&path, &[]).await, 404, 20404);
        assert_error(&backend.delete(&path, &[]).await, 404, 20404);
        assert_eq!(backend.get(&list, &[]).await.json()["messaging_configurations"], json!(listed[1..]));
    }
}

#[tokio::test]
async fn invalid_parameters_of_messaging_configurations_are_refused() {
    let world = World::ephemeral();
    let backend = world.backend();
    let list = format!("/v2/Services/{}/MessagingConfigurations", world.service().await);
    for (form, parameter) in [
        ([("Country", "AUT"), OUTLET], "Country"),
        ([("Country", "43"), OUTLET], "Country"),
        ([("Country", "ALL"), OUTLET], "Country"),
        ([("Country", "UK"), OUTLET], "Country"),
        ([("Country", "AT"), ("MessagingServiceSid", "MG1")], "MessagingServiceSid"),
        (
            [("Country", "AT"), ("MessagingServiceSid", "MD0123456789abcdef0123456789abcdef")],
            "MessagingServiceSid",
        ),
    ] {
        let reply = backend.post(&list, &form).await;
        assert_error(&reply, 400, 60200);
        assert_eq!(reply.json()["message"], format!("Invalid parameter: {parameter}"));
    }
    for form in [&[OUTLET][..], &[("Country", "AT")], &[("Country", ""), OUTLET]] {
        assert_error(&backend.post(&list, form).await, 400, 20001);
    }
    assert_eq!(backend.get(&list, &[]).await.json()["messaging_configurations"], json!([]));
    created(&backend.post(&list, &[("Country", "AT"), OUTLET]).await);
    let reply = backend.post(&format!("{list}/AT"), &[("MessagingServiceSid", "x")]).await;
    assert_error(&reply, 400, 60200);
}
