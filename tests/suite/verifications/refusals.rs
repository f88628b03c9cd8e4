//! Requests that are refused, and change nothing.

use super::{Gateway, NUMBER};
use crate::world::{World, assert_error, created, on_every_database};

on_every_database! {
    async fn invalid_parameters_of_a_verification_are_refused(world: World) {
        let gateway = Gateway::new(world).await;
        let backend = gateway.world.backend();
        assert_error(&backend.post(&gateway.path(), &[("To", NUMBER)]).await, 400, 20001);
        assert_error(&backend.post(&gateway.path(), &[("Channel", "sms")]).await, 400, 20001);
        for (to, channel) in [
            ("4366412345678", "sms"),
            ("ann@example.com", "sms"),
            (NUMBER, "email"),
            ("ann@example.com\r\nBcc: bob@example.com", "email"),
        ] {
            let refused = gateway.send_to(to, channel, &[]).await;
            assert_error(&refused, 400, 60200);
            assert_eq!(refused.json()["message"], "Invalid parameter: To");
        }
        for channel in ["sna", "rcs", "SMS"] {
            let refused = gateway.send_to(NUMBER, channel, &[]).await;
            assert_error(&refused, 400, 60200);
            assert_eq!(refused.json()["message"], "Invalid parameter: Channel");
        }
        for (name, value) in [
            ("CustomFriendlyName", "0123456789012345678901234567890"),
            ("CustomCode", "123"),
            ("CustomCode", "12345678901"),
            ("SendDigits", "1a"),
            ("AppHash", "short"),
            ("TemplateSid", "HJ1"),
            ("TemplateCustomSubstitutions", "[]"),
            ("RateLimits", "[]"),
            ("ChannelConfiguration", "[]"),
            ("ChannelConfiguration", r#"{"from":"ann"}"#),
            ("DeviceIp", "localhost"),
            ("EnableSnaClientToken", "perhaps"),
            ("RiskCheck", "maybe"),
            ("Tags", "[1]"),
        ] {
            let refused = gateway.send(&[(name, value)]).await;
            assert_error(&refused, 400, 60200);
            assert_eq!(refused.json()["message"], format!("Invalid parameter: {name}"));
        }
        for (more, status, code) in [
            ([("AppHash", "He42w354ol9"), ("Locale", "en")], 400, 60602),
            ([("Locale", "tlh"), ("RiskCheck", "enable")], 404, 60229),
            ([("Templates", "{}"), ("RiskCheck", "enable")], 400, 60251),
            ([("Templates", r#"[{"sid":"HJ00000000000000000000000000000000"}]"#), ("Locale", "en")], 400, 60252),
            ([("TemplateSid", "HJ00000000000000000000000000000000"), ("Locale", "en")], 400, 60228),
        ] {
            let channel = if code == 60602 { "call" } else { "sms" };
            assert_error(&gateway.send_to(NUMBER, channel, &more).await, status, code);
        }
        assert_eq!(gateway.receiver.calls().len(), 0);
        let path = format!("{}/{NUMBER}", gateway.path());
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn invalid_checks_are_refused_and_not_counted(world: World) {
        let gateway = Gateway::new(world).await;
        let (verification, code) = gateway.started().await;
        let sid = verification["sid"].as_str().unwrap();
        for form in [
            vec![("To", NUMBER)],
            vec![("To", NUMBER), ("Code", "123")],
            vec![("To", NUMBER), ("Code", "12345678901")],
            vec![("To", NUMBER), ("Code", "12 456")],
            vec![("To", "ann"), ("Code", &code)],
            vec![("VerificationSid", "VE1"), ("Code", &code)],
        ] {
            assert_error(&gateway.check(&form).await, 400, 60200);
        }
        assert_error(&gateway.check(&[("Code", &code)]).await, 400, 60221);
        // Both are given, and do not fit.
        let other = [("To", "+4366412345679"), ("VerificationSid", sid), ("Code", &code)];
        assert_error(&gateway.check(&other).await, 404, 20404);
        assert_error(&gateway.check(&[("To", "+4366412345679"), ("Code", &code)]).await, 404, 20404);
        let both = [("To", NUMBER), ("VerificationSid", sid), ("Code", &code)];
        assert_eq!(gateway.check(&both).await.json()["status"], "approved");
    }
}

on_every_database! {
    async fn channel_without_an_outlet_is_refused(world: World) {
        let service = world.service().await;
        let path = format!("/v2/Services/{service}/Verifications");
        for (to, channel, code) in [
            (NUMBER, "call", 60223),
            (NUMBER, "whatsapp", 68008),
            ("ann@example.com", "email", 60217),
        ] {
            let refused = world.backend().post(&path, &[("To", to), ("Channel", channel)]).await;
            assert_error(&refused, 400, code);
        }
    }
}

on_every_database! {
    serving &["--verification-countries", "at,de"];
    async fn only_permitted_countries_get_codes(world: World) {
        let gateway = Gateway::new(world).await;
        assert_eq!(gateway.send(&[]).await.status, 201);
        assert_error(&gateway.send_to("+447911123456", "sms", &[]).await, 403, 60605);
        assert_error(&gateway.send_to("+881612345678", "sms", &[]).await, 403, 60605);
        assert_eq!(gateway.send_to("+447911123456", "sms", &[("RiskCheck", "disable")]).await.status, 201);
        // Only text messages can be exempt.
        assert_error(&gateway.send_to("+447911123456", "call", &[("RiskCheck", "disable")]).await, 403, 60605);
        let safe = gateway.world.backend().post("/v2/SafeList/Numbers", &[("PhoneNumber", "+447911123457")]).await;
        assert_eq!(safe.status, 201);
        assert_eq!(gateway.send_to("+447911123457", "sms", &[]).await.status, 201);
    }
}

on_every_database! {
    async fn unknown_template_is_refused_before_anything_is_counted(world: World) {
        let gateway = Gateway::new(world).await;
        let backend = gateway.world.backend();
        let list = format!("/v2/Services/{}/RateLimits", gateway.service);
        let limit = created(&backend.post(&list, &[("UniqueName", "ip")]).await);
        let buckets = format!("{list}/{}/Buckets", limit["sid"].as_str().unwrap());
        created(&backend.post(&buckets, &[("Max", "1"), ("Interval", "3600")]).await);
        let (limited, unknown) = (("RateLimits", r#"{"ip":"192.0.2.1"}"#), format!("HJ{}", "1".repeat(32)));
        let with_template = [limited, ("TemplateSid", unknown.as_str())];
        assert_error(&gateway.send(&with_template).await, 400, 60228);
        assert_eq!(gateway.send(&[limited]).await.status, 201);
        assert_error(&gateway.send(&[limited]).await, 429, 20429);
        assert_error(&gateway.send(&with_template).await, 400, 60228);
    }
}

on_every_database! {
    serving &["--max-codes-per-service-per-hour", "2"];
    async fn service_sends_only_so_many_codes_within_an_hour(world: World) {
        let gateway = Gateway::new(world).await;
        assert_eq!(gateway.send(&[]).await.status, 201);
        assert_eq!(gateway.send(&[]).await.status, 201);
        let refused = gateway.send_to("+4366412345679", "sms", &[]).await;
        assert_error(&refused, 403, 60410);
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&wait), "{wait}");
        assert_eq!(gateway.send(&[("RiskCheck", "disable")]).await.status, 201);
    }
}

on_every_database! {
    serving &["--max-codes-per-prefix", "3"];
    async fn unapproved_codes_to_one_range_of_numbers_are_limited(world: World) {
        let gateway = Gateway::new(world).await;
        let range = async |last: &str| gateway.send_to(&format!("+43664123{last}"), "sms", &[]).await;
        for last in ["0001", "0002", "0003"] {
            assert_eq!(range(last).await.status, 201);
        }
        let refused = range("0004").await;
        assert_error(&refused, 403, 60410);
        let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((43_000..=43_200).contains(&wait), "{wait}");
        // Other ranges, and requests that turn the limit off, are not affected.
        assert_eq!(gateway.send_to("+436641240001", "sms", &[]).await.status, 201);
        let unchecked = gateway.send_to("+436641230005", "sms", &[("RiskCheck", "disable")]).await;
        assert_eq!(unchecked.status, 201);
        // An approval shows that users read the codes.
        let number = "+436641230005";
        let check = gateway.check(&[("To", number), ("Code", &gateway.code_sent_to(number).await)]).await;
        assert_eq!(check.json()["status"], "approved");
        assert_eq!(range("0006").await.status, 201);
    }
}

on_every_database! {
    async fn landline_gets_no_text_message_if_the_service_skips_landlines(world: World) {
        let gateway = Gateway::new(world).await;
        let landline = "+431514440";
        assert_eq!(gateway.send_to(landline, "sms", &[]).await.status, 201);
        let service = format!("/v2/Services/{}", gateway.service);
        let settings = [("LookupEnabled", "true"), ("SkipSmsToLandlines", "true")];
        assert_eq!(gateway.world.backend().post(&service, &settings).await.status, 200);
        assert_error(&gateway.send_to(landline, "sms", &[]).await, 403, 60205);
        let called = gateway.send_to(landline, "call", &[]).await.json();
        assert_eq!(called["lookup"]["carrier"]["type"], "landline", "{called}");
        assert_eq!(gateway.send(&[]).await.json()["lookup"]["carrier"]["type"], "mobile");
    }
}
