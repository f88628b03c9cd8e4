//! What the suites of both providers share.

use std::sync::Arc;
use std::time::Duration;

use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, Clock, FactorSid, Timestamp};
use harness::stand_in::Authority;
use push_client::{Credential, Message, Outcome, Pusher, Settings};
use tokio::task::JoinSet;

/// Long enough for a busy machine, where nothing is expected to take long.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// Short, where something is expected not to happen.
pub(crate) const HASTY: Duration = Duration::from_millis(300);

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

/// A pusher that finds both providers at `endpoint` and trusts `authority`.
pub(crate) fn pusher(
    endpoint: String,
    authority: &Authority,
    timeout: Duration,
    clock: Arc<dyn Clock>,
) -> Arc<Pusher> {
    let settings = Settings {
        apns_endpoint: Some(endpoint.clone()),
        fcm_endpoint: Some(endpoint),
        extra_ca: Some(authority.pem().into_bytes()),
        proxy: None,
        timeout,
    };
    Arc::new(Pusher::new(settings, clock).unwrap())
}

/// Sends the same push many times at once.
pub(crate) async fn burst(pusher: &Arc<Pusher>, credential: &Credential, count: usize) -> Vec<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (pusher, credential) = (pusher.clone(), credential.clone());
        tasks.spawn(async move { pusher.send("CR1", &credential, &message()).await });
    }
    tasks.join_all().await
}

pub(crate) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// The kind of an outcome and its code.
pub(crate) fn verdict(outcome: &Outcome) -> (&'static str, u32) {
    match outcome {
        Outcome::Delivered { .. } => ("delivered", 0),
        Outcome::RetryAfter { code, .. } => ("retry", *code),
        Outcome::Gone { code, .. } => ("gone", *code),
        Outcome::Refused { code, .. } => ("refused", *code),
        other => panic!("{other:?}"),
    }
}
