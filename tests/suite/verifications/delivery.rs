//! How messages reach the gateway.

use harness::{Answer, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Gateway, NUMBER};
use crate::deletion;
use crate::operation::value_of;
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

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
    async fn message_whose_code_expired_has_failed_even_if_the_verification_is_closed(world: World) {
        if deletion::sql(&world, "SELECT 1").is_none() {
            return;
        }
        let unavailable = || Answer::of("503 Service Unavailable", "", "");
        let gateway = Gateway::answering(world, (0..100).map(|_| unavailable())).await;
        let first = created(&gateway.send(&[]).await);
        gateway.message(1).await;
        deletion::sql(&gateway.world, "UPDATE verifications SET expires_at = created_at");
        // The next message to the recipient closes the verification.
        let second = created(&gateway.send(&[]).await);
        assert_ne!(first["sid"], second["sid"]);
        let backend = gateway.world.backend();
        let raised = async || {
            let alerts = backend.get("/v1/Alerts", &[]).await.json();
            alerts["alerts"].as_array().unwrap().iter().find(|alert| alert["resource_sid"] == first["sid"]).cloned()
        };
        let alert = wait_until("an alert is raised", WAIT_TIMEOUT, raised).await;
        assert_eq!(alert["error_code"], "30008");
        assert_eq!(alert["alert_text"], "the code expired before the message was sent");
        let attempt = first["send_code_attempts"][0]["attempt_sid"].as_str().unwrap();
        let attempt = backend.get(&format!("/v2/Attempts/{attempt}"), &[]).await.json();
        assert_eq!(attempt["channel_data"]["message_status"], "failed", "{attempt}");
    }
}

on_every_database! {
    serving &["--public-url", "https://verify.example.com"];
    async fn gateway_reports_what_became_of_a_message(world: World) {
        let gateway = Gateway::new(world).await;
        let verification = created(&gateway.send(&[]).await);
        let message = gateway.message(1).await;
        let path = message["report_url"].as_str().unwrap().strip_prefix("https://verify.example.com").unwrap();
        let (backend, gateway_side) = (gateway.world.backend(), gateway.world.server.http());
        let attempt = verification["send_code_attempts"][0]["attempt_sid"].as_str().unwrap();
        let data = async || backend.get(&format!("/v2/Attempts/{attempt}"), &[]).await.json()["channel_data"].clone();
        let sent = async || Some(data().await).filter(|data| data["message_status"] == "sent");
        wait_until("the message is sent", WAIT_TIMEOUT, sent).await;

        // Reports of failures raise one alert, however often they are repeated.
        for _ in 0..2 {
            let report = [("MessageSid", "SM1"), ("MessageStatus", "undelivered"), ("ErrorCode", "30005")];
            let accepted = gateway_side.post(path, &report).await;
            assert_eq!((accepted.status, accepted.text.as_str()), (200, "ACK/Jasmin"));
            assert_eq!(accepted.header("content-type"), Some("text/plain"));
        }
        assert_eq!(gateway_side.post(path, &[("status", "failed")]).await.status, 200);
        let after = data().await;
        assert_eq!((&after["message_status"], &after["error_code"]), (&json!("undelivered"), &json!("30005")));
        let alerts = backend.get("/v1/Alerts", &[]).await.json();
        let codes: Vec<_> = alerts["alerts"].as_array().unwrap().iter().map(|alert| &alert["error_code"]).collect();
        assert_eq!(codes, [&json!("30005")]);

        // The message arrived after all. Late reports change nothing.
        for (query, expected) in [("status=DELIVRD", "delivered"), ("status=8", "delivered"), ("status=read", "read")] {
            assert_eq!(gateway_side.get(&format!("{path}?{query}"), &[]).await.status, 200);
            let after = data().await;
            assert_eq!((&after["message_status"], &after["error_code"]), (&json!(expected), &json!(null)));
        }

        // A request for the headers alone is no report.
        let other = created(&gateway.send_to("+4366412345679", "sms", &[]).await);
        let other = other["send_code_attempts"][0]["attempt_sid"].as_str().unwrap().to_owned();
        let message = gateway.message(2).await;
        let url = message["report_url"].as_str().unwrap().strip_prefix("https://verify.example.com").unwrap();
        let head = gateway_side.send_json(Method::HEAD, &format!("{url}?status=delivered"), None).await;
        assert_eq!(head.status, 200);
        let attempt = backend.get(&format!("/v2/Attempts/{other}"), &[]).await.json();
        assert_ne!(attempt["channel_data"]["message_status"], "delivered");
        let large = "x".repeat(5000);
        assert_error(&gateway_side.post(path, &[("status", &large)]).await, 413, 20413);

        // The token is looked at first.
        let forged = format!("{}A", &path[..path.len() - 1]);
        let forged = if forged == path { format!("{}B", &path[..path.len() - 1]) } else { forged };
        assert_error(&gateway_side.post(&forged, &[("status", "perhaps")]).await, 404, 20404);
        assert_error(&gateway_side.post(path, &[]).await, 400, 20001);
        assert_error(&gateway_side.post(path, &[("status", "perhaps")]).await, 400, 60306);
        assert_eq!(data().await["message_status"], "read");

        // A deleted service has no messages.
        let service = format!("/v2/Services/{}", gateway.service);
        assert_eq!(backend.delete(&service, &[]).await.status, 204);
        assert_error(&gateway_side.post(url, &[("status", "delivered")]).await, 404, 20404);
    }
}

