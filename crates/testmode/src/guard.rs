//! Refuses requests that a page of another site could have sent: the endpoints of test mode need no credentials, and
//! those for the API are public.

use std::net::IpAddr;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse};
use domain::Problem;
use futures_util::future::LocalBoxFuture;
use web::{Interceptor, has_content_type};

use crate::chaos::Chaos;
use crate::error::Error;

/// The paths that answer every request, because load balancers send their own names.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Name by which a container reaches the machine that runs it.
const CONTAINER_HOST: &str = "host.docker.internal";

/// Checks that a request does not come from a page of another site.
///
/// A page can send a request to any address, but not with a body of type JSON unless a preflight request permits it,
/// and no response of test mode permits it. A page whose host name was made to resolve to this server (DNS rebinding)
/// counts as the same site, so the host name must be one that no other site can have.
///
/// # Errors
/// Returns [`Error::WrongHost`] if the request's host is not known, or error code 20415 if a request that changes
/// something does not have the type JSON.
pub(crate) fn require_intended(http: &HttpRequest, hosts: &[String]) -> Result<(), Error> {
    require_known_site(http, hosts)?;
    let is_read = matches!(*http.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let has_type = http.headers().contains_key(header::CONTENT_TYPE);
    if is_read || has_type && has_content_type(http, "application/json") {
        return Ok(());
    }
    Err(Problem::json_required().into())
}

/// Checks that the request's host and, if a page has sent it, the page's origin are known.
///
/// # Errors
/// Returns [`Error::WrongHost`] or [`Error::ForeignOrigin`] if they are not.
fn require_known_site(http: &HttpRequest, hosts: &[String]) -> Result<(), Error> {
    let text = |name| http.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !is_known(host, hosts) {
        return Err(Error::WrongHost(host.to_owned()));
    }
    match text(header::ORIGIN) {
        Some(origin) if !origin.split_once("://").is_some_and(|(_, host)| is_known(host, hosts)) => {
            Err(Error::ForeignOrigin(origin.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses requests of other sites on every path, and simulates the failures of the API that tests asked for.
pub(crate) struct Gate {
    pub(crate) hosts: Vec<String>,
    pub(crate) chaos: Chaos,
}

impl Interceptor for Gate {
    fn intercept<'i>(&'i self, http: &'i HttpRequest) -> LocalBoxFuture<'i, Option<HttpResponse>> {
        if !HEALTH_PATHS.contains(&http.path())
            && let Err(error) = require_known_site(http, &self.hosts)
        {
            let response = error.to_response();
            return Box::pin(async { Some(response) });
        }
        self.chaos.intercept(http)
    }
}

/// Returns whether `host`, the value of a `Host` header, can only be meant for this server: an IP address, a name that
/// resolves to the machine itself, a name without a dot, or one of `hosts`.
fn is_known(host: &str, hosts: &[String]) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.split(']').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return false;
    }
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || name.ends_with(".localhost")
        || name == CONTAINER_HOST
        || hosts.iter().any(|known| known.trim_end_matches('.').eq_ignore_ascii_case(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_local_names_and_configured_names_are_known() {
        let hosts = ["verify.test.example".to_owned()];
        for host in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.1.2.3",
            "localhost:8080",
            "LOCALHOST",
            "app.localhost",
            "countersign:8080",
            "host.docker.internal:80",
            "Verify.Test.Example:8080",
            "verify.test.example.",
        ] {
            assert!(is_known(host, &hosts), "{host}");
        }
    }

    #[test]
    fn names_that_another_site_can_have_are_unknown() {
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "xlocalhost.example",
            "docker.internal",
            "[evil.example]",
            "a b",
            "evil@countersign",
        ] {
            assert!(!is_known(host, &[]), "{host}");
        }
    }
}
