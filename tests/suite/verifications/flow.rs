//! What becomes of a verification.

use harness::wait_until;
use serde_json::{Value, json};

use super::{Gateway, NUMBER, wrong};
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

on_every_database! {
    async fn right_code_approves_a_verification(world: World) {
        let gateway = Gateway::new(world).await;
        let (verification, code) = gateway.started().await;
        let (sid, service) = (verification["sid"].as_str().unwrap(), &gateway.service);
        let attempt = &verification["send_code_attempts"][0];
        let url = format!("{}{}/{sid}", gateway.world.server.url(), gateway.path());
        let mut expected = json!({
            "sid": sid,
            "service_sid": service,
            "account_sid": gateway.world.server.account_sid(),
            "to": NUMBER,
            "channel": "sms",
            "status": "pending",
            "valid": false,
            "date_created": verification["date_created"],
            "date_updated": verification["date_created"],
            "lookup": {},
            "amount": null,
            "payee": null,
            "send_code_attempts": [
                { "time": verification["date_created"], "channel": "SMS", "attempt_sid": attempt["attempt_sid"] },
            ],
            "sna": null,
            "url": url,
        });
        assert_eq!(verification, expected);
        assert!(sid.starts_with("VE") && attempt["attempt_sid"].as_str().unwrap().starts_with("VL"));
        let path = format!("{}/{sid}", gateway.path());
        assert_eq!(gateway.world.backend().get(&path, &[]).await.json(), expected);

        let refused = created(&gateway.check(&[("To", NUMBER), ("Code", &wrong(&code))]).await);
        assert_eq!((&refused["status"], &refused["valid"]), (&json!("pending"), &json!(false)));
        let approved = created(&gateway.check(&[("To", NUMBER), ("Code", &code)]).await);
        expected = json!({
            "sid": sid,
            "service_sid": service,
            "account_sid": gateway.world.server.account_sid(),
            "to": NUMBER,
            "channel": "sms",
            "status": "approved",
            "valid": true,
            "amount": null,
            "payee": null,
            "sna_attempts_error_codes": [],
            "date_created": verification["date_created"],
            "date_updated": approved["date_updated"],
        });
        assert_eq!(approved, expected);

        assert_error(&gateway.check(&[("To", NUMBER), ("Code", &code)]).await, 404, 20404);
        assert_error(&gateway.world.backend().get(&path, &[]).await, 404, 20404);
        assert_error(&gateway.world.backend().post(&path, &[("Status", "canceled")]).await, 404, 20404);
        let (next, other) = gateway.started().await;
        assert_ne!(next["sid"], sid);
        assert_eq!(other.len(), 6);
    }
}

on_every_database! {
    async fn same_code_is_sent_five_times_at_most(world: World) {
        let gateway = Gateway::new(world).await;
        let (first, code) = gateway.started().await;
        for (number, channel) in (2..=5).zip(["sms", "call", "whatsapp", "sms"]) {
            let again = created(&gateway.send_to(NUMBER, channel, &[]).await);
            assert_eq!((&again["sid"], &again["channel"]), (&first["sid"], &json!(channel)));
            assert_eq!(again["send_code_attempts"].as_array().unwrap().len(), number);
            let message = gateway.message(number).await;
            assert_eq!((&message["code"], &message["channel"]), (&json!(code), &json!(channel)));
            // A voice would say the code as one large number.
            let spelled = code.split("").filter(|digit| !digit.is_empty()).collect::<Vec<_>>().join(", ");
            let expected = if channel == "call" { &spelled } else { &code };
            assert!(message["body"].as_str().unwrap().contains(expected), "{message}");
        }
        let words = |verification: &Value| -> Vec<String> {
            let attempts = verification["send_code_attempts"].as_array().unwrap();
            attempts.iter().map(|attempt| attempt["channel"].as_str().unwrap().to_owned()).collect()
        };
        let path = format!("{}/{NUMBER}", gateway.path());
        let last = gateway.world.backend().get(&path, &[]).await.json();
        assert_eq!(words(&last), ["SMS", "SMS", "CALL", "whatsapp", "SMS"]);
        let refused = gateway.send(&[]).await;
        assert_error(&refused, 429, 60203);
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((500..=600).contains(&wait), "{wait}");
        assert_eq!(created(&gateway.check(&[("To", NUMBER), ("Code", &code)]).await)["status"], "approved");
        assert_eq!(gateway.send(&[]).await.status, 201);
    }
}

on_every_database! {
    async fn fifth_wrong_code_uses_the_checks_up(world: World) {
        let gateway = Gateway::new(world).await;
        let (verification, code) = gateway.started().await;
        let sid = verification["sid"].as_str().unwrap();
        for number in 1..=5 {
            let form = [("VerificationSid", sid), ("Code", &wrong(&code))];
            let checked = created(&gateway.check(&form).await);
            let status = if number < 5 { "pending" } else { "max_attempts_reached" };
            assert_eq!((&checked["status"], &checked["valid"]), (&json!(status), &json!(false)), "{number}");
        }
        let refused = gateway.check(&[("VerificationSid", sid), ("Code", &code)]).await;
        assert_error(&refused, 429, 60202);
        assert!(refused.header("retry-after").is_some());
        assert_error(&gateway.send(&[]).await, 429, 60202);
        // Otherwise a backend that cancels it would permit further guesses.
        let path = format!("{}/{sid}", gateway.path());
        let backend = gateway.world.backend();
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
        for status in ["canceled", "approved"] {
            assert_error(&backend.post(&path, &[("Status", status)]).await, 404, 20404);
        }
        assert_error(&gateway.send(&[]).await, 429, 60202);
        // Another recipient, and another service, are not concerned.
        assert_eq!(gateway.send_to("+4366412345679", "sms", &[]).await.status, 201);
    }
}

