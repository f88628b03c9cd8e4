//! The demonstration, and the phone for the terminal.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::*;
use crate::world::{World, created, entity};

#[test]
fn the_demo_shows_every_step_and_leaves_nothing_behind() {
    let place = Place::new();
    let shown = succeed(&mut countersign(&place.folder, &["demo"]));
    // The story first, and what is around it after.
    let places: Vec<_> =
        ["registers the public key", "asks the phone", "signs that", "too late", "push credential"]
            .map(|words| shown.find(words).unwrap_or_else(|| panic!("{words}: {shown}")))
            .into();
    assert!(places.is_sorted(), "{shown}");
    let titles: Vec<_> =
        shown.lines().filter_map(|line| line.strip_prefix("── ")?.split_once(". ")).collect();
    let numbers: Vec<_> = titles.iter().map(|(number, _)| number.parse::<usize>().unwrap()).collect();
    assert_eq!(numbers, (1..=titles.len()).collect::<Vec<_>>());
    assert!(titles.len() >= 10, "{shown}");
    let summary = shown.split("── What you saw").nth(1).unwrap();
    for (number, title) in &titles {
        assert!(summary.contains(&format!("✓ {number:>2}. {title}\n")), "{summary}");
    }
    assert!(summary.contains(&format!("All {} steps held", titles.len())), "{summary}");
    for words in
        ["\"status\": \"approved\"", "\"status\": \"denied\"", "\"status\": \"expired\"", "60322", "60323"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours in a file: {shown}");
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);
}

/// A server, a backend, and a terminal with a keyring that plays phones.
struct Desk {
    world: World,
    service: String,
    place: Place,
}

impl Desk {
    async fn new() -> Self {
        let world = World::ephemeral();
        let service = world.service().await;
        Self { world, service, place: Place::new() }
    }

    fn device(&self, arguments: &[&str]) -> Command {
        let mut command = countersign(&self.place.folder, &["device", "--keyring", "phone.json"]);
        command.args(arguments);
        command
    }

    /// Enrolls a phone, and returns its factor's SID.
    async fn enroll(&self, identity: &str, name: &str) -> String {
        let token = self.world.access_token(&self.service, identity).await;
        let options = ["--service", &self.service, "--identity", identity, "--name", name];
        let mut enroll = self.device(&["enroll", "--url", self.world.server.url()]);
        let said = succeed(enroll.args(options).env("COUNTERSIGN_ACCESS_TOKEN", token));
        assert!(said.starts_with("The phone is enrolled.\n"), "{said}");
        value_of("factor", &said)
    }

