//! The throw-away PostgreSQL: databases of one's own, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{postgres_or_skip, wait_until};

#[test]
fn two_databases_are_distinct_empty_and_usable() {
    let test = "two_databases_are_distinct_empty_and_usable";
    let (Some(one), Some(other)) = (postgres_or_skip(test), postgres_or_skip(test)) else { return };
    assert_ne!(one.url, other.url);

    one.psql("create table owls (name text)");
    one.psql("insert into owls values ('Minerva'), ('Archimedes')");
    assert_eq!(one.psql("select name, length(name) from owls order by name"), "Archimedes|10\nMinerva|7");

    let tables = "select count(*) from information_schema.tables where table_schema = 'public'";
    assert_eq!(one.psql(tables), "1");
    assert_eq!(other.psql(tables), "0");
}

#[test]
fn a_database_goes_with_its_value() {
    let test = "a_database_goes_with_its_value";
    let (Some(one), Some(other)) = (postgres_or_skip(test), postgres_or_skip(test)) else { return };
    let name = one.psql("select current_database()");
    let count = format!("select count(*) from pg_database where datname = '{name}'");
    assert_eq!(other.psql(&count), "1");
    drop(one);
    assert_eq!(other.psql(&count), "0");
}

#[test]
#[should_panic(expected = "no_such_table")]
fn what_postgres_refuses_is_a_panic() {
    let database =
        postgres_or_skip("what_postgres_refuses_is_a_panic").expect("no_such_table, since skipped");
    database.psql("select * from no_such_table");
}

#[tokio::test]
async fn the_cluster_is_gone_after_kill_9_of_the_test_process() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "holds_a_cluster", "--nocapture"])
        // A cluster of its own, or none.
        .env_remove("TEST_POSTGRES_URL")
        .env_remove("CI")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(holder.stdout.take().unwrap());
    let folder = output.lines().find_map(|line| line.unwrap().strip_prefix("CLUSTER ").map(str::to_owned));
    let Some(folder) = folder else {
        assert!(holder.wait().unwrap().success());
        return;
    };
    let folder = Path::new(&folder);
    assert!(folder.join("postmaster.pid").exists());

    holder.kill().unwrap();
    holder.wait().unwrap();
    // The last thing to go: PostgreSQL itself has ended by then.
    let minute = Duration::from_secs(60);
    wait_until("the cluster's folder is removed", minute, async || (!folder.exists()).then_some(())).await;
}

/// Not a test: what the one above runs as another process, and kills.
#[test]
#[ignore = "the other end of the_cluster_is_gone_after_kill_9_of_the_test_process"]
fn holds_a_cluster() {
    let Some(database) = postgres_or_skip("holds_a_cluster") else { return };
    // Begins with a line break: the test runner has left its own line unfinished.
    println!("\nCLUSTER {}", database.psql("show data_directory"));
    // Until killed; nothing is ever written to this pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}