on_every_database! {
    async fn backend_ends_a_verification(world: World) {
        let gateway = Gateway::new(world).await;
        for status in ["approved", "canceled"] {
            let (verification, code) = gateway.started().await;
            // As the libraries send it, and as others would.
            let path = match status {
                "approved" => format!("{}/{NUMBER}", gateway.path()),
                _ => format!("{}/%2B{}", gateway.path(), &NUMBER[1..]),
            };
            let backend = gateway.world.backend();
            assert_error(&backend.post(&path, &[]).await, 400, 20001);
            assert_error(&backend.post(&path, &[("Status", "pending")]).await, 400, 60200);
            let ended = backend.post(&path, &[("Status", status)]).await;
            assert_eq!(ended.status, 200, "{ended:?}");
            let ended = ended.json();
            assert_eq!((&ended["sid"], &ended["status"]), (&verification["sid"], &json!(status)));
            assert_eq!(ended["valid"], status == "approved");
            assert_error(&backend.post(&path, &[("Status", status)]).await, 404, 20404);
            assert_error(&gateway.check(&[("To", NUMBER), ("Code", &code)]).await, 404, 20404);
        }
    }
}

on_every_database! {
    async fn custom_code_is_sent_and_checked(world: World) {
        let gateway = Gateway::new(world).await;
        assert_error(&gateway.send(&[("CustomCode", "ABCD")]).await, 403, 60204);
        let service = format!("/v2/Services/{}", gateway.service);
        let backend = gateway.world.backend();
        assert_eq!(backend.post(&service, &[("CustomCodeEnabled", "true")]).await.status, 200);
        created(&gateway.send(&[("CustomCode", "ABCD")]).await);
        assert_eq!(gateway.message(1).await["code"], "ABCD");
        created(&gateway.send(&[("CustomCode", "1234567890")]).await);
        assert_eq!(gateway.message(2).await["code"], "1234567890");
        // The code is sent again, so its length is reported.
        let again = created(&gateway.send(&[]).await);
        assert_eq!(gateway.message(3).await["code"], "1234567890");
        let attempt = again["send_code_attempts"][2]["attempt_sid"].as_str().unwrap();
        let attempt = backend.get(&format!("/v2/Attempts/{attempt}"), &[]).await.json();
        assert_eq!(attempt["channel_data"]["code_length"], 10, "{attempt}");
        let checked = created(&gateway.check(&[("To", NUMBER), ("Code", "ABCD")]).await);
        assert_eq!(checked["status"], "pending");
        let checked = created(&gateway.check(&[("To", NUMBER), ("Code", "1234567890")]).await);
        assert_eq!(checked["status"], "approved");
    }
}

on_every_database! {
    async fn payment_must_be_confirmed_as_it_was_announced(world: World) {
        let gateway = Gateway::new(world).await;
        let service = format!("/v2/Services/{}", gateway.service);
        let backend = gateway.world.backend();
        assert_eq!(backend.post(&service, &[("Psd2Enabled", "true")]).await.status, 200);
        let payment = [("Amount", "€ 39,99"), ("Payee", "Owl & Co")];
        assert_error(&gateway.send(&[]).await, 400, 60206);
        assert_error(&gateway.send(&payment[..1]).await, 400, 60206);
        assert_error(&gateway.send_to(NUMBER, "call", &payment).await, 400, 60214);
        let verification = created(&gateway.send(&payment).await);
        assert_eq!(
            (&verification["amount"], &verification["payee"]),
            (&json!("€ 39,99"), &json!("Owl & Co"))
        );
        let message = gateway.message(1).await;
        let (text, code) = (message["body"].as_str().unwrap(), message["code"].as_str().unwrap());
        assert!(text.contains("€ 39,99") && text.contains("Owl & Co") && text.contains(code), "{text}");
        assert_error(&gateway.check(&[("To", NUMBER), ("Code", code)]).await, 400, 60206);
        let other = [("To", NUMBER), ("Code", code), ("Amount", "€ 3999,00"), ("Payee", "Owl & Co")];
        assert_eq!(created(&gateway.check(&other).await)["status"], "pending");
        let right = [("To", NUMBER), ("Code", code), payment[0], payment[1]];
        let checked = created(&gateway.check(&right).await);
        assert_eq!((&checked["status"], &checked["amount"]), (&json!("approved"), &json!("€ 39,99")));
    }
}

