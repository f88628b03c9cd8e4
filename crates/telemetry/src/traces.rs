//! OpenTelemetry trace spans: one for each request, for each delivery attempt, and for each database operation during
//! either.
//!
//! | Topic | File |
//! | --- | --- |
//! | The spans and their attributes | this file |
//! | Export of spans to a collector | [`export`] |
//!
//! Trace spans are separate from the spans of the log. Their attributes are route patterns, kinds and IDs, but never a
//! path, an identity, a token or challenge details. No span is created until an [`Exporter`] has been started.

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

pub use export::{CertificateAuthorities, Endpoint, Error, Exporter, Headers, SampleRatio, Settings};

/// The tracer of this process. It is set when an [`Exporter`] starts.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// A trace span, or an empty span (`None`) if tracing is off. Unless ended earlier, the span ends when its last clone
/// is dropped.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Context>);

/// Starts the span of a request. `method` and `route` come from the route table, and `id` is the request ID. `parent`
/// is the value of the `traceparent` header; an invalid value is ignored.
pub fn start_request(
    method: &'static str,
    route: &'static str,
    id: impl Display,
    parent: Option<&str>,
) -> Span {
    let parent = || remote_context(parent.and_then(TraceParent::parse));
    Span::start(SpanKind::Server, parent, || {
        let attributes = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("countersign.request_id", id.to_string()),
        ];
        (format!("{method} {route}"), attributes.into())
    })
}

/// Starts the span of a database operation, which includes the wait for a connection. Returns an empty span if there is
/// no current span to be its parent.
pub fn start_database(operation: &'static str) -> Span {
    let Span(Some(current)) = Span::current() else { return Span::default() };
    Span::start(
        SpanKind::Client,
        || current,
        || (format!("database {operation}"), [KeyValue::new("db.operation.name", operation)].into()),
    )
}

/// Starts the span of a delivery attempt. `id` and `kind` are the delivery's ID and kind, and `number` is the attempt's
/// number. `parent` is the span in which the delivery was created.
pub fn start_attempt(id: impl Display, kind: &'static str, number: u32, parent: Option<TraceParent>) -> Span {
    Span::start(
        SpanKind::Client,
        || remote_context(parent),
        || {
            let attributes = [
                KeyValue::new("countersign.delivery.id", id.to_string()),
                KeyValue::new("countersign.delivery.kind", kind),
                KeyValue::new("countersign.delivery.attempt", i64::from(number)),
            ];
            (format!("deliver {kind}"), attributes.into())
        },
    )
}

/// Returns the current span as a parent for spans that start later or elsewhere, or `None` if there is no valid current
/// span.
pub fn current_parent() -> Option<TraceParent> {
    let Span(Some(context)) = Span::current() else { return None };
    let span = context.span().span_context().clone();
    span.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span.span_id().to_bytes()),
        flags: span.trace_flags().to_u8(),
    })
}

impl Span {
    /// Starts a span. `parent` returns the context of the parent, and `describe` the span's name and attributes. They
    /// are called only if tracing is on.
    fn start(
        kind: SpanKind,
        parent: impl FnOnce() -> Context,
        describe: impl FnOnce() -> (String, Vec<KeyValue>),
    ) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::default() };
        let (parent, (name, attributes)) = (parent(), describe());
        let span = tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        Self(Some(parent.with_span(span.start_with_context(tracer, &parent))))
    }

    /// Returns the current span, or an empty span if there is none. Use it to continue the span in another task or
    /// thread.
    pub fn current() -> Self {
        if TRACER.get().is_none() {
            return Self::default();
        }
        let current = Context::current();
        Self(current.has_active_span().then_some(current))
    }

    /// Runs `work` with this span as the current span, and returns its result.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        match self.0 {
            Some(context) => work.with_context(context).await,
            None => work.await,
        }
    }

    /// Runs `work` with this span as the current span, then ends the span. Returns the result of `work`.
    pub async fn run_and_end<T>(self, work: impl Future<Output = T>) -> T {
        let result = self.clone().run(work).await;
        self.end();
        result
    }

    /// Records the status of a response in the request's span. A status of 500 or above marks the span as failed.
    pub fn record_status(&self, status: u16) {
        self.set_attribute("http.response.status_code", i64::from(status));
        if status >= 500 {
            self.fail();
        }
    }

    /// Records the result of a delivery attempt and ends the span. `outcome` is the resulting state of the delivery,
    /// and `status` the status of the HTTP response, if any. An error code marks the span as failed.
    pub fn end_attempt(self, outcome: &'static str, error_code: Option<u32>, status: Option<u16>) {
        self.set_attribute("countersign.delivery.outcome", outcome);
        if let Some(status) = status {
            self.set_attribute("http.response.status_code", i64::from(status));
        }
        if let Some(code) = error_code {
            self.set_attribute("countersign.delivery.error_code", i64::from(code));
            self.fail();
        }
        self.end();
    }

    fn end(self) {
        if let Some(context) = self.0 {
            context.span().end();
        }
    }

    fn set_attribute(&self, name: &'static str, value: impl Into<Value>) {
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

/// Returns a context in which new spans are children of `parent`. Without a parent, a new span is the root of a new
/// trace.
fn remote_context(parent: Option<TraceParent>) -> Context {
    let Some(TraceParent { trace_id, span_id, flags }) = parent else { return Context::new() };
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(trace_id),
        SpanId::from(span_id),
        TraceFlags::new(flags),
        true,
        TraceState::default(),
    ))
}
