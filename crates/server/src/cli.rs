//! The command line. Every option of the server is a flag, an environment variable and a key of
//! `countersign.toml`, all of the same name (`config.rs`).

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use api::UnderWay;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use crate::log::Format;

/// Self-hosted server that speaks Twilio's Verify Push API.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// File of options; `countersign.toml` in this folder if it is there
    #[arg(long, env = "COUNTERSIGN_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Box<Serve>),
    /// Watch the whole story once: server, backend and phone in one process, every exchange explained
    Demo(crate::demo::Demo),
    /// Be a phone: enroll, look at challenges, approve or deny them
    Device(Box<crate::device::Device>),
    /// Ask the server of this configuration whether it is well: exit code 0 if it is
    Health(crate::health::Health),
    /// Look at the configuration: what counts, where it comes from, whether it is right
    Config(crate::config::show::Config),
    /// Look for what is wrong or will be, and say what to do about it; changes nothing. Exit code 0 if there
    /// is no problem
    Doctor(crate::doctor::Doctor),
    /// Bring the database up to date; a SQLite database is copied before
    Migrate(crate::migrate::Migrate),
    /// Copy the SQLite database to a file, also while the server runs; the master key is not in it
    Backup(crate::backup::Backup),
    /// Look at the keys, or change them while servers run
    Keys(crate::keys::Keys),
    /// Put a backup in the place of the SQLite database, which is kept; not while a server runs
    Restore(crate::restore::Restore),
    /// Manage accounts
    Account(crate::account::Accounts),
    /// Manage API keys
    ApiKey(crate::api_key::ApiKeys),
    /// Set how many challenges the phones of a service may be sent
    Service(crate::service::Services),
    /// Look at webhooks and what they were sent, send it again
    Webhooks(crate::webhooks::Webhooks),
    /// Manage push credentials
    Credential(crate::credential::Credentials),
    /// Look at the audit log: who changed what, and whether it is all there
    Audit(crate::audit::Audit),
    /// Print the completions for a shell
    Completions(crate::completions::Completions),
    /// Print the manual page, or write the pages of all commands to a folder
    Man(crate::man::Man),
    /// Let housekeeping go on after a jump of the clock
    Clock(crate::clock::Clock),
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on, such as 0.0.0.0:8080 or localhost:8080, or only a port, on 127.0.0.1; port 0 picks a
    /// free one
    #[arg(long, env = "COUNTERSIGN_LISTEN", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// Address under which clients reach the server, such as `https://verify.example.com`; taken from each
    /// request when not given
    #[arg(long, env = "COUNTERSIGN_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,

    /// Network of a proxy that is believed about where a request comes from (`X-Forwarded-For`), such as
    /// 10.0.0.0/8; can be repeated
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PROXIES", value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<ipnet::IpNet>,

    /// Certificate to speak TLS with, in PEM, the server's own first; read again on SIGHUP
    #[arg(long, env = "COUNTERSIGN_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(long, env = "COUNTERSIGN_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Requests that are worked on at one time; more are told at once to come again, with 503
    #[arg(long, env = "COUNTERSIGN_MAX_REQUESTS", default_value_t = UnderWay::LIMIT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_requests: u16,

    /// Connections that are open at one time; requests on more are refused with 503. The limit of open files may
    /// permit fewer
    #[arg(long, env = "COUNTERSIGN_MAX_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(16..))]
    pub(crate) max_connections: u32,

    /// Connections that one client address may have open (of IPv6: one /64 network), and never more than half of all;
    /// requests on more are refused with 429. Trusted proxies are exempt; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 1000)]
    pub(crate) max_connections_per_address: u32,

    /// Keep everything in memory; gone when the server stops
    #[arg(long, env = "COUNTERSIGN_EPHEMERAL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub(crate) ephemeral: bool,

    /// Migrate a PostgreSQL database whose schema is old, instead of refusing to start
    #[arg(long, env = "COUNTERSIGN_MIGRATE", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub(crate) migrate: bool,

    /// Seconds to wait at the start for a PostgreSQL database that is not up yet; 0 for not at all
    #[arg(long, env = "COUNTERSIGN_DATABASE_WAIT", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) database_wait: u32,

    /// Seconds for which a server that is told to stop goes on, but for /readyz, which says that it will: long
    /// enough for a proxy that asks that to send requests elsewhere
    #[arg(long, env = "COUNTERSIGN_DRAIN_DELAY", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=3600))]
    pub(crate) drain_delay: u32,

    /// SID of the first account; made when not given
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_SID")]
    pub(crate) account_sid: Option<String>,

    /// Auth token of the first account, 16 to 128 letters and digits; made when not given
    #[arg(long, env = "COUNTERSIGN_AUTH_TOKEN", hide_env_values = true)]
    pub(crate) auth_token: Option<String>,

    /// File that holds the auth token
    #[arg(long, env = "COUNTERSIGN_AUTH_TOKEN_FILE", conflicts_with = "auth_token")]
    pub(crate) auth_token_file: Option<PathBuf>,

    /// Address at which Prometheus reads /metrics, and probes /healthz and /readyz; none when not given. Not for
    /// the public: it asks for no credentials
    #[arg(long, env = "COUNTERSIGN_METRICS_LISTEN", value_parser = address)]
    pub(crate) metrics_listen: Option<SocketAddr>,

    /// What to log, such as info, warn or api=debug; read again from the file on SIGHUP
    #[arg(long, env = "COUNTERSIGN_LOG", default_value = "info,actix_server=warn,actix_http=off,sqlx=warn")]
    pub(crate) log: String,

    /// What a line of the log looks like
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_enum, default_value_t = Format::Human)]
    pub(crate) log_format: Format,

    #[command(flatten)]
    pub(crate) traces: Traces,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) deliveries: Deliveries,

    #[command(flatten)]
    pub(crate) kept: Kept,

    #[command(flatten)]
    pub(crate) checkpoints: Checkpoints,

    #[command(flatten)]
    pub(crate) storage: Storage,
}

