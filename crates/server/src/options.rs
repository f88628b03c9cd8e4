//! The server's options, with the groups of options that other commands share.
//!
//! Each option can be set by a flag, an environment variable, or a key of `countersign.toml`, all with the same name
//! (see `config/mod.rs`). An option's help is also its comment in `deploy/countersign.toml`.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use domain::{Country, Parameter as _};
use web::LoadShedder;

/// All options of the server, as accepted by `countersign serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Address to listen on: IP:PORT, NAME:PORT, or just a port, which implies 127.0.0.1. Port 0 picks a free port
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:8080", value_parser = parse_listen_address)]
    pub(crate) listen: SocketAddr,

    /// URL at which clients reach the server, such as `https://verify.example.com`. If not set, it is derived from each
    /// request, outlets get no URL for delivery reports, and calls do not ask for a key
    #[arg(long, env = "COUNTERSIGN_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,

    /// Network of a reverse proxy whose `X-Forwarded-For` header is trusted, such as 10.0.0.0/8; can be repeated
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PROXIES", value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<ipnet::IpNet>,

    /// PEM file with the TLS certificate chain, the server's own certificate first; reloaded on SIGHUP
    #[arg(long, env = "COUNTERSIGN_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// PEM file with the private key of the TLS certificate; reloaded on SIGHUP
    #[arg(long, env = "COUNTERSIGN_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Maximum number of requests processed at once; further requests get 503 with `Retry-After`
    #[arg(long, env = "COUNTERSIGN_MAX_REQUESTS", default_value_t = LoadShedder::DEFAULT_MAX_REQUESTS, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_requests: u16,

    /// Maximum number of open connections; requests on further connections get 503. The operating system's limit on
    /// open files may allow fewer
    #[arg(long, env = "COUNTERSIGN_MAX_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(16..))]
    pub(crate) max_connections: u32,

    /// Maximum number of open connections from one client address (one /64 network for IPv6), at most half of all
    /// connections. Requests on further connections get 429. Trusted proxies are exempt; 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 1000)]
    pub(crate) max_connections_per_address: u32,

    /// Maximum number of open streams and long polls; further ones get 503 with `Retry-After`. Each also counts as an
    /// open connection. 0 turns them off
    #[arg(long, env = "COUNTERSIGN_MAX_STREAMS", default_value_t = app::streams::StreamLimits::DEFAULT_TOTAL)]
    pub(crate) max_streams: u32,

    /// Serve the browser phone at `/phone/`: a page that enrolls a browser and answers challenges
    #[arg(long, env = "COUNTERSIGN_BROWSER_PHONE", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub(crate) browser_phone: bool,

    /// Keep all data in memory only; it is lost when the server stops
    #[arg(long, env = "COUNTERSIGN_EPHEMERAL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub(crate) ephemeral: bool,

    /// Apply pending migrations to a PostgreSQL database at startup. Otherwise the server refuses to start if there are
    /// any
    #[arg(long, env = "COUNTERSIGN_MIGRATE", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub(crate) migrate: bool,

    /// Maximum time to wait at startup for a PostgreSQL database that is not reachable yet, in seconds; 0 disables
    /// waiting
    #[arg(long, env = "COUNTERSIGN_DATABASE_WAIT", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) database_wait: u32,

    /// Seconds to keep serving after SIGTERM while /readyz already returns 503, so that load balancers can drain
    #[arg(long, env = "COUNTERSIGN_DRAIN_DELAY", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=3600))]
    pub(crate) drain_delay: u32,

    /// Test mode, for tests of backends and never for production: `local` accepts only connections of this machine,
    /// `exposed` those of any. All data is in memory, and every client that can connect controls the server
    #[arg(long, env = "COUNTERSIGN_TEST_MODE", value_enum, default_value_t = TestModeOption::Off)]
    pub(crate) test_mode: TestModeOption,

    /// Host name by which clients, or pages that call the API, reach a server in test mode; can be repeated. IP
    /// addresses, localhost, and names without a dot are always accepted
    #[arg(long, env = "COUNTERSIGN_TEST_MODE_HOST", value_delimiter = ',')]
    pub(crate) test_mode_host: Vec<String>,

    /// SID of the first account, which is created at startup if it does not exist; generated if not set
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_SID")]
    pub(crate) account_sid: Option<String>,

    /// Auth token of the first account, 16 to 128 letters and digits; generated if not set
    #[arg(long, env = "COUNTERSIGN_AUTH_TOKEN", hide_env_values = true)]
    pub(crate) auth_token: Option<String>,

    /// File that contains the auth token of the first account
    #[arg(long, env = "COUNTERSIGN_AUTH_TOKEN_FILE", conflicts_with = "auth_token")]
    pub(crate) auth_token_file: Option<PathBuf>,

    /// Address of a second listener for Prometheus metrics and probes (/metrics, /healthz, /readyz); disabled if not
    /// set. The listener requires no credentials, so keep it private
    #[arg(long, env = "COUNTERSIGN_METRICS_LISTEN", value_parser = parse_listen_address)]
    pub(crate) metrics_listen: Option<SocketAddr>,

    /// Log levels separated by commas, such as info, warn or api=debug; reloaded from the configuration file on SIGHUP
    #[arg(long, env = "COUNTERSIGN_LOG", default_value = "info,actix_server=warn,actix_http=off,sqlx=warn")]
    pub(crate) log: String,

    /// Format of the log: `human` for readable text, or `json` for one JSON object per line
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,

    #[command(flatten)]
    pub(crate) traces: TraceOptions,

    #[command(flatten)]
    pub(crate) limits: LimitOptions,

    #[command(flatten)]
    pub(crate) deliveries: DeliveryOptions,

    #[command(flatten)]
    pub(crate) outlets: OutletOptions,

    #[command(flatten)]
    pub(crate) retention: RetentionOptions,

    #[command(flatten)]
    pub(crate) checkpoints: CheckpointOptions,

    #[command(flatten)]
    pub(crate) storage: StorageOptions,
}

