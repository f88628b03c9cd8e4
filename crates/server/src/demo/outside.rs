//! Those whom the server calls: Google's place as a push provider, and the backend's webhook.

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
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::failure::Failure;

/// How long a call that is owed may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most that a body can be.
const LARGEST: usize = 64 * 1024;

/// Where the backend's webhook is.
pub(super) const HOOK: &str = "/hook";

/// Both of them, on one address of this machine.
pub(super) struct Outside {
    address: SocketAddr,
    calls: UnboundedReceiver<Call>,
    task: tokio::task::JoinHandle<()>,
}

/// What the server said.
pub(super) struct Call {
    pub(super) path: String,
    /// Of the webhook.
    pub(super) signature: String,
    pub(super) body: String,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outside {
    /// Begins to listen.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub(super) async fn open() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (heard, calls) = unbounded_channel();
        Ok(Self { address, calls, task: tokio::spawn(listen(listener, heard)) })
    }

    /// `http://address`
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A service account of the project `demo`, as Google hands it out in a file.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn service_account(&self) -> Result<String, Failure> {
        let unusable = |_| Failure::new("an RSA key can't be made");
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(unusable)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(unusable)?;
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

    /// Waits for the first call that is the one; what comes before it is not heard again.
    ///
    /// # Errors
    /// When it does not come in time.
    pub(super) async fn wait(&mut self, what: &str, is_it: impl Fn(&Call) -> bool) -> Result<Call, Failure> {
        let wait = async {
            loop {
                match self.calls.recv().await {
                    Some(call) if is_it(&call) => return Some(call),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let call = tokio::time::timeout(PATIENCE, wait).await.ok().flatten();
        call.ok_or_else(|| Failure::new(format!("{what} should have come, and has not")))
    }
}

/// Google's servers speak HTTP/2, backends mostly HTTP/1.1: whichever it is.
async fn listen(listener: TcpListener, heard: UnboundedSender<Call>) {
    while let Ok((socket, _)) = listener.accept().await {
        let heard = heard.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, heard.clone()));
            // A connection that breaks is no concern of the demo's.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    heard: UnboundedSender<Call>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return Ok(reply(StatusCode::BAD_REQUEST, &Value::Null));
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let answer = match path.as_str() {
        "/token" => json!({ "access_token": "demo", "expires_in": 3600, "token_type": "Bearer" }),
        HOOK => json!({}),
        _ => json!({ "name": "projects/demo/messages/1" }),
    };
    let signature = parts.headers.get("X-Twilio-Signature").and_then(|value| value.to_str().ok());
    let signature = signature.unwrap_or_default().to_owned();
    let _ = heard.send(Call { path, signature, body });
    Ok(reply(StatusCode::OK, &answer))
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = status;
    response
}
