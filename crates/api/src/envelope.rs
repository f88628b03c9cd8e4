//! What every response has, whatever happens inside: a request id, the headers that the official
//! specification names, a JSON body for every error, and one line in the log.
//!
//! The line carries the route's pattern and never the path, which holds identities.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use app::App;
use domain::{Code, Problem, RequestSid, Timestamp};
use futures_util::FutureExt as _;
use telemetry::metrics::{Asked, Broken, Claimant, Fault, METRICS, Ongoing, Refused, Request};
use tracing::{Instrument as _, error, error_span, info, warn};

use crate::connection::Connection;
use crate::error::{self, Error};
use crate::incoming::{Large, Received, Unread};
use crate::limits::Limits;
use crate::under_way::{Turn, UnderWay};
use crate::{Admits, ROUTES, Route, address, call, incoming};

/// How long a request may take, waiting and working.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longest address and largest sum of headers, in bytes. An access token in `Authorization` has about 900.
const MAX_URI: usize = 8 * 1024;
const MAX_HEADERS: usize = 32 * 1024;

/// Whether the server takes new requests.
#[derive(Debug, Default)]
pub struct Draining {
    announced: AtomicBool,
    begun: AtomicBool,
}

impl Draining {
    /// Yes, but not for long: from now on it is not ready, so that whoever sends requests sends them elsewhere.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    /// From now on, no.
    pub fn begin(&self) {
        self.announce();
        self.begun.store(true, Ordering::Release);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether requests should be sent elsewhere.
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Whether a request for this path comes too late.
    fn refuses(&self, path: &str) -> bool {
        match path {
            "/healthz" => false,
            "/readyz" => self.is_announced(),
            _ => self.has_begun(),
        }
    }
}

/// A request that ended without a response of its own: it panicked, or took too long.
#[derive(Debug)]
struct Unanswered {
    code: Code,
    id: RequestSid,
    is_last: bool,
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.title())
    }
}

impl ResponseError for Unanswered {
    fn status_code(&self) -> StatusCode {
        error::status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = error::body(&self.code.into(), None);
        seal(response.headers_mut(), self.id);
        response.head_mut().set_camel_case_headers(true);
        if self.is_last {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

/// Wraps every request.
pub(crate) async fn envelope(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = match request.app_data::<web::Data<App>>() {
        Some(app) => RequestSid::generate(app.now(), app.entropy()),
        None => RequestSid::generate(domain::Timestamp::from_micros(0), &crypto::SystemEntropy),
    };
    // Whatever is logged on the way, in whichever crate, has the id.
    let span = error_span!(target: "request", "request", request_id = %id);
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let trace = match is_about_health(&request) {
        true => telemetry::traces::Span::default(),
        false => telemetry::traces::request(loggable(request.method()), route(&request), id, parent),
    };
    trace.clone().around(answer(request, next, id, trace)).instrument(span).await
}

async fn answer(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
    id: RequestSid,
    trace: telemetry::traces::Span,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let began = Instant::now();
    let _ongoing = Ongoing::in_gauge(&METRICS.http_requests_in_flight);
    let method = loggable(request.method());
    let route = route(&request);
    address::note(request.request());
    let connection = request.request().conn_data::<Connection>().cloned();
    let _begun = connection.as_ref().map(Connection::begin);
    let refused = connection.as_ref().and_then(|connection| refused_connection(&request, connection));
    let refused = refused.or_else(|| refusal(&request).map(Problem::from));
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let under_way = request.app_data::<web::Data<UnderWay>>().map(|under_way| Arc::clone(under_way));
    let under_way = under_way.unwrap_or_default();
    let mut payload = request.take_payload();
    // Without `Content-Length` or `Transfer-Encoding` there is no body; bytes that follow belong to a declined `Upgrade`.
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| request.headers().contains_key(name));
    let length = if upgrades { content_length(&request) } else { None };
    let Received { body, is_whole, _room } = match has_body {
        true => {
            let admit = async || match refused {
                Some(_) => Ok(Large::Drop),
                None => admit_large(&request, &under_way).await,
            };
            incoming::read(&mut payload, length, admit).await
        }
        false => Received::nothing(),
    };
    // The library gives up a connection with malformed chunks in the same moment: an answer that waits for anything,
    // such as for the credentials to be checked, would be lost.
    let is_urgent =
        |problem: &Problem| *request.method() == Method::OPTIONS || problem.code() == Code::InvalidRequest;
    let broken_off = body.as_ref().err().filter(|&problem| !is_whole && is_urgent(problem)).cloned();
    request.extensions_mut().insert(body);
    request.extensions_mut().insert(id);
    // The library ends the connection after an offer to upgrade, such as that of HTTP/2 by Java's client.
    let is_last = !is_whole || upgrades || ends_connection(&request, connection.as_ref());
    if let Some(connection) = connection.filter(|_| is_last) {
        connection.end();
    }
    // Not before the body is there: a client that takes its time must not take others' turn.
    let turn = turn(&request, &under_way);
    let outcome = if let Some(problem) = refused.or(turn.as_ref().err().copied().map(Problem::from)) {
        Ok(request.into_response(error::body(&problem, None)))
    } else if let Some(problem) = broken_off {
        Ok(request.into_response(error::body(&problem, None)))
    } else if *request.method() == Method::OPTIONS {
        Ok(request.into_response(HttpResponse::NoContent().finish()))
    } else {
        let handled = AssertUnwindSafe(tokio::time::timeout(DEADLINE, next.call(request))).catch_unwind();
        match handled.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                broken(Fault::Timeout);
                Err(Unanswered { code: Code::Unavailable, id, is_last }.into())
            }
            Err(_) => {
                broken(Fault::Panic);
                Err(Unanswered { code: Code::Internal, id, is_last }.into())
            }
        }
    };
    drop(turn);
    let mut response = match outcome {
        Ok(response) => explained(response),
        Err(failure) => {
            let status = failure.as_response_error().status_code().as_u16();
            trace.answered(status);
            count(route, method, status, began);
            error!(method, route, status, "request failed: {failure}");
            return Err(failure);
        }
    };
    if !is_whole {
        response = response.map_body(|_, body| Unread::after(body, payload));
    }
    if is_last || draining(response.request().app_data()) {
        // The client has to know before it sends the next request.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    seal(response.headers_mut(), id);
    // On the wire as documented, for clients that look a header up by its exact name.
    response.response_mut().head_mut().set_camel_case_headers(true);
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = response.status().as_u16();
    trace.answered(status);
    count(route, method, status, began);
    info!(method, route, status, milliseconds, "request");
    Ok(response)
}

/// Methods that mean something; any other word is a stranger's own.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"];

/// The method for the log and the metrics, which repeat nothing that a stranger makes up.
fn loggable(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| method.as_str() == *known).unwrap_or("-")
}

