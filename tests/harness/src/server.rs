//! The real server as a process, started as an operator would start it.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{Auth, Http};
use crate::environment::remove_server_variables;
use crate::poll::{poll, wait_until};
use crate::random::random_hex;
use crate::transcript::Transcript;

/// The longest time that the server may take to become ready, and to stop.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of lines of the server's log that a failed test prints.
const SHOWN_LOG_LINES: usize = 60;

/// The storage of a server.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In memory only; lost with the process.
    Ephemeral,
    /// A SQLite database in this data directory.
    Sqlite(PathBuf),
    /// A PostgreSQL database, migrated at start.
    Postgres {
        /// The URL of the database.
        url: String,
        /// The data directory for everything that is not in the database.
        data_dir: PathBuf,
    },
}

impl Storage {
    /// Returns the command `binary arguments` on this storage, for an operator's command beside a running server.
    /// It inherits no `COUNTERSIGN_*` variable.
    ///
    /// # Panics
    ///
    /// If the storage is ephemeral: no other process can reach it.
    pub fn command(&self, binary: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        assert!(!matches!(self, Self::Ephemeral), "an ephemeral server has no database to share");
        let mut command = Command::new(binary);
        command.args(arguments);
        self.add_arguments(&mut command);
        remove_server_variables(&mut command);
        command
    }

    fn add_arguments(&self, command: &mut Command) {
        match self {
            Self::Ephemeral => command.arg("--ephemeral"),
            Self::Sqlite(data_dir) => command.arg("--data-dir").arg(data_dir),
            Self::Postgres { url, data_dir } => {
                command.args(["--database-url", url, "--data-dir"]).arg(data_dir)
            }
        };
    }
}

/// A running server, killed when dropped.
///
/// It listens on a free port of 127.0.0.1 and has one account with a random SID and auth token, which it keeps
/// over restarts. It inherits no `COUNTERSIGN_*` variable of the test process.
pub struct Server {
    recipe: Recipe,
    log: Transcript,
    process: Process,
}

impl Server {
    /// Starts `binary serve` on this storage, with `extra` as the last arguments, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// With the server's standard error, if it exits before that or is not ready within a minute.
    pub fn start(binary: impl AsRef<Path>, storage: Storage, extra: &[&str]) -> Self {
        let recipe = Recipe {
            binary: binary.as_ref().to_owned(),
            storage,
            extra: extra.iter().map(|&argument| argument.to_owned()).collect(),
            environment: Vec::new(),
            account_sid: format!("AC{}", random_hex(32)),
            auth_token: random_hex(32),
        };
        let log = Transcript::default();
        let process = Process::launch(recipe.command(), &log);
        Self { recipe, log, process }
    }

    /// Returns `http://127.0.0.1:PORT`; the port changes with each [`restart`](Self::restart).
    pub fn url(&self) -> &str {
        &self.process.url
    }

    /// Returns the SID of the server's account.
    pub fn account_sid(&self) -> &str {
        &self.recipe.account_sid
    }

    /// Returns the auth token of the server's account.
    pub fn auth_token(&self) -> &str {
        &self.recipe.auth_token
    }

    /// Returns a client for this server with the credentials of its account.
    pub fn http(&self) -> Http {
        let account = Auth::Basic(self.account_sid().to_owned(), self.auth_token().to_owned());
        Http::new(self.url()).auth(account)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Returns the server's standard error so far, restarts included.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the server's log contains `expected`. A line reaches the log shortly after it was written, so it may
    /// be absent when the server is ready.
    ///
    /// # Panics
    ///
    /// If the line does not appear.
    pub async fn wait_for_log(&self, expected: &str) {
        let what = format!("the log contains {expected:?}");
        wait_until(&what, WAIT_TIMEOUT, async || self.log().contains(expected).then_some(())).await;
    }

    /// Kills the server with SIGKILL and waits until it has exited.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Stops the server with SIGTERM, waits until it has exited, and returns its exit status.
    ///
    /// # Panics
    ///
    /// If it still runs after a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().unwrap_or_else(|| {
            panic!("the server still runs {WAIT_TIMEOUT:?} after SIGTERM; its log:\n{}", self.log())
        })
    }

    /// Restarts the server on the same storage and with the same account, on a new port. A server that still
    /// runs is killed first.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart(&mut self) {
        self.kill9();
        self.process = Process::launch(self.recipe.command(), &self.log);
    }

    /// Restarts the server with these arguments in place of the previous `extra` ones.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_with(&mut self, extra: &[&str]) {
        self.recipe.extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        self.restart();
    }

    /// Restarts the server with these variables in its environment.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_in(&mut self, environment: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.recipe.environment = environment.iter().map(owned).collect();
        self.restart();
    }

    /// Restarts the server with the same account and arguments on another storage.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_on(&mut self, storage: Storage) {
        self.recipe.storage = storage;
        self.restart();
    }
}

