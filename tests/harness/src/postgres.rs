//! A PostgreSQL database of its own for each test.

mod cluster;
mod installation;
mod pooler;
mod psql;

use std::io::{self, Write};
use std::sync::OnceLock;

use cluster::{Cluster, Source};
use pooler::Pooler;

use crate::random::random_hex;

/// A PostgreSQL database that belongs to one test: brand-new and empty at first, dropped with this value.
#[derive(Debug)]
pub struct Database {
    /// `postgres://…`, with which the server under test, or the test itself, connects.
    pub url: String,
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    /// Runs `sql` with `psql`, past the server under test, and returns the rows: one a line, `|` between
    /// columns.
    ///
    /// # Panics
    ///
    /// With what PostgreSQL says, if it refuses.
    pub fn psql(&self, sql: &str) -> String {
        self.cluster.psql(&self.url, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }
}

/// A PostgreSQL database that is reached through PgBouncer in transaction mode, with its default settings.
#[derive(Debug)]
pub struct PooledDatabase {
    /// The URL through PgBouncer.
    pub url: String,
    /// The database itself.
    pub database: Database,
}

/// One of PostgreSQL's programs, such as `pg_dump`: next to those of the newest server, else on the PATH.
pub fn postgres_program(name: &str) -> Option<std::path::PathBuf> {
    let neighbour = installation::server_folder().map(|folder| folder.join(name));
    neighbour.filter(|program| program.is_file()).or_else(|| installation::find_program(name))
}

impl Drop for Database {
    fn drop(&mut self) {
        // `force`: the server under test may well still be connected. If it fails nevertheless, there
        // are worse things than a database too many, and a second panic is one of them.
        let _ = self.cluster.administer(&format!("drop database if exists \"{}\" with (force)", self.name));
    }
}

/// Whether tests can have a database: either `TEST_POSTGRES_URL` names a server where we may create some,
/// or PostgreSQL is installed, so that we can run one. `Err` says what is missing.
pub fn postgres_available() -> Result<(), String> {
    let found = Source::find().map(drop);
    found.map_err(|why| format!("{why} (set TEST_POSTGRES_URL or install PostgreSQL)"))
}

/// A new database for this test, in the cluster of `TEST_POSTGRES_URL`, or else in a throw-away one that
/// this process starts at the first call and that vanishes with the process, however that ends.
///
/// # Panics
///
/// If there is no PostgreSQL, or it doesn't work: see [`postgres_or_skip`].
pub fn fresh_postgres_database(test: &str) -> Database {
    database_with(test, "")
}

/// The same in another encoding, such as `SQL_ASCII`, or `None` where there is no PostgreSQL, having said so.
///
/// # Panics
///
/// As [`postgres_or_skip`].
pub fn postgres_in_encoding_or_skip(test: &str, encoding: &str) -> Option<Database> {
    is_there_or_skipped(test, postgres_available())
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
    // The other template may have things in it, or somebody connected to it, which forbids copying.
    cluster
        .administer(&format!("create database \"{name}\" template template0 {options}"))
        .unwrap_or_else(|why| panic!("{test}: cannot create a database: {why}"));
    Database { url: cluster.url_of(&name), name, cluster }
}

/// A new database for this test, as [`fresh_postgres_database`] gives it, or `None` where there is no
/// PostgreSQL, having said so by name.
///
/// # Panics
///
/// If there is no PostgreSQL but `CI` is set: a suite that skips its tests must not pass there. Likewise,
/// anywhere, if there is one that doesn't work.
pub fn postgres_or_skip(test: &str) -> Option<Database> {
    is_there_or_skipped(test, postgres_available()).then(|| fresh_postgres_database(test))
}

/// A new database for this test behind PgBouncer, which this process starts at the first call and which vanishes
/// with the process; or `None` where PostgreSQL or PgBouncer is missing, having said so by name.
///
/// # Panics
///
/// As [`postgres_or_skip`].
pub fn pooled_postgres_or_skip(test: &str) -> Option<PooledDatabase> {
    static POOLER: OnceLock<Result<Pooler, String>> = OnceLock::new();
    let program = postgres_available().and_then(|()| pooler::find());
    if !is_there_or_skipped(test, program.as_ref().map(|_| ()).map_err(Clone::clone)) {
        return None;
    }
    let pooler = POOLER.get_or_init(|| Pooler::start(&program?, cluster(test)));
    let pooler = pooler.as_ref().unwrap_or_else(|why| panic!("{test}: no PgBouncer: {why}"));
    let database = fresh_postgres_database(test);
    Some(PooledDatabase { url: pooler.url_of(&database.name), database })
}

/// Whether what a test needs is there; says that the test is skipped where it is not.
fn is_there_or_skipped(test: &str, available: Result<(), String>) -> bool {
    let Err(why) = available else { return true };
    let notice = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    // `eprintln!` would be captured, and shown only if the test failed.
    let _ = writeln!(io::stderr(), "{notice}");
    false
}

/// At most 63 bytes, the most that PostgreSQL keeps of a name: longer ones would be cut, and then clash.
/// The process id is for whoever finds a leftover; being unique is up to the random digits, because a
/// given cluster may outlive process ids or be shared by machines.
fn database_name(test: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let test: String = test.chars().take(30).map(plain).collect::<String>().to_lowercase();
    format!("countersign_{test}_{}_{}", std::process::id(), random_hex(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_short_and_never_the_same() {
        let test = "Módule::tests::\"a name\"; that is far longer than PostgreSQL would ever want to keep";
        let names = [database_name(test), database_name(test)];
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.starts_with("countersign_m_dule__tests___a_name___that__"), "{name}");
            assert!(name.len() <= 63, "{name}");
        }
    }
}
