//! The URL of a webhook: signed exactly as configured except for the fragment, and requested in the same
//! spelling as far as HTTP allows.

use std::collections::BTreeMap;

use harness::{Answer, Call, Receiver, wait_until};
use serde_json::Value;

use crate::node::node_or_skip;
use crate::python::{python_or_skip, sdks};
use crate::webhooks::{
    LOOPBACK_ARGUMENTS, WAIT_TIMEOUT, calls, check_signatures, event, script_input, signed, webhook, webhooks,
};
use crate::world::{World, assert_error};

/// The part of a URL after host and port, the request target for it, and whether a receiver can reconstruct the
/// URL from the request.
const SPELLINGS: [(&str, &str, bool); 14] = [
    ("/hook?tenant=7", "/hook?tenant=7", true),
    ("/o'hare?name=d'arc", "/o'hare?name=d'arc", true),
    ("/{id}/x?f={a}", "/{id}/x?f={a}", true),
    ("/a|b?c|d", "/a|b?c|d", true),
    ("/[x]?y[]=z^", "/[x]?y[]=z^", true),
    ("/%7e%2F%27?a=%7E+%20%c3%bc", "/%7e%2F%27?a=%7E+%20%c3%bc", true),
    ("/a/./b/../c//d", "/a/./b/../c//d", true),
    ("/x?", "/x?", true),
    ("/;p=1?a=b&&=&c", "/;p=1?a=b&&=&c", true),
    ("/ü?ö=ß", "/%C3%BC?%C3%B6=%C3%9F", false),
    ("/日本?🦉", "/%E6%97%A5%E6%9C%AC?%F0%9F%A6%89", false),
    ("/<a>?\"b\"", "/%3Ca%3E?%22b%22", false),
    ("", "/", false),
    ("?query=only", "/?query=only", false),
];

/// Sends a webhook to a URL in each spelling. Returns each received call by its configured URL without the
/// fragment.
async fn requests(world: &World) -> BTreeMap<String, Call> {
    let receiver = Receiver::start([Answer::ok()]);
    let service = world.service().await;
    let only = [("EventTypes", "factor.created")];
    for (spelling, ..) in SPELLINGS {
        webhook(world, &service, &receiver.at(&format!("{spelling}#rc=1")), &only).await;
    }
    event(world, &service, "zoe-0001").await;
    let calls = calls(&receiver, SPELLINGS.len()).await;
    let requested = |target: &str| {
        let line = format!("POST {target} HTTP/1.1");
        let of_target: Vec<_> = calls.iter().filter(|call| call.line == line).collect();
        assert_eq!(of_target.len(), 1, "{target}: {calls:?}");
        of_target[0].clone()
    };
    SPELLINGS.iter().map(|(spelling, target, _)| (receiver.at(spelling), requested(target))).collect()
}

#[tokio::test]
async fn webhook_url_is_signed_and_requested_in_the_configured_spelling() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    for (configured, call) in requests(&world).await {
        let signature = signed(&world, &configured, &call.form());
        assert_eq!(call.header("X-Twilio-Signature"), signature, "{configured}");
    }
}

/// Returns each call with the configured URL, and a second time without it where the request contains it.
fn validator_input(requests: &BTreeMap<String, Call>) -> Vec<Value> {
    let with = requests
        .iter()
        .filter(|(url, _)| !url.ends_with('?'))
        .map(|(url, call)| script_input(call, Some(url)));
    let without = requests.iter().filter(|(url, call)| {
        let target = call.line.split(' ').nth(1).unwrap();
        // Python's validator drops a question mark without a query.
        url.ends_with(target) && !url.ends_with('?')
    });
    with.chain(without.map(|(_, call)| script_input(call, None))).collect()
}

#[tokio::test]
async fn python_library_accepts_webhook_signatures_for_every_url_spelling() {
    const TEST: &str = "webhook_urls::python_library_accepts_webhook_signatures_for_every_url_spelling";
    let Some(mut python) = python_or_skip(TEST) else { return };
    python.arg(sdks("python/signatures.py"));
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    check_signatures(python, &world, &validator_input(&requests(&world).await));
}

#[tokio::test]
async fn node_library_accepts_webhook_signatures_for_every_url_spelling() {
    const TEST: &str = "webhook_urls::node_library_accepts_webhook_signatures_for_every_url_spelling";
    let Some(mut node) = node_or_skip(TEST) else { return };
    node.arg(sdks("node/signatures.js"));
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    check_signatures(node, &world, &validator_input(&requests(&world).await));
}

#[tokio::test]
async fn webhook_url_sent_in_another_spelling_is_logged_and_user_info_is_refused() {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let (service, receiver) = (world.service().await, Receiver::start([Answer::ok()]));
    let warned = |sid: &str| {
        let log = world.server.log();
        let mut lines = log.lines().filter(|line| line.contains("WARN") && line.contains(sid));
        lines.any(|line| line.contains("is not sent exactly as configured"))
    };
    let mut made = Vec::new();
    for (spelling, _, is_told_by_the_request) in SPELLINGS {
        let sid = webhook(&world, &service, &receiver.at(spelling), &[]).await;
        made.push((spelling, sid, is_told_by_the_request));
    }
    let last = &made.last().unwrap().1;
    wait_until("the last warning is logged", WAIT_TIMEOUT, async || warned(last).then_some(())).await;
    for (spelling, sid, is_told_by_the_request) in &made {
        assert_eq!(warned(sid), !is_told_by_the_request, "{spelling}");
    }
    for user in ["owl@", "owl:hoot@", "@", ":@"] {
        let url = format!("http://{user}127.0.0.1:{}/", receiver.port);
        let form = [("FriendlyName", "Backend"), ("EventTypes", "*"), ("WebhookUrl", url.as_str())];
        assert_error(&world.backend().post(&webhooks(&service), &form).await, 400, 60306);
    }
}
