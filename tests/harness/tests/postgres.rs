//! The throw-away PostgreSQL: one database for each test, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{postgres_or_skip, wait_until};

#[test]
fn test_databases_are_distinct_empty_and_usable() {
    let test = "test_databases_are_distinct_empty_and_usable";
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
fn dropping_the_database_handle_drops_the_database() {
    let test = "dropping_the_database_handle_drops_the_database";
    let (Some(one), Some(other)) = (postgres_or_skip(test), postgres_or_skip(test)) else { return };
    let name = one.psql("select current_database()");
    let count = format!("select count(*) from pg_database where datname = '{name}'");
    assert_eq!(other.psql(&count), "1");
    drop(one);
    assert_eq!(other.psql(&count), "0");
}

#[test]
#[should_panic(expected = "no_such_table")]
fn psql_panics_if_the_statement_fails() {
    let database = postgres_or_skip("psql_panics_if_the_statement_fails").expect("no_such_table: skipped");
    database.psql("select * from no_such_table");
}

#[tokio::test]
async fn postgres_cluster_is_removed_after_its_test_process_is_killed() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "helper_process_keeps_a_postgres_cluster_until_killed", "--nocapture"])
        // Use a throw-away cluster, or none.
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
    // The folder is removed last, after PostgreSQL has exited.
    let minute = Duration::from_secs(60);
    wait_until("the cluster's folder is removed", minute, async || (!folder.exists()).then_some(())).await;
}

/// Not a test itself: the test above runs it as another process and kills it.
#[test]
#[ignore = "runs only as a child process of postgres_cluster_is_removed_after_its_test_process_is_killed"]
fn helper_process_keeps_a_postgres_cluster_until_killed() {
    let Some(database) = postgres_or_skip("helper_process_keeps_a_postgres_cluster_until_killed") else {
        return;
    };
    // Start with a line break, because the test runner has left its own line unfinished.
    println!("\nCLUSTER {}", database.psql("show data_directory"));
    // Block until killed, because nothing is written to this pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}