/// Who is told what each request took.
#[derive(Debug, Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct Traces {
    /// Collector that is sent a trace of each request and of what it owed, over OTLP/HTTP, such as
    /// `http://127.0.0.1:4318`; none when not given
    #[arg(long, env = "COUNTERSIGN_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,

    /// Headers that the collector asks for: name=value, separated by commas
    #[arg(long, env = "COUNTERSIGN_OTLP_HEADERS", hide_env_values = true)]
    pub(crate) otlp_headers: Option<String>,

    /// File that holds these headers
    #[arg(long, env = "COUNTERSIGN_OTLP_HEADERS_FILE", conflicts_with = "otlp_headers")]
    pub(crate) otlp_headers_file: Option<PathBuf>,

    /// Certificate authorities, in PEM, that the collector is trusted by besides the system's
    #[arg(long, env = "COUNTERSIGN_OTLP_CA")]
    pub(crate) otlp_ca: Option<PathBuf>,

    /// Share of the traces that is sent, from 0 to 1; one that a backend began is sent if the backend sends it
    #[arg(long, env = "COUNTERSIGN_OTLP_SHARE", default_value_t = telemetry::traces::Share::ALL)]
    pub(crate) otlp_share: telemetry::traces::Share,
}

/// How much may come in, and how much may be made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits against abuse")]
pub(crate) struct Limits {
    /// Requests a second of one account's backends, and as many of its devices, each of which has six more for an
    /// answer; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_REQUESTS_PER_SECOND", default_value_t = 0)]
    pub(crate) account_requests_per_second: u32,

    /// Requests of one account's backends at one time, and as many of its devices; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_ACCOUNT_CONCURRENCY", default_value_t = 0)]
    pub(crate) account_concurrency: u32,

