//! Checks whether outlets that cost money for each message have limits.

use domain::Channel;
use domain::outlets::{Outlet, OutletKind};

use super::Report;
use crate::options::{OutletOptions, ServeOptions};

/// Checks the limits if the options name a gateway.
pub(super) fn check_configured(report: &mut Report, options: &ServeOptions) {
    let OutletOptions { sms_url, sms_url_file, .. } = &options.outlets;
    if sms_url.is_some() || sms_url_file.is_some() {
        check_limits(report, options, "the gateway of sms_url");
    }
}

/// Checks the limits if an account has an outlet for text messages or calls.
pub(super) fn check_stored(report: &mut Report, options: &ServeOptions, outlets: &[Outlet]) {
    match outlets.iter().filter(|outlet| is_costly(outlet)).count() {
        0 => {}
        1 => check_limits(report, options, "1 outlet"),
        many => check_limits(report, options, &format!("{many} outlets")),
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
