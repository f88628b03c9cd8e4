//! Output and signals at a terminal: control characters, colors, width, and hang-up.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::*;

/// Longer than the interval at which a server checks whether its terminal still exists.
const TERMINAL_CHECK_WAIT: Duration = Duration::from_millis(1500);

/// A pseudo-terminal.
struct Terminal {
    /// The controlling side; dropping it closes the terminal.
    screen: OwnedFd,
    programs: File,
}

impl Terminal {
    fn new(columns: u16) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let programs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        Self { screen, programs }
    }

    fn for_program(&self) -> File {
        self.programs.try_clone().unwrap()
    }

    /// Runs a command on the terminal to its end, and returns its status and the output.
    fn run(self, mut command: Command) -> (ExitStatus, String) {
        let mut child = command.stdout(self.for_program()).stderr(self.for_program()).spawn().unwrap();
        drop(command);
        drop(self.programs);
        let mut screen = File::from(self.screen);
        let mut shown = Vec::new();
        let mut part = [0; 4096];
        // Reading fails once no program has the terminal open.
        while let Ok(read @ 1..) = screen.read(&mut part) {
            shown.extend_from_slice(&part[..read]);
        }
        (child.wait().unwrap(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
    }
}

/// Returns whether a terminal interprets this character.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
}

#[test]
fn control_characters_are_replaced_in_command_output() {
    // Names may contain these, but no control characters; arguments and error texts of the system may contain
    // all of them.
    const NAME: &str = "Owl\u{202e}\u{200b}";
    const CONTROL: &str = "Owl\u{1b}[2J\u{9b}31m\r\u{202e}";
    let place = Place::new();
    let account = value_of("account sid", &succeed(&mut countersign(&place.folder, &["account", "create"])));
    let show = |arguments: &[&str]| {
        let said = run(countersign(&place.folder, arguments).env("USER", CONTROL));
        let output = format!("{}{}", said.stdout, said.stderr);
        let found = output.chars().find(|character| is_control(*character) && *character != '\n');
        assert_eq!(found, None, "{arguments:?}: {output:?}");
        output
    };
    for arguments in [
        &["account", "create", "--name", NAME][..],
        &["account", "list"],
        &["api-key", "create", &account, "--name", NAME],
        &["api-key", "list", &account],
        &["audit", "list"],
        &["audit", "export"],
    ] {
        let output = show(arguments);
        let is_shown = arguments.contains(&"list") && !arguments.contains(&"audit");
        assert!(!is_shown || output.contains(r"Owl\u{202e}\u{200b}"), "{arguments:?}: {output}");
    }
    let path = format!("{CONTROL}/copy");
    for arguments in [
        &["credential", "create", "--service-account", CONTROL][..],
        &["account", "show", CONTROL],
        &["account", "create", "--name", CONTROL, "--owls", CONTROL],
        &["backup", &path],
        &["backup", "copy", "--config", CONTROL],
        &[CONTROL],
    ] {
        let output = show(arguments);
        let is_named = output.contains(r"Owl\u{1b}[2J\u{9b}31m\r\u{202e}");
        assert!(is_named || output.contains("--owls"), "{arguments:?}: {output}");
    }
}

#[test]
fn control_characters_are_replaced_in_the_log() {
    let place = Place::new();
    // A name that the server repeats in a warning.
    let mut command = countersign(&place.folder, &["serve", "--ephemeral", "--listen", "127.0.0.1:0"]);
    command.env("COUNTERSIGN_OWL\u{202e}", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut begin = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut begin).unwrap();
    let _ = child.kill();
    let output = wait(child);
    assert!(output.stderr.contains(r"COUNTERSIGN_OWL\u{202e} is not an option"), "{output:?}");
}

