//! HTTP for outlets: the client, the parts of a response that matter, and which responses are worth another try.

use std::sync::Arc;
use std::time::Duration;

use authorities::Authorities;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;

use crate::codes;
use crate::error::Error;
use crate::message::Outcome;
use crate::redaction::Redactor;

/// Maximum number of bytes read of a response that is not parsed.
pub(crate) const MAX_TEXT_BYTES: usize = 1024;

/// Maximum number of bytes read of a response that is parsed as JSON.
pub(crate) const MAX_JSON_BYTES: usize = 64 * 1024;

/// Maximum delay accepted from a `Retry-After` header, in seconds. Codes rarely remain valid for longer.
const MAX_RETRY_AFTER_SECONDS: u64 = 60 * 60;

/// Maximum number of characters of a gateway's own ID of a message.
const MAX_ID_CHARACTERS: usize = 64;

/// Sends requests to gateways.
pub(crate) struct Transport {
    client: Client,
}

impl Transport {
    /// Creates a transport without connections.
    ///
    /// # Errors
    /// Returns [`Error::Tls`] if the TLS configuration is rejected.
    pub(crate) fn new(
        authorities: &Authorities,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, Error> {
        let client = Client::builder()
            // Ignore proxy variables in the environment: only documented settings apply.
            .no_proxy()
            .tls_backend_preconfigured(tls(authorities).map_err(|error| Error::Tls(Box::new(error)))?)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(connect_timeout)
            .redirect(Policy::none())
            .referer(false)
            .build()
            .map_err(|error| Error::Tls(Box::new(error)))?;
        Ok(Self { client })
    }

    /// Starts a request.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }
}

/// Returns the TLS configuration of an HTTP client.
fn tls(authorities: &Authorities) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities.store())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The response of a gateway.
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The first bytes of the body.
    pub(crate) body: String,
    /// How long the gateway asked to wait.
    retry_after: Option<Duration>,
}

impl Response {
    /// Sends a request and reads the response, of whose body about `max_bytes` are read.
    ///
    /// # Errors
    /// Returns a description of the failure if the status and the headers of the response do not arrive in time.
    pub(crate) async fn to(request: RequestBuilder, max_bytes: usize) -> Result<Self, String> {
        let read = async {
            let mut response = request.send().await?;
            let mut body = Vec::new();
            // The status says whether the message was accepted, even if the rest of the response does not arrive. With
            // another attempt, the recipient would get the message twice.
            while body.len() < max_bytes
                && let Ok(Some(chunk)) = response.chunk().await
            {
                body.extend_from_slice(&chunk);
            }
            body.truncate(max_bytes);
            let retry_after = response.headers().get(RETRY_AFTER);
            Ok(Self {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(&body).into_owned(),
                retry_after: retry_after.and_then(|value| parse_retry_after(value.to_str().ok()?)),
            })
        };
        read.await.map_err(|error: reqwest::Error| {
            if error.is_timeout() {
                "timed out waiting for a response".to_owned()
            } else {
                // Omit the URL, which may contain the message and secrets.
                domain::error_report(&error.without_url())
            }
        })
    }

    /// Returns whether the status is one of success.
    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Parses the body as JSON. Returns `null` if it is not valid JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the outcome of a message that the gateway did not accept: whether a later attempt may succeed depends on
    /// the status. `words` is what the gateway said.
    pub(crate) fn failure(&self, code: u32, words: &str, redactor: &Redactor) -> Outcome {
        let status = self.status;
        let separator = if words.trim().is_empty() { "" } else { ": " };
        let reason = redactor.reason(&format!("HTTP {status}{separator}{words}"));
        match status {
            408 | 425 | 429 | 500..=599 => Outcome::Retry { after: self.retry_after, code, reason },
            _ => Outcome::Refused { code, reason },
        }
    }
}

/// Returns the outcome of a request to which no response arrived.
pub(crate) fn no_response(reason: &str, redactor: &Redactor) -> Outcome {
    Outcome::Retry { after: None, code: codes::UNKNOWN_ERROR, reason: redactor.reason(reason) }
}

/// Parses a number of seconds, of which at most an hour counts. Gateways do not send dates.
fn parse_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Only an overflow can fail here, and the maximum is limited.
    let seconds = || text.parse().unwrap_or(u64::MAX).min(MAX_RETRY_AFTER_SECONDS);
    is_number.then(|| Duration::from_secs(seconds()))
}

/// Returns a gateway's own ID of a message, if `value` is a text or a number.
pub(crate) fn provider_id(value: &serde_json::Value, redactor: &Redactor) -> Option<String> {
    let text = plain_text(value).filter(|text| !text.is_empty())?;
    Some(redactor.reason(&text).chars().take(MAX_ID_CHARACTERS).collect())
}

/// Returns the text of a JSON string, number or boolean.
pub(crate) fn plain_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::text_message;

    #[test]
    fn retry_after_is_a_number_of_seconds_up_to_an_hour() {
        let seconds = |text| parse_retry_after(text).map(|after| after.as_secs());
        for (text, expected) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("3601", Some(3600)),
            ("99999999999999999999", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("Thu, 01 Jan 2026 00:00:10 GMT", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn only_temporary_statuses_are_tried_again() {
        let redactor = Redactor::new(&text_message(), None);
        let is_retry = |status| {
            let response = Response { status, body: String::new(), retry_after: None };
            matches!(response.failure(30008, "", &redactor), Outcome::Retry { .. })
        };
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(is_retry(status), "{status}");
        }
        for status in [200, 301, 400, 401, 404, 407, 422, 600] {
            assert!(!is_retry(status), "{status}");
        }
    }
}