/// Whether the server runs in test mode, and who can connect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestModeOption {
    /// No test mode.
    Off,
    /// Test mode on a loopback address.
    Local,
    /// Test mode on any address.
    Exposed,
}

impl TestModeOption {
    /// Returns whether test mode is on.
    pub(crate) const fn is_on(self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Human-readable text.
    Human,
    /// One JSON object per line.
    Json,
}

/// Options for exporting traces.
#[derive(Debug, Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct TraceOptions {
    /// OTLP/HTTP endpoint of the collector to which a trace of each request and its deliveries is exported, such as
    /// `http://127.0.0.1:4318`; disabled if not set
    #[arg(long, env = "COUNTERSIGN_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,

    /// HTTP headers to send to the collector, as name=value pairs separated by commas
    #[arg(long, env = "COUNTERSIGN_OTLP_HEADERS", hide_env_values = true)]
    pub(crate) otlp_headers: Option<String>,

    /// File that contains the HTTP headers to send to the collector
    #[arg(long, env = "COUNTERSIGN_OTLP_HEADERS_FILE", conflicts_with = "otlp_headers")]
    pub(crate) otlp_headers_file: Option<PathBuf>,

    /// PEM file with certificate authorities to trust for the collector, in addition to the system's
    #[arg(long, env = "COUNTERSIGN_OTLP_CA")]
    pub(crate) otlp_ca: Option<PathBuf>,

    /// Fraction of traces to export, from 0 to 1. A trace that was started by a backend follows the backend's sampling
    /// decision instead
    #[arg(long, env = "COUNTERSIGN_OTLP_SAMPLE_RATIO", default_value_t = telemetry::traces::SampleRatio::ALL)]
    pub(crate) otlp_sample_ratio: telemetry::traces::SampleRatio,
}

/// Limits on requests, and on the resources that requests create.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits against abuse")]
pub(crate) struct LimitOptions {
    /// Maximum requests per second per account; backends and devices are counted separately. Each device may send up to
    /// six further requests, so that it can always answer a challenge. 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_REQUESTS_PER_SECOND", default_value_t = 0)]
    pub(crate) account_requests_per_second: u32,

    /// Maximum concurrent requests per account; backends and devices are counted separately. 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_CONCURRENCY", default_value_t = 0)]
    pub(crate) account_concurrency: u32,

    /// Maximum open streams and long polls per account; backends and devices are counted separately. 0 disables the
    /// limit
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_STREAMS", default_value_t = 0)]
    pub(crate) account_streams: u32,