    /// Credentials that may fail from one address (of IPv6: from one /64) in a minute, before no more from there are
    /// looked at; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_FAILED_AUTHENTICATIONS_PER_MINUTE", default_value_t = 300)]
    pub(crate) failed_authentications_per_minute: u32,

    /// Factors of one entity that may be made within a day; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_FACTORS_PER_ENTITY_AND_DAY", default_value_t = 0)]
    pub(crate) factors_per_entity_and_day: u32,

    /// Entities of one service that may be made within a second; 0 is no limit
    #[arg(long, env = "COUNTERSIGN_ENTITIES_PER_SERVICE_AND_SECOND", default_value_t = 0)]
    pub(crate) entities_per_service_and_second: u32,

    /// Challenges to one factor that may be pending at one time; 0 is no limit. `countersign service limit` sets
    /// another one for a service
    #[arg(long, env = "COUNTERSIGN_MAX_PENDING_CHALLENGES_PER_FACTOR", default_value_t = 0)]
    pub(crate) max_pending_challenges_per_factor: u32,

    /// Challenges to one factor that may be made within a minute; 0 is no limit. `countersign service limit` sets
    /// another one for a service
    #[arg(long, env = "COUNTERSIGN_CHALLENGES_PER_FACTOR_AND_MINUTE", default_value_t = 0)]
    pub(crate) challenges_per_factor_and_minute: u32,
}

/// How webhooks and pushes leave the house.
#[derive(Debug, Args)]
#[command(next_help_heading = "Webhooks and pushes")]
pub(crate) struct Deliveries {
    /// Network that webhooks may call though it is not public, such as 10.0.0.0/8; can be repeated
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_ALLOW", value_delimiter = ',')]
    pub(crate) webhook_allow: Vec<ipnet::IpNet>,

    /// Certificate authorities, in PEM, that webhooks are trusted by besides the system's
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_CA")]
    pub(crate) webhook_ca: Option<PathBuf>,

    /// Seconds for which a webhook that can't be delivered is tried again
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_PATIENCE", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) webhook_patience: u32,

    /// Webhook attempts at one time to one host
    #[arg(long, env = "COUNTERSIGN_WEBHOOK_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) webhook_concurrency: u16,

    /// Push attempts at one time for one service and provider
    #[arg(long, env = "COUNTERSIGN_PUSH_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) push_concurrency: u16,

    /// Attempts of all kinds at one time
    #[arg(long, env = "COUNTERSIGN_DELIVERY_CONCURRENCY", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) delivery_concurrency: u16,

    /// Longest wait between two attempts, in seconds
    #[arg(long, env = "COUNTERSIGN_DELIVERY_LONGEST_WAIT", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_longest_wait: u32,

    /// Seconds after which the deliveries of a server that died are made by another
    #[arg(long, env = "COUNTERSIGN_DELIVERY_LEASE", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_lease: u32,

    /// Address of APNs, or of a relay to it, instead of Apple's
    #[arg(long, env = "COUNTERSIGN_PUSH_APNS_ENDPOINT")]
    pub(crate) push_apns_endpoint: Option<String>,

    /// Address of FCM, or of a relay to it, instead of Google's; it also gives out access tokens, at /token
    #[arg(long, env = "COUNTERSIGN_PUSH_FCM_ENDPOINT")]
    pub(crate) push_fcm_endpoint: Option<String>,

    /// HTTP proxy through which APNs and FCM are reached, such as `http://proxy.example:3128`, or `none`; the one of
    /// HTTPS_PROXY, except for hosts in NO_PROXY, when not given
    #[arg(long, env = "COUNTERSIGN_PUSH_PROXY", hide_env_values = true)]
    pub(crate) push_proxy: Option<String>,

    /// File that holds the proxy's address, such as one with a password
    #[arg(long, env = "COUNTERSIGN_PUSH_PROXY_FILE", conflicts_with = "push_proxy")]
    pub(crate) push_proxy_file: Option<PathBuf>,

