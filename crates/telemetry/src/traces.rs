//! What OpenTelemetry is told: a span for each request, for what it asks of the database, and for each attempt
//! at what it owed to the outside.
//!
//! | Question | File |
//! | --- | --- |
//! | Which spans are there, and what do they say? | this one |
//! | How do they get to a collector? | [`export`] |
//!
//! They have nothing to do with the spans of the log. They carry the patterns of routes, kinds and ids; never a path,
//! an identity, a token or a detail. Until an [`Exporter`] takes them, none is made.

pub mod export;

use std::fmt::Display;
use std::sync::OnceLock;

use domain::TraceParent;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

pub use export::{Authorities, Endpoint, Error, Exporter, Headers, Settings, Share};

/// Where spans are made, once somebody takes them. One for the process, as for its log and its metrics.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// A span, or nothing, where none is made. It ends when all that know it are gone, at the latest.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Context>);

/// A request. `method` and `route` are words of ours; `parent` is the header `traceparent`, which is passed over if
/// it is none.
pub fn request(method: &'static str, route: &'static str, id: impl Display, parent: Option<&str>) -> Span {
    let parent = parent.and_then(TraceParent::parse);
    Span::begin(SpanKind::Server, &part_of(parent), || {
        let said = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("countersign.request_id", id.to_string()),
        ];
        (format!("{method} {route}"), said.into())
    })
}

/// What somebody asks of the database, waiting included; nothing where no trace is under way.
pub fn database(operation: &'static str) -> Span {
    let here = Context::current();
    if !here.has_active_span() {
        return Span::default();
    }
    Span::begin(SpanKind::Client, &here, || {
        (format!("database {operation}"), [KeyValue::new("db.operation.name", operation)].into())
    })
}

/// An attempt at a delivery: which one, of which kind, the how manieth, and in what it came to be owed.
pub fn attempt(id: impl Display, kind: &'static str, number: u32, owed_in: Option<TraceParent>) -> Span {
    Span::begin(SpanKind::Client, &part_of(owed_in), || {
        let said = [
            KeyValue::new("countersign.delivery.id", id.to_string()),
            KeyValue::new("countersign.delivery.kind", kind),
            KeyValue::new("countersign.delivery.attempt", i64::from(number)),
        ];
        (format!("deliver {kind}"), said.into())
    })
}

/// Where in a trace this code runs, if anywhere.
pub fn here() -> Option<TraceParent> {
    let context = Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span.span_id().to_bytes()),
        flags: span.trace_flags().to_u8(),
    })
}

impl Span {
    fn begin(kind: SpanKind, parent: &Context, say: impl FnOnce() -> (String, Vec<KeyValue>)) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::default() };
        let (name, said) = say();
        let span = tracer.span_builder(name).with_kind(kind).with_attributes(said);
        Self(Some(parent.with_span(span.start_with_context(tracer, parent))))
    }

    /// The span in which this code runs, for work of its own that goes on elsewhere.
    pub fn current() -> Self {
        let here = Context::current();
        Self(here.has_active_span().then_some(here))
    }

    /// Work that is part of it.
    pub async fn within<T>(self, work: impl Future<Output = T>) -> T {
        match self.0 {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }

    /// Work that is all there is to it.
    pub async fn around<T>(self, work: impl Future<Output = T>) -> T {
        let done = self.clone().within(work).await;
        self.end();
        done
    }

    /// What a request was answered.
    pub fn answered(&self, status: u16) {
        self.say("http.response.status_code", i64::from(status));
        if status >= 500 {
            self.fail();
        }
    }

    /// The end of an attempt: what came of it, in a word of ours, one of Twilio's error codes, the status of the answer.
    pub fn attempted(self, outcome: &'static str, code: Option<u32>, status: Option<u16>) {
        self.say("countersign.delivery.outcome", outcome);
        if let Some(status) = status {
            self.say("http.response.status_code", i64::from(status));
        }
        if let Some(code) = code {
            self.say("countersign.delivery.error_code", i64::from(code));
            self.fail();
        }
        self.end();
    }

    fn end(self) {
        if let Some(context) = self.0 {
            context.span().end();
        }
    }

    fn say(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    fn fail(&self) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }
}

/// Where a span begins that is part of a trace that was begun elsewhere, if it is.
fn part_of(parent: Option<TraceParent>) -> Context {
    let Some(TraceParent { trace_id, span_id, flags }) = parent else { return Context::new() };
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(trace_id),
        SpanId::from(span_id),
        TraceFlags::new(flags),
        true,
        TraceState::default(),
    ))
}
