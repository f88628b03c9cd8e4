//! Validation of PostgreSQL database URLs.

/// Query parameters that a PostgreSQL URL may contain.
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

/// Valid values of the query parameter `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Error text for a URL with several hosts.
const SEVERAL_HOSTS: &str = "contains several hosts, which is not supported; use one address that always reaches \
     the primary, such as that of a proxy or pooler, or a DNS name that follows failovers";

/// Error text for a URL with `target_session_attrs`, which selects a host by its role.
const TARGET_SESSION_ATTRS: &str = "contains target_session_attrs, which is not supported; use one address that always \
     reaches the primary, such as that of a proxy or pooler, or a DNS name that follows failovers";

/// Checks that `url` is a PostgreSQL URL that contains only supported query parameters. Unknown parameters are refused
/// here, because the database library would log them with their values.
///
/// # Errors
/// Returns a description of what is wrong with the URL. The description never contains any part of the URL, which may
/// include a password.
pub(crate) fn check_database_url(url: &str) -> Result<(), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres:// or postgresql://".to_owned());
    }
    // Check this before parsing: the URL parser would report two hosts with ports as an invalid port.
    let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    let hosts = authority.map(|authority| authority.rsplit('@').next().unwrap_or(authority));
    if hosts.is_some_and(|hosts| hosts.contains(',')) {
        return Err(SEVERAL_HOSTS.to_owned());
    }
    let parsed = url::Url::parse(url).map_err(
        |_| "must be a valid URL; percent-encode special characters in the password, such as @ as %40",
    )?;
    for (name, value) in parsed.query_pairs() {
        if ["host", "hostaddr", "port"].contains(&name.as_ref()) && value.contains(',') {
            return Err(SEVERAL_HOSTS.to_owned());
        }
        if name == "target_session_attrs" {
            return Err(TARGET_SESSION_ATTRS.to_owned());
        }
        if name == "connect_timeout" && value.parse::<u16>().is_err() {
            return Err(
                "has an invalid connect_timeout; expected a number of seconds, at most 65535".to_owned()
            );
        }
        let is_server_option = name.starts_with("options[");
        if !is_server_option && !PARAMETERS.contains(&name.as_ref()) {
            return Err(format!(
                "has an unknown parameter; the supported parameters are {}",
                PARAMETERS.join(", ")
            ));
        }
        if ["sslmode", "ssl-mode"].contains(&name.as_ref()) && !SSL_MODES.contains(&value.as_ref()) {
            return Err(format!("has an invalid sslmode; expected one of {}", SSL_MODES.join(", ")));
        }
    }
    Ok(())
}
