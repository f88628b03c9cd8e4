//! The middleware that handles every request and response, whatever the face and the route. It looks up the route,
//! assigns a request ID, enforces the deadline, refuses requests under overload, lets the face call the route's handler
//! and add its headers, and logs one record.
//!
//! Log records and metrics contain the route's path pattern instead of the request path, because the path contains
//! identities.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{ConnectionType, Method, Uri};
use actix_web::{HttpRequest, HttpResponse};
use domain::{Code, Problem, Timestamp};
use futures_util::FutureExt as _;
use telemetry::metrics::{Fault, FaultLabels, GaugeGuard, METRICS, RequestLabels, RouteLabels};
use tracing::{Instrument as _, error, error_span, info};

use crate::body::{self, Body, LargeBody, MAX_BODY_BYTES, ReceivedBody, UnreadBody};
use crate::connection::Connection;
use crate::context::RequestContext;
use crate::face::{BodySender, Face};
use crate::load_shedding::RequestPermit;
use crate::request::ReceivedRequest;
use crate::route::{BodyLimit, Route, RouteMatch};
use crate::settings::Shared;

/// Maximum time for a request's handler, unless the face sets another. It also limits the authentication that precedes
/// reading a large body.
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

/// Handles a request to `face`: finds its route, assigns its ID, opens its log and trace spans, and processes it.
pub(crate) async fn handle<F: Face>(
    face: Arc<F>,
    shared: Arc<Shared>,
    mut request: ServiceRequest,
) -> ServiceResponse {
    face.rewrite(&mut request);
    let (http, payload) = request.into_parts();
    let exchange = Exchange::begin(face, shared, http.clone());
    // All log records written while the request is handled carry its ID, whichever crate writes them.
    let span = error_span!(target: "request", "request", request_id = %exchange.context.id);
    let trace = exchange.trace.clone();
    // Boxed, because the spans would otherwise copy the large future several times.
    let response = trace.run_and_end(Box::pin(exchange.process(payload))).instrument(span).await;
    ServiceResponse::new(http, response)
}

/// One request and its response, with the data needed to log and count them.
struct Exchange<F: Face> {
    face: Arc<F>,
    shared: Arc<Shared>,
    http: HttpRequest,
    context: RequestContext,
    method: &'static str,
    route: RouteMatch<F::Endpoint>,
    is_health_check: bool,
    connection: Option<Connection>,
    /// The result of authenticating the sender before the body was read; `None` unless that was necessary.
    authentication: Option<F::Authentication>,
    trace: telemetry::traces::Span,
    began: Instant,
}

impl<F: Face> Exchange<F> {
    fn begin(face: Arc<F>, shared: Arc<Shared>, http: HttpRequest) -> Self {
        let context = RequestContext {
            id: (shared.request_ids)(),
            client_ip: shared.settings.trusted_proxies.client_ip(&http),
        };
        let method = loggable(http.method());
        let route = face.find(http.match_info().as_str(), http.method());
        let is_health_check = matches!(route.path(), "/healthz" | "/readyz");
        let trace = match is_health_check {
            true => telemetry::traces::Span::default(),
            false => {
                let parent = http.headers().get("traceparent").and_then(|value| value.to_str().ok());
                telemetry::traces::start_request(method, route.path(), context.id, parent)
            }
        };
        let connection = http.conn_data::<Connection>().cloned();
        Self {
            face,
            shared,
            http,
            context,
            method,
            route,
            is_health_check,
            connection,
            authentication: None,
            trace,
            began: Instant::now(),
        }
    }

    async fn process(mut self, mut payload: Payload) -> HttpResponse {
        let _in_flight = GaugeGuard::increment(&METRICS.http_requests_in_flight);
        let _busy = self.connection.as_ref().map(Connection::begin_request);
        let refusal = self.refusal();
        let ReceivedBody { body, is_complete, _permit } =
            self.receive_body(&mut payload, refusal.is_some()).await;
        let is_last = !is_complete || self.is_last_request();
        if let Some(connection) = self.connection.as_ref().filter(|_| is_last) {
            connection.end_after_response();
        }
        let urgent = body.as_ref().err().filter(|problem| !is_complete && self.is_urgent(problem)).cloned();

        // Acquire the permit only after the body has been read, so that slow clients do not occupy permits.
        let permit = self.admit_request();
        let overload = permit.as_ref().err().copied().map(Problem::from);
        let response = match refusal.or(overload).or(urgent) {
            Some(problem) => self.face.problem_response(&problem),
            None if *self.http.method() == Method::OPTIONS => HttpResponse::NoContent().finish(),
            None => self.respond(body).await,
        };
        drop(permit);
        self.finish(response, (!is_complete).then_some(payload), is_last)
    }

