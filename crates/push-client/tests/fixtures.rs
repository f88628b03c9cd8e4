//! Fixtures for the tests of both providers.

use std::sync::Arc;
use std::time::Duration;

use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, Clock, FactorSid, Timestamp};
use harness::stand_in::Authority;
use push_client::{Credential, Message, Outcome, PushClient, Settings};
use tokio::task::JoinSet;

/// Request timeout for tests in which none is expected, even on a busy machine.
pub(crate) const LONG_TIMEOUT: Duration = Duration::from_secs(30);

/// Request timeout for tests that wait for it to elapse.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

pub(crate) fn message() -> Message {
    Message {
        challenge_sid: "YC03444444444444444444444444444444".parse::<ChallengeSid>().unwrap(),
        factor_sid: "YF03333333333333333333333333333333".parse::<FactorSid>().unwrap(),
        text: "Log in to Owl Bank?".to_owned(),
        token: RegistrationToken::from_stored(
            "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0".to_owned(),
        ),
        token_registered_at: Timestamp::from_seconds(1_767_225_600),
        app_id: AppId::from_stored("com.example.app".to_owned()),
        expires_at: None,
        ttl: 300,
        id: "019b76da-a800-7fff-bfff-ffffffffffff".to_owned(),
    }
}

/// Creates a client that sends to `endpoint` instead of either provider and trusts `authority`.
pub(crate) fn create_client(
    endpoint: String,
    authority: &Authority,
    timeout: Duration,
    clock: Arc<dyn Clock>,
) -> Arc<PushClient> {
    let settings = Settings {
        apns_endpoint: Some(endpoint.clone()),
        fcm_endpoint: Some(endpoint),
        extra_ca: Some(authority.pem().into_bytes()),
        proxy: None,
        timeout,
    };
    Arc::new(PushClient::new(settings, clock).unwrap())
}

/// Sends `count` pushes concurrently and returns their outcomes.
pub(crate) async fn send_burst(
    client: &Arc<PushClient>,
    credential: &Credential,
    count: usize,
) -> Vec<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (client, credential) = (client.clone(), credential.clone());
        tasks.spawn(async move { client.send("CR1", &credential, &message()).await });
    }
    tasks.join_all().await
}

pub(crate) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// Returns the kind of `outcome` as text, and its debugger code. A delivered push has code 0.
pub(crate) fn kind_and_code(outcome: &Outcome) -> (&'static str, u32) {
    match outcome {
        Outcome::Delivered { .. } => ("delivered", 0),
        Outcome::Retry { code, .. } => ("retry", *code),
        Outcome::DeadToken { code, .. } => ("dead token", *code),
        Outcome::Refused { code, .. } => ("refused", *code),
        other => panic!("{other:?}"),
    }
}
