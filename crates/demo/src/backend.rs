//! The backend: sends plain HTTP requests with the account SID and auth token, as it could in any language.

use std::sync::Arc;

use app::AccountWithToken;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use terminal::CliError;
use url::form_urlencoded;

use crate::exchange::ExchangeView;
use crate::format::{abbreviate, abbreviate_secret};
use crate::printer::Printer;

/// What is printed about a request in addition to its content.
#[derive(Clone, Copy)]
pub(crate) struct Explanation {
    /// Description of what the server checks before it executes the request.
    pub(crate) checks: &'static str,
    /// Names of the response body members to show.
    pub(crate) shown_members: &'static [&'static str],
}

/// The backend: the application's server. It calls the API and prints the requests it makes.
pub(crate) struct Backend {
    http: Client,
    url: String,
    account: Arc<AccountWithToken>,
    printer: Arc<Printer>,
}

struct Reply {
    status: u16,
    body: String,
}

impl Backend {
    /// Creates a backend that calls the server at `url` with the credentials of `account`.
    pub(crate) fn new(
        url: &str,
        account: Arc<AccountWithToken>,
        printer: Arc<Printer>,
    ) -> Result<Self, CliError> {
        // Ignore proxies in the environment, because the server runs in this process.
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { http, url: url.to_owned(), account, printer })
    }

    /// Creates a resource with a POST to `path`, prints the exchange, and returns the resource. Any status
    /// other than 201 is an error.
    pub(crate) async fn create(
        &self,
        path: &str,
        form: &[(&str, &str)],
        explanation: Explanation,
    ) -> Result<Value, CliError> {
        self.post(path, form, explanation).await?.require_status(201)
    }

    /// Sends a POST to `path` that must be refused with `status`, prints the exchange, and returns the error.
    pub(crate) async fn post_expecting_refusal(
        &self,
        path: &str,
        form: &[(&str, &str)],
        explanation: Explanation,
        status: u16,
    ) -> Result<Value, CliError> {
        self.post(path, form, explanation).await?.require_status(status)
    }

    /// Updates the resource at `path`, prints the exchange, and returns the resource. Any status other than
    /// 200 is an error.
    pub(crate) async fn update(
        &self,
        path: &str,
        form: &[(&str, &str)],
        explanation: Explanation,
    ) -> Result<Value, CliError> {
        self.post(path, form, explanation).await?.require_status(200)
    }

    async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        explanation: Explanation,
    ) -> Result<Reply, CliError> {
        let form = encode(form);
        let reply = self.send_post(path, form.clone()).await?;
        self.print(Method::POST, path, &form, &reply, explanation);
        Ok(reply)
    }

    /// Fetches the resource at `path`, prints the exchange, and returns the resource.
    pub(crate) async fn get(&self, path: &str, explanation: Explanation) -> Result<Value, CliError> {
        let reply = self.send_get(path).await?;
        self.print(Method::GET, path, "", &reply, explanation);
        reply.require_status(200)
    }

    /// Fetches and returns the resource at `path` without printing the exchange.
    pub(crate) async fn get_silently(&self, path: &str) -> Result<Value, CliError> {
        self.send_get(path).await?.require_status(200)
    }

    /// Creates a resource with a POST to `path` without printing the exchange, and returns the resource.
    pub(crate) async fn create_silently(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, CliError> {
        self.send_post(path, encode(form)).await?.require_status(201)
    }

    /// Fetches the resource at `path` without printing the exchange. Returns `None` if it does not exist.
    pub(crate) async fn find_silently(&self, path: &str) -> Result<Option<Value>, CliError> {
        let reply = self.send_get(path).await?;
        if reply.status == 404 { Ok(None) } else { reply.require_status(200).map(Some) }
    }

    /// Returns the `X-Twilio-Signature` that a webhook request to `url` with this form must have.
    pub(crate) fn sign_webhook(&self, url: &str, form: &[(String, String)]) -> String {
        webhook_client::sign(&self.account.auth_token, url, form)
    }

    async fn send_post(&self, path: &str, form: String) -> Result<Reply, CliError> {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
        self.send(request).await
    }

    async fn send_get(&self, path: &str) -> Result<Reply, CliError> {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, CliError> {
        let (sid, token) = (self.account.account.sid, &self.account.auth_token);
        let response = request.basic_auth(sid, Some(token.expose())).send().await?;
        Ok(Reply { status: response.status().as_u16(), body: response.text().await? })
    }

    fn print(&self, method: Method, path: &str, form: &str, reply: &Reply, explanation: Explanation) {
        let sid = abbreviate(&self.account.account.sid.to_string());
        let token = abbreviate_secret(self.account.auth_token.expose());
        self.printer.print_exchange(&ExchangeView {
            sender: "backend",
            method: method.as_str(),
            path_and_query: path,
            authorization: vec![format!(
                "Authorization: Basic {sid}:{token}  (account SID : auth token, in base64)"
            )],
            form,
            signed: Vec::new(),
            checks: explanation.checks,
            status: reply.status,
            header: None,
            body: &reply.body,
            shown_members: explanation.shown_members,
        });
    }
}

/// Returns the string member `name` of a body, or an error if there is no such member.
pub(crate) fn string_member(body: &Value, name: &str) -> Result<String, CliError> {
    let text = body[name].as_str().map(str::to_owned);
    text.ok_or_else(|| CliError::new(format!("the body has no {name}")))
}

/// Returns the pairs as an encoded form.
fn encode(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

impl Reply {
    fn require_status(&self, status: u16) -> Result<Value, CliError> {
        if self.status == status {
            Ok(serde_json::from_str(&self.body)?)
        } else {
            Err(CliError::new(format!("the server responded with {} instead of {status}", self.status)))
        }
    }
}
