//! Traces: the spans that an OpenTelemetry collector receives, and that requests never wait for the
//! collector.

use device::{Answer as Word, Style};
use harness::stand_in::Authority;
use harness::{Answer, Collector, Receiver, Span, wait_until};

use crate::webhooks::{calls, webhook};
use crate::world::{WAIT_TIMEOUT, World, created};

/// The `traceparent` header of a backend that has sampled its trace.
const SAMPLED_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The `traceparent` header of a backend that has not sampled its trace.
const UNSAMPLED_TRACEPARENT: &str = "00-11f92f3577b34da6a3ce929d0e0e4711-00f067aa0ba902b7-00";

/// Returns the span with this name in the trace, after checking that there is exactly one.
#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str, trace_id: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name && span.trace_id == trace_id);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} twice in {spans:#?}");
    span
}

async fn assert_request_is_traced_to_its_deliveries(world: Option<World>, collector: Collector) {
    let Some(mut world) = world else { return };
    let receiver = Receiver::start([Answer::of("503 Later", "", ""), Answer::ok()]);
    let service = world.service().await;
    webhook(&world, &service, &receiver.at("/"), &[("EventTypes", "challenge.approved")]).await;
    let (phone, factor) = world.enrolled(Style::Android, &service, "user-0001").await;

    let backend = world.backend().header("traceparent", SAMPLED_TRACEPARENT);
    let challenges = format!("/v2/Services/{service}/Entities/user-0001/Challenges");
    let form = [("FactorSid", factor.factor_sid.as_str()), ("Details.Message", "Log in?")];
    let reply = backend.post(&challenges, &form).await;
    let sid = created(&reply)["sid"].as_str().unwrap().to_owned();
    phone.answer(&factor, &sid, Word::Approved).await.unwrap();
    assert_eq!(backend.get("/v2/Nothing", &[]).await.status, 404);
    calls(&receiver, 2).await;
    // Queued spans are sent when the server stops.
    assert!(world.server.terminate().success(), "{}", world.server.log());

    let spans = collector.spans();
    let (kept, parent) = (&SAMPLED_TRACEPARENT[3..35], &SAMPLED_TRACEPARENT[36..52]);
    let request = one(&spans, "POST /v2/Services/{ServiceSid}/Entities/{Identity}/Challenges", kept);
    assert_eq!((request.kind, request.parent.as_str(), request.is_error), ("server", parent, false));
    let attribute = |span: &Span, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(attribute(request, "http.request.method"), "POST");
    assert_eq!(attribute(request, "http.route"), "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges");
    assert_eq!(attribute(request, "http.response.status_code"), "201");
    assert_eq!(attribute(request, "countersign.request_id"), reply.header("twilio-request-id").unwrap());
    assert_eq!(request.resource["service.name"], "countersign");
    assert_eq!(request.resource["service.version"], env!("CARGO_PKG_VERSION"));
    let missing = one(&spans, "GET -", kept);
    assert_eq!((attribute(missing, "http.response.status_code").as_str(), missing.is_error), ("404", false));

    // The spans of the statements belong to the request, and last no longer than it.
    let below: Vec<_> = spans.iter().filter(|span| span.parent == request.span_id).collect();
    assert!(below.iter().any(|span| span.name == "database read"), "{below:#?}");
    assert!(below.iter().any(|span| span.name == "database write"), "{below:#?}");
    assert!(below.iter().all(|span| span.kind == "client" && span.trace_id == kept), "{below:#?}");
    assert!(below.iter().all(|span| span.nanoseconds <= request.nanoseconds), "{below:#?}");

    // The phone's answer is a trace of its own, which contains both attempts of the webhook.
    let route = "POST /v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}";
    let answer = spans.iter().find(|span| span.name == route).unwrap();
    assert!(answer.parent.is_empty() && answer.trace_id != kept);
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "deliver webhook").collect();
    let number = |span: &Span| attribute(span, "countersign.delivery.attempt");
    assert_eq!(attempts.iter().map(|span| number(span)).collect::<Vec<_>>(), ["1", "2"]);
    let outcomes = attempts.iter().map(|span| attribute(span, "countersign.delivery.outcome"));
    assert_eq!(outcomes.collect::<Vec<_>>(), ["again", "delivered"]);
    assert_eq!(attempts.iter().map(|span| span.is_error).collect::<Vec<_>>(), [true, false]);
    let statuses = attempts.iter().map(|span| attribute(span, "http.response.status_code"));
    assert_eq!(statuses.collect::<Vec<_>>(), ["503", "200"]);
    for attempt in attempts {
        assert_eq!((attempt.kind, &attempt.trace_id), ("client", &answer.trace_id));
        let owing = spans.iter().find(|span| span.span_id == attempt.parent).unwrap();
        assert_eq!((owing.name.as_str(), &owing.parent), ("database write", &answer.span_id));
        let id = receiver.calls()[0].header("I-Twilio-Idempotency-Token").to_owned();
        assert_eq!(attribute(attempt, "countersign.delivery.id"), id);
    }
    // Background work creates no trace.
    let roots = spans.iter().filter(|span| span.parent.is_empty());
    assert!(roots.clone().all(|span| span.kind == "server"), "{:#?}", roots.collect::<Vec<_>>());
}

