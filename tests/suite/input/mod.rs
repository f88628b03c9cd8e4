//! Input that the server must refuse, and how it reports each refusal. A refused request writes nothing.
//!
//! | File | Topic |
//! | --- | --- |
//! | `parameters.rs` | the limits of every parameter of a form |
//! | `lists.rs` | the query parameters of lists |
//! | `identities.rs` | identities and SIDs in paths |
//! | `conflicts.rs` | refusals that depend on stored data: duplicates and maximum counts |
//! | `encodings.rs` | the encoding of bodies and parameters |
//! | `public_keys.rs` | public keys of factors, and the proofs that verify a factor |
//! | `answers.rs` | forged, malformed and repeated answers to challenges |

mod answers;
mod conflicts;
mod encodings;
mod identities;
mod lists;
mod parameters;
mod public_keys;

use harness::{Http, Reply};

use crate::fixture::Fixture;
use crate::world::{World, assert_error};

/// The expected error response: status, error code, and the beginning of the message.
#[derive(Clone, Debug)]
struct Refusal(u16, i64, String);

impl Refusal {
    #[track_caller]
    fn assert(&self, reply: &Reply, what: &str) {
        let Self(status, code, beginning) = self;
        assert_eq!(reply.status, *status, "{what}: {reply:?}");
        assert_error(reply, *status, *code);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(beginning), "{what}: {message:?} does not begin with {beginning:?}");
    }
}

/// Returns the refusal of an invalid value of `parameter`.
fn invalid(parameter: &str) -> Refusal {
    Refusal(400, 60306, format!("Invalid Request: {parameter} must "))
}

/// Returns the refusal of a missing `parameter`.
fn missing(parameter: &str) -> Refusal {
    Refusal(400, 20001, format!("Missing required parameter {parameter} in the post body"))
}

fn refused(status: u16, code: i64, message: &str) -> Refusal {
    Refusal(status, code, message.to_owned())
}

fn not_found() -> Refusal {
    refused(404, 20404, "The requested resource /")
}

type Form = Vec<(&'static str, String)>;

/// Returns `form` with `changes`: each replaces the parameters of the same name, or is added.
fn with(form: &Form, changes: &[(&'static str, &str)]) -> Form {
    let mut changed = without(form, &changes.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    changed.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
    changed
}

/// Returns the form without these parameters.
fn without(form: &Form, names: &[&str]) -> Form {
    form.iter().filter(|(name, _)| !names.contains(name)).cloned().collect()
}

async fn post(client: &Http, path: &str, form: &Form) -> Reply {
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.post(path, &form).await
}

const SERVICE: &str = "/v2/Services/{ServiceSid}";
const TOKENS: &str = "/v2/Services/{ServiceSid}/AccessTokens";
const ENTITIES: &str = "/v2/Services/{ServiceSid}/Entities";
const WEBHOOKS: &str = "/v2/Services/{ServiceSid}/Webhooks";
const FACTORS: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors";
const FACTOR: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}";
const CHALLENGES: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges";
const CHALLENGE: &str = "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}";

/// Posts a valid form for this route with the changes of each row, and checks that each is refused as the row
/// says and changes nothing.
async fn assert_refuses<'v>(pattern: &str, rows: &[(impl AsRef<[(&'static str, &'v str)]>, Refusal)]) {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = world.everything().await;
    for (changes, refusal) in rows {
        let changes = changes.as_ref();
        let form = with(&fixture.form(pattern), changes);
        let reply = post(&world.backend(), &fixture.path(pattern), &form).await;
        let context: Vec<_> = changes.iter().map(|(name, value)| format!("{name}={value:.60}")).collect();
        refusal.assert(&reply, &format!("{pattern}: {context:?}"));
    }
    assert_eq!(world.everything().await, before);
}

/// Posts a valid form for this route without each of these parameters, and with each empty, and checks that it
/// is refused.
async fn assert_requires(pattern: &str, more: &[(&'static str, &str)], names: &[&'static str]) {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = world.everything().await;
    for name in names {
        let good = with(&fixture.form(pattern), more);
        for form in [without(&good, &[name]), with(&good, &[(name, "")])] {
            let reply = post(&world.backend(), &fixture.path(pattern), &form).await;
            missing(name).assert(&reply, pattern);
        }
    }
    assert_eq!(world.everything().await, before);
}

/// Posts a valid form for this route with the changes of each row, and checks that each has this status.
async fn assert_accepts(pattern: &str, status: u16, rows: &[&[(&'static str, &str)]]) {
    let world = World::ephemeral();
    for changes in rows {
        let fixture = Fixture::create(&world).await;
        let form = with(&fixture.form(pattern), changes);
        let reply = post(&world.backend(), &fixture.path(pattern), &form).await;
        assert_eq!(reply.status, status, "{pattern}: {changes:?}: {reply:?}");
    }
}
