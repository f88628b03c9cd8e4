//! The real server, as the process that an operator would run.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{Auth, Http};
use crate::environment::forget_environment;
use crate::poll::poll;
use crate::random::random_hex;
use crate::transcript::Transcript;

/// How long the server may take to be ready, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the server keeps what it knows.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In memory: gone with the process.
    Ephemeral,
    /// In SQLite, in this data directory.
    Sqlite(PathBuf),
    /// In PostgreSQL, migrated at start.
    Postgres {
        /// The database.
        url: String,
        /// Where the server keeps what belongs in no database.
        data_dir: PathBuf,
    },
}

/// A running server, killed when dropped.
///
/// It listens on a free port of 127.0.0.1 and has one account, whose SID and auth token are random and
/// stay the same over restarts. No `COUNTERSIGN_*` variable of the test process reaches it.
pub struct Server {
    recipe: Recipe,
    log: Transcript,
    process: Process,
}

impl Server {
    /// Starts `binary serve` on this storage, with `extra` arguments after our own, and waits until it
    /// is ready.
    ///
    /// # Panics
    ///
    /// With its standard error, if it ends before that or isn't ready within a minute.
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

    /// `http://127.0.0.1:PORT`, another one after each [`restart`](Self::restart).
    pub fn url(&self) -> &str {
        &self.process.url
    }

    /// The SID of the server's account.
    pub fn account_sid(&self) -> &str {
        &self.recipe.account_sid
    }

    /// The auth token of the server's account.
    pub fn auth_token(&self) -> &str {
        &self.recipe.auth_token
    }

    /// A client for this server, signed in as its account.
    pub fn http(&self) -> Http {
        let account = Auth::Basic(self.account_sid().to_owned(), self.auth_token().to_owned());
        Http::new(self.url()).auth(account)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// All that the server wrote to standard error so far, restarts included.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Kills the server without a warning (SIGKILL), and waits until it is gone.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Asks the server to end (SIGTERM), and waits until it has. Its status, if it had already ended.
    ///
    /// # Panics
    ///
    /// If it is still there after a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().unwrap_or_else(|| {
            panic!("the server outlived SIGTERM by {PATIENCE:?}; it said:\n{}", self.log())
        })
    }

    /// Starts the server again: same storage, same account, new process, new port. One that still runs
    /// is killed first.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart(&mut self) {
        self.kill9();
        self.process = Process::launch(self.recipe.command(), &self.log);
    }

    /// Starts the server again with these arguments in place of its former `extra` ones.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_with(&mut self, extra: &[&str]) {
        self.recipe.extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        self.restart();
    }

    /// Starts the server again with these variables in its environment.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_in(&mut self, environment: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.recipe.environment = environment.iter().map(owned).collect();
        self.restart();
    }

    /// Starts the server again with the same account and arguments, on another storage.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn restart_on(&mut self, storage: Storage) {
        self.recipe.storage = storage;
        self.restart();
    }
}

/// What a restart must repeat.
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
        match &self.storage {
            Storage::Ephemeral => command.arg("--ephemeral"),
            Storage::Sqlite(data_dir) => command.arg("--data-dir").arg(data_dir),
            Storage::Postgres { url, data_dir } => {
                command.args(["--database-url", url, "--migrate", "--data-dir"]).arg(data_dir)
            }
        };
        command.args(&self.extra);
        forget_environment(&mut command, "COUNTERSIGN_");
        for variable in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("COUNTERSIGN_ACCOUNT_SID", &self.account_sid);
        command.env("COUNTERSIGN_AUTH_TOKEN", &self.auth_token);
        // Tests fail to sign in more often than anybody else; those of the limit set it by its flag.
        command.env("COUNTERSIGN_FAILED_AUTHENTICATIONS_PER_MINUTE", "0");
        command
    }
}

/// One life of the server.
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

        let complaint = match first_line.recv_timeout(PATIENCE) {
            Ok(line) => match line.trim_end().strip_prefix("countersign listening on ") {
                Some(url) => {
                    process.url = url.to_owned();
                    return process;
                }
                None => format!("said {line:?} instead of where it listens"),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => format!("wasn't ready within {PATIENCE:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => "ended before it was ready".to_owned(),
        };
        let status = process.kill();
        panic!("the server {complaint} ({status}); it said:\n{}", log.text());
    }

    fn terminate(&mut self) -> Option<ExitStatus> {
        // Once waited for, the process id may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            // The shell's own `kill`: small images have no other.
            let pid = self.child.id().to_string();
            Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().expect("sh");
        }
        let status = poll(PATIENCE, || self.child.try_wait().expect("the server's status"))?;
        self.finish_log();
        Some(status)
    }

    /// Kills the process, if it still runs, and returns how it ended.
    fn kill(&mut self) -> ExitStatus {
        // Nothing to do about a failure: it means that the process is gone.
        let _ = self.child.kill();
        let status = self.child.wait().expect("the server's status");
        self.finish_log();
        status
    }

    /// The process is gone, so its standard error ends: what it said last is still to be read.
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

/// The first line of standard output once it is there; disconnected if there will be none. Goes on
/// reading in either case, so that the server can't come to a halt over a full pipe.
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