    /// Maximum failed authentications per minute from one address (one /64 network for IPv6). Above the limit,
    /// credentials from that address are refused without being checked. 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_FAILED_AUTHENTICATIONS_PER_MINUTE", default_value_t = 300)]
    pub(crate) failed_authentications_per_minute: u32,

    /// Maximum number of factors created for one entity per day; 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_MAX_FACTORS_PER_ENTITY_PER_DAY", default_value_t = 0)]
    pub(crate) max_factors_per_entity_per_day: u32,

    /// Maximum number of entities created in one service per second; 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_MAX_ENTITIES_PER_SERVICE_PER_SECOND", default_value_t = 0)]
    pub(crate) max_entities_per_service_per_second: u32,

    /// Maximum number of pending challenges per factor; 0 disables the limit. `countersign service limit` overrides it
    /// for a single service
    #[arg(long, env = "COUNTERSIGN_MAX_PENDING_CHALLENGES_PER_FACTOR", default_value_t = 0)]
    pub(crate) max_pending_challenges_per_factor: u32,

    /// Maximum number of challenges created for one factor per minute; 0 disables the limit.
    /// `countersign service limit` overrides it for a single service
    #[arg(long, env = "COUNTERSIGN_MAX_CHALLENGES_PER_FACTOR_PER_MINUTE", default_value_t = 0)]
    pub(crate) max_challenges_per_factor_per_minute: u32,

    /// Seconds for which a one-time code is valid, 120 to 86400
    #[arg(long, env = "COUNTERSIGN_VERIFICATION_TTL", default_value_t = 600, value_parser = clap::value_parser!(u32).range(120..=86_400))]
    pub(crate) verification_ttl: u32,

    /// Country whose phone numbers may receive one-time codes, as two letters such as AT; can be repeated. Without
    /// this option, phone numbers of all countries may
    #[arg(long, env = "COUNTERSIGN_VERIFICATION_COUNTRIES", value_delimiter = ',', value_parser = parse_country)]
    pub(crate) verification_countries: Vec<Country>,

    /// Maximum number of one-time codes that one service sends within an hour; 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_MAX_CODES_PER_SERVICE_PER_HOUR", default_value_t = 0)]
    pub(crate) max_codes_per_service_per_hour: u32,

    /// Number of one-time codes per service within twelve hours to phone numbers that differ only in their last four
    /// digits. Beyond it, codes are refused while fewer than a fifth of the newest were approved; 0 disables the limit
    #[arg(long, env = "COUNTERSIGN_MAX_CODES_PER_PREFIX", default_value_t = 0)]
    pub(crate) max_codes_per_prefix: u32,
}

fn parse_country(text: &str) -> Result<Country, String> {
    let country = Country::from_parameter(text).map_err(|expected| expected.to_string())?;
    match numbering::has_plan(country) {
        true => Ok(country),
        false => Err(format!("{country} is no country with phone numbers")),
    }
}

/// Options for outgoing webhooks and pushes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Webhooks and pushes")]
pub(crate) struct DeliveryOptions {
    /// Non-public network to which webhooks may connect, such as 10.0.0.0/8; can be repeated
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_ALLOW_NETWORK", value_delimiter = ',')]
    pub(crate) webhook_allow_network: Vec<ipnet::IpNet>,

    /// PEM file with certificate authorities to trust for webhooks, in addition to the system's
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_CA")]
    pub(crate) webhook_ca: Option<PathBuf>,

    /// Maximum age of an event, in seconds, at which its webhook is still retried
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_MAX_AGE", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) webhook_max_age: u32,

