//! `--metrics-listen`: the metrics for Prometheus, and the probes once more.
//!
//! It has an address of its own, since its readers are not the API's, and it owes nothing to the API: no
//! thread, no connection, no place in a queue. So it answers while the API is overloaded, the database away,
//! or the server draining.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Draining;
use app::{App, Error, Fault};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use telemetry::metrics::{Build, METRICS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

use crate::failure::Failure;

/// Connections at one time: those who read metrics are few.
const CONNECTIONS: usize = 16;

/// How long a reader may take to ask.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may live: it is for one request.
const LIFE: Duration = Duration::from_secs(15);

/// How long the database may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer with metrics waits for what the database says. Without that it shows the values of before:
/// an outage is when metrics are needed most.
const FRESHNESS: Duration = Duration::from_millis(200);

/// Asks the database for what metrics show of it, once at a time.
#[derive(Clone)]
struct Measurement {
    app: Arc<App>,
    draining: Arc<Draining>,
    turn: Arc<Mutex<()>>,
}

impl Measurement {
    /// Begins to measure, unless that is under way, and waits for a moment only. What comes later is in the next
    /// answer.
    async fn refresh(&self) {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        let (app, draining) = (Arc::clone(&self.app), Arc::clone(&self.draining));
        let measured = tokio::spawn(async move {
            let (unready, ()) = tokio::join!(unready(&app, &draining), app.measure());
            METRICS.ready.set(i64::from(unready.is_none()));
            drop(turn);
        });
        let _ = tokio::time::timeout(FRESHNESS, measured).await;
    }
}

/// The address at which metrics can be read, until it is dropped.
pub(crate) struct Readable(tokio::task::JoinHandle<()>);

impl Drop for Readable {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes the address; nobody is answered yet.
///
/// # Errors
/// When it can't be had.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|error| Failure::new(format!("--metrics-listen: {listen}: {error}")))
}

/// Begins to answer.
///
/// # Errors
/// When the address has been lost.
pub(crate) fn answer(
    listener: TcpListener,
    app: Arc<App>,
    draining: Arc<Draining>,
) -> Result<Readable, Failure> {
    tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
    METRICS.build_info.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    METRICS.start_time.set(app.now().seconds());
    Ok(Readable(tokio::spawn(listen(listener, app, draining))))
}

async fn listen(listener: TcpListener, app: Arc<App>, draining: Arc<Draining>) {
    let measurement = Measurement { app, draining, turn: Arc::default() };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Nobody closes it.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Such as too many open files, which passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let measurement = measurement.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIFE, serve(stream, measurement)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, measurement: Measurement) {
    let service = service_fn(|request: Request<Incoming>| {
        let measurement = measurement.clone();
        async move { Ok::<_, Infallible>(respond(&request, &measurement).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: &Request<Incoming>, measurement: &Measurement) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            measurement.refresh().await;
            measure_process();
            with_type(telemetry::metrics::CONTENT_TYPE, StatusCode::OK, telemetry::metrics::exposition())
        }
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/readyz" => match unready(&measurement.app, &measurement.draining).await {
            None => plain(StatusCode::OK, "ready\n"),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n"),
    }
}

/// Why requests should be sent elsewhere, if there is a reason.
async fn unready(app: &App, draining: &Draining) -> Option<&'static str> {
    if draining.is_announced() {
        return Some("stopping\n");
    }
    match tokio::time::timeout(PATIENCE, app.ready()).await {
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

/// What Linux says of this process. What it does not say stays as it was.
fn measure_process() {
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        METRICS.open_fds.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
    }
    // `Max open files  1024  4096  files`: what counts is the first.
    if let Some(most) = number("/proc/self/limits", "Max open files") {
        METRICS.max_fds.set(most);
    }
    // `VmRSS:  1234 kB`
    if let Some(kibibytes) = number("/proc/self/status", "VmRSS:") {
        METRICS.resident_memory.set(kibibytes.saturating_mul(1024));
    }
}

/// The first number on the line of a file that begins with these words.
fn number(path: &str, words: &str) -> Option<i64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(words))?;
    line.split_whitespace().next()?.parse().ok()
}
