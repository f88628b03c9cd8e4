//! `countersign health`: for container engines, whose images have nothing else that could ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;

use crate::cli::Serve;
use crate::failure::Failure;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Ask whether it can serve, and not only whether it is there
    #[arg(long)]
    ready: bool,

    #[command(flatten)]
    serve: Box<Serve>,
}

/// Asks the server that listens where this configuration says.
///
/// # Errors
/// When it does not answer that it is well.
pub(crate) async fn run(health: Health) -> Result<(), Failure> {
    let mut address = health.serve.listen;
    // An address that stands for all of them is none to call.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let scheme = if health.serve.tls_cert.is_some() { "https" } else { "http" };
    let path = if health.ready { "/readyz" } else { "/healthz" };
    let url = format!("{scheme}://{address}{path}");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        // Its certificate is for the name that others call it by; nothing is told here, and nothing believed
        // but that somebody answers.
        .danger_accept_invalid_certs(true)
        .build()?;
    let status = client.get(&url).send().await?.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure::new(format!("{url} answers {status}")))
}
