//! What a person at a terminal sees and does: characters that a terminal acts on, colors, widths, hang-ups.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::*;

/// Longer than a server looks whether its terminal has gone.
const A_WHILE: Duration = Duration::from_millis(1500);

/// A terminal without a screen.
struct Terminal {
    /// The side of the screen; the terminal has gone when it is dropped.
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

    /// Runs a command on it to its end, and returns what the screen shows.
    fn run(self, mut command: Command) -> (ExitStatus, String) {
        let mut child = command.stdout(self.for_program()).stderr(self.for_program()).spawn().unwrap();
        drop(command);
        drop(self.programs);
        let mut screen = File::from(self.screen);
        let mut shown = Vec::new();
        let mut part = [0; 4096];
        // A terminal that no program holds any more ends with an error.
        while let Ok(read @ 1..) = screen.read(&mut part) {
            shown.extend_from_slice(&part[..read]);
        }
        (child.wait().unwrap(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
    }
}

/// Whether a terminal acts on it.
fn acts(character: char) -> bool {
    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
}

#[test]
fn characters_that_a_terminal_acts_on_are_shown_as_marks() {
    // Names may hold these, but no control characters; arguments and what the system says may hold all of them.
    const NAME: &str = "Owl\u{202e}\u{200b}";
    const CONTROL: &str = "Owl\u{1b}[2J\u{9b}31m\r\u{202e}";
    let place = Place::new();
    let account = value_of("account sid", &succeed(&mut countersign(&place.folder, &["account", "create"])));
    let show = |arguments: &[&str]| {
        let said = run(countersign(&place.folder, arguments).env("USER", CONTROL));
        let output = format!("{}{}", said.stdout, said.stderr);
        let found = output.chars().find(|character| acts(*character) && *character != '\n');
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
fn the_log_shows_marks_too() {
    let place = Place::new();
    // A name that the server repeats in a warning.
    let mut command = countersign(&place.folder, &["serve", "--ephemeral", "--listen", "127.0.0.1:0"]);
    command.env("COUNTERSIGN_OWL\u{202e}", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut begin = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut begin).unwrap();
    let _ = child.kill();
    let said = wait(child);
    assert!(said.stderr.contains(r"COUNTERSIGN_OWL\u{202e} is not the name of an option"), "{said:?}");
}

#[tokio::test]
async fn a_server_ends_with_the_terminal_that_it_was_started_at() {
    let place = Place::new();
    let terminal = Terminal::new(80);
    // Whoever runs the tests may do so with `nohup`.
    let mut command = at_terminal(&place, &terminal, &["env", "--default-signal=HUP"]);
    command.stdout(File::create(place.path("stdout")).unwrap()).stderr(terminal.for_program());
    let mut server = started(command, &place).await;

    // With the terminal there, the signal asks to read files again.
    server.signal("HUP");
    server.goes_on().await;
    drop(terminal);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_was_started_with_nohup_outlives_its_terminal() {
    let place = Place::new();
    let terminal = Terminal::new(80);
    let mut command = at_terminal(&place, &terminal, &["nohup"]);
    command.stdout(File::create(place.path("stdout")).unwrap());
    command.stderr(File::create(place.path("stderr")).unwrap());
    let mut server = started(command, &place).await;
    drop(terminal);
    server.goes_on().await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// `serve`, with this terminal as the one that controls it.
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

/// Starts the server, and waits until it listens.
async fn started(mut command: Command, place: &Place) -> AtTerminal {
    let mut server = AtTerminal { child: command.spawn().unwrap(), url: String::new() };
    server.url = wait_until("the server listens", PATIENCE, async || {
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

    /// That it answers for a while.
    async fn goes_on(&mut self) {
        let until = Instant::now() + A_WHILE;
        while Instant::now() < until {
            assert_eq!(self.child.try_wait().unwrap(), None, "it has ended");
            assert_eq!(Http::new(&self.url).get("/healthz", &[]).await.status, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ended(&mut self) -> ExitStatus {
        wait_until("the server ends", PATIENCE, async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_fits_the_terminal_and_is_colored_only_where_that_is_wanted() {
    let place = Place::new();
    let on_terminal = |columns: u16, no_color: &'static str| {
        let mut command = countersign(&place.folder, &["demo"]);
        command.env("NO_COLOR", no_color);
        thread::spawn(move || Terminal::new(columns).run(command))
    };
    // Empty counts as not set.
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
fn the_demo_waits_before_each_step_if_asked_to() {
    let place = Place::new();
    let mut command = countersign(&place.folder, &["demo", "--step"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut asked = [0; 30];
    child.stderr.as_mut().unwrap().read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"Press Enter for the next step:");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[b'\n'; 100]).unwrap();
    let said = wait(child);
    assert_eq!(said.code, Some(0), "{said:?}");
    // One for each step but the first, which was read above.
    let asked = said.stderr.matches("Press Enter").count() + 1;
    assert!(said.stdout.contains(&format!("All {asked} steps held")), "{asked}: {said:?}");
}

#[tokio::test]
async fn an_address_may_be_a_port_or_a_name() {
    for listen in ["0", "localhost:0"] {
        let place = Place::new();
        let command = countersign(&place.folder, &["serve", "--ephemeral", "--listen", listen]);
        let server = Serving::launch(&place.folder, command).await;
        assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
        assert_eq!(Http::new(&server.url).get("/healthz", &[]).await.status, 200);
    }
}
