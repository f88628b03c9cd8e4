//! The middleware that handles every request and response, whatever the route. It assigns a request ID, enforces the
//! deadline, refuses requests under overload, renders every error as JSON, adds the headers that the official
//! specification requires, and logs one record.
//!
//! Log records and metrics contain the route's path pattern instead of the request path, because the path contains
//! identities.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError};
use domain::{Code, Problem, RequestSid, Timestamp};
use futures_util::FutureExt as _;
use telemetry::metrics::{Fault, FaultLabels, GaugeGuard, METRICS, RequestLabels, RouteLabels};
use tracing::{Instrument as _, error, error_span, info, warn};

use crate::authentication::{authenticate_early, conceal_from_spent_token, record_failure};
use crate::body::{self, LargeBody, MAX_BODY_BYTES, ReceivedBody, UnreadBody};
use crate::connection::Connection;
use crate::context::RequestContext;
use crate::error::{self, Error};
use crate::load_shedding::RequestPermit;
use crate::route::RouteMatch;
use crate::state::ApiState;

/// Maximum time for a request's handler. It also limits the authentication that precedes reading a large body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum length of the request target, in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// Maximum total length of all header names and values of a request, in bytes. An access token in `Authorization` takes
/// about 900 bytes.
const MAX_HEADERS_BYTES: usize = 32 * 1024;

/// The methods that may appear in logs and metrics. Any other method is arbitrary text from the client and is recorded
/// as [`UNKNOWN_METHOD`].
const KNOWN_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"];

/// The method recorded in logs and metrics for a request with an unknown method.
const UNKNOWN_METHOD: &str = "-";

/// Handles a request: assigns its ID, opens its log and trace spans, and processes it.
pub(crate) async fn handle(
    state: Data<ApiState>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let exchange = Exchange::begin(state, &request);
    // All log records written while the request is handled carry its ID, whichever crate writes them.
    let span = error_span!(target: "request", "request", request_id = %exchange.id);
    exchange.trace.clone().run_and_end(exchange.process(request, next)).instrument(span).await
}

/// The error for a request whose handler returned no response, because it panicked or timed out.
#[derive(Debug)]
struct AbortedRequest {
    code: Code,
    id: RequestSid,
    is_last: bool,
}

impl std::fmt::Display for AbortedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.title())
    }
}

