//! The way in, and the way out: addresses, certificates, receivers of webhooks.

use std::net::SocketAddr;
use std::time::Duration;

use domain::credentials::Credential;
use domain::webhooks::Status;
use domain::{Timestamp, Webhook};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::Url;
use webhook_client::Guard;

use super::{DAYS, Report};
use crate::cli::Serve;
use crate::serve;

/// How long one look outside may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many hosts of webhooks are looked at.
const HOSTS: usize = 100;

pub(super) fn way_in(report: &mut Report, options: &Serve, now: Timestamp) {
    certificate(report, options, now);
    proxies(report, options);
    let subject = "public url";
    match options.public_url.as_deref() {
        Some(url) if url.starts_with("https://") => report.ok(subject, url),
        Some(url) => report.warning(
            subject,
            format!("{url} is not https"),
            "phones with the Android SDK insist on https; without it tokens go over the wire as they are",
        ),
        None if options.tls_cert.is_some() => report.ok(subject, "taken from each request, over https"),
        None if options.listen.ip().is_loopback() => {
            report.ok(subject, "taken from each request; only this machine can reach the server");
        }
        None => report.warning(
            subject,
            "not set: addresses in answers are taken from each request, which is not https here",
            "set --public-url to the address of the proxy that speaks TLS, or give --tls-cert",
        ),
    }
}

/// Whoever speaks TLS for the server is the one who connects.
fn proxies(report: &mut Report, options: &Serve) {
    let is_behind_one = options.tls_cert.is_none()
        && options.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    if is_behind_one && options.trusted_proxies.is_empty() {
        report.warning(
            "trusted proxies",
            "none, so that all clients seem to have the address of the proxy",
            "name its network with --trusted-proxies: one client with a wrong token may keep all others from being \
             heard",
        );
    }
}

fn certificate(report: &mut Report, options: &Serve, now: Timestamp) {
    let subject = "tls certificate";
    match serve::certificate(options) {
        Ok(None) => {}
        Ok(Some(certificate)) => match certificate.ends_at() {
            Some(end) => ending(report, subject, "it", end, now, "renew it, and send the server SIGHUP"),
            None => report.warning(
                subject,
                "it does not say how long it is good",
                "see whether it is an X.509 one",
            ),
        },
        Err(failure) => {
            report.problem(subject, failure.to_string(), "give --tls-cert and --tls-key that fit")
        }
    }
}

/// Says how long something is good.
fn ending(
    report: &mut Report,
    subject: &'static str,
    what: &str,
    end: Timestamp,
    now: Timestamp,
    advice: &str,
) {
    let days = (end.seconds() - now.seconds()).div_euclid(86_400);
    if end <= now {
        report.problem(subject, format!("{what} ended at {end}"), advice);
    } else if days < DAYS {
        report.warning(subject, format!("{what} ends at {end}, {days} days from now"), advice);
    } else {
        report.ok(subject, format!("{what} ends at {end}"));
    }
}

pub(super) fn credentials(report: &mut Report, credentials: &[Credential], now: Timestamp) {
    for credential in credentials {
        if let Some(end) = credential.expires_at {
            let what = format!("the certificate of {}", credential.sid);
            let advice = "upload a new one to the credential; until then nothing is pushed with it";
            ending(report, "push credential", &what, end, now, advice);
        }
    }
    if credentials.is_empty() {
        report.ok("push credential", "none: phones must look for challenges themselves");
    }
}

/// Looks where webhooks lead, each host once.
pub(super) async fn webhooks(report: &mut Report, webhooks: &[Webhook], options: &Serve, online: bool) {
    let subject = "webhook host";
    let guard = Guard::new(options.deliveries.webhook_allow.clone());
    let enabled = webhooks.iter().filter(|webhook| webhook.status == Status::Enabled);
    let urls = enabled.filter_map(|webhook| Url::parse(webhook.url.as_str()).ok());
    let mut hosts: Vec<(String, u16)> = urls
        .filter_map(|url| {
            Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    for (host, port) in hosts.iter().take(HOSTS) {
        let addresses: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if addresses.is_empty() {
            report.warning(
                subject,
                format!("{host} leads nowhere"),
                "see whether its name is right, and DNS works here",
            );
            continue;
        }
        let Some(address) = addresses.iter().find(|address| guard.permits(address.ip())) else {
            report.warning(
                subject,
                format!("{host} leads to an address that is not public ({})", addresses[0].ip()),
                "if it is meant, permit its network with --webhook-allow",
            );
            continue;
        };
        if online && !matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_))) {
            report.warning(
                subject,
                format!("nobody takes a connection at {host}, port {port}"),
                "see whether the receiver runs, and whether a firewall lets this machine out",
            );
            continue;
        }
        report.ok(subject, host.as_str());
    }
}
