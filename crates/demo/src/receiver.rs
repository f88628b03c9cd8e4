//! Receives the requests that the server sends: pushes, in place of Google, webhooks, in place of the backend, and
//! messages with one-time codes, in place of a gateway.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use terminal::CliError;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Maximum time to wait for an expected request.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// URL path of the backend's webhook.
pub(crate) const WEBHOOK_PATH: &str = "/hook";

/// An HTTP server on a free port of the loopback interface that receives pushes and webhooks. It stops when
/// it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    requests: UnboundedReceiver<ReceivedRequest>,
    task: tokio::task::JoinHandle<()>,
}

/// A push or webhook request from the server.
pub(crate) struct ReceivedRequest {
    pub(crate) path: String,
    /// Value of the `X-Twilio-Signature` header of a webhook; empty for a push.
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Starts a receiver on a free port.
    ///
    /// # Errors
    /// Returns an error if no port is available.
    pub(crate) async fn start() -> Result<Self, CliError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, requests) = unbounded_channel();
        Ok(Self { address, requests, task: tokio::spawn(accept(listener, sender)) })
    }

    /// Returns the receiver's base URL, such as `http://127.0.0.1:40000`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the JSON file of a service account, as Google issues it, with a new key. Its token URI points
    /// to this receiver.
    ///
    /// # Errors
    /// Returns an error if no RSA key can be generated.
    pub(crate) fn create_service_account(&self) -> Result<String, CliError> {
        let failed = |_| CliError::new("cannot generate an RSA key");
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
        let key = STANDARD.encode(der.as_ref());
        Ok(json!({
            "type": "service_account",
            "project_id": "demo",
            "private_key_id": "demo",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "client_email": "countersign@demo.iam.gserviceaccount.com",
            "token_uri": format!("{}/token", self.url()),
        })
        .to_string())
    }

    /// Waits for the first request for which `is_expected` returns `true`, and returns it. Discards all
    /// requests before it. `what` is the name of the request in the error message.
    ///
    /// # Errors
    /// Returns an error if the request does not arrive within ten seconds.
    pub(crate) async fn receive(
        &mut self,
        what: &str,
        is_expected: impl Fn(&ReceivedRequest) -> bool,
    ) -> Result<ReceivedRequest, CliError> {
        let expected = async {
            while let Some(request) = self.requests.recv().await {
                if is_expected(&request) {
                    return Some(request);
                }
            }
            None
        };
        let request = tokio::time::timeout(RECEIVE_TIMEOUT, expected).await.ok().flatten();
        request.ok_or_else(|| CliError::new(format!("{what} did not arrive in time")))
    }
}

/// Accepts connections and serves them with HTTP/1.1 or HTTP/2, because the receiver stands in for both
/// Google, whose servers use HTTP/2, and a backend, most of which use HTTP/1.1.
async fn accept(listener: TcpListener, sender: UnboundedSender<ReceivedRequest>) {
    while let Ok((socket, _)) = listener.accept().await {
        let sender = sender.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, sender.clone()));
            // A failed connection does not matter: the server sends the request again.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    sender: UnboundedSender<ReceivedRequest>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return Ok(response(StatusCode::BAD_REQUEST, &Value::Null));
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let response_body = match path.as_str() {
        "/token" => json!({ "access_token": "demo", "expires_in": 3600, "token_type": "Bearer" }),
        WEBHOOK_PATH => json!({}),
        _ => json!({ "name": "projects/demo/messages/1" }),
    };
    let signature = parts.headers.get("X-Twilio-Signature").and_then(|value| value.to_str().ok());
    let signature = signature.unwrap_or_default().to_owned();
    let _ = sender.send(ReceivedRequest { path, signature, body });
    Ok(response(StatusCode::OK, &response_body))
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = status;
    response
}