mod requests_and_deliveries_are_traced {
    use super::*;

    const TRACE_ARGUMENTS: [&str; 3] = ["--webhook-allow-network", "127.0.0.0/8", "--otlp-endpoint"];

    #[tokio::test]
    async fn sqlite() {
        let collector = Collector::start();
        let url = collector.url();
        let world = World::sqlite_with(&[&TRACE_ARGUMENTS[..], &[&url]].concat());
        assert_request_is_traced_to_its_deliveries(Some(world), collector).await;
    }

    #[tokio::test]
    async fn postgres() {
        let collector = Collector::start();
        let url = collector.url();
        let arguments = [&TRACE_ARGUMENTS[..], &[&url]].concat();
        let world = World::postgres_with("traces::requests_and_deliveries_are_traced::postgres", &arguments);
        assert_request_is_traced_to_its_deliveries(world, collector).await;
    }
}

#[tokio::test]
async fn backend_sampling_decision_overrides_the_sample_ratio() {
    let collector = Collector::start();
    let headers = "Authorization=Bearer key-of-the-collector, x-tenant=owl";
    let mut world = World::ephemeral_with(&[
        "--otlp-endpoint",
        &format!("{}/below/", collector.url()),
        "--otlp-sample-ratio",
        "0",
        "--otlp-headers",
        headers,
    ]);
    for _ in 0..20 {
        assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
    }
    for parent in [UNSAMPLED_TRACEPARENT, SAMPLED_TRACEPARENT, "nonsense", "00-0-0-0"] {
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
async fn unavailable_collector_delays_no_request() {
    // A silent collector, one that refuses spans, and one that is down.
    let silent = Collector::answering([Answer::silence()]);
    let full = Collector::answering([Answer::of("503 Full", "", "")]);
    let mut gone = Collector::start();
    gone.down().await;
    for collector in [silent, full, gone] {
        let mut world = World::ephemeral_with(&["--otlp-endpoint", &collector.url()]);
        let backend = world.backend();
        // Each request has several spans; the queue holds 2,048.
        for _ in 0..1000 {
            assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
        }
        assert!(world.server.terminate().success(), "{}", world.server.log());
        let log = world.server.log();
        assert!(log.contains("the last spans are lost"), "{log}");
    }
}

#[tokio::test]
async fn collector_receives_spans_again_after_an_outage() {
    let answers = [Answer::of("500 Oh", "", ""), Answer::of("200 OK", "", "")];
    let collector = Collector::answering(answers);
    let world = World::ephemeral_with(&["--otlp-endpoint", &collector.url()]);
    for expected in ["span export failed, spans are dropped: 500", "span export succeeded again"] {
        wait_until(expected, WAIT_TIMEOUT, async || {
            assert_eq!(world.backend().get("/v2/Services", &[]).await.status, 200);
            world.server.log().contains(expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn spans_are_exported_only_to_a_collector_with_a_trusted_certificate() {
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
        assert_eq!(log.contains("span export failed") && log.contains("certificate"), !is_trusted, "{log}");
        assert_eq!(!collector.spans().is_empty(), is_trusted, "{log}");
    }
}