impl ResponseError for AbortedRequest {
    fn status_code(&self) -> StatusCode {
        error::status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = error::body(&self.code.into(), None);
        add_standard_headers(response.headers_mut(), self.id);
        response.head_mut().set_camel_case_headers(true);
        if self.is_last {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

/// One request and its response, with the data needed to log and count them.
struct Exchange {
    state: Data<ApiState>,
    id: RequestSid,
    method: &'static str,
    route: RouteMatch,
    is_health_check: bool,
    connection: Option<Connection>,
    trace: telemetry::traces::Span,
    began: Instant,
}

impl Exchange {
    fn begin(state: Data<ApiState>, request: &ServiceRequest) -> Self {
        let id = RequestSid::generate(state.app.now(), state.app.entropy());
        let method = loggable(request.method());
        let route = RouteMatch::find(state.routes, request.match_pattern().as_deref(), request.method());
        let is_health_check = matches!(request.path(), "/healthz" | "/readyz");
        let trace = match is_health_check {
            true => telemetry::traces::Span::default(),
            false => {
                let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
                telemetry::traces::start_request(method, route.path, id, parent)
            }
        };
        let connection = request.request().conn_data::<Connection>().cloned();
        Self { state, id, method, route, is_health_check, connection, trace, began: Instant::now() }
    }

    async fn process(
        self,
        mut request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let _in_flight = GaugeGuard::increment(&METRICS.http_requests_in_flight);
        let _busy = self.connection.as_ref().map(Connection::begin_request);
        let client_ip = self.state.settings.trusted_proxies.client_ip(request.request());
        request.extensions_mut().insert(RequestContext { id: Some(self.id), client_ip });

        let refusal = self.refusal(&request);
        let mut payload = request.take_payload();
        let ReceivedBody { body, is_complete, _permit } =
            self.receive_body(&request, &mut payload, refusal.is_some()).await;
        let is_last = !is_complete || self.is_last_request(&request);
        if let Some(connection) = self.connection.as_ref().filter(|_| is_last) {
            connection.end_after_response();
        }
        let urgent =
            body.as_ref().err().filter(|problem| !is_complete && is_urgent(&request, problem)).cloned();
        request.extensions_mut().insert(body);

        // Acquire the permit only after the body has been read, so that slow clients do not occupy permits.
        let permit = self.admit_request();
        let overload = permit.as_ref().err().copied().map(Problem::from);
        let outcome = match refusal.or(overload).or(urgent) {
            Some(problem) => Ok(request.into_response(error::body(&problem, None))),
            None if *request.method() == Method::OPTIONS => {
                Ok(request.into_response(HttpResponse::NoContent().finish()))
            }
            None => self.call_handler(request, next, is_last).await,
        };
        drop(permit);
        match outcome {
            Ok(response) => Ok(self.finish(response, (!is_complete).then_some(payload), is_last)),
            Err(failure) => {
                let status = failure.as_response_error().status_code().as_u16();
                self.count(status);
                error!(method = self.method, route = self.route.path, status, "request aborted: {failure}");
                Err(failure)
            }
        }
    }

    /// Returns the problem to report if the request must be refused before its body is examined, or `None` otherwise.
    fn refusal(&self, request: &ServiceRequest) -> Option<Problem> {
        self.connection_refusal().or_else(|| self.head_refusal(request).map(Problem::from))
    }

    /// Returns the problem to report if this connection's requests must be refused, or `None` otherwise. They are
    /// refused if the connection exceeds a limit, or if an earlier request was the last one.
    fn connection_refusal(&self) -> Option<Problem> {
        let connection = self.connection.as_ref()?;
        let now = Timestamp::from_micros(0);
        match connection.refusal() {
            _ if connection.ends_after_response() => Some(Code::Unavailable.into()),
            Some(Code::TooManyRequests) => {
                let advice = "too many connections from this address are open";
                Some(Problem::with_advice(Code::TooManyRequests, advice).retry_at(now, now))
            }
            Some(code) if !self.is_health_check => Some(code.into()),
            _ => None,
        }
    }

    /// Returns the error code to report if the request must be refused because of its method, target or headers, or
    /// because the server is stopping. Returns `None` otherwise.
    fn head_refusal(&self, request: &ServiceRequest) -> Option<Code> {
        let header_bytes =
            || request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        if self.state.draining.refuses(request.path()) {
            Some(Code::Unavailable)
        } else if self.method == UNKNOWN_METHOD {
            Some(Code::NotImplemented)
        } else if request.uri().to_string().len() > MAX_URI_BYTES {
            Some(Code::UriTooLong)
        } else if header_bytes() > MAX_HEADERS_BYTES {
            Some(Code::HeadersTooLarge)
        } else {
            None
        }
    }

    /// Reads the request body. A large body is kept only if the request is not refused and its caller is authenticated.
    async fn receive_body(
        &self,
        request: &ServiceRequest,
        payload: &mut Payload,
        is_refused: bool,
    ) -> ReceivedBody {
        // A request without `Content-Length` or `Transfer-Encoding` has no body. Any bytes that follow belong to a
        // declined `Upgrade`.
        let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| request.headers().contains_key(name));
        if !has_body {
            return ReceivedBody::empty();
        }
        // If the client offers to upgrade to WebSocket, actix-web treats everything until the end of the connection as
        // the body.
        let length = if is_upgrade(request) { content_length(request) } else { None };
        let admit = async || match is_refused {
            true => Ok(LargeBody::Discard),
            false => self.admit_large_body(request).await,
        };
        body::read(payload, length, admit).await
    }

    /// Decides whether a large body is kept. Reserves memory for it only if the caller is authenticated and the route
    /// takes a body.
    ///
    /// # Errors
    /// Returns error code 20503 if the server is overloaded, has too little memory left for large bodies, or
    /// authentication takes longer than [`REQUEST_TIMEOUT`].
    async fn admit_large_body(&self, request: &ServiceRequest) -> Result<LargeBody, Code> {
        if !self.route.accepts_form {
            return Ok(LargeBody::Discard);
        }
        let load_shedder = &self.state.settings.load_shedder;
        let _permit = load_shedder.try_admit().ok_or_else(overloaded)?;
        let caller = authenticate_early(&self.state, request.request());
        match tokio::time::timeout(REQUEST_TIMEOUT, caller).await {
            Err(_) => Err(Code::Unavailable),
            Ok(None) => Ok(LargeBody::Discard),
            Ok(Some(caller)) => {
                let permit = load_shedder.reserve_body(&caller, MAX_BODY_BYTES);
                permit.map(LargeBody::Keep).ok_or_else(overloaded)
            }
        }
    }

    /// Returns whether the connection ends after this request. It does if the client requests that or offers an
    /// upgrade, or if every request on the connection is refused. actix-web closes the connection after every upgrade
    /// offer, such as the HTTP/2 offer of Java's HTTP client.
    fn is_last_request(&self, request: &ServiceRequest) -> bool {
        let is_ending =
            |connection: &Connection| connection.ends_after_response() || connection.refusal().is_some();
        is_upgrade(request)
            || request.head().connection_type() == ConnectionType::Close
            || self.connection.as_ref().is_some_and(is_ending)
    }

    /// Acquires a permit to handle the request. Returns `Ok(None)` for a health check, which needs no permit, so that
    /// an overloaded server can still be monitored.
    ///
    /// # Errors
    /// Returns error code 20503 if the maximum number of concurrent requests is reached.
    fn admit_request(&self) -> Result<Option<RequestPermit>, Code> {
        if self.is_health_check {
            return Ok(None);
        }
        self.state.settings.load_shedder.try_admit().map(Some).ok_or_else(overloaded)
    }

    /// Calls the handler and returns its response.
    ///
    /// # Errors
    /// Returns [`AbortedRequest`] if the handler panics or exceeds [`REQUEST_TIMEOUT`]. Also returns the handler's own
    /// error.
    async fn call_handler(
        &self,
        request: ServiceRequest,
        next: Next<BoxBody>,
        is_last: bool,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let handling = tokio::time::timeout(REQUEST_TIMEOUT, next.call(request));
        let (fault, code) = match AssertUnwindSafe(handling).catch_unwind().await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => (Fault::Timeout, Code::Unavailable),
            Err(_) => (Fault::Panic, Code::Internal),
        };
        count_fault(fault);
        Err(AbortedRequest { code, id: self.id, is_last }.into())
    }

    /// Completes a response, logs it, and counts it. `unread` is the rest of the request body, if the body was not read
    /// to its end.
    fn finish(
        &self,
        response: ServiceResponse<BoxBody>,
        unread: Option<Payload>,
        is_last: bool,
    ) -> ServiceResponse<BoxBody> {
        let mut response = render_error(&self.state, response);
        if let Some(payload) = unread {
            response = response.map_body(|_, body| UnreadBody::hold_until_sent(body, payload));
        }
        if is_last || self.state.draining.has_begun() {
            // Announce the end of the connection in this response, so that the client does not send another request.
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        add_standard_headers(response.headers_mut(), self.id);
        // Some clients find header names only in their documented capitalization.
        response.response_mut().head_mut().set_camel_case_headers(true);
        let status = response.status().as_u16();
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.count(status);
        info!(method = self.method, route = self.route.path, status, milliseconds, "request finished");
        response
    }

    /// Records the response's `status` in the metrics and in the trace, and its duration in the metrics.
    fn count(&self, status: u16) {
        self.trace.record_status(status);
        let (route, method) = (self.route.path, self.method);
        METRICS.http_requests.get_or_create(&RequestLabels { route, method, status }).inc();
        let duration = METRICS.http_request_duration.get_or_create(&RouteLabels { route, method });
        duration.observe(self.began.elapsed().as_secs_f64());
    }
}

/// Returns the method name for logs and metrics, or `-` for an unknown method.
fn loggable(method: &Method) -> &'static str {
    KNOWN_METHODS.into_iter().find(|known| method.as_str() == *known).unwrap_or(UNKNOWN_METHOD)
}

fn is_upgrade(request: &ServiceRequest) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

fn content_length(request: &ServiceRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns whether the problem with an incomplete body must be reported before authentication. actix-web closes a
/// connection at once if the chunks of a body are malformed. A response sent after authentication, or after any other
/// wait, would therefore be lost. Always returns `true` for an `OPTIONS` request, which is handled without
/// authentication.
fn is_urgent(request: &ServiceRequest, problem: &Problem) -> bool {
    *request.method() == Method::OPTIONS || problem.code() == Code::InvalidRequest
}

fn overloaded() -> Code {
    count_fault(Fault::Overload);
    Code::Unavailable
}

fn count_fault(kind: Fault) {
    METRICS.faults.get_or_create(&FaultLabels { kind }).inc();
}

/// Replaces the body of an error response with the error's JSON. Logs server faults, and records failed
/// authentications. Returns any other response unchanged.
fn render_error(state: &ApiState, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let Some(failure) = response.response().error() else { return response };
    let problem = match failure.as_error::<Error>() {
        Some(failure) => {
            if let app::Error::Fault(fault) = &failure.0 {
                log_fault(fault);
            }
            let problem = conceal_from_spent_token(response.request(), failure.problem());
            if problem.code() == Code::Unauthenticated {
                record_failure(state, response.request());
            }
            problem
        }
        None => {
            warn!("request handler returned an unexpected error: {failure}");
            Problem::new(match failure.as_response_error().status_code() {
                status if status.is_server_error() => Code::Internal,
                _ => Code::InvalidRequest,
            })
        }
    };
    let body = error::body(&problem, Some(response.request().path()));
    response.into_response(body)
}

/// Counts a server fault and logs it with its causes. The causes name tables and files, but never include their
/// contents.
fn log_fault(fault: &app::Fault) {
    count_fault(match fault {
        app::Fault::Unavailable(_) => Fault::Unavailable,
        app::Fault::Store(_) => Fault::Database,
        app::Fault::Crypto(_)
        | app::Fault::BrokenChain
        | app::Fault::RolledBackChain { .. }
        | app::Fault::CheckpointFile(_) => Fault::Crypto,
    });
    if !fault.is_logged() {
        error!("request failed with an internal server error: {}", domain::error_report(fault));
    }
}

/// Adds the headers that every response has (docs/protocol/authentication.md, section 4).
fn add_standard_headers(headers: &mut HeaderMap, id: RequestSid) {
    const STANDARD_HEADERS: [(&str, &str); 6] = [
        ("access-control-allow-origin", "*"),
        (
            "access-control-allow-headers",
            "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, \
             If-Unmodified-Since, Idempotency-Key",
        ),
        ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
        (
            "access-control-expose-headers",
            "Date, ETag, Retry-After, Twilio-Request-Id, Twilio-Verify-Signature-Fields",
        ),
        ("access-control-allow-credentials", "true"),
        // Responses must not be cached: they contain tokens and personal data, and change from one request to the next.
        ("cache-control", "no-store"),
    ];
    for (name, value) in STANDARD_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("twilio-request-id"), id);
    }
}
