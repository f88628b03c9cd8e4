//! Refuses requests that a page in a browser could have sent, because the endpoints of test mode need no credentials.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::{Method, header};
use domain::Problem;
use web::has_content_type;

use crate::error::Error;

/// Name by which a container reaches the machine that runs it.
const CONTAINER_HOST: &str = "host.docker.internal";

/// Checks that a request does not come from a page of another site.
///
/// A page can send a request to any address, but not with a body of type JSON unless a preflight request permits it, and
/// no response of test mode permits it. A page whose host name was made to resolve to this server (DNS rebinding) counts as
/// the same site, so the host name must be one that no other site can have.
///
/// # Errors
/// Returns [`Error::WrongHost`] if the request's host is not known, or error code 20415 if a request that changes
/// something does not have the type JSON.
pub(crate) fn require_intended(http: &HttpRequest, hosts: &[String]) -> Result<(), Error> {
    let host = http.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_known(host, hosts) {
        return Err(Error::WrongHost(host.to_owned()));
    }
    let is_read = matches!(*http.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let has_type = http.headers().contains_key(header::CONTENT_TYPE);
    if is_read || has_type && has_content_type(http, "application/json") {
        return Ok(());
    }
    Err(Problem::json_required().into())
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