    async fn challenge(&self, identity: &str, factor: &str) -> String {
        let form = [
            ("FactorSid", factor),
            ("Details.Message", "Sign in to Owl Bank?"),
            ("Details.Fields", r#"{"label":"Place","value":"Vienna"}"#),
            ("HiddenDetails", r#"{"session":"8f14e45f"}"#),
        ];
        let path = format!("{}/Challenges", entity(&self.service, identity));
        let made = created(&self.world.backend().post(&path, &form).await);
        made["sid"].as_str().unwrap().to_owned()
    }

    async fn stored(&self, path: &str) -> Value {
        self.world.backend().get(path, &[]).await.json()
    }
}

#[tokio::test]
async fn a_terminal_enrolls_looks_answers_and_leaves() {
    let desk = Desk::new().await;
    let factor = desk.enroll("user-0001", "Ada's phone").await;
    let path = format!("{}/Factors/{factor}", entity(&desk.service, "user-0001"));
    let stored = desk.stored(&path).await;
    assert_eq!((&stored["status"], &stored["friendly_name"]), (&"verified".into(), &"Ada's phone".into()));
    let keyring = desk.place.path("phone.json");
    assert_eq!(fs::metadata(&keyring).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(succeed(&mut desk.device(&["show"])), "Nothing waits for an answer.\n");
    let sids = [desk.challenge("user-0001", &factor).await, desk.challenge("user-0001", &factor).await];
    let list = succeed(&mut desk.device(&["list"]));
    assert!(list.starts_with(&format!("{factor}  Ada's phone\n")), "{list}");
    assert_eq!(value_of("user", &list), "user-0001");
    assert_eq!(value_of("pending", &list), "2");
    let pending = succeed(&mut desk.device(&["show"]));
    let challenge = succeed(&mut desk.device(&["show", &sids[0]]));
    for words in [&sids[0], &sids[1], "Sign in to Owl Bank?", "Place", "Vienna"] {
        assert!(pending.contains(words), "{words}: {pending}");
    }
    for words in [&sids[0], "Sign in to Owl Bank?", "Vienna", "pending", "session: 8f14e45f"] {
        assert!(challenge.contains(words), "{words}: {challenge}");
    }

    for (sid, command, status) in [(&sids[0], "approve", "approved"), (&sids[1], "deny", "denied")] {
        let said = succeed(&mut desk.device(&[command, sid]));
        assert!(said.starts_with(&format!("{sid} is {status}.\n")), "{said}");
        let path = format!("{}/Challenges/{sid}", entity(&desk.service, "user-0001"));
        assert_eq!(desk.stored(&path).await["status"], status);
        // Once is all there is.
        for again in ["approve", "deny"] {
            refuse(&mut desk.device(&[again, sid]), &[status]);
        }
        assert_eq!(desk.stored(&path).await["status"], status);
    }

    let said = succeed(&mut desk.device(&["forget", &factor[..20]]));
    assert!(said.contains(&factor), "{said}");
    assert_eq!(desk.world.backend().get(&path, &[]).await.status, 404);
    for command in ["list", "show"] {
        refuse(&mut desk.device(&[command]), &["no phone is enrolled in phone.json", "device enroll"]);
    }
    assert!(!fs::read_to_string(&keyring).unwrap().contains(&factor));
}

#[tokio::test]
async fn the_commands_that_a_terminal_is_shown_can_be_run() {
    let desk = Desk::new().await;
    let mut shown = vec![run(&mut desk.device(&["list"])).stderr];
    let token = desk.world.access_token(&desk.service, "user-0001").await;
    let options = ["--url", desk.world.server.url(), "--service", &desk.service, "--identity", "user-0001"];
    let enrolled = succeed(desk.device(&["enroll", "--token", &token]).args(options));
    let factor = value_of("factor", &enrolled);
    shown.push(enrolled);
    let pending = desk.challenge("user-0001", &factor).await;
    shown.push(succeed(&mut desk.device(&["show"])));
    let challenge = format!("YC03{}", "0".repeat(30));
    shown.push(run(&mut desk.device(&["approve", &challenge])).stderr);
    let factor_path = format!("{}/Factors/{factor}", entity(&desk.service, "user-0001"));
    assert_eq!(desk.world.backend().delete(&factor_path, &[]).await.status, 204);
    shown.push(run(&mut desk.device(&["show"])).stderr);

    let commands = |text: &str| -> Vec<String> {
        let parts = text.split(['"', '\n']).map(str::trim).filter(|part| !part.starts_with("countersign: "));
        parts
            .filter(|part| part.contains(" device ") && part.starts_with(binary()))
            .map(str::to_owned)
            .collect()
    };
    for (text, expected) in shown.iter().zip([1, 1, 2, 1, 1]) {
        let commands = commands(text);
        assert_eq!(commands.len(), expected, "{text}");
        for command in commands {
            let command = command.replace("CHALLENGE", &pending);
            let help = Command::new("sh").args(["-c", &format!("{command} --help")]).output().unwrap();
            assert!(help.status.success(), "{command}: {help:?}");
        }
    }
    // What deletes the key of a factor that the server has deleted.
    let forget = commands(&shown[4]).remove(0);
    let mut forget =
        Command::new("sh").args(["-c", &forget]).current_dir(&desk.place.folder).spawn().unwrap();
    assert!(forget.wait().unwrap().success());
    assert!(!fs::read_to_string(desk.place.path("phone.json")).unwrap().contains(&factor));
}

/// The program that the tests start, as it shows itself.
fn binary() -> &'static str {
    let path: &Path = BINARY.as_ref();
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_keyring_holds_several_phones_and_finds_the_one_that_is_asked() {
    let desk = Desk::new().await;
    let factors =
        [desk.enroll("user-0001", "Ada's phone").await, desk.enroll("user-0002", "Bob's phone").await];
    let sid = desk.challenge("user-0002", &factors[1]).await;
    let pending = |factor: &str| succeed(&mut desk.device(&["show", "--factor", factor]));
    assert_eq!(pending(&factors[0]), "Nothing waits for an answer.\n");
    assert!(pending(&factors[1]).contains(&sid));
    refuse(&mut desk.device(&["approve", "--factor", &factors[0], &sid]), &["there is no challenge", &sid]);
    succeed(&mut desk.device(&["approve", &sid]));

    refuse(&mut desk.device(&["forget", "YF"]), &["more than one factor", "\"YF\""]);
    succeed(&mut desk.device(&["forget", &factors[0]]));
    let list = succeed(&mut desk.device(&["list", "--offline"]));
    assert!(!list.contains(&factors[0]) && list.contains(&factors[1]), "{list}");
}

#[tokio::test]
async fn a_watching_terminal_asks_and_answers() {
    let desk = Desk::new().await;
    let factor = desk.enroll("user-0001", "Ada's phone").await;
    let sids = [desk.challenge("user-0001", &factor).await, desk.challenge("user-0001", &factor).await];
    let mut watch = desk.device(&["watch", "--interval", "100ms"]);
    let watch = watch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = watch.spawn().unwrap();
    // The oldest first; and what is neither yes nor no is asked again.
    child.stdin.take().unwrap().write_all(b"maybe\nyes\nn\n").unwrap();
    let said = wait(child);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let shown = said.stdout;
    assert_eq!(shown.matches("Approve? ").count(), 3, "{shown}");
    for (sid, status) in [(&sids[0], "approved"), (&sids[1], "denied")] {
        let path = format!("{}/Challenges/{sid}", entity(&desk.service, "user-0001"));
        assert_eq!(desk.stored(&path).await["status"], status, "{shown}");
    }
}

#[tokio::test]
async fn what_a_terminal_can_not_do_it_says_in_words() {
    let mut desk = Desk::new().await;
    let options = |token: &str| {
        let mut enroll =
            desk.device(&["enroll", "--url", desk.world.server.url(), "--service", &desk.service]);
        enroll.args(["--identity", "user-0001", "--token", token]);
        enroll
    };
    let said = refuse(&mut options("made-up-token"), &["the server refused the access token"]);
    assert!(!said.stderr.contains("made-up-token"));
    let elsewhere = desk.world.access_token(&desk.service, "somebody-else").await;
    let said = refuse(&mut options(&elsewhere), &["made for another service or user"]);
    assert!(!said.stderr.contains(&elsewhere));
    refuse(&mut options("-"), &["no access token on standard input"]);

    let factor = desk.enroll("user-0001", "Ada's phone").await;
    let nobody = format!("YC03{}", "0".repeat(30));
    refuse(&mut desk.device(&["approve", &nobody]), &["there is no challenge", &nobody]);
    refuse(&mut desk.device(&["forget", "YF99"]), &["no factor", "YF99"]);

    // A keyring is for its owner alone.
    let keyring = desk.place.path("phone.json");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    refuse(&mut desk.device(&["list"]), &["phone.json", "chmod 600"]);
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();

    // Without its server a phone keeps its key, and says what it can.
    desk.world.server.kill9();
    let list = succeed(&mut desk.device(&["list"]));
    assert!(value_of("pending", &list).starts_with("unknown: "), "{list}");
    refuse(&mut desk.device(&["show"]), &[desk.world.server.url()]);
    refuse(&mut desk.device(&["forget", &factor]), &["The key is still here"]);
    let said = succeed(&mut desk.device(&["forget", "--local", &factor]));
    assert!(said.contains(&factor), "{said}");
    fs::write(&keyring, "{ \"enrollments\": \"MIGHAgEA\" }").unwrap();
    let said = refuse(&mut desk.device(&["list"]), &["phone.json is not a keyring"]);
    assert!(!said.stderr.contains("MIGHAgEA"));
}
