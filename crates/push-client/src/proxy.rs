//! An HTTP proxy through which the server reaches the push providers, for networks without direct internet
//! access.

use std::fmt;

use reqwest::{NoProxy, Url};

use crate::error::Error;

/// An HTTP proxy that tunnels connections to a provider (`CONNECT`, RFC 9110 section 9.3.6). TLS is
/// end-to-end with the provider, so the proxy cannot read pushes.
#[derive(Clone)]
pub struct Proxy {
    url: Url,
    except: String,
}

impl Proxy {
    /// Parses `http://host:port` or `http://user:password@host:port`; the scheme is optional. `except` lists
    /// hosts that bypass the proxy, in the format of `NO_PROXY`.
    ///
    /// # Errors
    /// Returns [`Error::Proxy`] if `address` is not in one of these forms.
    pub fn new(address: &str, except: &str) -> Result<Self, Error> {
        let with_scheme = format!("http://{address}");
        let text = if address.contains("://") { address } else { &with_scheme };
        let is_plain = |url: &Url| {
            url.scheme() == "http"
                && url.has_host()
                && url.path() == "/"
                && url.query().or(url.fragment()).is_none()
        };
        let url = Url::parse(text).ok().filter(is_plain).ok_or(Error::Proxy)?;
        Ok(Self { url, except: except.to_owned() })
    }

    /// Returns the proxy in the HTTP client's type. Connections to a relay without TLS bypass the proxy,
    /// because only TLS connections are tunneled.
    pub(crate) fn to_reqwest(&self) -> Result<reqwest::Proxy, Error> {
        let proxy = reqwest::Proxy::https(self.url.as_str()).map_err(|_| Error::Proxy)?;
        Ok(proxy.no_proxy(NoProxy::from_string(&self.except)))
    }
}

impl fmt::Display for Proxy {
    /// Writes the host and port, without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_address_must_be_http_and_is_shown_without_its_password() {
        for (address, printed) in [
            ("http://proxy.example:3128", "proxy.example:3128"),
            ("http://proxy.example", "proxy.example:80"),
            ("proxy.example:3128", "proxy.example:3128"),
            ("http://owl:hoot@proxy.example:3128/", "proxy.example:3128"),
            ("owl:hoot@[::1]:3128", "[::1]:3128"),
        ] {
            let proxy = Proxy::new(address, "").unwrap();
            assert_eq!(
                (proxy.to_string(), format!("{proxy:?}")),
                (printed.to_owned(), format!("Proxy({printed})"))
            );
            assert!(proxy.to_reqwest().is_ok());
        }
        for bad in [
            "",
            "https://proxy.example",
            "socks5://proxy.example",
            "http://",
            "http://h/path",
            "http://h?q",
            "x y",
        ] {
            let error = Proxy::new(bad, "").map(|_| ()).unwrap_err().to_string();
            assert_eq!(
                error, "expected the address of an HTTP proxy, such as http://proxy.example:3128",
                "{bad}"
            );
        }
    }
}
