//! The demo, and the terminal phone.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::*;
use crate::world::{World, created, entity};

#[test]
fn demo_shows_every_step_and_leaves_no_files_behind() {
    let place = Place::new();
    let shown = succeed(&mut countersign(&place.folder, &["demo"]));
    // The sign-in comes first, deliveries after it.
    let places: Vec<_> = [
        "registers the public key",
        "asks the phone",
        "signs the answer",
        "too late",
        "push credential",
        "signs in with a code",
    ]
    .map(|expected| shown.find(expected).unwrap_or_else(|| panic!("{expected}: {shown}")))
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
    assert!(summary.contains(&format!("All {} steps passed", titles.len())), "{summary}");
    for expected in
        ["\"status\": \"approved\"", "\"status\": \"denied\"", "\"status\": \"expired\"", "60322", "60323"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "output to a file contains color codes: {shown}");
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);
}

#[test]
fn demo_of_codes_shows_messages_and_leaves_no_files_behind() {
    let place = Place::new();
    let shown = succeed(&mut countersign(&place.folder, &["demo", "--codes"]));
    for expected in [
        "Owl Bank",
        "\"channel\": \"sms\"",
        "\"status\": \"approved\"",
        "20404",
        "\"to\": \"ada@example.com\"",
        "\"subject\": ",
        "Both mails contain the same code.",
        "60202",
        "All 8 steps passed",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 0);
    let both = run(&mut countersign(&place.folder, &["demo", "--codes", "--stay"]));
    assert_eq!(both.code, Some(2), "{both:?}");
}

/// A server, a backend, and a terminal phone with a keyring.
struct PhoneFixture {
    world: World,
    service: String,
    place: Place,
}

impl PhoneFixture {
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

