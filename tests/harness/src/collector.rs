//! A stand-in for a collector of OpenTelemetry: it takes spans over OTLP/HTTP and keeps them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::stand_in::Authority;
use crate::{Answer, Call, Receiver};

/// A span, as it was sent.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `server`, `client` or `internal`.
    pub kind: &'static str,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// Those of the span that it is part of; empty for none.
    pub parent: String,
    /// Whether it says that something failed.
    pub is_error: bool,
    /// Nanoseconds from its beginning to its end.
    pub nanoseconds: u64,
    /// What else it says.
    pub attributes: BTreeMap<String, String>,
    /// What is said of whoever sends it.
    pub resource: BTreeMap<String, String>,
}

/// A collector, on a port of its own. Gone when dropped.
pub struct Collector {
    receiver: Receiver,
    scheme: &'static str,
}

/// Takes everything.
fn taken() -> [Answer; 1] {
    [Answer::of("200 OK", "Content-Type: application/x-protobuf\r\n", "")]
}

impl Collector {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::answering(taken())
    }

    /// The same, with a certificate of this authority.
    pub fn with_tls(authority: &Authority) -> Self {
        let mut config = authority.server(authority, rustls::ALL_VERSIONS);
        config.alpn_protocols.clear();
        Self { receiver: Receiver::with_tls(config, taken()), scheme: "https" }
    }

    /// One that answers as a [`Receiver`] does.
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { receiver: Receiver::start(answers), scheme: "http" }
    }

    /// Takes nothing any more: connections are refused from now on.
    pub async fn down(&mut self) {
        self.receiver.down().await;
    }

    /// Its address, as it is configured.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.receiver.port)
    }

    /// All requests that have come so far.
    pub fn calls(&self) -> Vec<Call> {
        self.receiver.calls()
    }

    /// All that was sent so far, as text in which any word of it can be found.
    pub fn text(&self) -> String {
        self.calls().iter().map(|call| format!("{}\n{}\n", call.line, call.body)).collect()
    }

    /// All spans that were sent so far.
    ///
    /// # Panics
    ///
    /// For a request that is none of OTLP.
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
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
