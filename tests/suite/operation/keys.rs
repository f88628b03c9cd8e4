//! Rotation of keys while servers run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use device::{Answer, Enrollment, Style};
use harness::{Auth, Storage};

use super::*;
use crate::audit::exported;
use crate::totp::TotpFixture;
use crate::world::{World, assert_error, created, entity, on_every_database};

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// One resource of each kind whose secret is sealed or hashed in the database.
struct SealedSecrets {
    enrollment: Enrollment,
    api_key: (String, String),
    /// An access token that is not spent.
    access_token: String,
    access_token_path: String,
    /// The secret of a TOTP factor of the enrolled user.
    totp_secret: String,
    /// The SID of an outlet.
    outlet: String,
}

impl SealedSecrets {
    /// Creates one resource of each kind. Commands run with `options` in addition.
    async fn create(world: &World, options: &[&str]) -> Self {
        let service = world.service().await;
        let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let made = world.command(&[&["api-key", "create", world.server.account_sid()], options].concat());
        let path = format!("/v2/Services/{service}/AccessTokens");
        let form = [("Identity", "user-0002"), ("FactorType", "push"), ("Ttl", "300")];
        let token = created(&world.backend().post(&path, &form).await);
        let totp = TotpFixture::create(world, &service, "user-0001", &[]).await;
        let outlet = [
            "outlet",
            "create",
            "--kind=capture",
            "--channel=email",
            "--name=Owl",
            "--path=/tmp/countersign-messages",
        ];
        let outlet = world.command(&[&outlet, options].concat());
        Self {
            totp_secret: totp.secret(),
            outlet: value_of("outlet sid", &outlet),
            enrollment,
            api_key: (value_of("api key sid", &made), value_of("secret", &made)),
            access_token: token["token"].as_str().unwrap().to_owned(),
            access_token_path: format!("{path}/{}", token["sid"].as_str().unwrap()),
        }
    }

    /// Checks that each of these secrets still works.
    async fn assert_all_work(&self, world: &World) {
        let challenge = world.challenge(&self.enrollment, &[]).await;
        let phone = world.phone(Style::Android);
        phone.answer(&self.enrollment, challenge["sid"].as_str().unwrap(), Answer::Approved).await.unwrap();
        let (sid, secret) = self.api_key.clone();
        let with_key = Http::new(world.server.url()).auth(Auth::Basic(sid.clone(), secret));
        assert_eq!(with_key.get("/v2/Services", &[]).await.status, 200);
        let without = Http::new(world.server.url()).auth(Auth::Basic(sid, "0".repeat(32)));
        assert_error(&without.get("/v2/Services", &[]).await, 401, 20003);
        let fetched = world.backend().get(&self.access_token_path, &[]).await;
        assert_eq!(fetched.json()["token"], self.access_token.as_str(), "{fetched:?}");
        // The server finds the secret of the TOTP factor only if it can open it.
        let path = format!("{}/Factors", entity(&self.enrollment.service_sid, "user-0001"));
        let form = [("FactorType", "totp"), ("FriendlyName", "Copy"), ("Binding.Secret", &self.totp_secret)];
        assert_error(&world.backend().post(&path, &form).await, 409, 60317);
        // New ones can be created too.
        world.access_token(&self.enrollment.service_sid, "user-0003").await;
    }

    /// Checks that the old access token still enrolls a factor.
    async fn enroll(&self, world: &World) {
        let mut new = world.new_factor(&self.enrollment.service_sid, "user-0002").await;
        new.access_token = domain::Secret::new(self.access_token.clone());
        world.phone(Style::Android).enroll(&new).await.unwrap();
    }
}