    /// Enrolls a phone and returns the SID of its factor.
    async fn enroll(&self, identity: &str, name: &str) -> String {
        let token = self.world.access_token(&self.service, identity).await;
        let options = ["--service", &self.service, "--identity", identity, "--name", name];
        let mut enroll = self.device(&["enroll", "--url", self.world.server.url()]);
        let output = succeed(enroll.args(options).env("COUNTERSIGN_ACCESS_TOKEN", token));
        assert!(output.starts_with("The phone is enrolled.\n"), "{output}");
        value_of("factor", &output)
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
async fn terminal_phone_can_enroll_list_answer_and_delete() {
    let fixture = PhoneFixture::new().await;
    let factor = fixture.enroll("user-0001", "Ada's phone").await;
    let path = format!("{}/Factors/{factor}", entity(&fixture.service, "user-0001"));
    let stored = fixture.stored(&path).await;
    assert_eq!((&stored["status"], &stored["friendly_name"]), (&"verified".into(), &"Ada's phone".into()));
    let keyring = fixture.place.path("phone.json");
    assert_eq!(fs::metadata(&keyring).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(succeed(&mut fixture.device(&["show"])), "No pending challenges.\n");
    let sids = [fixture.challenge("user-0001", &factor).await, fixture.challenge("user-0001", &factor).await];
    let list = succeed(&mut fixture.device(&["list"]));
    assert!(list.starts_with(&format!("{factor}  Ada's phone\n")), "{list}");
    assert_eq!(value_of("user", &list), "user-0001");
    assert_eq!(value_of("pending", &list), "2");
    let pending = succeed(&mut fixture.device(&["show"]));
    let challenge = succeed(&mut fixture.device(&["show", &sids[0]]));
    for expected in [&sids[0], &sids[1], "Sign in to Owl Bank?", "Place", "Vienna"] {
        assert!(pending.contains(expected), "{expected}: {pending}");
    }
    for expected in [&sids[0], "Sign in to Owl Bank?", "Vienna", "pending", "session: 8f14e45f"] {
        assert!(challenge.contains(expected), "{expected}: {challenge}");
    }

    for (sid, command, status) in [(&sids[0], "approve", "approved"), (&sids[1], "deny", "denied")] {
        let output = succeed(&mut fixture.device(&[command, sid]));
        assert!(output.starts_with(&format!("{sid} is {status}.\n")), "{output}");
        let path = format!("{}/Challenges/{sid}", entity(&fixture.service, "user-0001"));
        assert_eq!(fixture.stored(&path).await["status"], status);
        // A challenge can be answered only once.
        for again in ["approve", "deny"] {
            refuse(&mut fixture.device(&[again, sid]), &[status]);
        }
        assert_eq!(fixture.stored(&path).await["status"], status);
    }

    let output = succeed(&mut fixture.device(&["forget", &factor[..20]]));
    assert!(output.contains(&factor), "{output}");
    assert_eq!(fixture.world.backend().get(&path, &[]).await.status, 404);
    for command in ["list", "show"] {
        refuse(&mut fixture.device(&[command]), &["no phone is enrolled in phone.json", "device enroll"]);
    }
    assert!(!fs::read_to_string(&keyring).unwrap().contains(&factor));
}

#[tokio::test]
async fn commands_suggested_in_output_can_be_run() {
    let fixture = PhoneFixture::new().await;
    let mut shown = vec![run(&mut fixture.device(&["list"])).stderr];
    let token = fixture.world.access_token(&fixture.service, "user-0001").await;
    let options =
        ["--url", fixture.world.server.url(), "--service", &fixture.service, "--identity", "user-0001"];
    let enrolled = succeed(fixture.device(&["enroll", "--token", &token]).args(options));
    let factor = value_of("factor", &enrolled);
    shown.push(enrolled);
    let pending = fixture.challenge("user-0001", &factor).await;
    shown.push(succeed(&mut fixture.device(&["show"])));
    let challenge = format!("YC03{}", "0".repeat(30));
    shown.push(run(&mut fixture.device(&["approve", &challenge])).stderr);
    let factor_path = format!("{}/Factors/{factor}", entity(&fixture.service, "user-0001"));
    assert_eq!(fixture.world.backend().delete(&factor_path, &[]).await.status, 204);
    shown.push(run(&mut fixture.device(&["show"])).stderr);

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
    // The suggested command deletes the key of a factor that the server has deleted.
    let forget = commands(&shown[4]).remove(0);
    let mut forget =
        Command::new("sh").args(["-c", &forget]).current_dir(&fixture.place.folder).spawn().unwrap();
    assert!(forget.wait().unwrap().success());
    assert!(!fs::read_to_string(fixture.place.path("phone.json")).unwrap().contains(&factor));
}

/// Returns the program's name as its output shows it.
fn binary() -> &'static str {
    let path: &Path = BINARY.as_ref();
    path.to_str().unwrap()
}

#[tokio::test]
async fn terminal_phone_finds_the_challenged_factor_among_several_in_the_keyring() {
    let fixture = PhoneFixture::new().await;
    let factors =
        [fixture.enroll("user-0001", "Ada's phone").await, fixture.enroll("user-0002", "Bob's phone").await];
    let sid = fixture.challenge("user-0002", &factors[1]).await;
    let pending = |factor: &str| succeed(&mut fixture.device(&["show", "--factor", factor]));
    assert_eq!(pending(&factors[0]), "No pending challenges.\n");
    assert!(pending(&factors[1]).contains(&sid));
    refuse(
        &mut fixture.device(&["approve", "--factor", &factors[0], &sid]),
        &["there is no challenge", &sid],
    );
    succeed(&mut fixture.device(&["approve", &sid]));

    refuse(&mut fixture.device(&["forget", "YF"]), &["more than one factor", "\"YF\""]);
    succeed(&mut fixture.device(&["forget", &factors[0]]));
    let list = succeed(&mut fixture.device(&["list", "--offline"]));
    assert!(!list.contains(&factors[0]) && list.contains(&factors[1]), "{list}");
}

#[tokio::test]
async fn terminal_phone_in_watch_mode_prompts_for_and_sends_answers() {
    let fixture = PhoneFixture::new().await;
    let factor = fixture.enroll("user-0001", "Ada's phone").await;
    let sids = [fixture.challenge("user-0001", &factor).await, fixture.challenge("user-0001", &factor).await];
    let mut watch = fixture.device(&["watch", "--interval", "100ms"]);
    let watch = watch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = watch.spawn().unwrap();
    // The oldest challenge comes first; input other than yes and no is asked again.
    child.stdin.take().unwrap().write_all(b"maybe\nyes\nn\n").unwrap();
    let output = wait(child);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    let shown = output.stdout;
    assert_eq!(shown.matches("Approve? ").count(), 3, "{shown}");
    for (sid, status) in [(&sids[0], "approved"), (&sids[1], "denied")] {
        let path = format!("{}/Challenges/{sid}", entity(&fixture.service, "user-0001"));
        assert_eq!(fixture.stored(&path).await["status"], status, "{shown}");
    }
}

#[tokio::test]
async fn terminal_phone_errors_state_the_reason_without_secrets() {
    let mut fixture = PhoneFixture::new().await;
    let options = |token: &str| {
        let mut enroll =
            fixture.device(&["enroll", "--url", fixture.world.server.url(), "--service", &fixture.service]);
        enroll.args(["--identity", "user-0001", "--token", token]);
        enroll
    };
    let output = refuse(&mut options("made-up-token"), &["the server refused the access token"]);
    assert!(!output.stderr.contains("made-up-token"));
    let elsewhere = fixture.world.access_token(&fixture.service, "other-user-1").await;
    let output = refuse(&mut options(&elsewhere), &["made for another service or user"]);
    assert!(!output.stderr.contains(&elsewhere));
    refuse(&mut options("-"), &["no access token on standard input"]);

    let factor = fixture.enroll("user-0001", "Ada's phone").await;
    let nobody = format!("YC03{}", "0".repeat(30));
    refuse(&mut fixture.device(&["approve", &nobody]), &["there is no challenge", &nobody]);
    refuse(&mut fixture.device(&["forget", "YF99"]), &["no factor", "YF99"]);

    // A keyring is readable only by its owner.
    let keyring = fixture.place.path("phone.json");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    refuse(&mut fixture.device(&["list"]), &["phone.json", "chmod 600"]);
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();

    // Without its server a phone keeps its key, and shows what it knows.
    fixture.world.server.kill9();
    let list = succeed(&mut fixture.device(&["list"]));
    assert!(value_of("pending", &list).starts_with("unknown: "), "{list}");
    refuse(&mut fixture.device(&["show"]), &[fixture.world.server.url()]);
    refuse(&mut fixture.device(&["forget", &factor]), &["The key was not deleted"]);
    let output = succeed(&mut fixture.device(&["forget", "--local", &factor]));
    assert!(output.contains(&factor), "{output}");
    fs::write(&keyring, "{ \"enrollments\": \"MIGHAgEA\" }").unwrap();
    let output = refuse(&mut fixture.device(&["list"]), &["phone.json is not a keyring"]);
    assert!(!output.stderr.contains("MIGHAgEA"));
}

#[tokio::test]
async fn terminal_phone_shows_codes_that_the_server_accepts() {
    let fixture = PhoneFixture::new().await;
    let backend = fixture.world.backend();
    let path = format!("{}/Factors", entity(&fixture.service, "user-0001"));
    let form = [("FactorType", "totp"), ("FriendlyName", "Ada's app")];
    let factor = created(&backend.post(&path, &form).await);
    let uri = factor["binding"]["uri"].as_str().unwrap();
    let code = |shown: &str| {
        assert!(shown.contains("  Owl Bank: Ada's app, ") && shown.ends_with(" s left\n"), "{shown}");
        shown.split_once(' ').unwrap().0.to_owned()
    };
    refuse(&mut fixture.device(&["totp", "code"]), &["no TOTP secret in phone.json", "totp add URI"]);
    refuse(&mut fixture.device(&["totp", "add", "https://owl.test/"]), &["not the URI of a TOTP secret"]);

    let mut add = fixture.device(&["totp", "add", "-"]);
    let mut child = add.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{uri}\n").as_bytes()).unwrap();
    let added = wait(child);
    assert_eq!((added.code, added.stderr.as_str()), (Some(0), ""), "{added:?}");
    let path = format!("{path}/{}", factor["sid"].as_str().unwrap());
    let verified = backend.post(&path, &[("AuthPayload", &code(&added.stdout))]).await;
    assert_eq!(verified.json()["status"], "verified", "{verified:?}");
    code(&succeed(&mut fixture.device(&["totp", "code"])));
    code(&succeed(&mut fixture.device(&["totp", "code", "Ada's app"])));
    refuse(&mut fixture.device(&["totp", "code", "Bob"]), &["no TOTP secret of the account Bob"]);
    // Enrollments and secrets share the keyring.
    let push = fixture.enroll("user-0001", "Ada's phone").await;
    assert!(succeed(&mut fixture.device(&["list"])).starts_with(&push));
    let forgotten = succeed(&mut fixture.device(&["totp", "forget", "Ada's app"]));
    assert!(forgotten.contains("Deleted the secret of Ada's app"), "{forgotten}");
    refuse(&mut fixture.device(&["totp", "code"]), &["no TOTP secret"]);
    assert!(succeed(&mut fixture.device(&["list"])).starts_with(&push));
}