    /// Returns the problem to report if the request must be refused before its body is examined, or `None` otherwise.
    fn refusal(&self) -> Option<Problem> {
        self.connection_refusal().or_else(|| self.head_refusal().map(Problem::from))
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
    fn head_refusal(&self) -> Option<Code> {
        let header_bytes = || {
            self.http.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
        };
        if self.shared.settings.draining.refuses(self.route.path()) {
            Some(Code::Unavailable)
        } else if self.method == UNKNOWN_METHOD {
            Some(Code::NotImplemented)
        } else if uri_bytes(self.http.uri()) > MAX_URI_BYTES {
            Some(Code::UriTooLong)
        } else if header_bytes() > MAX_HEADERS_BYTES {
            Some(Code::HeadersTooLarge)
        } else {
            None
        }
    }

    /// Reads the request body. A large body is kept only if the request is not refused and the face permits it.
    async fn receive_body(&mut self, payload: &mut Payload, is_refused: bool) -> ReceivedBody {
        // A request without `Content-Length` or `Transfer-Encoding` has no body. Any bytes that follow belong to a
        // declined `Upgrade`.
        let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| self.http.headers().contains_key(name));
        if !has_body {
            return ReceivedBody::empty();
        }
        // If the client offers to upgrade to WebSocket, actix-web treats everything until the end of the connection as
        // the body.
        let length = if is_upgrade(&self.http) { content_length(&self.http) } else { None };
        let max_bytes = match self.route.body() {
            BodyLimit::Small => MAX_BODY_BYTES,
            BodyLimit::UpTo(bytes) => bytes,
        };
        let admit = async || match is_refused {
            true => Ok(LargeBody::Discard),
            false => self.admit_large_body().await,
        };
        body::read(payload, length, max_bytes, admit).await
    }

    /// Decides whether a large body is kept. Reserves memory for it only if the face permits its sender to send one and
    /// the route accepts it.
    ///
    /// # Errors
    /// Returns error code 20503 if the server is overloaded, has too little memory left for large bodies, or
    /// authentication takes longer than [`REQUEST_TIMEOUT`].
    async fn admit_large_body(&mut self) -> Result<LargeBody, Code> {
        let BodyLimit::UpTo(max_bytes) = self.route.body() else { return Ok(LargeBody::Discard) };
        let load_shedder = &self.shared.settings.load_shedder;
        let _permit = load_shedder.try_admit().ok_or_else(overloaded)?;
        let authentication = self.face.authenticate(&self.http, self.context);
        let sender = tokio::time::timeout(REQUEST_TIMEOUT, authentication).await;
        let BodySender { memory, authentication } = sender.map_err(|_| Code::Unavailable)?;
        self.authentication = Some(authentication);
        let Some(memory) = memory else { return Ok(LargeBody::Discard) };
        load_shedder.reserve_body(memory, max_bytes).map(LargeBody::Keep).ok_or_else(overloaded)
    }

    /// Returns whether the connection ends after this request. It does if the client requests that or offers an
    /// upgrade, or if every request on the connection is refused. actix-web closes the connection after every upgrade
    /// offer, such as the HTTP/2 offer of Java's HTTP client.
    fn is_last_request(&self) -> bool {
        let is_ending =
            |connection: &Connection| connection.ends_after_response() || connection.refusal().is_some();
        is_upgrade(&self.http)
            || self.http.head().connection_type() == ConnectionType::Close
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
        self.shared.settings.load_shedder.try_admit().map(Some).ok_or_else(overloaded)
    }

