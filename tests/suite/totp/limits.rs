//! Limits on the challenges of a TOTP factor (60312), which are on by default.

use std::process::Command;

use harness::{Reply, Storage};

use super::TotpFixture;
use crate::audit::sql;
use crate::races::{Request, send_at_once, split_outcomes};
use crate::world::{World, assert_error, created, on_every_database};

/// Checks that a challenge was refused, with a `Retry-After` of about so many seconds.
#[track_caller]
fn assert_limited(reply: &Reply, seconds: u32) {
    assert_error(reply, 429, 60312);
    let retry_after: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((seconds - 300..=seconds).contains(&retry_after), "{retry_after} instead of {seconds}");
}

/// Makes all challenges older.
fn age(world: &World, seconds: i64) {
    let micros = seconds * 1_000_000;
    let times = ["created_at", "updated_at", "expires_at"].map(|time| format!("{time} = {time} - {micros}"));
    sql(world, &format!("UPDATE challenges SET {}", times.join(", ")));
}

fn lacks_sqlite3(world: &World, test: &str) -> bool {
    let lacks = matches!(world.storage, Storage::Sqlite(_))
        && Command::new("sqlite3").arg("-version").output().is_err();
    if lacks {
        eprintln!("SKIPPED {test} on SQLite: there is no sqlite3");
    }
    lacks
}

on_every_database! {
    async fn challenges_of_a_totp_factor_are_limited_by_hour_and_by_day(world: World) {
        if lacks_sqlite3(&world, "challenges_of_a_totp_factor_are_limited_by_hour_and_by_day") {
            return;
        }
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[("Config.CodeLength", "5")]).await;
        let request = || {
            let form = [("FactorSid", factor.sid.as_str())];
            Request::of_backend(&world.server, "POST", &factor.challenges, &form)
        };
        // The limit holds however many requests race.
        let (made, refused) = split_outcomes(&send_at_once((0..70).map(|_| request()).collect()).await);
        assert_eq!((made.len(), refused), (50, vec![(429, 60312); 20]));
        // The right code is refused too.
        assert_limited(&factor.challenge(&world, &[("AuthPayload", &factor.code(0))]).await, 3600);
        // A limit of the service can only lower these.
        world.command(&["service", "limit", &service, "--max-pending-challenges", "off", "--challenges-per-minute", "off"]);
        assert_limited(&factor.challenge(&world, &[]).await, 3600);
        world.command(&["service", "limit", &service, "--challenges-per-minute", "default"]);
        // Another factor has limits of its own.
        let other = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        created(&other.challenge(&world, &[]).await);

        age(&world, 3600);
        for _ in 0..50 {
            created(&factor.challenge(&world, &[]).await);
        }
        assert_limited(&factor.challenge(&world, &[]).await, 82_800);
        age(&world, 82_800);
        created(&factor.challenge(&world, &[]).await);
    }
}

on_every_database! {
    async fn challenges_for_short_codes_are_limited_to_ten_a_day(world: World) {
        if lacks_sqlite3(&world, "challenges_for_short_codes_are_limited_to_ten_a_day") {
            return;
        }
        let service = world.service().await;
        for digits in ["3", "4"] {
            let form = [("Config.CodeLength", digits)];
            let factor = TotpFixture::verified(&world, &service, "user-0001", &form).await;
            for _ in 0..10 {
                created(&factor.challenge(&world, &[]).await);
            }
            assert_limited(&factor.challenge(&world, &[]).await, 86_400);
            age(&world, 80_000);
            assert_limited(&factor.challenge(&world, &[]).await, 6400);
            // Longer codes have the other limits, and deletion does not help: the secret is new then.
            factor.update(&world, &[("Config.CodeLength", "6")]).await;
            created(&factor.challenge(&world, &[]).await);
        }
        world.server.wait_for_log("codes of fewer than six digits").await;
        assert_eq!(world.server.log().matches("codes of fewer than six digits").count(), 1);
    }
}

on_every_database! {
    serving &["--max-pending-challenges-per-factor", "3"];
    async fn limits_of_operator_and_service_apply_to_totp_too(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        for _ in 0..3 {
            created(&factor.challenge(&world, &[]).await);
        }
        assert_limited(&factor.challenge(&world, &[]).await, 300);
        world.command(&["service", "limit", &service, "--max-pending-challenges", "off", "--challenges-per-minute", "4"]);
        created(&factor.challenge(&world, &[]).await);
        assert_error(&factor.challenge(&world, &[]).await, 429, 60312);
    }
}
