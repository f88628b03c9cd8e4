//! Converts the options of `serve` to the settings of the crates below. The conversion reads the files given in the
//! options but creates nothing, so `config check` and `doctor` can use it too.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use app::streams::StreamLimits;
use app::{ConfiguredOutlets, DeliverySettings, Senders, SystemClock};
use domain::deliveries::Schedule;
use domain::housekeeping::Retention;
use domain::limits::{ChallengeLimits, CreationLimits};
use domain::parameter::Bounded;
use domain::verifications::VerificationRules;
use outlet_client::{ClientSettings, OutletClient};
use push_client::Proxy;
use terminal::CliError;
use web::{ConnectionLimits, LoadShedder, PublicUrl, RateLimiter, RequestLimits, TrustedProxies};

use crate::configured_outlets;
use crate::first_account::FirstAccount;
use crate::input_file::{self, read_secret};
use crate::open_files::{self, ConnectionCapacity};
use crate::options::{
    DeliveryOptions, LimitOptions, OutletClientOptions, OutletOptions, RetentionOptions, ServeOptions,
    TraceOptions,
};
use crate::test_mode;
use crate::tls::{Certificate, CertificateFiles};

const SECONDS_PER_HOUR: i64 = 3600;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// The settings of a server, read from its options and validated.
pub(crate) struct ServeSettings {
    pub(crate) web: web::Settings,
    pub(crate) first_account: FirstAccount,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) deliveries: DeliverySettings,
    pub(crate) senders: Senders,
    pub(crate) configured_outlets: ConfiguredOutlets,
    pub(crate) traces: Option<telemetry::traces::Settings>,
}

impl ServeSettings {
    /// Reads and validates the options and the files that they refer to.
    ///
    /// # Errors
    /// Returns an error if a file can't be read, or a value is invalid.
    pub(crate) fn read(options: &ServeOptions) -> Result<Self, CliError> {
        let mut deliveries = delivery_settings(&options.deliveries, &options.retention)?;
        if options.test_mode.is_on() {
            deliveries.webhooks.extra_headers.push(test_mode::HEADER);
        }
        deliveries.outlets = client_settings(&options.outlets.client)?;
        Ok(Self {
            web: web_settings(options)?,
            first_account: FirstAccount::read(options)?,
            certificate: read_certificate(options)?,
            senders: Senders::new(&deliveries, Arc::new(SystemClock))?,
            deliveries,
            configured_outlets: configured_outlets(&options.outlets)?,
            traces: trace_settings(&options.traces)?,
        })
    }
}

/// Reads the TLS certificate and its private key. Returns `None` unless the options set both files.
///
/// # Errors
/// Returns an error if a file can't be read, or if the certificate and the key do not match.
pub(crate) fn read_certificate(options: &ServeOptions) -> Result<Option<Arc<Certificate>>, CliError> {
    let files = options.tls_cert.clone().zip(options.tls_key.clone());
    files.map(|(certificate, key)| Certificate::read(CertificateFiles { certificate, key })).transpose()
}

/// Raises the limit on open files if possible, and returns the limits on open connections. Logs a warning if the limit
/// on open files is too low for the configured number of connections; fewer are then allowed.
pub(crate) fn connection_limits(options: &ServeOptions) -> ConnectionLimits {
    let capacity = ConnectionCapacity::new(options, open_files::raise_limit());
    if let Some(shortage) = capacity.shortage() {
        tracing::warn!("{shortage}; {}", open_files::ADVICE);
    }
    // A single address must not be able to use up all connections.
    let half =
        u32::try_from(capacity.connections / 2).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let per_address = NonZeroU32::new(options.max_connections_per_address).map(|limit| limit.min(half));
    ConnectionLimits { total: capacity.connections, per_address }
}

/// Returns the limits on open streams.
pub(crate) fn stream_limits(options: &ServeOptions) -> StreamLimits {
    let per_account = NonZeroU32::new(options.limits.account_streams);
    StreamLimits { total: options.max_streams, per_account }
}

