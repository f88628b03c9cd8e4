//! A small HTTP client without redirects and retries, which returns every response as a [`Reply`].

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};

use crate::events::{Events, is_event_stream};

/// The credentials of a request.
#[derive(Clone, Debug)]
pub enum Auth {
    /// No credentials.
    None,
    /// HTTP Basic: user name and password.
    Basic(String, String),
    /// This literal value of the `Authorization` header.
    Raw(String),
}

/// An HTTP client for one server.
#[derive(Clone, Debug)]
pub struct Http {
    base: String,
    auth: Auth,
    headers: Vec<(String, String)>,
    client: Client,
}

impl Http {
    /// Returns a client without credentials for the server at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            // Only plain HTTP is used here. This skips loading the machine's certificates in every test, and
            // works on machines without any.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .expect("an HTTP client");
        Self { base: base.trim_end_matches('/').to_owned(), auth: Auth::None, headers: Vec::new(), client }
    }

    /// Returns the same client with the credentials `auth`.
    pub fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Returns the same client with one more header on every request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends GET to `path` with `form` in the query string.
    pub async fn get(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.ask(Method::GET, path, form).await
    }

    /// Sends DELETE to `path` with `form` in the query string.
    pub async fn delete(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.ask(Method::DELETE, path, form).await
    }

    /// Sends POST to `path` with `form` as `application/x-www-form-urlencoded`.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.raw_body(path, "application/x-www-form-urlencoded", encoded(form)).await
    }

    /// Sends POST to `path` with `body` as `application/json`.
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.raw_body(path, "application/json", body.to_string()).await
    }

    /// Sends a request with this method to `path`, with `body` as `application/json`, or with that type and no body.
    pub async fn send_json(&self, method: Method, path: &str, body: Option<&serde_json::Value>) -> Reply {
        let request = self.client.request(method, self.url(path)).header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.map(ToString::to_string).unwrap_or_default())).await
    }

    /// Sends POST to `path` with these literal bytes and this content type.
    pub async fn raw_body(&self, path: &str, content_type: &str, bytes: impl Into<Vec<u8>>) -> Reply {
        let request = self.client.post(self.url(path)).header(CONTENT_TYPE, content_type);
        self.send(request.body(bytes.into())).await
    }

    /// Sends GET to `path`, and returns the response, which must be a stream of events. Each event must arrive within
    /// `timeout`.
    ///
    /// # Panics
    ///
    /// With the whole response, if it is another one.
    pub async fn events(&self, path: &str, timeout: Duration) -> Events {
        // The timeout of the client would end the whole response.
        let request = self.client.get(self.url(path)).timeout(Duration::from_secs(3600));
        let response = self.response(request).await;
        if response.status().is_success() && is_event_stream(response.headers()) {
            return Events::new(response, timeout);
        }
        panic!("no stream of events: {:?}", reply(response).await);
    }

    async fn ask(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Reply {
        let mut url = self.url(path);
        if !form.is_empty() {
            let separator = if path.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}{}", encoded(form));
        }
        self.send(self.client.request(method, url)).await
    }

    /// Returns the URL of `path`. The server's own links (`next_page_url`) are absolute and used unchanged.
    fn url(&self, path: &str) -> String {
        if path.starts_with("http://") || path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        }
    }

    async fn send(&self, request: RequestBuilder) -> Reply {
        reply(self.response(request).await).await
    }

    async fn response(&self, request: RequestBuilder) -> Response {
        let request = match &self.auth {
            Auth::None => request,
            Auth::Basic(user, password) => request.basic_auth(user, Some(password)),
            Auth::Raw(header) => request.header(AUTHORIZATION, header),
        };
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.expect("a response")
    }
}

/// Reads a response. Of a stream of events, only the beginning is read, because it does not end.
async fn reply(mut response: Response) -> Reply {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = match is_event_stream(&headers) {
        true => {
            let chunk = response.chunk().await.expect("the beginning of the response's body");
            chunk.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        }
        false => response.text().await.expect("the response's body"),
    };
    Reply { status, headers, text }
}

/// A received response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Reply {
    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// With the whole response, if the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// Returns the value of this header, if the response has it and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Returns `form` as `a=1&b=2`; a query string has the same encoding as a form.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("a URL");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}
