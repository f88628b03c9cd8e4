//! A stand-in for an OpenTelemetry collector: it accepts spans over OTLP/HTTP and keeps them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::stand_in::Authority;
use crate::{Answer, Call, Receiver};

/// A received span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The name.
    pub name: String,
    /// `server`, `client` or `internal`.
    pub kind: &'static str,
    /// The trace id: 32 hexadecimal digits.
    pub trace_id: String,
    /// The span id: 16 hexadecimal digits.
    pub span_id: String,
    /// The span id of the parent; empty if there is none.
    pub parent: String,
    /// Whether the span's status is an error.
    pub is_error: bool,
    /// The duration in nanoseconds.
    pub nanoseconds: u64,
    /// The attributes of the span.
    pub attributes: BTreeMap<String, String>,
    /// The resource attributes of the process that sent the span.
    pub resource: BTreeMap<String, String>,
}

/// A collector on a port of its own. Stops when dropped.
pub struct Collector {
    receiver: Receiver,
    scheme: &'static str,
}

/// Returns the single reply that accepts every request.
fn taken() -> [Answer; 1] {
    [Answer::of("200 OK", "Content-Type: application/x-protobuf\r\n", "")]
}

impl Collector {
    /// Starts a collector that accepts every request.
    pub fn start() -> Self {
        Self::answering(taken())
    }

    /// Starts a collector that accepts every request, with a TLS certificate issued by `authority`.
    pub fn with_tls(authority: &Authority) -> Self {
        let mut config = authority.server(authority, rustls::ALL_VERSIONS);
        config.alpn_protocols.clear();
        Self { receiver: Receiver::with_tls(config, taken()), scheme: "https" }
    }

    /// Starts a collector with these replies; see [`Receiver::start`].
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { receiver: Receiver::start(answers), scheme: "http" }
    }

    /// Stops listening; further connections are refused.
    pub async fn down(&mut self) {
        self.receiver.down().await;
    }

    /// Returns the URL for the server's configuration.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.receiver.port)
    }

    /// Returns all requests received so far.
    pub fn calls(&self) -> Vec<Call> {
        self.receiver.calls()
    }

    /// Returns all requests received so far as one text, for searching.
    pub fn text(&self) -> String {
        self.calls().iter().map(|call| format!("{}\n{}\n", call.line, call.body)).collect()
    }

    /// Returns all spans received so far.
    ///
    /// # Panics
    ///
    /// If a request is not valid OTLP.
    pub fn spans(&self) -> Vec<Span> {
        self.calls().iter().flat_map(spans).collect()
    }
}

fn spans(call: &Call) -> Vec<Span> {
    assert_eq!(call.line, "POST /v1/traces HTTP/1.1");
    let request = ExportTraceServiceRequest::decode(&*call.bytes()).unwrap();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                kind: match span.kind() {
                    SpanKind::Server => "server",
                    SpanKind::Client => "client",
                    _ => "internal",
                },
                is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                trace_id: hex::encode(&span.trace_id),
                span_id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                nanoseconds: span.end_time_unix_nano.checked_sub(span.start_time_unix_nano).unwrap(),
                attributes: attributes(span.attributes),
                resource: resource.clone(),
                name: span.name,
            });
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}
