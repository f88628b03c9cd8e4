//! `countersign serve`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use api::{Draining, PublicUrl, RequestLimits, Settings, TrustedProxies, UnderWay};
use app::{App, Courier, Couriers, DeliverySettings, SystemClock};
use domain::accounts::AuthToken;
use domain::deliveries::Schedule;
use domain::housekeeping::Retention;
use domain::limits::{ChallengeLimits, Limits};
use domain::{AccountSid, FriendlyName, Parameter as _};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use store::{Location, OldSchema, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::operator;
use crate::cli::{self, Deliveries, Kept, Serve};
use crate::config;
use crate::failure::Failure;
use crate::file;
use crate::log::Log;
use crate::metrics;
use crate::storage::{passing_master_key, secret, start};
use crate::tls::{Certificate, Files};

/// How long requests that are under way may take to end when the server stops.
const DRAIN: u64 = 30;

/// How long a client may leave unread, or unacknowledged, what it was sent.
#[cfg(target_os = "linux")]
const UNREAD: Duration = Duration::from_secs(20);

/// How long deliveries that are under way may take to end after that.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the server until it is told to stop.
pub(crate) async fn run(options: Box<Serve>, given: config::Settings) -> Result<(), Failure> {
    let log = Log::start(&options.log, options.log_format)?;
    for warning in given.warnings() {
        tracing::warn!("{warning}");
    }
    let levels = log.follow_signals(given)?;
    let Prepared { settings, account, certificate, deliveries, couriers, traces } = prepare(&options)?;
    let for_metrics = match options.metrics_listen {
        Some(listen) => Some(metrics::bind(listen).await?),
        None => None,
    };
    // Before the first wait: for the database.
    let mut stop_signal = StopSignal::expect()?;
    let mut app = tokio::select! {
        opened = open(&options) => opened?,
        () = stop_signal.given() => return Ok(()),
    };
    app.set_webhook_patience(i64::from(options.deliveries.webhook_patience));
    app.set_limits(limits(&options.limits));
    let app = Arc::new(app);
    first_account(&app, account).await?;
    let drain_delay = Duration::from_secs(options.drain_delay.into());
    let renewing = renew_on_hangup(certificate.clone())?;
    let exporter =
        traces.map(|traces| traces::Exporter::start(traces, env!("CARGO_PKG_VERSION"))).transpose()?;
    // The address first: a server that can't have it should not take deliveries from one that has.
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let door = Door { address: options.listen, connections: options.max_connections as usize, certificate };
    let running = Running::start(Arc::clone(&app), settings, &door)?;
    let mut courier = Courier::start(Arc::clone(&app), deliveries, couriers)?;
    let _readable = for_metrics
        .map(|listener| metrics::answer(listener, Arc::clone(&app), Arc::clone(&running.draining)))
        .transpose()?;
    // Whoever started the server may have closed its standard output, which is no reason to stop.
    let _ = writeln!(std::io::stdout(), "countersign listening on {scheme}://{}", running.address);
    let result = tokio::select! {
        () = stop_signal.given() => Ok(()),
        () = renewing => Ok(()),
        () = levels => Ok(()),
        () = take_up_master_keys(&app) => Ok(()),
        () = courier.ended() => Err(Failure::new("the thread that delivers has ended; see the log")),
    };
    if result.is_ok() && !drain_delay.is_zero() {
        running.announce();
        tracing::info!(seconds = drain_delay.as_secs(), "not ready any more; stops soon");
        tokio::select! {
            () = tokio::time::sleep(drain_delay) => {}
            () = stop_signal.given() => tracing::info!("told again: stops now"),
            () = courier.ended() => {}
        }
    }
    running.stop().await;
    courier.stop(FAREWELL).await;
    app.stop().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    result
}

/// Opens the database that the options name.
async fn open(options: &Serve) -> Result<App, Failure> {
    if options.ephemeral {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await?;
        return start(store, passing_master_key()).await;
    }
    let old = if options.migrate { OldSchema::Migrate } else { OldSchema::Refuse };
    options.storage.open_within(old, Duration::from_secs(options.database_wait.into())).await
}

/// What the options say, read and found right, before anything is opened.
pub(crate) struct Prepared {
    settings: Settings,
    account: GivenAccount,
    certificate: Option<Arc<Certificate>>,
    deliveries: DeliverySettings,
    couriers: Couriers,
    traces: Option<traces::Settings>,
}

/// Reads what the options name, and makes nothing.
///
/// # Errors
/// For what can't be read or is wrong.
pub(crate) fn prepare(options: &Serve) -> Result<Prepared, Failure> {
    let deliveries = deliveries(&options.deliveries, &options.kept)?;
    Ok(Prepared {
        settings: settings(options)?,
        account: given_account(options)?,
        certificate: certificate(options)?,
        couriers: Couriers::new(&deliveries, Arc::new(SystemClock))?,
        deliveries,
        traces: traces(&options.traces)?,
    })
}

/// The file that an option names, if it names one.
fn read(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Failure> {
    path.map(|path| file::read(path)).transpose()
}

/// What the options say about traces.
fn traces(options: &cli::Traces) -> Result<Option<traces::Settings>, Failure> {
    let Some(endpoint) = &options.otlp_endpoint else { return Ok(None) };
    let endpoint = endpoint.parse().map_err(|error| Failure::new(format!("--otlp-endpoint: {error}")))?;
    let headers = secret(options.otlp_headers.as_ref(), options.otlp_headers_file.as_ref())?;
    let headers = headers.map(|headers| traces::Headers::parse(headers.expose())).transpose();
    let headers = headers.map_err(|error| Failure::new(format!("--otlp-headers: {error}")))?;
    let extra_ca = read(options.otlp_ca.as_ref())?.map(|pem| traces::Authorities::parse(&pem)).transpose();
    let extra_ca = extra_ca.map_err(|error| Failure::new(format!("--otlp-ca: {error}")))?;
    Ok(Some(traces::Settings {
        endpoint,
        headers: headers.unwrap_or_default(),
        extra_ca: extra_ca.unwrap_or_default(),
        share: options.otlp_share,
    }))
}

/// What the options say about the way in.
fn settings(options: &Serve) -> Result<Settings, Failure> {
    let public_url = PublicUrl::new(options.public_url.as_deref())
        .map_err(|expected| Failure::new(format!("--public-url: {expected}")))?;
    let limits = RequestLimits {
        account_requests_per_second: NonZeroU32::new(options.limits.account_requests_per_second),
        account_concurrency: NonZeroU32::new(options.limits.account_concurrency),
        failed_authentications_per_minute: NonZeroU32::new(options.limits.failed_authentications_per_minute),
    };
    Ok(Settings {
        public_url,
        trusted_proxies: TrustedProxies::new(options.trusted_proxies.clone()),
        under_way: Arc::new(UnderWay::at_most(options.max_requests)),
        limits: Arc::new(api::Limits::new(limits)),
    })
}

/// What the options say about what may be created.
fn limits(options: &cli::Limits) -> Limits {
    Limits {
        factors_per_entity_and_day: NonZeroU32::new(options.factors_per_entity_and_day),
        entities_per_service_and_second: NonZeroU32::new(options.entities_per_service_and_second),
        challenges: ChallengeLimits {
            pending: NonZeroU32::new(options.max_pending_challenges_per_factor),
            per_minute: NonZeroU32::new(options.challenges_per_factor_and_minute),
        },
    }
}

/// What the options say about deliveries.
fn deliveries(options: &Deliveries, kept: &Kept) -> Result<DeliverySettings, Failure> {
    let mut settings = DeliverySettings {
        lease: i64::from(options.delivery_lease),
        schedule: Schedule { longest: i64::from(options.delivery_longest_wait) },
        concurrency: usize::from(options.delivery_concurrency),
        concurrency_per_host: usize::from(options.webhook_concurrency),
        concurrency_per_credential: usize::from(options.push_concurrency),
        retention: Retention {
            unverified_factors: i64::from(kept.unverified_factor_hours) * 3600,
            challenges: i64::from(kept.challenge_retention_days) * 86_400,
            deliveries: i64::from(kept.delivery_retention_days) * 86_400,
            audit_log: (kept.audit_retention_days > 0)
                .then_some(i64::from(kept.audit_retention_days) * 86_400),
            ..Retention::default()
        },
        ..DeliverySettings::default()
    };
    settings.webhooks.allow.clone_from(&options.webhook_allow);
    settings.webhooks.extra_ca = read(options.webhook_ca.as_ref())?;
    settings.push.apns_endpoint.clone_from(&options.push_apns_endpoint);
    settings.push.fcm_endpoint.clone_from(&options.push_fcm_endpoint);
    settings.push.extra_ca = read(options.push_ca.as_ref())?;
    Ok(settings)
}

/// Where the server listens, and how.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// Connections that are open at one time; more wait to be accepted.
    pub(crate) connections: usize,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// A server that answers.
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
    draining: Arc<Draining>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Begins to listen and to answer.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub(crate) fn start(app: Arc<App>, settings: Settings, door: &Door) -> Result<Self, Failure> {
        let listen = door.address;
        let listener =
            TcpListener::bind(listen).map_err(|error| Failure::new(format!("{listen}: {error}")))?;
        // Connections inherit it. Without it a client that reads no more holds what it was to read for ever.
        #[cfg(target_os = "linux")]
        SockRef::from(&listener).set_tcp_user_timeout(Some(UNREAD))?;
        let address = listener.local_addr()?;
        let draining = Arc::new(Draining::default());
        let shared = Arc::clone(&draining);
        let factory = move || api::application(Arc::clone(&app), settings.clone(), Arc::clone(&shared));
        let workers = std::thread::available_parallelism()?.get();
        let server = HttpServer::new(factory)
            .workers(workers)
            .max_connections(door.connections.div_ceil(workers))
            .keep_alive(Duration::from_secs(75))
            .client_request_timeout(Duration::from_secs(10))
            .shutdown_timeout(DRAIN)
            .tls_handshake_timeout(Duration::from_secs(10))
            .disable_signals();
        let server = match &door.certificate {
            Some(certificate) => server.listen_rustls_0_23(listener, certificate.config()?)?,
            None => server.listen(listener)?,
        };
        let server = server.run();
        Ok(Self { address, handle: server.handle(), draining, server: tokio::spawn(server) })
    }

    /// Says that it is not ready, and goes on.
    fn announce(&self) {
        self.draining.announce();
    }

    /// Answers what is under way, refuses what comes now, and ends.
    pub(crate) async fn stop(self) {
        self.draining.begin();
        self.handle.stop(true).await;
        let _ = self.server.await;
    }
}

/// SIGTERM or SIGINT: somebody wants the server to stop.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// From now on such a signal does not kill the process.
    fn expect() -> Result<Self, Failure> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until it is given, once more if it was before.
    async fn given(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The certificate that the options name.
pub(crate) fn certificate(options: &Serve) -> Result<Option<Arc<Certificate>>, Failure> {
    let files = options.tls_cert.clone().zip(options.tls_key.clone());
    files.map(|(certificate, key)| Certificate::read(Files { certificate, key })).transpose()
}

/// Reads the certificate again whenever SIGHUP asks for it, for ever. Without one the signal is ignored.
fn renew_on_hangup(certificate: Option<Arc<Certificate>>) -> Result<impl Future<Output = ()>, Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            match certificate.as_ref().map(|certificate| certificate.read_again()) {
                None => {}
                Some(Ok(())) => tracing::info!("the certificate was read again"),
                Some(Err(failure)) => tracing::error!("the certificate stays as it was: {failure}"),
            }
        }
        std::future::pending().await
    })
}

