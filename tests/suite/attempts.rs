//! Reports on the messages with one-time codes: lists, filters, summaries, and what they leave out.

use app::SystemClock;
use domain::Clock as _;
use harness::{Auth, Http};
use serde_json::{Value, json};

use crate::deletion::{sql, stored_sid};
use crate::world::{World, assert_error, on_every_database};

/// An attempt to insert past the server.
#[derive(Clone)]
pub(crate) struct AttemptRow {
    /// The last digits of the SIDs of the attempt and of its verification.
    pub(crate) number: u32,
    pub(crate) service: String,
    pub(crate) to: &'static str,
    pub(crate) channel: &'static str,
    pub(crate) country: Option<&'static str>,
    pub(crate) is_converted: bool,
    pub(crate) message_status: Option<&'static str>,
    pub(crate) error_code: Option<u32>,
    /// How many seconds ago the attempt was made.
    pub(crate) age: i64,
}

impl AttemptRow {
    pub(crate) fn new(number: u32, service: &str) -> Self {
        Self {
            number,
            service: service.to_owned(),
            to: "+4366412345678",
            channel: "sms",
            country: Some("AT"),
            is_converted: false,
            message_status: None,
            error_code: None,
            age: 60,
        }
    }

    pub(crate) fn sid(&self) -> String {
        format!("VL{:032x}", self.number)
    }

    fn verification_sid(&self) -> String {
        format!("VE{:032x}", self.number)
    }

    /// Inserts the attempt and its verification, which is closed. Returns `None` if SQL cannot be run.
    pub(crate) fn insert(&self, world: &World) -> Option<()> {
        let created = SystemClock.now().plus_seconds(-self.age);
        let (created, expires) = (created.micros(), created.plus_seconds(600).micros());
        let text = |value: Option<&str>| value.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let number = |value: Option<u32>| value.map_or("NULL".to_owned(), |number| number.to_string());
        let [account, service, verification, attempt] =
            [world.server.account_sid(), &self.service, &self.verification_sid(), &self.sid()]
                .map(|sid| stored_sid(world, sid));
        let Self { to, channel, .. } = self;
        let (is_converted, locale) =
            (u8::from(self.is_converted), text((*channel != "email").then_some("de")));
        sql(
            world,
            &format!(
                "INSERT INTO verifications (sid, account_sid, service_sid, recipient, recipient_key, channel, status, \
                 is_custom, sends, wrong_checks, expires_at, closed_at, created_at, updated_at) VALUES ({verification}, \
                 {account}, {service}, '{to}', '{to}', '{channel}', 'expired', 0, 1, '[]', {expires}, {expires}, \
                 {created}, {created}); \
                 INSERT INTO verification_attempts (sid, account_sid, service_sid, verification_sid, recipient, \
                 recipient_key, channel, country, code_length, locale, is_converted, message_status, error_code, \
                 expires_at, created_at, updated_at) VALUES ({attempt}, {account}, {service}, {verification}, '{to}', \
                 '{to}', '{channel}', {}, 6, {locale}, {is_converted}, {}, {}, {expires}, {created}, {created})",
                text(self.country),
                text(self.message_status),
                number(self.error_code),
            ),
        )
        .map(drop)
    }
}

/// Returns the SIDs in the list response for `query`.
async fn list(backend: &Http, query: &[(&str, &str)]) -> Vec<String> {
    let reply = backend.get("/v2/Attempts", query).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let attempts = reply.json()["attempts"].as_array().unwrap().clone();
    attempts.iter().map(|attempt| attempt["sid"].as_str().unwrap().to_owned()).collect()
}