on_every_database! {
    serving &["--master-key", OLD];
    async fn configured_master_key_can_be_rotated(world: World) {
        let mut world = world;
        let secrets = SealedSecrets::create(&world, &["--master-key", OLD]).await;
        let both = ["--master-key", NEW, "--master-key-old", OLD];
        let keys = |arguments: &[&str]| world.command(&[&["keys"], arguments].concat());

        // While the server has only the old key, nothing is changed without explicit options.
        let output = keys(&["rotate", "--master-key", OLD]);
        assert!(output.contains("to replace it, provide servers and this command with the new key"), "{output}");
        let listed = keys(&["list", "--master-key", OLD]);
        assert!(listed.contains("1 auth token, 1 enrollment key, 1 server key, 1 audit key, 2 access tokens, 1 TOTP secret, 1 outlet"), "{listed}");
        assert!(!listed.contains(OLD), "{listed}");

        world.server.restart_with(&both);
        secrets.assert_all_work(&world).await;
        let output = world.command(&[&["keys", "rotate"], &both[..]].concat());
        assert!(output.starts_with("resealed 8 values under master key "), "{output}");
        let output = world.command(&[&["keys", "rotate"], &both[..]].concat());
        assert!(output.starts_with("all values are sealed under master key "), "{output}");
        secrets.assert_all_work(&world).await;

        // From now on the new key is enough, and the old one opens nothing.
        world.server.restart_with(&["--master-key", NEW]);
        secrets.assert_all_work(&world).await;
        secrets.enroll(&world).await;
        world.command(&["outlet", "show", &secrets.outlet, "--master-key", NEW]);
        let listed = world.command(&["keys", "list", "--master-key", NEW]);
        assert!(listed.lines().filter(|line| line.starts_with("master key ")).count() == 1, "{listed}");
        let refused = world.refusal(&["account", "list", "--master-key", OLD]);
        assert!(refused.contains("sealed under master key"), "{refused}");
    }
}