/// The pattern of the route, likewise.
fn route(request: &ServiceRequest) -> &'static str {
    let pattern = request.match_pattern();
    let route = ROUTES.iter().find(|route| Some(route.path) == pattern.as_deref());
    route.map_or("-", |route| route.path)
}

fn count(route: &'static str, method: &'static str, status: u16, began: Instant) {
    METRICS.http_requests.get_or_create(&Request { route, method, status }).inc();
    let duration = METRICS.http_request_duration.get_or_create(&Asked { route, method });
    duration.observe(began.elapsed().as_secs_f64());
}

fn broken(kind: Fault) {
    METRICS.faults.get_or_create(&Broken { kind }).inc();
}

/// Why a request is not even looked at.
fn refusal(request: &ServiceRequest) -> Option<Code> {
    let headers =
        || request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if request.app_data::<web::Data<Draining>>().is_some_and(|draining| draining.refuses(request.path())) {
        Some(Code::Unavailable)
    } else if loggable(request.method()) == "-" {
        Some(Code::NotImplemented)
    } else if request.uri().to_string().len() > MAX_URI {
        Some(Code::UriTooLong)
    } else if headers() > MAX_HEADERS {
        Some(Code::HeadersTooLarge)
    } else {
        None
    }
}

/// Why no request of this connection is processed, if that is so: it was one too many, or an earlier request was to be
/// its last one.
fn refused_connection(request: &ServiceRequest, connection: &Connection) -> Option<Problem> {
    let now = Timestamp::from_micros(0);
    match connection.refusal() {
        _ if connection.has_ended() => Some(Code::Unavailable.into()),
        Some(Code::TooManyRequests) => {
            let advice = "too many connections from this address are open";
            Some(Problem::with(Code::TooManyRequests, advice).until(now, now))
        }
        Some(code) if !is_about_health(request) => Some(code.into()),
        _ => None,
    }
}