/// Takes up the master keys as the operator changes them, for ever.
async fn take_up_master_keys(app: &App) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.read_master_keys_again().await;
    }
}

/// The account that the options name, or what they name of it.
type GivenAccount = (Option<AccountSid>, Option<AuthToken>);

fn given_account(options: &Serve) -> Result<GivenAccount, Failure> {
    let sid = options.account_sid.as_deref().map(str::parse::<AccountSid>).transpose();
    let sid =
        sid.map_err(|expected| Failure::new(format!("COUNTERSIGN_ACCOUNT_SID: {expected}, the letters AC")))?;
    let given = secret(options.auth_token.as_ref(), options.auth_token_file.as_ref())?;
    let expected = "COUNTERSIGN_AUTH_TOKEN: expected 16 to 128 letters and digits";
    let auth_token = given
        .map(|text| AuthToken::parse(text.expose()).ok_or_else(|| Failure::new(expected)))
        .transpose()?;
    Ok((sid, auth_token))
}

/// Makes the account that the options name, or one when there is none at all.
async fn first_account(app: &App, (sid, auth_token): GivenAccount) -> Result<(), Failure> {
    let is_known = sid.is_some() && auth_token.is_some();
    let name = FriendlyName::from_parameter("First account")
        .map_err(|expected| Failure::new(expected.to_string()))?;
    let made = match sid {
        Some(sid) => app.create_account(&operator(), Some(sid), auth_token.clone(), name).await?,
        None => app.create_first_account(&operator(), auth_token.clone(), name).await?,
    };
    match made {
        Some(made) if !is_known => {
            // Whoever started the server may have closed its standard error, which is no reason to stop.
            let _ = writeln!(
                std::io::stderr(),
                "\nAn account was made. Its auth token is shown this once:\n\n  \
                 export COUNTERSIGN_ACCOUNT_SID={}\n  export COUNTERSIGN_AUTH_TOKEN={}\n",
                made.account.sid,
                made.auth_token.expose()
            );
        }
        Some(_) => {}
        None => warn_of_another_token(app, sid, auth_token).await?,
    }
    Ok(())
}

/// The token in the database counts, since it may have been rotated; a server that is configured with
/// another one should say so.
async fn warn_of_another_token(
    app: &App,
    sid: Option<AccountSid>,
    given: Option<AuthToken>,
) -> Result<(), Failure> {
    if let (Some(sid), Some(given)) = (sid, given) {
        let stored = app.account(sid).await?.auth_token;
        if !crypto::equal(stored.expose().as_bytes(), given.expose().as_bytes()) {
            tracing::warn!(
                account_sid = %sid,
                "COUNTERSIGN_AUTH_TOKEN is not this account's token any more; the one in the database counts"
            );
        }
    }
    Ok(())
}
