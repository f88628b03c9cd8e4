//! `countersign health`: a health check for container engines. It exists because the container image contains no HTTP
//! client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;
use terminal::CliError;

use crate::options::ServeOptions;

/// Maximum time to wait for the server's response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Check that the server is ready for requests (/readyz), not only that it is running (/healthz)
    #[arg(long)]
    ready: bool,

    #[command(flatten)]
    serve: Box<ServeOptions>,
}

/// Sends a health probe to the address on which the configured server listens.
///
/// # Errors
/// Returns an error if the server does not respond within [`REQUEST_TIMEOUT`] with a success status.
pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let mut address = arguments.serve.listen;
    // A server that listens on the unspecified address can be reached on the loopback address.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let scheme = if arguments.serve.tls_cert.is_some() { "https" } else { "http" };
    let path = if arguments.ready { "/readyz" } else { "/healthz" };
    let url = format!("{scheme}://{address}{path}");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(REQUEST_TIMEOUT)
        // The certificate is issued for the public host name, not for this address. The request contains no secrets,
        // and its response needs no protection.
        .danger_accept_invalid_certs(true)
        .build()?;
    let status = client.get(&url).send().await?.status();
    if status.is_success() {
        return Ok(());
    }
    Err(CliError::new(format!("{url} returned {status}")))
}