/// Whether the connection ends with this request: the client says so, or it was admitted only to be refused.
fn ends_connection(request: &ServiceRequest, connection: Option<&Connection>) -> bool {
    let is_over = |connection: &Connection| connection.has_ended() || connection.refusal().is_some();
    request.head().connection_type() == ConnectionType::Close || connection.is_some_and(is_over)
}

/// The length of the body as the client gives it. Behind an offer to upgrade to WebSocket the library takes all that
/// follows for the body, until the connection ends.
fn content_length(request: &ServiceRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Decides about a large body: memory is for callers with good credentials, of requests that take a body.
async fn admit_large(request: &ServiceRequest, under_way: &Arc<UnderWay>) -> Result<Large, Code> {
    let overload = || {
        broken(Fault::Overload);
        Code::Unavailable
    };
    let path = route(request);
    let takes_body = |route: &Route| {
        route.path == path && route.admits != Admits::Anyone && route.method == request.method().as_str()
    };
    if *request.method() != Method::POST || !ROUTES.iter().any(takes_body) {
        return Ok(Large::Drop);
    }
    let _turn = under_way.begin().ok_or_else(overload)?;
    let caller = tokio::time::timeout(DEADLINE, call::authenticate_early(request.request())).await;
    match caller.map_err(|_| Code::Unavailable)? {
        Some(caller) => under_way.room(&caller, incoming::MAX).map(Large::Keep).ok_or_else(overload),
        None => Ok(Large::Drop),
    }
}

/// Whether it is one of those that a machine sends every few seconds.
fn is_about_health(request: &ServiceRequest) -> bool {
    matches!(request.path(), "/healthz" | "/readyz")
}

/// The request's turn to be worked on. Who asks for the server's health needs none.
fn turn(request: &ServiceRequest, under_way: &Arc<UnderWay>) -> Result<Option<Turn>, Code> {
    if is_about_health(request) {
        return Ok(None);
    }
    under_way.begin().map(Some).ok_or_else(|| {
        broken(Fault::Overload);
        Code::Unavailable
    })
}

fn draining(draining: Option<&web::Data<Draining>>) -> bool {
    draining.is_some_and(|draining| draining.has_begun())
}

/// Gives a response that is an error its body, and logs its cause if it is ours.
fn explained(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let Some(failure) = response.response().error() else { return response };
    let problem = match failure.as_error::<Error>() {
        Some(failure) => {
            if let app::Error::Fault(fault) = &failure.0 {
                log_fault(fault);
            }
            let problem = call::as_told(response.request(), failure.problem());
            if problem.code() == Code::Authenticate {
                note_failed_credentials(response.request());
            }
            problem
        }
        None => {
            warn!("unexpected error: {failure}");
            Problem::new(match failure.as_response_error().status_code() {
                status if status.is_server_error() => Code::Internal,
                _ => Code::InvalidRequest,
            })
        }
    };
    let body = error::body(&problem, Some(response.request().path()));
    response.into_response(body)
}

/// Counts that credentials did not hold, whoever found out: at the door, or where an access token turned out to be
/// spent.
fn note_failed_credentials(request: &HttpRequest) {
    let caller = call::credentials(request).map_or(Claimant::Nobody, |credentials| credentials.claimant());
    METRICS.authentication_failures.get_or_create(&Refused { caller }).inc();
    // Many clients ask without any at first, and mean no harm.
    if caller == Claimant::Nobody {
        return;
    }
    if let (Some(limits), Some(app)) =
        (request.app_data::<web::Data<Limits>>(), request.app_data::<web::Data<App>>())
    {
        limits.failed(address::noted(request), app.now());
    }
}

/// Logs a fault with its full chain of causes. The chain names tables and files, never their contents.
fn log_fault(fault: &app::Fault) {
    broken(match fault {
        app::Fault::Unavailable(_) => Fault::Unavailable,
        app::Fault::Store(_) => Fault::Database,
        app::Fault::Crypto(_)
        | app::Fault::BrokenChain
        | app::Fault::RewoundChain { .. }
        | app::Fault::CheckpointFile(_) => Fault::Crypto,
    });
    if !fault.is_logged() {
        error!("fault: {}", domain::causes(fault));
    }
}

/// The headers of every response (docs/protocol/authentication.md, section 4).
fn seal(headers: &mut HeaderMap, id: RequestSid) {
    const ALWAYS: [(&str, &str); 6] = [
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
        // Answers hold tokens and personal data, and change from one request to the next.
        ("cache-control", "no-store"),
    ];
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("twilio-request-id"), id);
    }
}