on_every_database! {
    serving &["--public-url", "https://verify.example.com"];
    async fn gateway_reports_why_a_call_failed(world: World) {
        let gateway = Gateway::new(world).await;
        for (number, (report, expected)) in (1..).zip([("busy", "busy"), ("canceled", "canceled"), ("no-answer", "no-answer")]) {
            let verification = created(&gateway.send_to(&format!("+436641234567{number}"), "call", &[]).await);
            let message = gateway.message(number).await;
            let path = message["report_url"].as_str().unwrap().strip_prefix("https://verify.example.com").unwrap();
            assert_eq!(gateway.world.server.http().post(path, &[("CallStatus", report)]).await.status, 200);
            let attempt = verification["send_code_attempts"][0]["attempt_sid"].as_str().unwrap();
            let attempt = gateway.world.backend().get(&format!("/v2/Attempts/{attempt}"), &[]).await.json();
            assert_eq!(attempt["channel_data"]["call_status"], expected);
        }
    }
}

on_every_database! {
    async fn outlet_that_does_not_exist_is_passed_over_with_a_warning(world: World) {
        let gateway = Gateway::new(world).await;
        let url = gateway.receiver.at("/all");
        let second = ["outlet", "create", "--kind", "http", "--channel", "sms", "--channel", "call", "--name", "All"];
        let made = gateway.world.command(&[&second[..], &["--url", &url]].concat());
        let (second, unknown) = (value_of("outlet sid", &made), format!("MG{}", "1".repeat(32)));
        let list = format!("/v2/Services/{}/MessagingConfigurations", gateway.service);
        let backend = gateway.world.backend();
        for (country, outlet) in [("AT", &unknown), ("all", &second)] {
            created(&backend.post(&list, &[("Country", country), ("MessagingServiceSid", outlet)]).await);
        }
        let verification = created(&gateway.send(&[]).await);
        gateway.message(1).await;
        // Calls do not use messaging configurations.
        created(&gateway.send_to(NUMBER, "call", &[]).await);
        gateway.message(2).await;
        let lines: Vec<_> = gateway.receiver.calls().iter().map(|call| call.line.clone()).collect();
        assert_eq!(lines, ["POST /all HTTP/1.1", "POST /send HTTP/1.1"]);
        let alerts = backend.get("/v1/Alerts", &[]).await.json();
        let alerts = alerts["alerts"].as_array().unwrap();
        let [alert] = &alerts[..] else { panic!("{alerts:?}") };
        assert_eq!((&alert["error_code"], &alert["log_level"]), (&json!("60223"), &json!("warning")));
        assert_eq!(alert["resource_sid"], verification["sid"]);
        assert!(alert["alert_text"].as_str().unwrap().contains(&unknown), "{alert}");
    }
}

on_every_database! {
    async fn only_a_template_that_the_request_names_warns_of_another_channel(world: World) {
        let gateway = Gateway::new(world).await;
        let create = ["template", "create", "--name", "Login", "--channels", "sms", "--locale", "en"];
        let made = gateway.world.command(&[&create[..], &["--text", "{{code}}"]].concat());
        let template = value_of("template sid", &made);
        let backend = gateway.world.backend();
        let service = format!("/v2/Services/{}", gateway.service);
        assert_eq!(backend.post(&service, &[("DefaultTemplateSid", template.as_str())]).await.status, 200);
        let alerts = async || backend.get("/v1/Alerts", &[]).await.json()["alerts"].as_array().unwrap().clone();
        created(&gateway.send_to(NUMBER, "call", &[]).await);
        assert_eq!(alerts().await, Vec::<Value>::new());
        created(&gateway.send_to(NUMBER, "call", &[("TemplateSid", &template)]).await);
        let alerts = alerts().await;
        assert_eq!(alerts.iter().map(|alert| &alert["error_code"]).collect::<Vec<_>>(), [&json!("60327")]);
    }
}