    /// Maximum number of concurrent webhook attempts per host
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) webhook_concurrency: u16,

    /// Maximum number of concurrent push attempts per service and provider
    #[arg(long, env = "COUNTERSIGN_PUSH_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) push_concurrency: u16,

    /// Maximum number of concurrent delivery attempts, webhooks and pushes together
    #[arg(long, env = "COUNTERSIGN_DELIVERY_CONCURRENCY", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) delivery_concurrency: u16,

    /// Maximum delay between two attempts of a delivery, in seconds
    #[arg(long, env = "COUNTERSIGN_DELIVERY_MAX_BACKOFF", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_max_backoff: u32,

    /// Seconds after which another server takes over the deliveries of a crashed server
    #[arg(long, env = "COUNTERSIGN_DELIVERY_LEASE", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_lease: u32,

    /// URL to use for APNs instead of Apple's, such as that of a relay
    #[arg(long, env = "COUNTERSIGN_PUSH_APNS_ENDPOINT")]
    pub(crate) push_apns_endpoint: Option<String>,

    /// URL to use for FCM instead of Google's, such as that of a relay. Access tokens are requested from it too, at
    /// /token
    #[arg(long, env = "COUNTERSIGN_PUSH_FCM_ENDPOINT")]
    pub(crate) push_fcm_endpoint: Option<String>,

    /// HTTP proxy for connections to APNs and FCM, such as `http://proxy.example:3128`, or `none` for no proxy. If not
    /// set, the environment variables HTTPS_PROXY and NO_PROXY apply
    #[arg(long, env = "COUNTERSIGN_PUSH_PROXY", hide_env_values = true)]
    pub(crate) push_proxy: Option<String>,

    /// File that contains the URL of the HTTP proxy; useful if the URL includes a password
    #[arg(long, env = "COUNTERSIGN_PUSH_PROXY_FILE", conflicts_with = "push_proxy")]
    pub(crate) push_proxy_file: Option<PathBuf>,

    /// PEM file with certificate authorities to trust for push providers, in addition to the system's
    #[arg(long, env = "COUNTERSIGN_PUSH_CA")]
    pub(crate) push_ca: Option<PathBuf>,
}

/// The outlets for one-time codes of accounts without an outlet of their own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Outlets for one-time codes")]
pub(crate) struct OutletOptions {
    /// Mail server for the channel `email` of accounts without an outlet for it: `smtps://user:password@host:465`, or
    /// `smtp://user:password@host:587?tls=required`; requires `mail_from`
    #[arg(long, env = "COUNTERSIGN_SMTP_URL", hide_env_values = true)]
    pub(crate) smtp_url: Option<String>,

    /// File that contains the URL of the mail server
    #[arg(long, env = "COUNTERSIGN_SMTP_URL_FILE", conflicts_with = "smtp_url")]
    pub(crate) smtp_url_file: Option<PathBuf>,

    /// Sender of mails, such as codes@example.com or `Owl Bank <codes@example.com>`
    #[arg(long, env = "COUNTERSIGN_MAIL_FROM")]
    pub(crate) mail_from: Option<String>,

    /// Gateway for the channel `sms` of accounts without an outlet for it: a URL that gets each message as JSON in a
    /// POST. A user and a password in the URL are used for basic authentication
    #[arg(long, env = "COUNTERSIGN_SMS_URL", hide_env_values = true)]
    pub(crate) sms_url: Option<String>,

    /// File that contains the URL of the gateway
    #[arg(long, env = "COUNTERSIGN_SMS_URL_FILE", conflicts_with = "sms_url")]
    pub(crate) sms_url_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) client: OutletClientOptions,
}

/// How outlets are reached. The command that tests an outlet accepts these options too.
#[derive(Debug, Args)]
#[command(next_help_heading = "Outlets for one-time codes")]
pub(crate) struct OutletClientOptions {
    /// PEM file with certificate authorities to trust for outlets, in addition to the system's
    #[arg(long, env = "COUNTERSIGN_OUTLET_CA")]
    pub(crate) outlet_ca: Option<PathBuf>,
}

/// How long the server keeps unverified factors and completed data.
#[derive(Debug, Args)]
#[command(next_help_heading = "Housekeeping")]
pub(crate) struct RetentionOptions {
    /// Hours to keep an unverified factor before it is deleted
    #[arg(long, env = "COUNTERSIGN_UNVERIFIED_FACTOR_RETENTION_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) unverified_factor_retention_hours: u32,

    /// Days to keep challenges after their expiry, whether they were answered or not
    #[arg(long, env = "COUNTERSIGN_CHALLENGE_RETENTION_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) challenge_retention_days: u32,

    /// Days to keep alerts and finished deliveries
    #[arg(long, env = "COUNTERSIGN_DELIVERY_RETENTION_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_retention_days: u32,

