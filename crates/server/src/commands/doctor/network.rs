//! Checks the network: the public URL, certificates, and the hosts of webhooks.

use std::net::SocketAddr;
use std::time::Duration;

use domain::credentials::Credential;
use domain::webhooks::Status;
use domain::{Account, CallbackUrl, Timestamp, Webhook};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use webhook_client::Guard;

use super::{EXPIRY_WARNING_DAYS, Report};
use crate::options::ServeOptions;
use crate::serve_settings::read_certificate;

/// Maximum time for one name resolution or connection attempt.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of webhook hosts that are checked.
const MAX_CHECKED_HOSTS: usize = 100;

/// Checks how clients reach the server: the TLS certificate, trusted proxies, and the public URL.
pub(super) fn check_listener(report: &mut Report, options: &ServeOptions, now: Timestamp) {
    check_certificate(report, options, now);
    check_trusted_proxies(report, options);
    let subject = "public url";
    match options.public_url.as_deref() {
        Some(url) if url.starts_with("https://") => report.ok(subject, url),
        Some(url) => report.warning(
            subject,
            format!("{url} is not https"),
            "use https: phones with the Android SDK require it, and plain HTTP exposes tokens on the network",
        ),
        None if options.tls_cert.is_some() => report.ok(subject, "derived from each request, over https"),
        None if options.listen.ip().is_loopback() => {
            report.ok(subject, "derived from each request; the server is reachable from this machine only");
        }
        None => report.warning(
            subject,
            "not set: URLs in responses are derived from each request, which is not https here",
            "set --public-url to the URL of the reverse proxy that terminates TLS, or set --tls-cert",
        ),
    }
}

/// Checks that trusted proxies are set if a reverse proxy terminates TLS. Otherwise, all connections appear to come
/// from the proxy's address.
fn check_trusted_proxies(report: &mut Report, options: &ServeOptions) {
    let is_behind_proxy = options.tls_cert.is_none()
        && options.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    if is_behind_proxy && options.trusted_proxies.is_empty() {
        report.warning(
            "trusted proxies",
            "none, so all clients appear to have the address of the proxy",
            "set its network with --trusted-proxies; otherwise failed authentications of one client count against all",
        );
    }
}

fn check_certificate(report: &mut Report, options: &ServeOptions, now: Timestamp) {
    let subject = "tls certificate";
    match read_certificate(options) {
        Ok(None) => {}
        Ok(Some(certificate)) => match certificate.expires_at() {
            Some(expires_at) => {
                report_expiry(
                    report,
                    subject,
                    "it",
                    expires_at,
                    now,
                    "renew it, and send SIGHUP to the server",
                );
            }
            None => {
                report.warning(subject, "its expiry can't be read", "check that it is an X.509 certificate")
            }
        },
        Err(error) => {
            report.problem(subject, error.to_string(), "set --tls-cert and --tls-key to a matching pair")
        }
    }
}

/// Reports when `what` expires: as a warning if it expires within [`EXPIRY_WARNING_DAYS`], and as a problem if it has
/// already expired.
fn report_expiry(
    report: &mut Report,
    subject: &'static str,
    what: &str,
    expires_at: Timestamp,
    now: Timestamp,
    advice: &str,
) {
    let days = (expires_at.seconds() - now.seconds()).div_euclid(86_400);
    if expires_at <= now {
        report.problem(subject, format!("{what} expired at {expires_at}"), advice);
    } else if days < EXPIRY_WARNING_DAYS {
        report.warning(subject, format!("{what} expires at {expires_at}, {days} days from now"), advice);
    } else {
        report.ok(subject, format!("{what} expires at {expires_at}"));
    }
}

/// Checks when the certificates of push credentials expire.
pub(super) fn check_credentials(report: &mut Report, credentials: &[Credential], now: Timestamp) {
    for credential in credentials {
        if let Some(expires_at) = credential.expires_at {
            let what = format!("the certificate of {}", credential.sid);
            let advice =
                "replace the certificate of this credential; pushes with it fail once it has expired";
            report_expiry(report, "push credential", &what, expires_at, now, advice);
        }
    }
    if credentials.is_empty() {
        report.ok("push credential", "none: challenges are not pushed, so phones must poll for them");
    }
}

/// Resolves each host to which webhooks, alerts and verification events are sent, and checks that at least one of its
/// addresses is permitted. With `online`, also connects to the host. Checks at most [`MAX_CHECKED_HOSTS`] hosts.
pub(super) async fn check_webhooks(
    report: &mut Report,
    webhooks: &[Webhook],
    accounts: &[Account],
    options: &ServeOptions,
    online: bool,
) {
    let subject = "webhook host";
    let guard = Guard::new(options.deliveries.webhook_allow_network.clone());
    let enabled = webhooks.iter().filter(|webhook| webhook.status == Status::Enabled);
    let of_accounts = accounts.iter().flat_map(|account| {
        [&account.debugger_webhook, &account.verification_events_url].into_iter().flatten()
    });
    let urls = enabled.map(|webhook| &webhook.url).chain(of_accounts).map(CallbackUrl::url);
    let mut hosts: Vec<(String, u16)> = urls
        .filter_map(|url| {
            Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    for (host, port) in hosts.iter().take(MAX_CHECKED_HOSTS) {
        let addresses: Vec<SocketAddr> =
            match timeout(NETWORK_TIMEOUT, lookup_host((host.as_str(), *port))).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
        if addresses.is_empty() {
            report.warning(
                subject,
                format!("{host} can't be resolved"),
                "check the name of the host, and that DNS works on this machine",
            );
            continue;
        }
        let Some(address) = addresses.iter().find(|address| guard.permits(address.ip())) else {
            report.warning(
                subject,
                format!("{host} resolves to an address that is not public ({})", addresses[0].ip()),
                "if that is intended, permit its network with --webhook-allow-network",
            );
            continue;
        };
        if online && !matches!(timeout(NETWORK_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_))) {
            report.warning(
                subject,
                format!("{host} does not accept connections on port {port}"),
                "check that the receiver runs, and that no firewall blocks this machine",
            );
            continue;
        }
        report.ok(subject, host.as_str());
    }
}