impl Drop for Server {
    /// Prints the end of the server's log if the test has failed.
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log.text();
            let lines: Vec<_> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
            eprintln!("the end of the server's log:\n{}", end.join("\n"));
        }
    }
}

/// The settings with which each restart starts the server again.
struct Recipe {
    binary: PathBuf,
    storage: Storage,
    extra: Vec<String>,
    environment: Vec<(String, String)>,
    account_sid: String,
    auth_token: String,
}

impl Recipe {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        self.storage.add_arguments(&mut command);
        if matches!(self.storage, Storage::Postgres { .. }) {
            command.arg("--migrate");
        }
        command.args(&self.extra);
        remove_server_variables(&mut command);
        for variable in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("COUNTERSIGN_ACCOUNT_SID", &self.account_sid);
        command.env("COUNTERSIGN_AUTH_TOKEN", &self.auth_token);
        // Most tests cause more failed sign-ins than the limit allows; tests of the limit set it with its flag.
        command.env("COUNTERSIGN_FAILED_AUTHENTICATIONS_PER_MINUTE", "0");
        command
    }
}

/// One process of the server, from its start to its end.
struct Process {
    child: Child,
    url: String,
    stderr: Option<JoinHandle<()>>,
}

impl Process {
    fn launch(mut command: Command, log: &Transcript) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        let stderr = log.follow(child.stderr.take().expect("stderr is piped"));
        let first_line = first_line(child.stdout.take().expect("stdout is piped"));
        let mut process = Self { child, url: String::new(), stderr: Some(stderr) };

        let complaint = match first_line.recv_timeout(WAIT_TIMEOUT) {
            Ok(line) => match line.trim_end().strip_prefix("countersign listening on ") {
                Some(url) => {
                    process.url = url.to_owned();
                    return process;
                }
                None => format!("printed {line:?} instead of its address"),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => format!("was not ready within {WAIT_TIMEOUT:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => "ended before it was ready".to_owned(),
        };
        let status = process.kill();
        panic!("the server {complaint} ({status}); its log:\n{}", log.text());
    }

    fn terminate(&mut self) -> Option<ExitStatus> {
        // After `wait`, another process may get the same id.
        if let Ok(None) = self.child.try_wait() {
            // The shell's builtin `kill`: small images have no such program.
            let pid = self.child.id().to_string();
            Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().expect("sh");
        }
        let status = poll(WAIT_TIMEOUT, || self.child.try_wait().expect("the server's status"))?;
        self.finish_log();
        Some(status)
    }

    /// Kills the process if it still runs, and returns its exit status.
    fn kill(&mut self) -> ExitStatus {
        // `kill` fails only if the process has exited already.
        let _ = self.child.kill();
        let status = self.child.wait().expect("the server's status");
        self.finish_log();
        status
    }

    /// Waits until the rest of the standard error of the exited process has been read.
    fn finish_log(&mut self) {
        if let Some(stderr) = self.stderr.take() {
            stderr.join().expect("the thread that reads standard error");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a channel that receives the first line of standard output, or is closed if there is none. The rest
/// is read and discarded, so that a full pipe cannot block the server.
fn first_line(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        if stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
            let _ = sender.send(line);
        }
        drop(sender);
        let _ = io::copy(&mut stdout, &mut io::sink());
    });
    receiver
}
