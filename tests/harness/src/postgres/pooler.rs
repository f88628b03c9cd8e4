//! PgBouncer in front of the tests' cluster.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cluster::{Cluster, instead_of_root};
use super::installation::find_program;
use crate::poll::poll;
use crate::transcript::Transcript;

/// Runs PgBouncer until its standard input closes. That is a pipe from the test process, which the kernel
/// closes however that process ends.
const WATCHDOG_SCRIPT: &str = r#"
"$1" "$2/pgbouncer.ini" </dev/null &
read -r _
kill "$!"
wait
rm -rf "$2"
"#;

/// The longest time that the start may take.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the path of PgBouncer, or an error if it is not installed. Debian keeps it in a folder that is only
/// on root's PATH.
pub(super) fn find() -> Result<PathBuf, String> {
    let of_debian = Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|program| program.is_file());
    find_program("pgbouncer").or(of_debian).ok_or("there is no pgbouncer (install it)".to_owned())
}

/// A running PgBouncer.
#[derive(Debug)]
pub(super) struct Pooler {
    port: u16,
    /// The process that ends PgBouncer. Its standard input stays open until the test process ends.
    _watchdog: Child,
}

impl Pooler {
    /// Starts PgBouncer in transaction mode, with its default settings otherwise.
    pub(super) fn start(program: &Path, cluster: &Cluster) -> Result<Self, String> {
        let explained = |what: &'static str| move |error| format!("{what}: {error}");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(explained("cannot find a free port"))?.port();
        let user = instead_of_root()?;
        let folder = tempfile::Builder::new().prefix("countersign-pgbouncer-").tempdir_in("/tmp");
        let folder = folder.map_err(explained("cannot make a temporary folder"))?;
        fs::write(folder.path().join("pgbouncer.ini"), configuration(cluster, port))
            .map_err(explained("cannot write pgbouncer.ini"))?;

        let mut command = Command::new("sh");
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group)).map_err(explained("cannot give away a folder"))?;
            command.uid(user).gid(group);
        }
        let mut watchdog = command
            .args(["-c", WATCHDOG_SCRIPT, "watchdog"])
            .args([program, folder.path()])
            .current_dir(folder.path())
            // A process group of its own: Ctrl-C is meant for the tests, and the watchdog must outlive them to
            // clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(explained("cannot start PgBouncer's watchdog"))?;
        // From here on the watchdog removes the folder.
        let _ = folder.keep();

        let log = Transcript::default();
        log.follow(watchdog.stderr.take().expect("stderr is piped"));
        let listens = format!("listening on 127.0.0.1:{port}");
        poll(WAIT_TIMEOUT, || log.text().contains(&listens).then_some(()))
            .ok_or_else(|| format!("PgBouncer did not start; its log:\n{}", log.text()))?;
        Ok(Self { port, _watchdog: watchdog })
    }

    /// Returns the URL of the database with this name.
    pub(super) fn url_of(&self, database: &str) -> String {
        format!("postgres://anyone@127.0.0.1:{}/{database}", self.port)
    }
}

/// Returns the configuration. Clients need no password: the only user is that of the cluster.
fn configuration(cluster: &Cluster, port: u16) -> String {
    let url = cluster.url();
    let host = url.host_str().unwrap_or("127.0.0.1");
    let password = url.password().map(|password| format!(" password={password}")).unwrap_or_default();
    format!(
        "[databases]\n* = host={host} port={} user={}{password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n",
        url.port().unwrap_or(5432),
        url.username(),
    )
}
