//! Traces: what a collector of OpenTelemetry is sent, and that nobody waits for it.

use std::time::Duration;

use device::{Answer as Word, Style};
use harness::stand_in::Authority;
use harness::{Answer, Collector, Receiver, Span, wait_until};

use crate::webhooks::{calls, webhook};
use crate::world::{World, created};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a backend sends that traces, and keeps what it traces.
const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// What it sends for what it does not keep.
const PASSED_OVER: &str = "00-11f92f3577b34da6a3ce929d0e0e4711-00f067aa0ba902b7-00";

/// The one span of this name in a trace.
#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str, trace_id: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name && span.trace_id == trace_id);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:#?}");
    span
}

async fn a_request_is_traced_from_its_backend_to_what_it_owed(world: Option<World>, collector: Collector) {
    let Some(mut world) = world else { return };
    let receiver = Receiver::start([Answer::of("503 Later", "", ""), Answer::ok()]);
    let service = world.service().await;
    webhook(&world, &service, &receiver.at("/"), &[("EventTypes", "challenge.approved")]).await;
    let (phone, factor) = world.enrolled(Style::Android, &service, "user-0001").await;

    let backend = world.backend().header("traceparent", KEPT);
    let challenges = format!("/v2/Services/{service}/Entities/user-0001/Challenges");
    let form = [("FactorSid", factor.factor_sid.as_str()), ("Details.Message", "Log in?")];
    let reply = backend.post(&challenges, &form).await;
    let sid = created(&reply)["sid"].as_str().unwrap().to_owned();
    phone.answer(&factor, &sid, Word::Approved).await.unwrap();
    assert_eq!(backend.get("/v2/Nothing", &[]).await.status, 404);
    calls(&receiver, 2).await;
    // What waits is sent when the server ends.
    assert!(world.server.terminate().success(), "{}", world.server.log());

    let spans = collector.spans();
    let (kept, parent) = (&KEPT[3..35], &KEPT[36..52]);
    let request = one(&spans, "POST /v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", kept);
    assert_eq!((request.kind, request.parent.as_str(), request.is_error), ("server", parent, false));
    let said = |span: &Span, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(said(request, "http.request.method"), "POST");
    assert_eq!(said(request, "http.route"), "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges");
    assert_eq!(said(request, "http.response.status_code"), "201");
    assert_eq!(said(request, "countersign.request_id"), reply.header("twilio-request-id").unwrap());
    assert_eq!(request.resource["service.name"], "countersign");
    assert_eq!(request.resource["service.version"], env!("CARGO_PKG_VERSION"));
    let missing = one(&spans, "GET -", kept);
    assert_eq!((said(missing, "http.response.status_code").as_str(), missing.is_error), ("404", false));

    // What the request asked of the database is part of it, and takes no longer.
    let below: Vec<_> = spans.iter().filter(|span| span.parent == request.span_id).collect();
    assert!(below.iter().any(|span| span.name == "database read"), "{below:#?}");
    assert!(below.iter().any(|span| span.name == "database write"), "{below:#?}");
    assert!(below.iter().all(|span| span.kind == "client" && span.trace_id == kept), "{below:#?}");
    assert!(below.iter().all(|span| span.nanoseconds <= request.nanoseconds), "{below:#?}");

    // The phone's answer is a trace of its own, to which both attempts at the webhook belong.
    let route = "POST /v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}";
    let answer = spans.iter().find(|span| span.name == route).unwrap();
    assert!(answer.parent.is_empty() && answer.trace_id != kept);
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "deliver webhook").collect();
    let number = |span: &Span| said(span, "countersign.delivery.attempt");
    assert_eq!(attempts.iter().map(|span| number(span)).collect::<Vec<_>>(), ["1", "2"]);
    let outcomes = attempts.iter().map(|span| said(span, "countersign.delivery.outcome"));
    assert_eq!(outcomes.collect::<Vec<_>>(), ["again", "delivered"]);
    assert_eq!(attempts.iter().map(|span| span.is_error).collect::<Vec<_>>(), [true, false]);
    let statuses = attempts.iter().map(|span| said(span, "http.response.status_code"));
    assert_eq!(statuses.collect::<Vec<_>>(), ["503", "200"]);
    for attempt in attempts {
        assert_eq!((attempt.kind, &attempt.trace_id), ("client", &answer.trace_id));
        let owing = spans.iter().find(|span| span.span_id == attempt.parent).unwrap();
        assert_eq!((owing.name.as_str(), &owing.parent), ("database write", &answer.span_id));
        let id = receiver.calls()[0].header("I-Twilio-Idempotency-Token").to_owned();
        assert_eq!(said(attempt, "countersign.delivery.id"), id);
    }
    // What the server does of itself is nobody's trace.
    let roots = spans.iter().filter(|span| span.parent.is_empty());
    assert!(roots.clone().all(|span| span.kind == "server"), "{:#?}", roots.collect::<Vec<_>>());
}