on_every_database! {
    async fn country_chooses_the_translation_of_a_template(world: World) {
        let gateway = Gateway::new(world).await;
        let create = ["template", "create", "--name", "Login", "--channels", "sms", "--locale", "de"];
        let made = gateway.world.command(&[&create[..], &["--text", "{{code}} de"]].concat());
        let template = value_of("template sid", &made);
        for locale in ["en-GB", "pt", "sv"] {
            let text = format!("{{{{code}}}} {locale}");
            let translation = ["template", "set-translation", &template, "--locale", locale, "--text", &text];
            gateway.world.command(&translation);
        }
        // Sweden, Brazil, the United Kingdom and Japan. Default texts exist neither in Swedish nor in Japanese.
        let countries = [("+46701234567", "sv"), ("+5511961234567", "pt"), ("+447400123456", "en-GB"), ("+819012345678", "en-GB")];
        for (count, (number, locale)) in (1..).zip(countries) {
            created(&gateway.send_to(number, "sms", &[("TemplateSid", &template)]).await);
            let message = gateway.message(count).await;
            assert!(message["body"].as_str().unwrap().ends_with(&format!(" {locale}")), "{number}: {message}");
            assert_eq!(message["locale"], locale);
        }
        created(&gateway.send_to("+46701234568", "sms", &[]).await);
        let message = gateway.message(countries.len() + 1).await;
        assert!(message["body"].as_str().unwrap().ends_with("is your code."), "{message}");
        assert_eq!(message["locale"], "en");

        // The default translation is for a requested language without a text, and for a payment that others do not name.
        let japanese = [("TemplateSid", template.as_str()), ("Locale", "ja")];
        created(&gateway.send_to("+819012345679", "sms", &japanese).await);
        assert_eq!(gateway.message(countries.len() + 2).await["locale"], "de");
        let text = "{{code}} {{amount}} {{payee}}";
        gateway.world.command(&["template", "set-translation", &template, "--locale", "de", "--text", text, "--replace"]);
        let payment = [("TemplateSid", template.as_str()), ("Amount", "9 EUR"), ("Payee", "Shop")];
        created(&gateway.send_to("+5511961234568", "sms", &payment).await);
        let message = gateway.message(countries.len() + 3).await;
        assert!(message["body"].as_str().unwrap().ends_with(" 9 EUR Shop"), "{message}");
    }
}

on_every_database! {
    async fn mail_is_written_in_the_requested_language(world: World) {
        let gateway = Gateway::new(world).await;
        gateway.add_mail_outlet();
        for (index, (locale, subject, used)) in [
            ("pl", "Twój kod Owl Bank", "pl"),
            ("DE", "Ihr Code für Owl Bank", "de"),
            ("tlh", "Your code for Owl Bank", "en"),
        ]
        .into_iter()
        .enumerate()
        {
            let form = [("Locale", locale), ("CustomFriendlyName", "Owl Bank")];
            let to = format!("ann{index}@example.com");
            let verification = created(&gateway.send_to(&to, "email", &form).await);
            let message = gateway.message(index + 1).await;
            assert_eq!((&message["subject"], &message["locale"]), (&json!(subject), &json!(used)), "{message}");
            let attempt = verification["send_code_attempts"][0]["attempt_sid"].as_str().unwrap();
            let attempt = gateway.world.backend().get(&format!("/v2/Attempts/{attempt}"), &[]).await.json();
            assert_eq!(attempt["channel_data"]["locale"], used, "{attempt}");
        }
    }
}

on_every_database! {
    async fn values_for_a_mail_fill_its_template_where_the_template_has_none(world: World) {
        let gateway = Gateway::new(world).await;
        gateway.add_mail_outlet();
        let text = "{{twilio_code}} for {{user}} of {{team}}";
        let template = ["template", "create", "--name", "Mail", "--channels", "email", "--locale", "en"];
        let output = gateway.world.command(&[&template[..], &["--text", text]].concat());
        let sid = output.lines().find_map(|line| line.strip_prefix("template sid")).unwrap().trim();
        let form = [("TemplateSid", sid), ("TemplateCustomSubstitutions", r#"{"user":"Bob"}"#)];
        assert_error(&gateway.send_to("ann@example.com", "email", &form).await, 400, 60224);
        let values = r#"{"template_id":"d-1","substitutions":{"user":"Ann","team":"Owls"}}"#;
        let form = [form[0], form[1], ("ChannelConfiguration", values)];
        created(&gateway.send_to("ann@example.com", "email", &form).await);
        let message = gateway.message(1).await;
        let code = message["code"].as_str().unwrap();
        assert_eq!(message["body"], format!("{code} for Bob of Owls"));
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
