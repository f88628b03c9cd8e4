//! A small HTTP client that hides nothing: no redirects, no retries, every answer is a [`Reply`].

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, Url, redirect};

/// What a request says about who sends it.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nothing.
    None,
    /// HTTP Basic: user name and password.
    Basic(String, String),
    /// This `Authorization` header, word for word.
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
    /// A client for the server at `base`, such as `http://127.0.0.1:8080`, that signs in as nobody.
    pub fn new(base: &str) -> Self {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            // Only plain HTTP is spoken here; this spares every test the loading of the machine's
            // certificates, and the failure where there are none.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .expect("an HTTP client");
        Self { base: base.trim_end_matches('/').to_owned(), auth: Auth::None, headers: Vec::new(), client }
    }

    /// The same client, signing in as `auth` from now on.
    pub fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// The same client, with one more header from now on.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// GETs `path`, with `form` in the query string.
    pub async fn get(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.ask(Method::GET, path, form).await
    }

    /// DELETEs `path`, with `form` in the query string.
    pub async fn delete(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.ask(Method::DELETE, path, form).await
    }

    /// POSTs `form` to `path` as `application/x-www-form-urlencoded`.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        self.raw_body(path, "application/x-www-form-urlencoded", encoded(form)).await
    }

    /// POSTs these very bytes to `path` under this content type.
    pub async fn raw_body(&self, path: &str, content_type: &str, bytes: impl Into<Vec<u8>>) -> Reply {
        let request = self.client.post(self.url(path)).header(CONTENT_TYPE, content_type);
        self.send(request.body(bytes.into())).await
    }

    async fn ask(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Reply {
        let mut url = self.url(path);
        if !form.is_empty() {
            let separator = if path.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}{}", encoded(form));
        }
        self.send(self.client.request(method, url)).await
    }

    /// A server's own links (`next_page_url`) are absolute; they are followed as they stand.
    fn url(&self, path: &str) -> String {
        if path.starts_with("http://") || path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        }
    }

    async fn send(&self, request: RequestBuilder) -> Reply {
        let request = match &self.auth {
            Auth::None => request,
            Auth::Basic(user, password) => request.basic_auth(user, Some(password)),
            Auth::Raw(header) => request.header(AUTHORIZATION, header),
        };
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send().await.expect("a response");
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("the response's body"),
        }
    }
}

/// What a server answered.
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
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// With the whole answer, if it isn't JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// The header of this name, if the answer has it and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `a=1&b=2`: a URL knows how, and its query string is encoded just as a form is.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("a URL");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}