on_every_database! {
    async fn code_confirms_only_the_payment_with_which_it_was_sent(world: World) {
        let gateway = Gateway::new(world).await;
        let service = format!("/v2/Services/{}", gateway.service);
        assert_eq!(gateway.world.backend().post(&service, &[("Psd2Enabled", "true")]).await.status, 200);
        let pay = |amount, payee| [("Amount", amount), ("Payee", payee)];
        let (small, large) = (pay("9", "Shop"), pay("900", "Mallory"));
        let first = created(&gateway.send(&small).await);
        let code = async |message| gateway.message(message).await["code"].as_str().unwrap().to_owned();
        let read = code(1).await;
        created(&gateway.send(&small).await);
        assert_eq!(code(2).await, read, "the same payment has the same code");
        let second = created(&gateway.send(&large).await);
        assert_eq!(second["sid"], first["sid"]);
        let other = code(3).await;
        assert_ne!(other, read);
        let check = async |code: &str, payment: [(&'static str, &'static str); 2]| {
            created(&gateway.check(&[("To", NUMBER), ("Code", code), payment[0], payment[1]]).await)["status"].clone()
        };
        assert_eq!(check(&read, large).await, "pending");
        assert_eq!(check(&other, small).await, "pending");
        assert_eq!(check(&other, large).await, "approved");
    }
}

on_every_database! {
    async fn code_that_was_sent_without_a_payment_confirms_none(world: World) {
        let gateway = Gateway::new(world).await;
        let payment = [("Amount", "9"), ("Payee", "Shop")];
        let paid = created(&gateway.send(&payment).await);
        let code = gateway.message(1).await["code"].as_str().unwrap().to_owned();
        // The next message is about no payment, so it neither names one nor has the same code.
        let plain = created(&gateway.send(&[]).await);
        assert_eq!((&plain["sid"], &plain["amount"]), (&paid["sid"], &json!(null)));
        let message = gateway.message(2).await;
        assert!(!message["body"].as_str().unwrap().contains("Shop"), "{message}");
        assert_ne!(message["code"], code);
        let service = format!("/v2/Services/{}", gateway.service);
        assert_eq!(gateway.world.backend().post(&service, &[("Psd2Enabled", "true")]).await.status, 200);
        let named = [("To", NUMBER), ("Code", message["code"].as_str().unwrap()), payment[0], payment[1]];
        assert_eq!(created(&gateway.check(&named).await)["status"], "pending");
    }
}

on_every_database! {
    async fn check_needs_no_payment_if_the_service_confirms_none(world: World) {
        let gateway = Gateway::new(world).await;
        for named in [&[][..], &[("Amount", "9"), ("Payee", "Shop")]] {
            let before = gateway.receiver.calls().len();
            created(&gateway.send(&[("Amount", "9"), ("Payee", "Shop")]).await);
            let code = gateway.message(before + 1).await["code"].as_str().unwrap().to_owned();
            let other = [("To", NUMBER), ("Code", code.as_str()), ("Amount", "10"), ("Payee", "Shop")];
            assert_eq!(created(&gateway.check(&other).await)["status"], "pending");
            let right = [&[("To", NUMBER), ("Code", code.as_str())], named].concat();
            assert_eq!(created(&gateway.check(&right).await)["status"], "approved");
        }
    }
}

on_every_database! {
    async fn verification_is_found_by_every_mail_address(world: World) {
        let gateway = Gateway::new(world).await;
        gateway.add_mail_outlet();
        for (address, encoded) in [
            ("ann+owl@example.com", "ann%2Bowl%40example.com"),
            ("a/b@example.com", "a%2Fb%40example.com"),
            ("a%2Bb@example.com", "a%252Bb%40example.com"),
        ] {
            let verification = created(&gateway.send_to(address, "email", &[]).await);
            let path = format!("{}/{encoded}", gateway.path());
            let found = gateway.world.backend().get(&path, &[]).await.json();
            assert_eq!(found["sid"], verification["sid"], "{address}");
        }
    }
}

#[tokio::test]
async fn service_with_short_codes_gets_a_warning_in_the_log() {
    let world = World::ephemeral();
    let backend = world.backend();
    let create = async |more: &[(&str, &str)]| {
        let form = [&[("FriendlyName", "Owl Bank")], more].concat();
        created(&backend.post("/v2/Services", &form).await)["sid"].as_str().unwrap().to_owned()
    };
    let first = create(&[("CodeLength", "4")]).await;
    for length in ["4", "6", "5", "10"] {
        let path = format!("/v2/Services/{first}");
        assert_eq!(backend.post(&path, &[("CodeLength", length)]).await.status, 200);
    }
    create(&[]).await;
    let last = create(&[("CodeLength", "4")]).await;
    let warnings = async || {
        let log = world.server.log();
        let lines: Vec<_> =
            log.lines().filter(|line| line.contains("are easy to guess")).map(str::to_owned).collect();
        lines.last().is_some_and(|line| line.contains(&last)).then_some(lines)
    };
    let warnings = wait_until("the last service is warned of", WAIT_TIMEOUT, warnings).await;
    // The first service when it was created, and when it got five digits.
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[..2].iter().all(|line| line.contains(&first)), "{warnings:?}");
}
