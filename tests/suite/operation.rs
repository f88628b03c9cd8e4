//! The server's operation: start, stop, configuration, commands, backups, and outages.

mod backup;
mod commands;
mod configuration;
mod disk;
mod doctor;
mod every_command;
mod keys;
mod load;
pub(crate) mod logs;
mod outage;
mod phone;
mod starting;
mod stopping;
mod terminal;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use harness::{Auth, Http, remove_server_variables, wait_until};

use crate::world::{BINARY, WAIT_TIMEOUT};

/// Returns `countersign` with these arguments in this folder, without inherited `COUNTERSIGN_*` variables.
pub(crate) fn countersign(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    remove_server_variables(&mut command);
    command
}

/// The exit code and output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command until it exits. Kills it and panics if it does not exit, such as a server that should have
/// refused to start.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> CommandOutput {
    wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[track_caller]
fn wait(mut child: Child) -> CommandOutput {
    let [stdout, stderr] = [drained(child.stdout.take().unwrap()), drained(child.stderr.take().unwrap())];
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    let [stdout, stderr] = [stdout, stderr].map(|text| text.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("the command did not exit: {stdout}{stderr}"));
    CommandOutput { code: status.code(), stdout, stderr }
}

/// Reads a pipe to its end in a new thread, which returns the text.
fn drained(mut output: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    })
}

/// Runs a command that must succeed without error output, and returns its standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output.stdout
}

/// Runs a command that must exit with status 1, and checks that the last line of its error output contains
/// all texts in `expected`.
#[track_caller]
pub(crate) fn refuse(command: &mut Command, expected: &[&str]) -> CommandOutput {
    let output = run(command);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    let (log, refusal) = output.stderr.trim_end().rsplit_once('\n').unwrap_or(("", output.stderr.trim_end()));
    assert!(refusal.starts_with("countersign: "), "{output:?}");
    assert!(log.lines().all(|line| line.contains(" INFO ")), "{output:?}");
    for word in expected {
        assert!(refusal.contains(word), "{word}: {output:?}");
    }
    output
}

/// Returns the value after `label` in the output of a command.
#[track_caller]
pub(crate) fn value_of(label: &str, printed: &str) -> String {
    let value = printed.lines().find_map(|line| line.trim().strip_prefix(label));
    value.unwrap_or_else(|| panic!("{label}: {printed}")).trim().to_owned()
}

/// A server as an operator starts it. Its output is kept, and it is killed when dropped.
pub(crate) struct Serving {
    child: Child,
    folder: PathBuf,
    pub(crate) url: String,
}

impl Serving {
    /// Starts `countersign serve` on a free port in this folder, and waits until it is ready.
    pub(crate) async fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = countersign(folder, &["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments).envs(environment.iter().copied());
        Self::launch(folder, command).await
    }

    async fn launch(folder: &Path, mut command: Command) -> Self {
        // The output goes to files beside the folder, because only the server writes into the folder.
        let folder = folder.with_extension("said");
        fs::create_dir_all(&folder).unwrap();
        command.stdout(File::create(folder.join("stdout")).unwrap());
        command.stderr(File::create(folder.join("stderr")).unwrap());
        let child = command.spawn().unwrap();
        let mut serving = Self { child, folder, url: String::new() };
        serving.url = wait_until("the server is ready", WAIT_TIMEOUT, async || {
            let stdout = serving.stdout();
            let ended = serving.child.try_wait().unwrap();
            assert!(ended.is_none() || stdout.ends_with('\n'), "{ended:?}: {}", serving.stderr());
            let url = stdout.strip_suffix('\n')?.strip_prefix("countersign listening on ");
            Some(url.unwrap_or_else(|| panic!("{stdout}")).to_owned())
        })
        .await;
        serving
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.folder.join("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    /// Returns `127.0.0.1:PORT`.
    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn backend(&self, account_sid: &str, auth_token: &str) -> Http {
        Http::new(&self.url).auth(Auth::Basic(account_sid.to_owned(), auth_token.to_owned()))
    }

    /// Sends a signal, such as `TERM`.
    fn signal(&self, name: &str) {
        // The shell's builtin `kill`: small images have no such program.
        let pid = self.child.id().to_string();
        let kill = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits until the server has exited.
    async fn ended(&mut self) -> ExitStatus {
        wait_until("the server ends", WAIT_TIMEOUT, async || self.child.try_wait().unwrap()).await
    }

    /// Stops the server with SIGTERM, and checks that it exits with 0.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{status}: {}", self.stderr());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder in which a server starts, and one beside it for the server's output.
pub(crate) struct Place {
    _root: tempfile::TempDir,
    pub(crate) folder: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("home");
        fs::create_dir(&folder).unwrap();
        Self { _root: root, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }
}
