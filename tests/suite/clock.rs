//! A jumping clock: retention removes nothing until the clock is trusted again.

use std::process::Command;

use harness::{Storage, wait_until};

use crate::audit::sql;
use crate::metrics;
use crate::world::{WAIT_TIMEOUT, World, on_every_database};

/// Returns the number of challenges that the account can list.
async fn challenges(world: &World, service: &str) -> usize {
    let path = format!("/v2/Services/{service}/Entities/zoe-00001/Challenges");
    let reply = world.backend().get(&path, &[]).await;
    reply.json()["challenges"].as_array().unwrap().len()
}

/// Returns the doctor's lines about the clock and housekeeping.
fn diagnosis(world: &World) -> String {
    let mut arguments = vec!["doctor".to_owned()];
    match &world.storage {
        Storage::Sqlite(data_dir) => {
            arguments.extend(["--data-dir".to_owned(), data_dir.display().to_string()])
        }
        Storage::Postgres { url, data_dir } => arguments.extend(
            ["--database-url", url, "--data-dir", &data_dir.display().to_string()].map(str::to_owned),
        ),
        Storage::Ephemeral => panic!("there is no database"),
    }
    let output = Command::new(crate::world::BINARY).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().find(|line| line.contains("clock and housekeeping")).unwrap_or_default().to_owned()
}

on_every_database! {
    serving &metrics::LISTEN;
    async fn housekeeping_removes_nothing_after_a_clock_jump_until_the_clock_is_trusted(world: World) {
        let lacks = matches!(world.storage, Storage::Sqlite(_)) && Command::new("sqlite3").arg("-version").output().is_err();
        if lacks {
            eprintln!("SKIPPED on SQLite: there is no sqlite3");
            return;
        }
        let mut world = world;
        let service = world.service().await;
        let (_, enrollment) = world.enrolled(device::Style::Ios, &service, "zoe-00001").await;
        world.challenge(&enrollment, &[]).await;
        let address = metrics::address(|| world.server.log()).await;
        wait_until("housekeeping has run once", WAIT_TIMEOUT, async || {
            let succeeded = metrics::read(&address).await.sum("countersign_housekeeping_rounds", &[("outcome", "done")]);
            (succeeded >= 1.0).then_some(())
        })
        .await;
        assert!(diagnosis(&world).starts_with("OK"), "{}", diagnosis(&world));
        world.server.terminate();

        // Everything in the database becomes 400 days older, so the next server finds its clock 400 days ahead.
        let days = 400_i64 * 86_400 * 1_000_000;
        sql(&world, &format!("UPDATE clock_record SET trusted_at = trusted_at - {days}"));
        sql(&world, &format!("UPDATE challenges SET created_at = created_at - {days}, expires_at = expires_at - {days}"));
        let output = diagnosis(&world);
        assert!(output.starts_with("WARNING") && output.contains("pauses housekeeping for six hours"), "{output}");
        world.server.restart();
        wait_until("housekeeping refuses", WAIT_TIMEOUT, async || {
            world.server.log().contains("housekeeping removes nothing: the clock jumped").then_some(())
        })
        .await;
        assert_eq!(challenges(&world, &service).await, 1);
        let address = metrics::address(|| world.server.log()).await;
        let exposition = metrics::read(&address).await;
        assert_eq!(exposition.sum("countersign_clock_doubted", &[]), 1.0);
        let output = diagnosis(&world);
        assert!(output.starts_with("WARNING") && output.contains("housekeeping is paused: the clock jumped"), "{output}");
        // A restart does not change this. A stopping server releases housekeeping for the next one.
        world.server.terminate();
        world.server.restart();
        let refusals = |log: &str| log.matches("housekeeping removes nothing: the clock jumped").count();
        wait_until("housekeeping refuses again", WAIT_TIMEOUT, async || (refusals(&world.server.log()) == 2).then_some(())).await;
        assert_eq!(challenges(&world, &service).await, 1);

        // The operator confirms that the clock is right.
        assert!(world.command(&["clock", "trust"]).starts_with("trusted       "));
        assert!(world.command(&["audit", "list"]).contains("clock.trusted"));
        world.server.terminate();
        world.server.restart();
        wait_until("housekeeping removes the challenge", WAIT_TIMEOUT, async || {
            (challenges(&world, &service).await == 0).then_some(())
        })
        .await;
        assert!(diagnosis(&world).starts_with("OK"), "{}", diagnosis(&world));
    }
}
