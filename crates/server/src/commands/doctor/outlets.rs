//! Checks whether outlets that cost money for each message have limits, and whether outlets only record messages.

use domain::outlets::{Outlet, OutletKind};
use domain::{Channel, MessagingConfiguration};

use super::Report;
use crate::options::{OutletOptions, ServeOptions};

/// Checks the limits if the options name a gateway.
pub(super) fn check_configured(report: &mut Report, options: &ServeOptions) {
    let OutletOptions { sms_url, sms_url_file, .. } = &options.outlets;
    if sms_url.is_some() || sms_url_file.is_some() {
        check_limits(report, options, "the gateway of sms_url");
    }
}

/// Checks the outlets of all accounts: the limits if there are outlets for text messages or calls, and whether outlets
/// only record messages.
pub(super) fn check_stored(report: &mut Report, options: &ServeOptions, outlets: &[Outlet]) {
    if let Some(count) = describe_count(outlets, is_costly) {
        check_limits(report, options, &count);
    }
    if let Some(count) = describe_count(outlets, |outlet| outlet.kind == OutletKind::Capture) {
        report.warning(
            "outlets",
            format!("{count} of the kind capture"),
            "they write codes to a file instead of sending them, so delete them on a server with users",
        );
    }
}

/// Reports the messaging configurations whose outlet does not exist.
pub(super) fn check_messaging_configurations(report: &mut Report, without_outlet: &[MessagingConfiguration]) {
    let Some(MessagingConfiguration { service_sid, country, messaging_service_sid, .. }) =
        without_outlet.first()
    else {
        return;
    };
    let count = match without_outlet.len() {
        1 => "1 messaging configuration names".to_owned(),
        many => format!("{many} messaging configurations name"),
    };
    report.warning(
        "outlets",
        format!(
            "{count} an outlet that does not exist: {messaging_service_sid} in that of {service_sid} for {country}"
        ),
        "text messages go through another outlet of the account or that of sms_url; `countersign outlet list` shows \
         the outlets that exist",
    );
}

/// Returns how many outlets match, in words, or `None` if there are none.
fn describe_count(outlets: &[Outlet], matches: impl Fn(&Outlet) -> bool) -> Option<String> {
    match outlets.iter().filter(|outlet| matches(outlet)).count() {
        0 => None,
        1 => Some("1 outlet".to_owned()),
        many => Some(format!("{many} outlets")),
    }
}

/// Returns whether each message of an outlet probably costs money.
fn is_costly(outlet: &Outlet) -> bool {
    match outlet.kind {
        OutletKind::Twilio | OutletKind::Http => !outlet.serves(Channel::Email),
        OutletKind::Smtp | OutletKind::Capture => false,
    }
}

fn check_limits(report: &mut Report, options: &ServeOptions, sender: &str) {
    let subject = "limits on codes";
    let limits = &options.limits;
    let is_uncapped = limits.max_codes_per_service_per_hour == 0;
    let missing = match (is_uncapped, limits.verification_countries.is_empty()) {
        (false, false) => {
            report.ok(subject, format!("{sender}: countries and messages per hour are limited"));
            return;
        }
        (true, true) => "any number of messages to all countries",
        (true, false) => "any number of messages",
        (false, true) => "messages to all countries",
    };
    report.warning(
        subject,
        format!("{sender} may send {missing}"),
        "set max_codes_per_service_per_hour and verification_countries: a common fraud makes servers send messages to \
         expensive numbers",
    );
}
