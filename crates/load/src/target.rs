//! The deployment under load: where it is, and how a connection to it is opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use authorities::Authorities;
use device::wire::WireRequest;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use terminal::CliError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::failure::Failure;

/// A request whose body is complete.
pub(crate) type Request = hyper::Request<Full<Bytes>>;

/// A connected stream, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A deployment that can be connected to.
pub(crate) struct Target {
    /// Base URL as given, without a slash at the end.
    base_url: String,
    /// The path of the base URL, which precedes the path of every request.
    path_prefix: String,
    /// Value of the `Host` header.
    authority: HeaderValue,
    /// The addresses of the host. Names are resolved once, so that resolution is not measured.
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
    /// Whether the host is this machine.
    is_local: bool,
}

struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Target {
    /// Resolves the host of `base_url` and checks that it accepts connections.
    ///
    /// # Errors
    /// Returns an error if `base_url` is not an `http` or `https` URL, or if the host cannot be resolved or connected
    /// to.
    pub(crate) async fn resolve(base_url: &str) -> Result<Self, CliError> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let invalid =
            || CliError::new(format!("--host: {base_url} is not a URL such as http://127.0.0.1:8080"));
        let url = Url::parse(&base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(invalid)?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(invalid());
        };
        let (name, server_name) = match host {
            Host::Domain(name) => {
                (name.to_owned(), ServerName::try_from(name.to_owned()).map_err(|_| invalid())?)
            }
            Host::Ipv4(address) => (address.to_string(), IpAddr::from(address).into()),
            Host::Ipv6(address) => (address.to_string(), IpAddr::from(address).into()),
        };
        let unreachable =
            |error: io::Error| CliError::new(format!("--host: cannot connect to {base_url}: {error}"));
        let addresses: Vec<_> = lookup_host((name, port)).await.map_err(unreachable)?.collect();
        let is_https = url.scheme() == "https";
        let mut target = Self {
            path_prefix: url.path().trim_end_matches('/').to_owned(),
            authority: HeaderValue::try_from(authority(&url)).map_err(|_| invalid())?,
            addresses,
            tls: is_https
                .then(|| tls_connector().map(|connector| Tls { connector, server_name }))
                .transpose()?,
            is_local: false,
            base_url: base_url.clone(),
        };
        let stream = target.connect_tcp().await.map_err(unreachable)?;
        target.is_local = is_same_machine(&stream).unwrap_or_default();
        Ok(target)
    }

    /// Returns the base URL, without a slash at the end.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Returns the port of the server if it runs on this machine.
    pub(crate) fn local_port(&self) -> Option<u16> {
        self.addresses.first().filter(|_| self.is_local).map(SocketAddr::port)
    }

    /// Opens a connection, with TLS if the URL is `https`.
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.connect_tcp().await?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.connector.connect(tls.server_name.clone(), stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }

    async fn connect_tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Builds a request to the deployment, with the given value of the `Authorization` header.
    pub(crate) fn request(
        &self,
        method: Method,
        path_and_query: &str,
        authorization: HeaderValue,
        body: Option<String>,
    ) -> Result<Request, Failure> {
        let uri = Uri::try_from(format!("{}{path_and_query}", self.path_prefix));
        let mut request = Request::new(Full::from(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|error| Failure::unexpected(&error))?;
        request.headers_mut().insert(HOST, self.authority.clone());
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(request)
    }

    /// Builds a request of a phone, with all headers of the SDK that the phone imitates.
    pub(crate) fn phone_request(&self, wire: WireRequest) -> Result<Request, Failure> {
        let authorization = header_value(wire.authorization.expose())?;
        let mut request = self.request(wire.method, &wire.path_and_query, authorization, wire.body)?;
        for (name, value) in &wire.headers {
            let name = HeaderName::try_from(*name).map_err(|error| Failure::unexpected(&error))?;
            request.headers_mut().insert(name, header_value(value)?);
        }
        Ok(request)
    }
}

fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|error| Failure::unexpected(&error))
}

/// Returns the host of `url`, and its port unless it is the default of the scheme.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns whether the peer of `stream` is this machine: the system connects to an address of its own from the same
/// address.
fn is_same_machine(stream: &TcpStream) -> io::Result<bool> {
    let peer = stream.peer_addr()?.ip();
    Ok(peer.is_loopback() || peer == stream.local_addr()?.ip())
}

/// Creates a TLS connector that trusts the machine's certificate authorities. The variable `SSL_CERT_FILE` replaces
/// them with those in a file.
fn tls_connector() -> Result<TlsConnector, CliError> {
    let authorities = Authorities::of_system();
    if authorities.is_empty() {
        return Err(CliError::new(
            "this machine has no certificate authorities, which https needs; set SSL_CERT_FILE to a PEM file",
        ));
    }
    let mut config =
        ClientConfig::builder().with_root_certificates(authorities.store()).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn host_that_is_not_an_http_url_is_rejected() {
        for bad in ["", "127.0.0.1:8080", "ftp://verify.example", "http://"] {
            let error = Target::resolve(bad).await.err().unwrap().to_string();
            assert!(error.contains("is not a URL"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn path_of_the_host_precedes_the_path_of_each_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target =
            Target::resolve(&format!("http://user:password@127.0.0.1:{port}/verify/")).await.unwrap();
        let request =
            target.request(Method::GET, "/v2/Services", HeaderValue::from_static("x"), None).unwrap();
        assert_eq!(request.uri(), "/verify/v2/Services");
        assert_eq!(request.headers()[HOST], format!("127.0.0.1:{port}").as_str());
        assert_eq!(target.local_port(), Some(port));
    }

    #[test]
    fn authority_omits_the_default_port() {
        let authority = |text: &str| authority(&Url::parse(text).unwrap());
        assert_eq!(authority("https://verify.example:443/"), "verify.example");
        assert_eq!(authority("http://[::1]:8080"), "[::1]:8080");
    }
}
