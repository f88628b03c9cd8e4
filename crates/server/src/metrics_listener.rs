//! The second listener (`--metrics-listen`), which serves Prometheus metrics and health probes.
//!
//! The listener shares no threads, connections or queues with the API. So it responds even while the API is
//! overloaded, the database is unreachable, or the server is draining.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use app::{App, Error, Fault};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use telemetry::metrics::{BuildLabels, METRICS};
use terminal::CliError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use web::Draining;

/// Maximum number of open connections. A few suffice, because only Prometheus and probes connect.
const MAX_CONNECTIONS: usize = 16;

/// Maximum time for a client to send a complete request head.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time that a connection stays open. Each connection serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum time that the readiness check waits for the database.
const READINESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time that a metrics response waits for gauges from the database. After that, the response contains their
/// previous values: metrics are needed most during an outage, so they must not depend on the database.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(200);

/// Delay after a failure to accept a connection, for example because too many files are open.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A handle that refreshes the gauges whose values come from the database. Only one refresh runs at a time.
#[derive(Clone)]
struct GaugeRefresher {
    app: Arc<App>,
    draining: Arc<Draining>,
    running: Arc<Mutex<()>>,
}

impl GaugeRefresher {
    /// Starts a refresh unless one is already running, and waits up to [`REFRESH_TIMEOUT`] for it to finish. A slower
    /// refresh continues in the background.
    async fn refresh(&self) {
        let Ok(running) = Arc::clone(&self.running).try_lock_owned() else { return };
        let (app, draining) = (Arc::clone(&self.app), Arc::clone(&self.draining));
        let refreshed = tokio::spawn(async move {
            let refresh_ready = async {
                let unready = unready_reason(&app, &draining).await;
                METRICS.ready.set(i64::from(unready.is_none()));
            };
            tokio::join!(refresh_ready, app.refresh_gauges());
            drop(running);
        });
        let _ = tokio::time::timeout(REFRESH_TIMEOUT, refreshed).await;
    }
}

/// The running metrics listener. Dropping it stops the listener.
pub(crate) struct MetricsListener(tokio::task::JoinHandle<()>);

impl Drop for MetricsListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Binds a TCP listener to the address `listen`. Connections are accepted only after [`MetricsListener::start`].
///
/// # Errors
/// Returns an error if the address is in use or does not belong to this machine.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, CliError> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|error| CliError::new(format!("--metrics-listen: can't listen on {listen}: {error}")))
}

impl MetricsListener {
    /// Starts accepting connections on `listener` in the background.
    ///
    /// # Errors
    /// Returns an error if the listener's own address can't be read.
    pub(crate) fn start(
        listener: TcpListener,
        app: Arc<App>,
        draining: Arc<Draining>,
    ) -> Result<Self, CliError> {
        tracing::info!("metrics served at http://{}/metrics", listener.local_addr()?);
        METRICS.build_info.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        METRICS.start_time.set(app.now().seconds());
        let refresher = GaugeRefresher { app, draining, running: Arc::default() };
        Ok(Self(tokio::spawn(accept_connections(listener, refresher))))
    }
}

async fn accept_connections(listener: TcpListener, refresher: GaugeRefresher) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed, so this loop never ends.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let refresher = refresher.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serve_connection(stream, refresher)).await;
            drop(permit);
        });
    }
}

async fn serve_connection(stream: TcpStream, refresher: GaugeRefresher) {
    let service = service_fn(|request: Request<Incoming>| {
        let refresher = refresher.clone();
        async move { Ok::<_, Infallible>(respond(&request, &refresher).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: &Request<Incoming>, refresher: &GaugeRefresher) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed, use GET\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            refresher.refresh().await;
            refresh_process_gauges();
            with_type(telemetry::metrics::CONTENT_TYPE, StatusCode::OK, telemetry::metrics::render())
        }
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/readyz" => match unready_reason(&refresher.app, &refresher.draining).await {
            None if METRICS.test_mode.get() == 1 => plain(StatusCode::OK, "ready in test mode\n"),
            None => plain(StatusCode::OK, "ready\n"),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ => plain(StatusCode::NOT_FOUND, "not found; available are /metrics, /healthz and /readyz\n"),
    }
}

/// Returns the reason why the server is not ready for requests, as a line of text, or `None` if it is ready.
async fn unready_reason(app: &App, draining: &Draining) -> Option<&'static str> {
    if draining.is_announced() {
        return Some("stopping\n");
    }
    match tokio::time::timeout(READINESS_TIMEOUT, app.check_ready()).await {
        Ok(Ok(())) => None,
        Ok(Err(Error::Fault(Fault::Unavailable(store::Error::OldSchema(_))))) => {
            Some("the database lacks migrations\n")
        }
        _ => Some("the database does not answer\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type("text/plain; charset=utf-8", status, text)
}

fn with_type(media_type: &'static str, status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media_type));
    response
}

/// Updates the gauges of this process from `/proc`. A gauge whose value can't be read keeps its previous value.
fn refresh_process_gauges() {
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        METRICS.open_fds.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
    }
    // `Max open files  1024  4096  files`: the first number is the soft limit, which applies.
    if let Some(limit) = read_number("/proc/self/limits", "Max open files") {
        METRICS.max_fds.set(limit);
    }
    // `VmRSS:  1234 kB`
    if let Some(kibibytes) = read_number("/proc/self/status", "VmRSS:") {
        METRICS.resident_memory.set(kibibytes.saturating_mul(1024));
    }
}

/// Returns the number that follows `label` on the first line of the file at `path` that begins with `label`. Returns
/// `None` if the file can't be read or contains no such number.
fn read_number(path: &str, label: &str) -> Option<i64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}