/// Returns the limits on creating factors, entities and challenges.
pub(crate) fn creation_limits(options: &LimitOptions) -> CreationLimits {
    CreationLimits {
        max_factors_per_entity_per_day: NonZeroU32::new(options.max_factors_per_entity_per_day),
        max_entities_per_service_per_second: NonZeroU32::new(options.max_entities_per_service_per_second),
        challenges: ChallengeLimits {
            pending: NonZeroU32::new(options.max_pending_challenges_per_factor),
            per_minute: NonZeroU32::new(options.max_challenges_per_factor_per_minute),
        },
    }
}

/// Returns the rules for verifications.
pub(crate) fn verification_rules(options: &LimitOptions) -> VerificationRules {
    let default = VerificationRules::default();
    VerificationRules {
        // The option has the same bounds.
        validity: Bounded::new(i64::from(options.verification_ttl)).unwrap_or(default.validity),
        countries: options.verification_countries.iter().copied().collect(),
        per_service_per_hour: NonZeroU32::new(options.max_codes_per_service_per_hour),
        per_prefix: NonZeroU32::new(options.max_codes_per_prefix),
    }
}

/// Creates the client that sends messages through outlets.
///
/// # Errors
/// Returns an error if the file with certificate authorities can't be read or is invalid.
pub(crate) fn outlet_client(options: &OutletClientOptions) -> Result<OutletClient, CliError> {
    let client = OutletClient::new(client_settings(options)?);
    client.map_err(|error| CliError::new(format!("--outlet-ca: {}", domain::error_report(&error))))
}

fn client_settings(options: &OutletClientOptions) -> Result<ClientSettings, CliError> {
    let extra_ca = read_optional(options.outlet_ca.as_ref())?;
    Ok(ClientSettings { extra_ca, ..ClientSettings::default() })
}

/// Returns the outlets for accounts without an outlet of their own.
///
/// # Errors
/// Returns an error if a file can't be read or a value is invalid. The error does not contain the URLs, which may
/// contain passwords.
fn configured_outlets(options: &OutletOptions) -> Result<ConfiguredOutlets, CliError> {
    let smtp_url = read_secret(options.smtp_url.as_ref(), options.smtp_url_file.as_ref())?;
    let mail = smtp_url.zip(options.mail_from.as_ref()).map(|(url, from)| {
        let outlet = configured_outlets::mail_outlet(url.expose(), from);
        outlet.map_err(|why| CliError::new(format!("--smtp-url: {why}")))
    });
    let sms_url = read_secret(options.sms_url.as_ref(), options.sms_url_file.as_ref())?;
    let text = sms_url.map(|url| {
        let outlet = configured_outlets::text_outlet(url.expose());
        outlet.map_err(|why| CliError::new(format!("--sms-url: {why}")))
    });
    Ok(ConfiguredOutlets { mail: mail.transpose()?, text: text.transpose()? })
}