on_every_database! {
    async fn attempt_is_returned_with_every_documented_key(world: World) {
        let service = world.service().await;
        let sms = AttemptRow { message_status: Some("delivered"), ..AttemptRow::new(1, &service) };
        let call = AttemptRow {
            channel: "call",
            is_converted: true,
            message_status: Some("delivered"),
            age: 700,
            ..AttemptRow::new(2, &service)
        };
        let mail = AttemptRow {
            to: "ann@example.com",
            channel: "email",
            country: None,
            message_status: Some("failed"),
            error_code: Some(30_008),
            age: 800,
            ..AttemptRow::new(3, &service)
        };
        for row in [&sms, &call, &mail] {
            if row.insert(&world).is_none() {
                return;
            }
        }
        let backend = world.backend();
        for (row, conversion, status, progress) in [
            (&sms, "unconverted", "unconfirmed", ("message_status", "delivered")),
            (&call, "converted", "confirmed", ("call_status", "completed")),
            (&mail, "unconverted", "expired", ("message_status", "failed")),
        ] {
            let reply = backend.get(&format!("/v2/Attempts/{}", row.sid()), &[]).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let body = reply.json();
            let mut data = json!({
                "verification_sid": row.verification_sid(),
                "to": row.to,
                "status": status,
                "error_code": row.error_code.map(|code| code.to_string()),
                "country": row.country,
                "code_length": 6,
                "locale": (row.channel != "email").then_some("de"),
                "mcc": null,
                "mnc": null,
                "carrier": null,
            });
            data[progress.0] = json!(progress.1);
            let expected = json!({
                "sid": row.sid(),
                "account_sid": world.server.account_sid(),
                "service_sid": service,
                "verification_sid": row.verification_sid(),
                "date_created": body["date_created"],
                "date_updated": body["date_created"],
                "conversion_status": conversion,
                "channel": row.channel,
                "price": null,
                "channel_data": data,
                "url": format!("{}/v2/Attempts/{}", world.server.url(), row.sid()),
            });
            assert_eq!(body, expected);
            let date = body["date_created"].as_str().unwrap();
            assert!(date.len() == 20 && date.ends_with('Z'), "{body}");
            let listed = backend.get("/v2/Attempts", &[("VerificationSid", &row.verification_sid())]).await;
            assert_eq!(listed.json()["attempts"], json!([expected]));
        }
        assert_error(&backend.get(&format!("/v2/Attempts/VL{}", "f".repeat(32)), &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn attempts_are_listed_newest_first_with_every_filter(world: World) {
        let (service, other) = (world.service().await, world.service().await);
        let rows = [
            AttemptRow { age: 50, ..AttemptRow::new(1, &service) },
            AttemptRow { age: 40, is_converted: true, ..AttemptRow::new(2, &service) },
            AttemptRow {
                age: 30, channel: "call", to: "+4915112345678", country: Some("DE"), ..AttemptRow::new(3, &service)
            },
            AttemptRow { age: 20, ..AttemptRow::new(4, &other) },
            AttemptRow {
                age: 10, channel: "email", to: "ann@example.com", country: None, ..AttemptRow::new(5, &other)
            },
        ];
        for row in &rows {
            if row.insert(&world).is_none() {
                return;
            }
        }
        let backend = world.backend();
        let sids = |numbers: &[usize]| numbers.iter().map(|number| rows[number - 1].sid()).collect::<Vec<_>>();
        assert_eq!(list(&backend, &[]).await, sids(&[5, 4, 3, 2, 1]));
        let at = |age: i64| SystemClock.now().plus_seconds(-age).to_string();
        let (middle, future) = (at(25), at(-3600));
        for (query, expected) in [
            (vec![("Channel", "sms")], vec![4, 2, 1]),
            (vec![("Channel", "rbm")], vec![]),
            (vec![("Country", "de")], vec![3]),
            (vec![("Country", "US")], vec![]),
            (vec![("VerifyServiceSid", service.as_str())], vec![3, 2, 1]),
            (vec![("ChannelData.To", "+4915112345678")], vec![3]),
            (vec![("ChannelData.To", "ann@EXAMPLE.com")], vec![5]),
            (vec![("Status", "converted")], vec![2]),
            (vec![("Status", "UNCONVERTED"), ("VerifyServiceSid", service.as_str())], vec![3, 1]),
            (vec![("DateCreatedAfter", middle.as_str())], vec![5, 4]),
            (vec![("DateCreatedBefore", middle.as_str())], vec![3, 2, 1]),
            (vec![("DateCreatedAfter", future.as_str())], vec![]),
            (vec![("Status", ""), ("Channel", "")], vec![5, 4, 3, 2, 1]),
        ] {
            assert_eq!(list(&backend, &query).await, sids(&expected), "{query:?}");
        }
        for bad in [
            ("Channel", "sna"),
            ("Country", "AUT"),
            ("VerifyServiceSid", "VA1"),
            ("VerificationSid", "VL1"),
            ("ChannelData.To", "4366412345678"),
            ("Status", "pending"),
            ("DateCreatedAfter", "yesterday"),
            ("DateCreatedBefore", "1"),
        ] {
            assert_error(&backend.get("/v2/Attempts", &[bad]).await, 400, 60306);
        }

        // Pages keep the filters.
        let mut next = Some("/v2/Attempts?PageSize=2&Country=at".to_owned());
        let mut found = Vec::new();
        while let Some(path) = next {
            let page = backend.get(&path, &[]).await.json();
            let attempts = page["attempts"].as_array().unwrap().clone();
            found.extend(attempts.iter().map(|attempt| attempt["sid"].as_str().unwrap().to_owned()));
            assert!(page["meta"]["url"].as_str().unwrap().contains("Country=at"), "{page}");
            next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
        }
        assert_eq!(found, sids(&[4, 2, 1]));
    }
}

on_every_database! {
    async fn summary_counts_attempts_with_its_filters(world: World) {
        let (service, backend) = (world.service().await, world.backend());
        let summary = async |query: &[(&str, &str)]| -> Value {
            let reply = backend.get("/v2/Attempts/Summary", query).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            reply.json()
        };
        let expected = |total: u32, converted: u32, rate: &str| {
            json!({
                "total_attempts": total,
                "total_converted": converted,
                "total_unconverted": total - converted,
                "conversion_rate_percentage": rate,
                "url": format!("{}/v2/Attempts/Summary", world.server.url()),
            })
        };
        assert_eq!(summary(&[]).await, expected(0, 0, "0"));
        let rows = [
            AttemptRow { is_converted: true, ..AttemptRow::new(1, &service) },
            AttemptRow { is_converted: true, ..AttemptRow::new(2, &service) },
            AttemptRow { to: "+4915112345678", country: Some("DE"), ..AttemptRow::new(3, &service) },
        ];
        for row in &rows {
            if row.insert(&world).is_none() {
                return;
            }
        }
        assert_eq!(summary(&[]).await, expected(3, 2, "66.666666667"));
        for (query, total, converted, rate) in [
            (("DestinationPrefix", "+43"), 2, 2, "100"),
            (("DestinationPrefix", "+491"), 1, 0, "0"),
            (("Country", "DE"), 1, 0, "0"),
            (("Channel", "call"), 0, 0, "0"),
            (("VerifyServiceSid", service.as_str()), 3, 2, "66.666666667"),
            // The summary does not have these filters of the list.
            (("Status", "unconverted"), 3, 2, "66.666666667"),
            (("ChannelData.To", "x"), 3, 2, "66.666666667"),
        ] {
            assert_eq!(summary(&[query]).await, expected(total, converted, rate), "{query:?}");
        }
        for bad in [("DestinationPrefix", "43"), ("Channel", "x"), ("DateCreatedAfter", "x")] {
            assert_error(&backend.get("/v2/Attempts/Summary", &[bad]).await, 400, 60306);
        }
    }
}

on_every_database! {
    async fn attempts_are_reported_for_30_days(world: World) {
        let (service, backend, day) = (world.service().await, world.backend(), 86_400);
        let young = AttemptRow { age: 30 * day - 600, ..AttemptRow::new(1, &service) };
        let old = AttemptRow { age: 30 * day + 1, ..AttemptRow::new(2, &service) };
        for row in [&young, &old] {
            if row.insert(&world).is_none() {
                return;
            }
        }
        assert_eq!(list(&backend, &[]).await, [young.sid()]);
        assert_eq!(list(&backend, &[("DateCreatedAfter", "2020-01-01T00:00:00Z")]).await, [young.sid()]);
        let summary = backend.get("/v2/Attempts/Summary", &[]).await.json();
        assert_eq!(summary["total_attempts"], 1);
        assert_eq!(backend.get(&format!("/v2/Attempts/{}", young.sid()), &[]).await.status, 200);
        assert_error(&backend.get(&format!("/v2/Attempts/{}", old.sid()), &[]).await, 404, 20404);
    }
}

on_every_database! {
    async fn attempts_of_another_account_are_not_visible(world: World) {
        let row = AttemptRow::new(1, &world.service().await);
        if row.insert(&world).is_none() {
            return;
        }
        let made = world.command(&["account", "create", "--name", "Stranger"]);
        let value = |label: &str| {
            let line = made.lines().find_map(|line| line.strip_prefix(label)).unwrap();
            line.trim().to_owned()
        };
        let login = Auth::Basic(value("account sid"), value("auth token"));
        let stranger = Http::new(world.server.url()).auth(login);
        assert_eq!(list(&stranger, &[]).await, [""; 0]);
        assert_eq!(list(&stranger, &[("VerifyServiceSid", &row.service)]).await, [""; 0]);
        let summary = stranger.get("/v2/Attempts/Summary", &[]).await.json();
        assert_eq!(summary["total_attempts"], 0);
        assert_error(&stranger.get(&format!("/v2/Attempts/{}", row.sid()), &[]).await, 404, 20404);
    }
}