    /// Returns the response of the route's handler. The response is 503 if the handler exceeds [`REQUEST_TIMEOUT`], 500
    /// if it panics, and 405 or the face's response for an unknown path if no route serves the request.
    async fn respond(&mut self, body: Body) -> HttpResponse {
        let route = match self.route {
            RouteMatch::Found(route) => route,
            RouteMatch::OtherMethods(routes) => return self.method_not_allowed(routes),
            RouteMatch::UnknownPath => return self.face.not_found(self.http.path()),
        };
        if let Some(interceptor) = &self.shared.interceptor
            && let Some(response) = interceptor.intercept(&self.http).await
        {
            return response;
        }
        let request = ReceivedRequest {
            http: self.http.clone(),
            pattern: route.path,
            context: self.context,
            body,
            authentication: self.authentication.take(),
        };
        let timeout = self.face.timeout(route).unwrap_or(REQUEST_TIMEOUT);
        let handling = tokio::time::timeout(timeout, self.face.call(route, request));
        let (fault, code) = match AssertUnwindSafe(handling).catch_unwind().await {
            Ok(Ok(response)) => return response,
            Ok(Err(_)) => (Fault::Timeout, Code::Unavailable),
            Err(_) => (Fault::Panic, Code::Internal),
        };
        count_fault(fault);
        error!(method = self.method, route = route.path, "request aborted: {}", code.title());
        self.face.problem_response(&code.into())
    }

    /// Returns a 405 response for a path whose routes accept only the methods of `routes`. The `Allow` header lists
    /// these methods plus `OPTIONS`, and `HEAD` if `GET` is allowed.
    fn method_not_allowed(&self, routes: &[Route<F::Endpoint>]) -> HttpResponse {
        let mut response = self.face.problem_response(&Code::MethodNotAllowed.into());
        let mut methods: Vec<_> = routes.iter().map(|route| route.method).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        if let Ok(value) = methods.join(", ").parse() {
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }

    /// Returns whether the problem with an incomplete body must be reported before authentication. actix-web closes a
    /// connection at once if the chunks of a body are malformed. A response sent after authentication, or after any
    /// other wait, would therefore be lost. Always returns `true` for an `OPTIONS` request, which is handled without
    /// authentication.
    fn is_urgent(&self, problem: &Problem) -> bool {
        *self.http.method() == Method::OPTIONS || problem.code() == Code::InvalidRequest
    }

    /// Completes a response, logs it, and counts it. `unread` is the rest of the request body, if the body was not read
    /// to its end.
    fn finish(&self, mut response: HttpResponse, unread: Option<Payload>, is_last: bool) -> HttpResponse {
        if let Some(payload) = unread {
            response = response.map_body(|_, body| UnreadBody::hold_until_sent(body, payload));
        }
        if is_last || self.shared.settings.draining.has_begun() {
            // Announce the end of the connection in this response, so that the client does not send another request.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        self.face.add_headers(&self.http, self.context, &mut response);
        for (name, value) in &self.shared.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        if let Some(now) = &self.shared.date {
            response.headers_mut().insert(header::DATE, http_date(now()));
        }
        let status = response.status().as_u16();
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.count(status);
        info!(method = self.method, route = self.route.path(), status, milliseconds, "request finished");
        response
    }

    /// Records the response's `status` in the metrics and in the trace, and its duration in the metrics.
    fn count(&self, status: u16) {
        self.trace.record_status(status);
        let (route, method) = (self.route.path(), self.method);
        METRICS.http_requests.get_or_create(&RequestLabels { route, method, status }).inc();
        let duration = METRICS.http_request_duration.get_or_create(&RouteLabels { route, method });
        duration.observe(self.began.elapsed().as_secs_f64());
    }
}

/// Returns an instant as the value of a `Date` header.
fn http_date(instant: Timestamp) -> HeaderValue {
    HeaderValue::from_str(&instant.to_http_date()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Returns the method name for logs and metrics, or `-` for an unknown method.
fn loggable(method: &Method) -> &'static str {
    KNOWN_METHODS.into_iter().find(|known| method.as_str() == *known).unwrap_or(UNKNOWN_METHOD)
}

fn is_upgrade(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::UPGRADE)
}

fn content_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the length of a request target, in bytes.
fn uri_bytes(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    scheme + authority + uri.path_and_query().map_or(0, |target| target.as_str().len())
}

fn overloaded() -> Code {
    count_fault(Fault::Overload);
    Code::Unavailable
}

fn count_fault(kind: Fault) {
    METRICS.faults.get_or_create(&FaultLabels { kind }).inc();
}
