//! Calls with one-time codes, which a provider with Twilio's API makes. They say the code at once, or after a key was
//! pressed.

use std::io::Write as _;

use harness::{Answer, Receiver, Reply, wait_until};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::deletion;
use crate::verifications::NUMBER;
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

const PUBLIC_URL: &str = "https://verify.example.com";
const HANG_UP: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Hangup/></Response>";

/// A service that sends codes by call, and the provider that makes the calls.
struct Caller {
    world: World,
    service: String,
    provider: Receiver,
}

impl Caller {
    async fn new(world: World) -> Self {
        let accepted = Answer::of("201 Created", "Content-Type: application/json\r\n", r#"{"sid":"CA1"}"#);
        let provider = Receiver::start([accepted]);
        let mut secret = NamedTempFile::new().unwrap();
        secret.write_all(b"hunter2hunter2").unwrap();
        let (url, secret) = (provider.at(""), secret.path().to_str().unwrap());
        let outlet =
            ["outlet", "create", "--kind", "twilio", "--channel", "call", "--name", "Calls", "--url", &url];
        let account = ["--provider-account", "AC1", "--from", "+14155552671", "--secret-file", secret];
        world.command(&[&outlet[..], &account].concat());
        let service = world.service().await;
        Self { world, service, provider }
    }

    async fn ask_for_keys(&self) {
        let form = [("DtmfInputRequired", "true")];
        let reply = self.world.backend().post(&format!("/v2/Services/{}", self.service), &form).await;
        assert_eq!((reply.status, &reply.json()["dtmf_input_required"]), (200, &json!(true)));
    }

    /// Starts a verification by call, and returns the TwiML that the provider received.
    async fn call(&self, to: &str) -> String {
        let path = format!("/v2/Services/{}/Verifications", self.service);
        created(&self.world.backend().post(&path, &[("To", to), ("Channel", "call")]).await);
        let find =
            async || self.provider.calls().into_iter().find(|call| call.value("To").as_deref() == Some(to));
        let call = wait_until("the provider calls", WAIT_TIMEOUT, find).await;
        assert!(call.line.starts_with("POST /2010-04-01/Accounts/AC1/Calls.json "), "{}", call.line);
        call.value("Twiml").unwrap()
    }

    /// Requests what a call says after a key was pressed, as the provider does.
    async fn press_key(&self, path: &str) -> Reply {
        self.world
            .server
            .http()
            .post(path, &[("CallSid", "CA1"), ("Digits", "5"), ("msg", "Gather End")])
            .await
    }

    async fn check(&self, to: &str, code: &str) -> Reply {
        let path = format!("/v2/Services/{}/VerificationCheck", self.service);
        self.world.backend().post(&path, &[("To", to), ("Code", code)]).await
    }
}

/// Returns the path that the call continues with after a key was pressed.
fn path_after_key(twiml: &str) -> String {
    let url = twiml.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect(twiml);
    url.strip_prefix(PUBLIC_URL).expect(url).to_owned()
}

/// Returns the code that a call says.
fn spoken_code(twiml: &str) -> String {
    let sentence = twiml.split("</Say>").next().unwrap();
    let code = sentence.rsplit(": ").next().unwrap();
    code.chars().filter(char::is_ascii_digit).collect()
}

on_every_database! {
    serving &["--public-url", PUBLIC_URL];
    async fn call_says_the_code_after_a_key_was_pressed(world: World) {
        let caller = Caller::new(world).await;
        caller.ask_for_keys().await;
        let twiml = caller.call(NUMBER).await;
        assert!(twiml.contains("Drücken Sie eine beliebige Taste"), "{twiml}");
        let path = path_after_key(&twiml);

        // The code is read out again if a key is pressed again.
        let code = spoken_code(&caller.press_key(&path).await.text);
        let spelled = code.chars().map(String::from).collect::<Vec<_>>().join(", ");
        assert!(!twiml.contains(&code) && !twiml.contains(&spelled) && !twiml.contains("lautet"), "{twiml}");
        let again = caller.press_key(&path).await;
        assert_eq!((again.status, again.header("content-type")), (200, Some("text/xml")));
        assert_eq!((spoken_code(&again.text), code.len()), (code.clone(), 6), "{again:?}");
        assert_eq!(again.header("cache-control"), Some("no-store"));

        // Only this token permits it, and a token for reports does not.
        let forged = format!("{}{}", &path[..path.len() - 1], if path.ends_with('A') { 'B' } else { 'A' });
        assert_error(&caller.press_key(&forged).await, 404, 20404);
        let report = caller.provider.calls()[0].value("StatusCallback").unwrap();
        let token = report.rsplit('/').next().unwrap();
        assert_error(&caller.press_key(&format!("/countersign/v1/SpokenCodes/{token}")).await, 404, 20404);
        let reported = path.replace("SpokenCodes", "DeliveryReports");
        let reply = caller.world.server.http().post(&reported, &[("CallStatus", "completed")]).await;
        assert_error(&reply, 404, 20404);

        // Nothing is said after the verification.
        assert_eq!(caller.check(NUMBER, &code).await.json()["status"], "approved");
        let ended = caller.press_key(&path).await;
        assert_eq!((ended.status, ended.text.as_str()), (200, HANG_UP));

        // Nothing is read out for a deleted service either. Its rows are removed at some time.
        let twiml = caller.call("+4366412345679").await;
        let path = path_after_key(&twiml);
        let backend = caller.world.backend();
        assert_eq!(backend.delete(&format!("/v2/Services/{}", caller.service), &[]).await.status, 204);
        let deleted = caller.press_key(&path).await;
        assert!(deleted.text == HANG_UP || deleted.status == 404, "{deleted:?}");
        let log = caller.world.server.log();
        assert!(log.contains("/countersign/v1/SpokenCodes/{Token}"), "{log}");
        for secret in [code.as_str(), token, path.rsplit('/').next().unwrap()] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

on_every_database! {
    serving &["--public-url", PUBLIC_URL];
    async fn call_says_nothing_after_the_code_expired(world: World) {
        if deletion::sql(&world, "SELECT 1").is_none() {
            return;
        }
        let caller = Caller::new(world).await;
        caller.ask_for_keys().await;
        let twiml = caller.call(NUMBER).await;
        let path = path_after_key(&twiml);
        assert_eq!(spoken_code(&caller.press_key(&path).await.text).len(), 6);
        deletion::sql(&caller.world, "UPDATE verifications SET expires_at = created_at - 120000000");
        let expired = caller.press_key(&path).await;
        assert_eq!((expired.status, expired.text.as_str()), (200, HANG_UP));
    }
}

#[tokio::test]
async fn call_says_the_code_at_once_without_a_public_url() {
    let caller = Caller::new(World::sqlite()).await;
    caller.ask_for_keys().await;
    let twiml = caller.call(NUMBER).await;
    assert!(!twiml.contains("<Gather"), "{twiml}");
    assert!(caller.world.server.log().contains("does not ask for a key first; set public_url"));
    assert_eq!(caller.check(NUMBER, &spoken_code(&twiml)).await.json()["status"], "approved");
}
