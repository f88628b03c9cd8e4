//! The public URL of the server. All URLs in responses start with it.

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::connection::Connection;

/// The configured public URL, or the setting to derive the URL from each request.
#[derive(Clone, Debug, Default)]
pub struct PublicUrl(Option<String>);

impl PublicUrl {
    /// Creates the setting from a configured URL, such as `https://verify.example.com`. With `None`, the URL is derived
    /// from each request.
    ///
    /// # Errors
    /// Returns a description of the expected form if `url` is not an `http` or `https` origin.
    pub fn new(url: Option<&str>) -> Result<Self, String> {
        let Some(url) = url else { return Ok(Self(None)) };
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        match host {
            Some(host) if is_host(host) => Ok(Self(Some(url.to_owned()))),
            _ => Err("expected an origin such as https://verify.example.com, without a path".to_owned()),
        }
    }

    /// Returns the configured URL without a trailing slash, or `None` if the URL is derived from each request.
    pub fn configured(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Returns the public URL for a response to `request`, without a trailing slash. If the request has no usable
    /// `Host` header, the URL contains the connection's local address.
    pub fn for_request(&self, request: &HttpRequest) -> String {
        if let Some(url) = &self.0 {
            return url.clone();
        }
        let header =
            |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let host = header(header::HOST).filter(|host| is_host(host)).map(str::to_owned);
        let connection = request.conn_data::<Connection>();
        let local = || connection.map_or(request.app_config().local_addr(), Connection::local_address);
        let host = host.unwrap_or_else(|| local().to_string());
        // Any client may set this header. Like `Host`, it affects only the URLs in the response to that client.
        let forwarded = header(header::HeaderName::from_static("x-forwarded-proto"));
        let scheme = match forwarded.map(|scheme| scheme.split(',').next().unwrap_or_default().trim()) {
            Some(scheme @ ("http" | "https")) => scheme,
            _ if connection.is_some_and(Connection::is_secure) => "https",
            _ => "http",
        };
        format!("{scheme}://{host}")
    }
}

/// Returns whether `text` is a host, with or without a port. Characters that could add a path or a user name are not
/// allowed.
fn is_host(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_and_https_origins_are_accepted() {
        for good in ["https://verify.example.com", "http://127.0.0.1:8080/", "http://[::1]:8080"] {
            assert!(PublicUrl::new(Some(good)).is_ok(), "{good}");
        }
        for bad in
            ["", "verify.example.com", "ftp://x", "https://", "https://a/b", "https://u@h", "https://h?x"]
        {
            assert!(PublicUrl::new(Some(bad)).is_err(), "{bad}");
        }
    }
}
