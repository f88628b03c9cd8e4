//! Streams of events, and the long poll of a challenge.

mod challenge;
mod factor;
mod lifetime;
mod limits;
mod nodes;
mod poll;
mod service;

use std::time::Duration;

use app::SystemClock;
use device::{Answer, Enrollment, Phone};
use domain::Clock as _;
use harness::{Event, Events, Http};
use serde_json::{Value, json};

use crate::world::{World, entity};

/// The longest wait for an event that takes at most a second on an undisturbed machine.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the path of the stream of the resource at `path`.
fn stream_path(path: &str) -> String {
    format!("{}/Events", path.replacen("/v2", "/countersign/v1", 1))
}

/// Returns the path of a challenge.
fn challenge_path(challenge: &Value) -> String {
    let member = |name: &str| challenge[name].as_str().unwrap();
    format!("{}/Challenges/{}", entity(member("service_sid"), member("identity")), member("sid"))
}

/// Opens the stream of the resource at `path`.
async fn open(client: &Http, path: &str) -> Events {
    client.events(&stream_path(path), EVENT_TIMEOUT).await
}

/// Returns the next event that is no comment.
///
/// # Panics
///
/// If the stream ends instead.
async fn next(events: &mut Events) -> Event {
    events.next_event().await.expect("another event")
}

/// Returns the name of the next event that is no comment, and its data.
async fn named(events: &mut Events) -> (String, Value) {
    let event = next(events).await;
    let data = event.json();
    (event.name.unwrap(), data)
}

/// Checks that the stream ends now for this reason.
async fn assert_ends(events: &mut Events, reason: &str) {
    assert_eq!(named(events).await, ("end".to_owned(), json!({ "why": reason })));
    assert_eq!(events.next().await, None);
}

/// Returns what a stream shows of a challenge, as the API shows the challenge now.
async fn shown(world: &World, challenge: &Value) -> Value {
    let now = world.backend().get(&challenge_path(challenge), &[]).await.json();
    let keys = [
        "sid",
        "service_sid",
        "identity",
        "factor_sid",
        "status",
        "expiration_date",
        "date_responded",
        "date_updated",
    ];
    keys.into_iter().map(|key| (key.to_owned(), now[key].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Answers a challenge with the phone.
async fn answer(phone: &Phone, enrollment: &Enrollment, challenge: &Value, answer: Answer) {
    phone.answer(enrollment, challenge["sid"].as_str().unwrap(), answer).await.unwrap();
}

/// Returns the date `seconds` seconds from now.
fn date_in(seconds: i64) -> String {
    SystemClock.now().plus_seconds(seconds).to_string()
}