fn read_optional(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, CliError> {
    path.map(|path| input_file::read(path)).transpose()
}

fn trace_settings(options: &TraceOptions) -> Result<Option<telemetry::traces::Settings>, CliError> {
    let Some(endpoint) = &options.otlp_endpoint else { return Ok(None) };
    let endpoint = endpoint.parse().map_err(|error| CliError::new(format!("--otlp-endpoint: {error}")))?;
    let headers = read_secret(options.otlp_headers.as_ref(), options.otlp_headers_file.as_ref())?;
    let headers = headers.map(|headers| telemetry::traces::Headers::parse(headers.expose())).transpose();
    let headers = headers.map_err(|error| CliError::new(format!("--otlp-headers: {error}")))?;
    let extra_ca = read_optional(options.otlp_ca.as_ref())?
        .map(|pem| telemetry::traces::CertificateAuthorities::parse(&pem))
        .transpose();
    let extra_ca = extra_ca.map_err(|error| CliError::new(format!("--otlp-ca: {error}")))?;
    Ok(Some(telemetry::traces::Settings {
        endpoint,
        headers: headers.unwrap_or_default(),
        extra_ca: extra_ca.unwrap_or_default(),
        sample_ratio: options.otlp_sample_ratio,
    }))
}

fn web_settings(options: &ServeOptions) -> Result<web::Settings, CliError> {
    let public_url = PublicUrl::new(options.public_url.as_deref())
        .map_err(|expected| CliError::new(format!("--public-url: {expected}")))?;
    let limits = RequestLimits {
        account_requests_per_second: NonZeroU32::new(options.limits.account_requests_per_second),
        account_concurrency: NonZeroU32::new(options.limits.account_concurrency),
        failed_authentications_per_minute: NonZeroU32::new(options.limits.failed_authentications_per_minute),
    };
    Ok(web::Settings {
        public_url,
        trusted_proxies: TrustedProxies::new(options.trusted_proxies.clone()),
        load_shedder: Arc::new(LoadShedder::new(options.max_requests)),
        rate_limiter: Arc::new(RateLimiter::new(limits)),
        draining: Arc::default(),
    })
}

fn delivery_settings(
    options: &DeliveryOptions,
    retention: &RetentionOptions,
) -> Result<DeliverySettings, CliError> {
    let mut settings = DeliverySettings {
        lease_seconds: i64::from(options.delivery_lease),
        schedule: Schedule { max_backoff_seconds: i64::from(options.delivery_max_backoff) },
        concurrency: usize::from(options.delivery_concurrency),
        concurrency_per_host: usize::from(options.webhook_concurrency),
        concurrency_per_service_and_provider: usize::from(options.push_concurrency),
        retention: Retention {
            unverified_factors: i64::from(retention.unverified_factor_retention_hours) * SECONDS_PER_HOUR,
            challenges: i64::from(retention.challenge_retention_days) * SECONDS_PER_DAY,
            deliveries: i64::from(retention.delivery_retention_days) * SECONDS_PER_DAY,
            audit_log: (retention.audit_retention_days > 0)
                .then_some(i64::from(retention.audit_retention_days) * SECONDS_PER_DAY),
            ..Retention::default()
        },
        ..DeliverySettings::default()
    };
    settings.webhooks.allow.clone_from(&options.webhook_allow_network);
    settings.webhooks.extra_ca = read_optional(options.webhook_ca.as_ref())?;
    settings.push.apns_endpoint.clone_from(&options.push_apns_endpoint);
    settings.push.fcm_endpoint.clone_from(&options.push_fcm_endpoint);
    settings.push.extra_ca = read_optional(options.push_ca.as_ref())?;
    settings.push.proxy = push_proxy(options)?;
    Ok(settings)
}

/// Returns the proxy for connections to push providers: the one set in the options, or else the one set in the
/// environment. Returns `None` if no proxy is to be used.
fn push_proxy(options: &DeliveryOptions) -> Result<Option<Proxy>, CliError> {
    let given = read_secret(options.push_proxy.as_ref(), options.push_proxy_file.as_ref())?;
    match given.as_ref().map(|given| given.expose().as_str()) {
        Some("none") => Ok(None),
        Some(address) => {
            let proxy = Proxy::new(address, "");
            proxy.map(Some).map_err(|error| CliError::new(format!("--push-proxy: {error}")))
        }
        None => Ok(environment_proxy(|name| std::env::var(name).ok())),
    }
}

/// Returns the proxy set by the environment variables `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case. An invalid
/// proxy is ignored with a warning, because these variables may be meant for other programs.
fn environment_proxy(variable: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    let either = |lower: &str, upper: &str| {
        variable(lower).or_else(|| variable(upper)).filter(|value| !value.is_empty())
    };
    let address = either("https_proxy", "HTTPS_PROXY")?;
    let exceptions = either("no_proxy", "NO_PROXY").unwrap_or_default();
    let proxy = Proxy::new(&address, &exceptions);
    proxy
        .inspect_err(|error| tracing::warn!("HTTPS_PROXY is invalid and is ignored for pushes: {error}"))
        .ok()
}
