//! The PostgreSQL cluster that holds the tests' databases.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Url;

use super::installation::{find_program, server_folder};
use super::psql::Psql;
use crate::environment::remove_variables;
use crate::poll::poll;
use crate::transcript::Transcript;

/// The shell script that stops and removes a throw-away cluster once the test process has ended.
const WATCHDOG_SCRIPT: &str = include_str!("watchdog.sh");

/// A file system in memory, which Linux has. Creating a database means creating 300 files, and there it takes a quarter
/// of the time.
const IN_MEMORY: &str = "/dev/shm";

/// Free space, in bytes, that [`IN_MEMORY`] and the memory itself must have. Containers often have 64 MiB, which is not
/// enough.
const MINIMUM_IN_MEMORY: u64 = 4 << 30;

/// The longest time that `initdb` and the start of PostgreSQL may take together.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The origin of a cluster.
pub(super) enum Source {
    /// A cluster that the developer runs, at this URL.
    Given { url: String, psql: PathBuf },
    /// A throw-away cluster, created with the programs in this folder.
    Installed { folder: PathBuf, psql: PathBuf },
}

impl Source {
    pub(super) fn find() -> Result<Self, String> {
        if let Some(url) = env::var("TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()) {
            let psql = find_program("psql").ok_or("there is no psql with which to use TEST_POSTGRES_URL")?;
            return Ok(Self::Given { url, psql });
        }
        let folder = server_folder().ok_or("PostgreSQL's initdb and postgres are nowhere to be found")?;
        // Prefer the `psql` next to the server's programs: Debian's on the PATH is a wrapper that chooses a
        // cluster by itself.
        let neighbour = Some(folder.join("psql")).filter(|psql| psql.is_file());
        let psql = neighbour.or_else(|| find_program("psql")).ok_or("there is no psql")?;
        Ok(Self::Installed { folder, psql })
    }
}

/// A cluster in which the tests create databases.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The URL of one of its databases, to connect to while creating others.
    url: Url,
    psql: Psql,
    /// The watchdog of a throw-away cluster. Its standard input stays open until the test process ends.
    _watchdog: Option<Child>,
}

impl Cluster {
    pub(super) fn open(source: Source) -> Result<Self, String> {
        match source {
            Source::Given { url, psql } => {
                let url = url.parse().map_err(|error| format!("TEST_POSTGRES_URL: {error}"))?;
                let psql = Psql { program: psql, inherits_settings: true };
                Ok(Self { url, psql, _watchdog: None })
            }
            Source::Installed { folder, psql } => {
                let (watchdog, port) = start(&folder)?;
                let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
                let url = url.parse().expect("a URL");
                let psql = Psql { program: psql, inherits_settings: false };
                Ok(Self { url, psql, _watchdog: Some(watchdog) })
            }
        }
    }

    /// Returns the URL of the database with this name.
    pub(super) fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// Returns the URL of one of its databases.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// Runs `sql` in the database at `url`.
    pub(super) fn psql(&self, url: &str, sql: &str) -> Result<String, String> {
        self.psql.run(url, sql)
    }

    /// Runs `sql` that concerns the whole cluster, such as `CREATE DATABASE`.
    pub(super) fn administer(&self, sql: &str) -> Result<String, String> {
        self.psql(self.url.as_str(), sql)
    }
}

/// Starts a cluster and returns its watchdog and its port. Tries three times, because another process may take
/// the free port before PostgreSQL does.
fn start(programs: &Path) -> Result<(Child, u16), String> {
    attempt(programs).or_else(|_| attempt(programs)).or_else(|_| attempt(programs))
}

fn attempt(programs: &Path) -> Result<(Child, u16), String> {
    let explained = |what: &'static str| move |error| format!("{what}: {error}");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = port.map_err(explained("cannot find a free port"))?.port();
    let user = instead_of_root()?;
    // PostgreSQL's user can always enter /tmp, but perhaps not root's TMPDIR.
    let on_disk = if user.is_some() { PathBuf::from("/tmp") } else { env::temp_dir() };
    let create = |parent: &Path| tempfile::Builder::new().prefix("countersign-postgres-").tempdir_in(parent);
    let in_memory = has_memory().then(|| create(Path::new(IN_MEMORY)).ok()).flatten();
    let folder = in_memory.map_or_else(|| create(&on_disk), Ok);
    let folder = folder.map_err(explained("cannot make a temporary folder"))?;

    let mut command = Command::new("sh");
    if let Some((user, group)) = user {
        chown(folder.path(), Some(user), Some(group)).map_err(explained("cannot give away a folder"))?;
        command.uid(user).gid(group);
    }
    remove_variables(&mut command, |name| name.starts_with("PG"));
    let mut watchdog = command
        .args(["-c", WATCHDOG_SCRIPT, "watchdog"])
        .args([folder.path(), programs])
        .arg(port.to_string())
        .current_dir(folder.path())
        // A process group of its own: Ctrl-C is meant for the tests, and the watchdog must outlive them to
        // clean up.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(explained("cannot start PostgreSQL's watchdog"))?;
    // From here on the watchdog removes the folder.
    let folder = folder.keep();

    let log = Transcript::default();
    let reader = log.follow(watchdog.stderr.take().expect("stderr is piped"));
    let ended = |watchdog: &mut Child| !matches!(watchdog.try_wait(), Ok(None));
    let ready = || is_ready(&folder).then_some(true).or_else(|| ended(&mut watchdog).then_some(false));
    if poll(WAIT_TIMEOUT, ready) == Some(true) {
        return Ok((watchdog, port));
    }
    // `wait` closes the watchdog's standard input first, which ends it.
    let _ = watchdog.wait();
    let _ = reader.join();
    Err(format!("PostgreSQL did not start; its log:\n{}", log.text()))
}

/// Returns whether [`IN_MEMORY`] has room for a cluster. Its size may be larger than the memory that is left.
fn has_memory() -> bool {
    let room =
        rustix::fs::statvfs(IN_MEMORY).map_or(0, |system| system.f_bavail.saturating_mul(system.f_frsize));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let available =
        available.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024);
    room.min(available) >= MINIMUM_IN_MEMORY
}

/// Returns whether the cluster in this folder accepts connections, which its postmaster states in the eighth
/// line of this file. An answer on the port could come from another cluster.
fn is_ready(folder: &Path) -> bool {
    let status = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    status.lines().nth(7).is_some_and(|line| line.trim() == "ready")
}

/// Returns the user and group for PostgreSQL if the tests run as root, which PostgreSQL refuses to run as.
pub(super) fn instead_of_root() -> Result<Option<(u32, u32)>, String> {
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    let user = ["postgres", "nobody"].iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)));
    user.map(Some).ok_or("PostgreSQL doesn't run as root, and there is no user postgres or nobody".to_owned())
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim_end().parse().ok()
}
