//! The backend: plain HTTP with an account SID and its auth token, as any language can do it.

use std::sync::Arc;

use app::MadeAccount;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

use crate::demo::exchange::Exchange;
use crate::demo::narrator::Narrator;
use crate::demo::text::{hint, short};
use crate::failure::Failure;

/// How a request of the backend is retold.
#[derive(Clone, Copy)]
pub(super) struct Retold {
    /// What the server looks at before it does what it is asked.
    pub(super) checks: &'static str,
    /// Members of the answer that are worth a look.
    pub(super) interesting: &'static [&'static str],
}

/// An application's server.
pub(super) struct Backend {
    http: Client,
    url: String,
    account: MadeAccount,
    narrator: Arc<Narrator>,
}

/// What came back.
struct Reply {
    status: u16,
    body: String,
}

impl Backend {
    pub(super) fn new(url: &str, account: MadeAccount, narrator: Arc<Narrator>) -> Result<Self, Failure> {
        // What runs in this process is not behind a proxy, whatever the environment says.
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { http, url: url.to_owned(), account, narrator })
    }

    /// Creates something, aloud, and returns it.
    pub(super) async fn create(
        &self,
        path: &str,
        form: &[(&str, &str)],
        retold: Retold,
    ) -> Result<Value, Failure> {
        self.post(path, form, retold).await?.expect(201)
    }

    /// Updates something, aloud, and returns it.
    pub(super) async fn update(
        &self,
        path: &str,
        form: &[(&str, &str)],
        retold: Retold,
    ) -> Result<Value, Failure> {
        self.post(path, form, retold).await?.expect(200)
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], retold: Retold) -> Result<Reply, Failure> {
        let form = encoded(form)?;
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form.clone());
        let reply = self.send(request).await?;
        self.tell(Method::POST, path, &form, &reply, retold);
        Ok(reply)
    }

    /// Reads something, aloud.
    pub(super) async fn read(&self, path: &str, retold: Retold) -> Result<Value, Failure> {
        let reply = self.get(path).await?;
        self.tell(Method::GET, path, "", &reply, retold);
        reply.expect(200)
    }

    /// Reads something without a word about it.
    pub(super) async fn peek(&self, path: &str) -> Result<Value, Failure> {
        self.get(path).await?.expect(200)
    }

    /// What the signature of a webhook has to be.
    pub(super) fn webhook_signature(&self, url: &str, form: &[(String, String)]) -> String {
        webhook_client::sign(&self.account.auth_token, url, form)
    }

    async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        let (sid, token) = (self.account.account.sid, &self.account.auth_token);
        let answer = request.basic_auth(sid, Some(token.expose())).send().await?;
        Ok(Reply { status: answer.status().as_u16(), body: answer.text().await? })
    }

    fn tell(&self, method: Method, path: &str, form: &str, reply: &Reply, retold: Retold) {
        let sid = short(&self.account.account.sid.to_string());
        let token = hint(self.account.auth_token.expose());
        self.narrator.exchange(&Exchange {
            who: "backend",
            method: method.as_str(),
            path_and_query: path,
            authorization: vec![format!(
                "Authorization: Basic {sid}:{token}  (account SID : auth token, in base64)"
            )],
            form,
            signed: Vec::new(),
            checks: retold.checks,
            status: reply.status,
            header: None,
            body: &reply.body,
            interesting: retold.interesting,
        });
    }
}

impl Reply {
    fn expect(&self, status: u16) -> Result<Value, Failure> {
        if self.status == status {
            Ok(serde_json::from_str(&self.body)?)
        } else {
            Err(Failure::new(format!(
                "the server answered {}, and should have answered {status}",
                self.status
            )))
        }
    }
}

/// A form, encoded as the query of an address is.
fn encoded(form: &[(&str, &str)]) -> Result<String, Failure> {
    Ok(Url::parse_with_params("http://form/", form)?.query().unwrap_or_default().to_owned())
}