    /// Days to keep audit records; 0 keeps them indefinitely
    #[arg(long, env = "COUNTERSIGN_AUDIT_RETENTION_DAYS", default_value_t = 365)]
    pub(crate) audit_retention_days: u32,
}

/// Where checkpoints of the audit chain are published.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Audit log")]
pub(crate) struct CheckpointOptions {
    /// File to which checkpoints of the audit log are appended. Use a separate file for each server, on a different
    /// disk than the database. A server refuses to start if the audit log ends before the last checkpoint in the file
    #[arg(long, env = "COUNTERSIGN_AUDIT_CHECKPOINT_FILE", value_name = "FILE")]
    pub(crate) audit_checkpoint_file: Option<PathBuf>,
}

/// Where the database and the master key are stored. Every command that opens the database accepts these options.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageOptions {
    /// Folder that contains the SQLite database and the generated master key
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,

    /// URL of a PostgreSQL database to use instead of SQLite, such as postgres://user:password@host/name
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// File that contains the URL of the PostgreSQL database
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL_FILE", conflicts_with = "database_url")]
    pub(crate) database_url_file: Option<PathBuf>,

    /// Direct URL of the PostgreSQL server, needed if `database_url` points to a pooler in transaction mode. With it,
    /// the server learns of new deliveries at once; without it, it polls every second
    #[arg(long, env = "COUNTERSIGN_DATABASE_DIRECT_URL", hide_env_values = true)]
    pub(crate) database_direct_url: Option<String>,

    /// File that contains the direct URL of the PostgreSQL server
    #[arg(long, env = "COUNTERSIGN_DATABASE_DIRECT_URL_FILE", conflicts_with = "database_direct_url")]
    pub(crate) database_direct_url_file: Option<PathBuf>,

    /// Master key that encrypts stored secrets: 32 bytes in base64 or hexadecimal. If not set, a key is generated in
    /// the data folder. Servers that share a database need the same key
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY", hide_env_values = true)]
    pub(crate) master_key: Option<String>,

    /// File that contains the master key
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", conflicts_with = "master_key")]
    pub(crate) master_key_file: Option<PathBuf>,

    /// Additional master keys, separated by commas, that decrypt but never encrypt. During a rotation, set the previous
    /// keys or the next key here
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_OLD", hide_env_values = true)]
    pub(crate) master_key_old: Option<String>,

    /// File that contains the additional master keys
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_OLD_FILE", conflicts_with = "master_key_old")]
    pub(crate) master_key_old_file: Option<PathBuf>,
}

/// Parses an address to listen on: `IP:PORT`, `NAME:PORT`, or just a port, which implies 127.0.0.1. Resolves a name to
/// an IP address, preferably IPv4.
///
/// # Errors
/// Returns a description of the accepted forms if `text` has none of them, or if the name can't be resolved.
fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "expected an address and a port, such as 127.0.0.1:8080, [::1]:8080 or \
                            localhost:8080, or only a port, such as 8080";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let (name, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    let port: u16 = port.parse().map_err(|_| EXPECTED)?;
    let is_name = |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(EXPECTED.to_owned());
    }
    let found: Vec<_> = (name, port)
        .to_socket_addrs()
        .map_err(|error| format!("{name} can't be resolved: {error}; {EXPECTED}"))?
        .collect();
    // Prefer IPv4, which the documentation uses: `localhost` usually resolves to both an IPv4 and an IPv6 address.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().ok_or_else(|| format!("{name} has no address; {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn country_without_phone_numbers_is_refused() {
        assert_eq!(parse_country("at").unwrap().as_str(), "AT");
        assert_eq!(parse_country("UK").unwrap_err(), "UK is no country with phone numbers");
        assert!(parse_country("AUT").unwrap_err().contains("two letters"));
    }

    #[test]
    fn listen_option_accepts_a_port_a_host_name_or_an_address() {
        for (text, expected) in [
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(
                parse_listen_address(text).map(|address| address.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn error_for_an_invalid_listen_address_shows_a_valid_example() {
        for text in [
            "",
            ":8080",
            "localhost",
            "65536",
            "localhost:http",
            "::1:8080",
            "a b:1",
            "http://localhost:8080",
        ] {
            let refused = parse_listen_address(text).unwrap_err();
            assert!(refused.contains("such as 127.0.0.1:8080"), "{text}: {refused}");
        }
    }
}