mod a_request_is_traced {
    use super::*;

    const ALLOW: [&str; 3] = ["--webhook-allow", "127.0.0.0/8", "--otlp-endpoint"];

    #[tokio::test]
    async fn sqlite() {
        let collector = Collector::start();
        let url = collector.url();
        let world = World::sqlite_with(&[&ALLOW[..], &[&url]].concat());
        a_request_is_traced_from_its_backend_to_what_it_owed(Some(world), collector).await;
    }

    #[tokio::test]
    async fn postgres() {
        let collector = Collector::start();
        let url = collector.url();
        let arguments = [&ALLOW[..], &[&url]].concat();
        let world = World::postgres_with("traces::a_request_is_traced::postgres", &arguments);
        a_request_is_traced_from_its_backend_to_what_it_owed(world, collector).await;
    }
}

#[tokio::test]
async fn a_backend_decides_what_is_kept_and_the_share_decides_of_the_rest() {
    let collector = Collector::start();
    let headers = "Authorization=Bearer key-of-the-collector, x-tenant=owl";
    let mut world = World::ephemeral_with(&[
        "--otlp-endpoint",
        &format!("{}/below/", collector.url()),
        "--otlp-share",
        "0",
        "--otlp-headers",
        headers,
    ]);
    for _ in 0..20 {
        assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
    }
    for parent in [PASSED_OVER, KEPT, "nonsense", "00-0-0-0"] {
        let backend = world.backend().header("traceparent", parent);
        assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
    }
    assert!(world.server.terminate().success());
    let calls = collector.calls();
    assert!(!calls.is_empty());
    for call in &calls {
        assert_eq!(call.line, "POST /below/v1/traces HTTP/1.1");
        let has = |name: &str, value: &str| {
            call.headers.iter().any(|(found, said)| found.eq_ignore_ascii_case(name) && said == value)
        };
        assert!(has("authorization", "Bearer key-of-the-collector") && has("x-tenant", "owl"), "{call:?}");
        assert!(has("content-type", "application/x-protobuf"), "{call:?}");
    }
    assert_eq!(collector.text().matches("GET /v2/Services").count(), 1, "{calls:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_collector() {
    // It is silent; it refuses; it is not there.
    let silent = Collector::answering([Answer::silence()]);
    let full = Collector::answering([Answer::of("503 Full", "", "")]);
    let mut gone = Collector::start();
    gone.down().await;
    for collector in [silent, full, gone] {
        let mut world = World::ephemeral_with(&["--otlp-endpoint", &collector.url()]);
        let backend = world.backend();
        // Each is several spans, of which 2,048 may wait.
        for _ in 0..1000 {
            assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
        }
        assert!(world.server.terminate().success(), "{}", world.server.log());
        let log = world.server.log();
        assert!(log.contains("the last spans were not taken"), "{log}");
    }
}

#[tokio::test]
async fn a_collector_that_comes_back_is_told_of() {
    let answers = [Answer::of("500 Oh", "", ""), Answer::of("200 OK", "", "")];
    let collector = Collector::answering(answers);
    let world = World::ephemeral_with(&["--otlp-endpoint", &collector.url()]);
    for words in ["the collector takes no spans: 500", "the collector takes spans again"] {
        wait_until(words, PATIENCE, async || {
            assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
            world.server.log().contains(words).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_is_believed_only_with_a_certificate_that_is_trusted() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let collector = Collector::with_tls(&authority);
    let url = collector.url();
    let mut arguments = vec!["--otlp-endpoint", &url];
    for is_trusted in [false, true] {
        if is_trusted {
            arguments.extend(["--otlp-ca", ca.to_str().unwrap()]);
        }
        let mut world = World::ephemeral_with(&arguments);
        assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
        assert!(world.server.terminate().success());
        let log = world.server.log();
        assert_eq!(log.contains("takes no spans") && log.contains("certificate"), !is_trusted, "{log}");
        assert_eq!(!collector.spans().is_empty(), is_trusted, "{log}");
    }
}
