//! Checks the URL of a PostgreSQL database.

/// Parameters that the query of a PostgreSQL URL may contain.
const PARAMETERS: [&str; 20] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslca",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Values of the parameter `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The error for a URL with several hosts.
const SEVERAL_HOSTS: &str = "names several hosts, which is not supported; use one address that always leads to the \
     primary, such as that of a proxy, a pooler or a DNS name that follows failovers";

/// The error for a URL that selects a host by its role.
const TARGET_SESSION_ATTRS: &str = "has target_session_attrs, which is not supported; use one address that always \
     leads to the primary, such as that of a proxy, a pooler or a DNS name that follows failovers";

/// Checks that this is the URL of a PostgreSQL database, with parameters that are supported. Unknown parameters are
/// refused here, because the library would write them to the log with their values.
///
/// # Errors
/// Returns what is wrong with the URL. The text never contains a part of it, because it may hold a password.
pub(crate) fn check_database_url(url: &str) -> Result<(), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres:// or postgresql://".to_owned());
    }
    // Check this before parsing: a parser reports two hosts that have ports as an invalid port.
    let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    let hosts = authority.map(|authority| authority.rsplit('@').next().unwrap_or(authority));
    if hosts.is_some_and(|hosts| hosts.contains(',')) {
        return Err(SEVERAL_HOSTS.to_owned());
    }
    let parsed =
        url::Url::parse(url).map_err(|_| "must be a URL; write characters such as @ in a password as %40")?;
    for (name, value) in parsed.query_pairs() {
        if ["host", "hostaddr", "port"].contains(&name.as_ref()) && value.contains(',') {
            return Err(SEVERAL_HOSTS.to_owned());
        }
        if name == "target_session_attrs" {
            return Err(TARGET_SESSION_ATTRS.to_owned());
        }
        if name == "connect_timeout" && value.parse::<u16>().is_err() {
            return Err("expected connect_timeout to be a number of seconds, up to 65535".to_owned());
        }
        let is_server_option = name.starts_with("options[");
        if !is_server_option && !PARAMETERS.contains(&name.as_ref()) {
            return Err(format!("has an unknown parameter; supported are {}", PARAMETERS.join(", ")));
        }
        if ["sslmode", "ssl-mode"].contains(&name.as_ref()) && !SSL_MODES.contains(&value.as_ref()) {
            return Err(format!("expected sslmode to be one of {}", SSL_MODES.join(", ")));
        }
    }
    Ok(())
}