#[tokio::test]
async fn server_stops_when_its_terminal_closes() {
    let place = Place::new();
    let terminal = Terminal::new(80);
    // The tests themselves may run under `nohup`.
    let mut command = at_terminal(&place, &terminal, &["env", "--default-signal=HUP"]);
    command.stdout(File::create(place.path("stdout")).unwrap()).stderr(terminal.for_program());
    let mut server = started(command, &place).await;

    // While the terminal exists, SIGHUP reloads files.
    server.signal("HUP");
    server.assert_keeps_running().await;
    drop(terminal);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn server_started_with_nohup_keeps_running_after_its_terminal_closes() {
    let place = Place::new();
    let terminal = Terminal::new(80);
    let mut command = at_terminal(&place, &terminal, &["nohup"]);
    command.stdout(File::create(place.path("stdout")).unwrap());
    command.stderr(File::create(place.path("stderr")).unwrap());
    let mut server = started(command, &place).await;
    drop(terminal);
    server.assert_keeps_running().await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Returns `serve` with this controlling terminal.
fn at_terminal(place: &Place, terminal: &Terminal, before: &[&str]) -> Command {
    let mut command = countersign(&place.folder, &[]);
    let binary = command.get_program().to_owned();
    let environment: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    command = Command::new("setsid");
    for name in environment {
        command.env_remove(name);
    }
    command.arg("--ctty").args(before).arg(binary).args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]);
    command.current_dir(&place.folder).stdin(terminal.for_program());
    command
}

/// A server at a terminal, killed when dropped.
struct AtTerminal {
    child: Child,
    url: String,
}

/// Starts the server and waits until it listens.
async fn started(mut command: Command, place: &Place) -> AtTerminal {
    let mut server = AtTerminal { child: command.spawn().unwrap(), url: String::new() };
    server.url = wait_until("the server listens", WAIT_TIMEOUT, async || {
        assert_eq!(server.child.try_wait().unwrap(), None);
        let stdout = fs::read_to_string(place.path("stdout")).unwrap();
        let url = stdout.strip_suffix('\n')?.split_once("countersign listening on ")?.1;
        Some(url.to_owned())
    })
    .await;
    server
}

impl AtTerminal {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Checks that the server keeps responding for a while.
    async fn assert_keeps_running(&mut self) {
        let until = Instant::now() + TERMINAL_CHECK_WAIT;
        while Instant::now() < until {
            assert_eq!(self.child.try_wait().unwrap(), None, "it has ended");
            assert_eq!(Http::new(&self.url).get("/healthz", &[]).await.status, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ended(&mut self) -> ExitStatus {
        wait_until("the server ends", WAIT_TIMEOUT, async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn demo_output_fits_the_terminal_and_is_colored_only_if_wanted() {
    let place = Place::new();
    let on_terminal = |columns: u16, no_color: &'static str| {
        let mut command = countersign(&place.folder, &["demo"]);
        command.env("NO_COLOR", no_color);
        thread::spawn(move || Terminal::new(columns).run(command))
    };
    // An empty variable counts as not set.
    let shown = [on_terminal(60, ""), on_terminal(80, "1")].map(|thread| thread.join().unwrap());
    for ((status, shown), columns) in shown.iter().zip([60, 80]) {
        assert!(status.success(), "{shown}");
        let plain = shown.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let wide = plain.lines().find(|line| line.chars().count() > columns);
        assert_eq!(wide, None, "wider than {columns}");
        assert!(!plain.contains('\u{1b}'), "{plain}");
    }
    assert!(shown[0].1.contains("\u{1b}[1m── 1."), "{}", shown[0].1);
    assert!(!shown[1].1.contains('\u{1b}'), "{}", shown[1].1);
}

#[test]
fn demo_waits_before_each_step_if_requested() {
    let place = Place::new();
    let mut command = countersign(&place.folder, &["demo", "--step"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut asked = [0; 30];
    child.stderr.as_mut().unwrap().read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"Press Enter for the next step:");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[b'\n'; 100]).unwrap();
    let output = wait(child);
    assert_eq!(output.code, Some(0), "{output:?}");
    // One for each step except the first, which was read above.
    let asked = output.stderr.matches("Press Enter").count() + 1;
    assert!(output.stdout.contains(&format!("All {asked} steps passed")), "{asked}: {output:?}");
}

#[tokio::test]
async fn listen_address_may_be_a_port_or_a_host_name() {
    for listen in ["0", "localhost:0"] {
        let place = Place::new();
        let command = countersign(&place.folder, &["serve", "--ephemeral", "--listen", listen]);
        let server = Serving::launch(&place.folder, command).await;
        assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
        assert_eq!(Http::new(&server.url).get("/healthz", &[]).await.status, 200);
    }
}
