//! Test mode in the binary: what keeps it out of production, and how it is started
//! (docs/decisions/0022-test-mode-is-not-production.md).
//!
//! The crate `testmode` implements it. Without the cargo feature of the same name, `absent.rs` takes its place.

#[cfg(not(feature = "testmode"))]
#[path = "absent.rs"]
mod running;
#[cfg(feature = "testmode")]
mod running;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use terminal::CliError;

use crate::config::{Settings, Source};
use crate::options::{ServeOptions, TestModeOption};

pub(crate) use crate::test_mode::running::{RunningTestMode, TestMode};

/// Name and value of the header of every response and of every webhook in test mode.
pub(crate) const HEADER: (&str, &str) = ("countersign-test-mode", "on");

/// The options that only a server with real users needs. Test mode refuses to start with any of them.
const PRODUCTION_OPTIONS: [&str; 12] = [
    "database_url",
    "database_url_file",
    "database_direct_url",
    "database_direct_url_file",
    "master_key",
    "master_key_file",
    "master_key_old",
    "master_key_old_file",
    "push_apns_endpoint",
    "push_fcm_endpoint",
    "tls_cert",
    "tls_key",
];

/// Prepares the options of a server in test mode: all data is in memory, webhooks may go to any network, and failed
/// authentications have no limit unless one is set. Does nothing without test mode.
///
/// # Errors
/// Returns an error if the options look like those of a server with real users, or if `local` is combined with an
/// address that other machines can reach.
pub(crate) fn prepare(options: &mut ServeOptions, settings: &Settings) -> Result<(), CliError> {
    if !options.test_mode.is_on() {
        return Ok(());
    }
    let refusal = |why: &str| match settings.get("test_mode") {
        Some(setting) => setting.error(why),
        None => CliError::new(format!("--test-mode: {why}")),
    };
    if !cfg!(feature = "testmode") {
        return Err(refusal("this binary was built without test mode (cargo feature `testmode`)"));
    }
    if let Some(found) = PRODUCTION_OPTIONS.iter().find_map(|name| settings.get(name)) {
        let label = found.label();
        return Err(refusal(&format!(
            "refused because {label} is set, as for a server with real users; remove {label} to start a test server"
        )));
    }
    let data_dir = options.storage.data_dir();
    let files = [data_dir.database_file(), options.storage.master_key_file().path().to_owned()];
    if let Some(found) = files.iter().find(|file| file.exists()) {
        return Err(refusal(&format!(
            "refused because {} exists, which belongs to a server with real users; set another folder with --data-dir",
            found.display()
        )));
    }
    if options.test_mode == TestModeOption::Local && !options.listen.ip().is_loopback() {
        return Err(refusal(&format!(
            "`local` requires a loopback address, but --listen is {}; set --listen 127.0.0.1:8080, or use `exposed` \
             in a container or a network that only tests can reach",
            options.listen
        )));
    }
    options.ephemeral = true;
    options.deliveries.webhook_allow_network = every_network();
    let limit = settings.get("failed_authentications_per_minute");
    if limit.is_none_or(|limit| matches!(limit.source, Source::Default)) {
        options.limits.failed_authentications_per_minute = 0;
    }
    Ok(())
}

/// Checks that the configuration does not switch test mode on.
///
/// # Errors
/// Returns an error if it does.
pub(crate) fn require_off(options: &ServeOptions, settings: &Settings) -> Result<(), CliError> {
    match settings.get("test_mode").filter(|_| options.test_mode.is_on()) {
        Some(setting) => {
            Err(setting.error("test mode is on; it is only for tests of backends, never for production"))
        }
        None => Ok(()),
    }
}

fn every_network() -> Vec<IpNet> {
    [IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0), IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0)]
        .into_iter()
        .filter_map(Result::ok)
        .collect()
}