    /// Certificate authorities, in PEM, that push providers are trusted by besides the system's
    #[arg(long, env = "COUNTERSIGN_PUSH_CA")]
    pub(crate) push_ca: Option<PathBuf>,
}

/// How long what is done with is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Housekeeping")]
pub(crate) struct Kept {
    /// Hours after which a factor that was not verified is deleted
    #[arg(long, env = "COUNTERSIGN_UNVERIFIED_FACTOR_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) unverified_factor_hours: u32,

    /// Days for which challenges are kept after their expiry, answered or not
    #[arg(long, env = "COUNTERSIGN_CHALLENGE_RETENTION_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) challenge_retention_days: u32,

    /// Days for which finished deliveries and alerts are kept
    #[arg(long, env = "COUNTERSIGN_DELIVERY_RETENTION_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) delivery_retention_days: u32,

    /// Days for which the audit log is kept; 0 for ever
    #[arg(long, env = "COUNTERSIGN_AUDIT_RETENTION_DAYS", default_value_t = 365)]
    pub(crate) audit_retention_days: u32,
}

/// Where the end of the audit log is written down.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Audit log")]
pub(crate) struct Checkpoints {
    /// File that each checkpoint of the audit log is appended to, one for each server, on another disk than the
    /// database; a server does not start with an audit log that is behind it
    #[arg(long, env = "COUNTERSIGN_AUDIT_CHECKPOINT_FILE", value_name = "FILE")]
    pub(crate) audit_checkpoint_file: Option<PathBuf>,
}

/// Where the data and its key are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct Storage {
    /// Folder of the SQLite database and the master key
    #[arg(long, env = "COUNTERSIGN_DATA_DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,

    /// PostgreSQL database, such as postgres://user:password@host/name, instead of SQLite
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// File that holds the database URL
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL_FILE", conflicts_with = "database_url")]
    pub(crate) database_url_file: Option<PathBuf>,

    /// URL of PostgreSQL itself where `database_url` leads to a pooler in transaction mode: over it a server learns at
    /// once what other servers enqueue, and not only by looking every second
    #[arg(long, env = "COUNTERSIGN_DATABASE_DIRECT_URL", hide_env_values = true)]
    pub(crate) database_direct_url: Option<String>,

    /// File that holds this URL
    #[arg(long, env = "COUNTERSIGN_DATABASE_DIRECT_URL_FILE", conflicts_with = "database_direct_url")]
    pub(crate) database_direct_url_file: Option<PathBuf>,

    /// Master key: 32 bytes in base64 or hexadecimal; made in the data folder when not given. Servers that
    /// share a database need the same one
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY", hide_env_values = true)]
    pub(crate) master_key: Option<String>,

    /// File that holds the master key
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", conflicts_with = "master_key")]
    pub(crate) master_key_file: Option<PathBuf>,

    /// Master keys that open what they sealed but never seal, separated by commas: those of before while it is
    /// changed, or the one to come
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_OLD", hide_env_values = true)]
    pub(crate) master_key_old: Option<String>,

    /// File that holds these master keys
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_OLD_FILE", conflicts_with = "master_key_old")]
    pub(crate) master_key_old_file: Option<PathBuf>,
}

/// Reads an address to listen on: `IP:PORT`, `NAME:PORT`, or a port of 127.0.0.1 alone.
///
/// # Errors
/// With what is expected. A name is resolved, which can fail too.
fn address(text: &str) -> Result<SocketAddr, String> {
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
    // A name such as localhost has an address of each family; the documentation uses those of IPv4.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().ok_or_else(|| format!("{name} has no address; {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_meant() {
        for (text, expected) in [
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_address_is_told_what_is_expected() {
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
            let refused = address(text).unwrap_err();
            assert!(refused.contains("such as 127.0.0.1:8080"), "{text}: {refused}");
        }
    }
}
