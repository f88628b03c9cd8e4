//! One PostgreSQL database for each test.

mod cluster;
mod installation;
mod pooler;
mod psql;

use std::io::{self, Write};
use std::sync::OnceLock;

use cluster::{Cluster, Source};
use pooler::Pooler;

use crate::random::random_hex;

/// A PostgreSQL database that belongs to one test: new and empty at first, dropped together with this value.
#[derive(Debug)]
pub struct Database {
    /// The `postgres://…` URL for the server under test and the test itself.
    pub url: String,
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    /// Runs `sql` with `psql`, past the server under test, and returns one row a line, with `|` between
    /// columns.
    ///
    /// # Panics
    ///
    /// With PostgreSQL's error text, if it fails.
    pub fn psql(&self, sql: &str) -> String {
        self.cluster.psql(&self.url, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// Returns the URL of this database through PgBouncer in transaction mode, with its default settings.
    /// PgBouncer starts at the first call and ends with the process. Returns `None` and prints a notice if it is
    /// missing.
    ///
    /// # Panics
    ///
    /// As [`postgres_or_skip`].
    pub fn pooled_url_or_skip(&self, test: &str) -> Option<String> {
        static POOLER: OnceLock<Result<Pooler, String>> = OnceLock::new();
        let program = pooler::find();
        if !is_available_or_skipped(test, program.as_ref().map(|_| ()).map_err(Clone::clone)) {
            return None;
        }
        let pooler = POOLER.get_or_init(|| Pooler::start(&program?, self.cluster));
        let pooler = pooler.as_ref().unwrap_or_else(|why| panic!("{test}: no PgBouncer: {why}"));
        Some(pooler.url_of(&self.name))
    }
}

/// Returns the path of one of PostgreSQL's programs, such as `pg_dump`: that of the newest installed server,
/// else the one on the PATH.
pub fn postgres_program(name: &str) -> Option<std::path::PathBuf> {
    let neighbour = installation::server_folder().map(|folder| folder.join(name));
    neighbour.filter(|program| program.is_file()).or_else(|| installation::find_program(name))
}

impl Drop for Database {
    fn drop(&mut self) {
        // `force`, because the server under test may still be connected. A failure only leaves a database
        // behind, while a panic here would hide the failure of the test.
        let _ = self.cluster.administer(&format!("drop database if exists \"{}\" with (force)", self.name));
    }
}

/// Returns whether tests can have a database: `TEST_POSTGRES_URL` names a server in which they may create some,
/// or PostgreSQL is installed. The error says what is missing.
pub fn postgres_available() -> Result<(), String> {
    let found = Source::find().map(drop);
    found.map_err(|why| format!("{why} (set TEST_POSTGRES_URL or install PostgreSQL)"))
}

/// Creates a database for this test in the cluster of `TEST_POSTGRES_URL`, or else in a throw-away cluster.
/// That cluster starts at the first call, and ends with the process in any case.
///
/// # Panics
///
/// If there is no PostgreSQL, or it does not work: see [`postgres_or_skip`].
pub fn fresh_postgres_database(test: &str) -> Database {
    database_with(test, "")
}

/// Creates a database for this test in another encoding, such as `SQL_ASCII`. Returns `None` and prints a
/// notice if there is no PostgreSQL.
///
/// # Panics
///
/// As [`postgres_or_skip`].
pub fn postgres_in_encoding_or_skip(test: &str, encoding: &str) -> Option<Database> {
    is_available_or_skipped(test, postgres_available())
        .then(|| database_with(test, &format!("encoding '{encoding}' locale 'C'")))
}

fn cluster(test: &str) -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Cluster::open(Source::find()?));
    cluster.as_ref().unwrap_or_else(|why| panic!("{test}: no PostgreSQL: {why}"))
}

fn database_with(test: &str, options: &str) -> Database {
    let cluster = cluster(test);
    let name = database_name(test);
    // `template1` may have other contents, or open connections, which would prevent copying.
    cluster
        .administer(&format!("create database \"{name}\" template template0 {options}"))
        .unwrap_or_else(|why| panic!("{test}: cannot create a database: {why}"));
    Database { url: cluster.url_of(&name), name, cluster }
}

/// Creates a database for this test, as [`fresh_postgres_database`] does. Returns `None` and prints a notice
/// with the test's name if there is no PostgreSQL.
///
/// # Panics
///
/// If there is no PostgreSQL but `CI` is set: a suite that skips its tests must not pass there. Also if
/// PostgreSQL is installed but does not work.
pub fn postgres_or_skip(test: &str) -> Option<Database> {
    is_available_or_skipped(test, postgres_available()).then(|| fresh_postgres_database(test))
}

/// Returns whether the requirements of a test are met, and prints that the test is skipped if not.
fn is_available_or_skipped(test: &str, available: Result<(), String>) -> bool {
    let Err(why) = available else { return true };
    let notice = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    // The test runner captures `eprintln!`, and would show the notice only for a failed test.
    let _ = writeln!(io::stderr(), "{notice}");
    false
}

/// Returns a unique name of at most 63 bytes: PostgreSQL would cut longer ones, which then collide. The process
/// id helps to find the origin of a leftover database; the random digits make the name unique.
fn database_name(test: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let test: String = test.chars().take(30).map(plain).collect::<String>().to_lowercase();
    format!("countersign_{test}_{}_{}", std::process::id(), random_hex(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names_are_unique_and_valid_identifiers() {
        let test = "Módule::tests::\"a name\"; that is far longer than PostgreSQL would ever want to keep";
        let names = [database_name(test), database_name(test)];
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.starts_with("countersign_m_dule__tests___a_name___that__"), "{name}");
            assert!(name.len() <= 63, "{name}");
        }
    }
}