#[tokio::test]
async fn generated_master_key_can_be_rotated_while_the_server_runs() {
    let mut world = World::sqlite();
    let secrets = SealedSecrets::create(&world, &[]).await;
    let Storage::Sqlite(data_dir) = world.storage.clone() else { unreachable!() };
    let file = |name: &str| data_dir.join(name);
    let old = fs::read_to_string(file("master.key")).unwrap();

    // While another rotation runs, nothing is changed.
    let another = fs::File::create(file("master.key.lock")).unwrap();
    another.lock().unwrap();
    assert!(world.refusal(&["keys", "rotate"]).contains("another `countersign keys rotate` is running"));
    assert_eq!(fs::read_to_string(file("master.key")).unwrap(), old);
    drop(another);
    // The draft of a rotation that was killed while it wrote a key.
    fs::write(file("master.key.draft-left"), "half a k").unwrap();

    // Kill the rotation at each step that can be seen from outside, and at points between, and start it again.
    let rotate = || {
        let mut command = countersign(&data_dir, &["keys", "rotate", "--data-dir"]);
        command.arg(&data_dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let is_old_key_kept = || file("master.key.old").exists();
    let is_key_replaced = || fs::read_to_string(file("master.key")).unwrap() != old;
    for has_reached in [&is_old_key_kept as &dyn Fn() -> bool, &is_key_replaced] {
        let mut child = rotate();
        while !has_reached() {
            assert_eq!(child.try_wait().unwrap(), None, "the rotation ended before it was killed");
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        secrets.assert_all_work(&world).await;
    }
    for milliseconds in [3, 10, 20, 40, 80, 160] {
        let mut child = rotate();
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        secrets.assert_all_work(&world).await;
    }
    // It prints its first line once everything is resealed, and then waits for the server.
    let mut child = rotate();
    let mut first_line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
    assert!(first_line.ends_with('\n'), "the rotation ended before it was killed: {first_line:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    secrets.assert_all_work(&world).await;
    let finished = tokio::task::spawn_blocking({
        let child = rotate();
        move || wait(child)
    });
    // Resources created during the rotation, under either key, work afterwards.
    let mut made = Vec::new();
    while !finished.is_finished() {
        let key = world.command(&["api-key", "create", world.server.account_sid()]);
        made.push((value_of("api key sid", &key), value_of("secret", &key)));
        world.access_token(&secrets.enrollment.service_sid, "user-0004").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let output = finished.await.unwrap();
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    let new = fs::read_to_string(file("master.key")).unwrap();
    assert_ne!(new, old);
    assert!(!file("master.key.old").exists() && !file("master.key.draft-left").exists());
    // Killed rotations also left a record of what they had resealed.
    let lines = exported(&world).await;
    let lines = lines.iter().filter(|line| line["event_type"] == "master-key.rotated");
    let counts: Vec<_> = lines.map(|line| line["data"]["count"].as_u64().unwrap()).collect();
    assert!(counts.len() > 1 && counts.iter().sum::<u64>() >= 8, "{counts:?}");
    let retired = fs::read_dir(&data_dir).unwrap().map(|file| file.unwrap().path());
    let retired: Vec<_> = retired.filter(|file| file.to_string_lossy().contains("retired")).collect();
    assert_eq!(retired.len(), 1, "{retired:?}");
    assert_eq!(fs::read_to_string(&retired[0]).unwrap(), old);

    let all_under_one =
        |listed: &str| listed.lines().filter(|line| line.starts_with("master key ")).count() == 1;
    let listed = world.command(&["keys", "list"]);
    assert!(all_under_one(&listed), "{listed}");
    secrets.assert_all_work(&world).await;
    let listed = world.command(&["keys", "list"]);
    assert!(all_under_one(&listed), "the server still seals under the old key: {listed}");
    world.server.restart();
    secrets.assert_all_work(&world).await;
    secrets.enroll(&world).await;
    world.command(&["outlet", "show", &secrets.outlet]);
    for (sid, secret) in made {
        let with_key = Http::new(world.server.url()).auth(Auth::Basic(sid, secret));
        assert_eq!(with_key.get("/v2/Services", &[]).await.status, 200);
    }
    let refused = world.refusal(&["account", "list", "--master-key", old.trim()]);
    assert!(refused.contains("sealed under master key"), "{refused}");
}

/// Root rotates the key and the database of a server that runs as another user, who could not read root's
/// files.
#[tokio::test]
async fn master_key_file_rotated_by_root_keeps_its_owner() {
    const NOBODY_UID: u32 = 65_534;
    let place = Place::new();
    if fs::metadata(&place.folder).unwrap().uid() != 0 {
        eprintln!("SKIPPED master_key_file_rotated_by_root_keeps_its_owner: only root gives files away");
        return;
    }
    Serving::start(&place.folder, &[], &[]).await.stop().await;
    let files = || fs::read_dir(place.path("data")).unwrap().map(|file| file.unwrap().path());
    for file in files().chain([place.path("data")]) {
        chown(file, Some(NOBODY_UID), Some(NOBODY_UID)).unwrap();
    }
    succeed(&mut countersign(&place.folder, &["backup", "backup.db"]));
    succeed(&mut countersign(&place.folder, &["restore", "backup.db"]));
    succeed(&mut countersign(&place.folder, &["keys", "rotate"]));
    for file in files() {
        assert_eq!(fs::metadata(&file).unwrap().uid(), NOBODY_UID, "{}", file.display());
    }
}

#[tokio::test]
async fn generated_master_key_is_not_rotated_if_other_servers_may_have_a_copy() {
    let test = "operation::keys::generated_master_key_is_not_rotated_if_other_servers_may_have_a_copy";
    let Some(world) = World::postgres_with(test, &[]) else { return };
    let refused = world.refusal(&["keys", "rotate"]);
    assert!(refused.contains("other servers may have a copy"), "{refused}");
}

on_every_database! {
    async fn access_tokens_stay_valid_during_enrollment_key_rotation(world: World) {
        let secrets = SealedSecrets::create(&world, &[]).await;
        let service = &secrets.enrollment.service_sid;
        let kid = |token: &str| {
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
            header["kid"].as_str().unwrap().to_owned()
        };
        let before = kid(&secrets.access_token);
        let output = world.command(&["keys", "rotate", "--enrollment"]);
        let new = value_of("created enrollment key", &output);
        assert_ne!(new, before);
        let mut phones = 0;
        wait_until("the new key issues tokens", WAIT_TIMEOUT, async || {
            phones += 1;
            let identity = format!("user-1{phones:03}");
            let token = world.access_token(service, &identity).await;
            // At every moment, access tokens issued under either key are valid.
            let mut factor = world.new_factor(service, &identity).await;
            factor.access_token = domain::Secret::new(token.clone());
            world.phone(Style::Android).enroll(&factor).await.unwrap();
            (kid(&token) == new).then_some(())
        })
        .await;
        secrets.assert_all_work(&world).await;
        secrets.enroll(&world).await;
        let listed = world.command(&["keys", "list"]);
        assert_eq!(listed.lines().filter(|line| line.starts_with("enrollment key ")).count(), 2, "{listed}");
    }
}
