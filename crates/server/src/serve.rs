//! `countersign serve`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use api::{
    Acceptor, Admission, ConnectionLimits, Draining, PublicUrl, REFUSED_CONNECTIONS, RequestLimits, Settings,
    TrustedProxies, UnderWay,
};
use app::{App, Courier, Couriers, DeliverySettings, SystemClock};
use domain::accounts::AuthToken;
use domain::deliveries::Schedule;
use domain::housekeeping::Retention;
use domain::limits::{ChallengeLimits, Limits};
use domain::{AccountSid, FriendlyName, Parameter as _};
use push_client::Proxy;
use socket2::{Domain, Protocol, Socket, Type};
use store::{Location, OldSchema, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use webhook_client::Guard;

use crate::audit::operator;
use crate::cli::{self, Deliveries, Kept, Serve};
use crate::config;
use crate::failure::Failure;
use crate::file;
use crate::hangup::Hangup;
use crate::log::Log;
use crate::metrics;
use crate::open_files::{self, Capacity};
use crate::sampling::{Folders, Sampling};
use crate::storage::{passing_master_key, secret, start};
use crate::terminal::{say, warn_text};
use crate::tls::{Certificate, Files};

/// How long requests that are under way may take to end when the server stops.
const DRAIN: u64 = 30;

/// Connections that wait to be accepted, as many as with the listeners of the standard library.
const BACKLOG: i32 = 128;

/// How long a client may leave unread, or unacknowledged, what it was sent.
#[cfg(target_os = "linux")]
const UNREAD: Duration = Duration::from_secs(20);

/// How long deliveries that are under way may take to end after that.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the server until it is told to stop.
pub(crate) async fn run(options: Box<Serve>, given: config::Settings) -> Result<(), Failure> {
    // First, since it looks at how the signal was handled until now.
    let hangup = Hangup::expect()?;
    let log = Log::start(&options.log, options.log_format)?;
    for warning in given.warnings() {
        tracing::warn!("{warning}");
    }
    let levels = log.follow_signals(given)?;
    let Prepared { settings, account, certificate, deliveries, couriers, traces } = prepare(&options)?;
    // The addresses first: a server that can't have them makes nothing, and takes no deliveries from another one.
    let socket = bind(options.listen)?;
    let for_metrics = match options.metrics_listen {
        Some(listen) => Some(metrics::bind(listen).await?),
        None => None,
    };
    // Before the first wait: for the database.
    let mut stop_signal = StopSignal::expect()?;
    let mut hung_up = std::pin::pin!(follow_hangups(hangup, certificate.clone()));
    let mut app = tokio::select! {
        opened = open(&options) => opened?,
        () = stop_signal.given() => return Ok(()),
        () = &mut hung_up => return Ok(()),
    };
    app.set_webhook_patience(i64::from(options.deliveries.webhook_patience));
    app.set_webhook_guard(Guard::new(options.deliveries.webhook_allow.clone()));
    app.set_limits(limits(&options.limits));
    let app = Arc::new(app);
    // What is in memory begins anew with each process.
    let checkpoint_file = options.checkpoints.audit_checkpoint_file.as_deref().filter(|_| !options.ephemeral);
    app.publish_checkpoints(checkpoint_file).await?;
    first_account(&app, account).await?;
    let drain_delay = Duration::from_secs(options.drain_delay.into());
    let exporter = traces
        .map(|traces| telemetry::traces::Exporter::start(traces, env!("CARGO_PKG_VERSION")))
        .transpose()?;
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let door = Door { socket, limits: connection_limits(&options), certificate };
    let running = Running::start(Arc::clone(&app), settings, door)?;
    let mut courier = Courier::start(Arc::clone(&app), deliveries, couriers)?;
    let _readable = for_metrics
        .map(|listener| metrics::answer(listener, Arc::clone(&app), Arc::clone(&running.draining)))
        .transpose()?;
    let _sampling = match options.metrics_listen {
        Some(_) => Some(Sampling::start(Arc::clone(&app), sampled_folders(&options)?)),
        None => None,
    };
    // A standard output that is closed is no reason to stop.
    let _ = say(format_args!("countersign listening on {scheme}://{}", running.address));
    let result = tokio::select! {
        () = stop_signal.given() => Ok(()),
        () = &mut hung_up => Ok(()),
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

/// Returns the folders whose disk and backups the metrics report.
fn sampled_folders(options: &Serve) -> Result<Folders, Failure> {
    if options.ephemeral {
        return Ok(Folders::default());
    }
    let data = options.storage.data_dir.clone();
    let is_in_folder = matches!(options.storage.location()?, Location::Sqlite(_));
    Ok(Folders { database: is_in_folder.then(|| data.clone()), data: Some(data) })
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
    traces: Option<telemetry::traces::Settings>,
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
fn traces(options: &cli::Traces) -> Result<Option<telemetry::traces::Settings>, Failure> {
    let Some(endpoint) = &options.otlp_endpoint else { return Ok(None) };
    let endpoint = endpoint.parse().map_err(|error| Failure::new(format!("--otlp-endpoint: {error}")))?;
    let headers = secret(options.otlp_headers.as_ref(), options.otlp_headers_file.as_ref())?;
    let headers = headers.map(|headers| telemetry::traces::Headers::parse(headers.expose())).transpose();
    let headers = headers.map_err(|error| Failure::new(format!("--otlp-headers: {error}")))?;
    let extra_ca =
        read(options.otlp_ca.as_ref())?.map(|pem| telemetry::traces::Authorities::parse(&pem)).transpose();
    let extra_ca = extra_ca.map_err(|error| Failure::new(format!("--otlp-ca: {error}")))?;
    Ok(Some(telemetry::traces::Settings {
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

/// The connections that the options and the limit of open files permit.
fn connection_limits(options: &Serve) -> ConnectionLimits {
    let capacity = Capacity::of(options, open_files::raise_limit());
    if let Some(shortage) = capacity.shortage() {
        tracing::warn!("{shortage}; {}", open_files::ADVICE);
    }
    // One address must not be able to take every place.
    let half =
        u32::try_from(capacity.connections / 2).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let per_address = NonZeroU32::new(options.max_connections_per_address).map(|most| most.min(half));
    ConnectionLimits { total: capacity.connections, per_address }
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
    settings.push.proxy = push_proxy(options)?;
    Ok(settings)
}

/// The proxy on the way to the push providers: the one of the options, else that of the environment.
fn push_proxy(options: &Deliveries) -> Result<Option<Proxy>, Failure> {
    let given = secret(options.push_proxy.as_ref(), options.push_proxy_file.as_ref())?;
    match given.as_ref().map(|given| given.expose().as_str()) {
        Some("none") => Ok(None),
        Some(address) => {
            let proxy = Proxy::new(address, "");
            proxy.map(Some).map_err(|error| Failure::new(format!("--push-proxy: {error}")))
        }
        None => Ok(environment_proxy(|name| std::env::var(name).ok())),
    }
}

/// The proxy that the variables `HTTPS_PROXY` and `NO_PROXY` name, in capitals or not. They are there for other
/// programs too, so that one of no use here is no reason not to start.
fn environment_proxy(variable: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    let either = |small: &str, capital: &str| {
        variable(small).or_else(|| variable(capital)).filter(|value| !value.is_empty())
    };
    let address = either("https_proxy", "HTTPS_PROXY")?;
    let except = either("no_proxy", "NO_PROXY").unwrap_or_default();
    let proxy = Proxy::new(&address, &except);
    proxy.inspect_err(|error| tracing::warn!("HTTPS_PROXY is not used for pushes: {error}")).ok()
}

/// Where the server listens, and how.
pub(crate) struct Door {
    /// As [`bind`] made it.
    pub(crate) socket: Socket,
    /// Connections that are open at one time; more are refused.
    pub(crate) limits: ConnectionLimits,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Takes an address, on which connections are still refused.
///
/// # Errors
/// When another program listens on it, or it is none of this machine's.
pub(crate) fn bind(address: SocketAddr) -> Result<Socket, Failure> {
    let bound =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
            // As the standard library does: a restart need not wait for connections of the process before.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        });
    bound.map_err(|error| not_listening(address, &error))
}

/// Begins to take connections.
fn listen(socket: Socket) -> Result<TcpListener, Failure> {
    let address = socket.local_addr()?.as_socket().ok_or_else(|| Failure::new("expected an IP address"))?;
    // Another server may have been bound to it at the same moment.
    socket.listen(BACKLOG).map_err(|error| not_listening(address, &error))?;
    Ok(socket.into())
}

fn not_listening(address: SocketAddr, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; stop the program that listens there, or choose another address with --listen"
        }
        ErrorKind::PermissionDenied => {
            "; ports below 1024 are for root and for processes with CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    Failure::new(format!("can't listen on {address}: {error}{advice}"))
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
    pub(crate) fn start(app: Arc<App>, settings: Settings, door: Door) -> Result<Self, Failure> {
        // Connections inherit it. Without it a client that stops reading keeps its buffers forever.
        #[cfg(target_os = "linux")]
        door.socket.set_tcp_user_timeout(Some(UNREAD))?;
        let listener = listen(door.socket)?;
        let address = listener.local_addr()?;
        let draining = Arc::new(Draining::default());
        let acceptor = Acceptor {
            admission: Arc::new(Admission::new(door.limits, settings.trusted_proxies.clone())),
            tls: door.certificate.as_ref().map(|certificate| certificate.config()).transpose()?.map(Arc::new),
            app,
            settings,
            draining: Arc::clone(&draining),
        };
        let workers = std::thread::available_parallelism()?.get();
        let server = Server::build()
            .workers(workers)
            // Of each worker. `Admission` counts over all of them.
            .max_concurrent_connections(door.limits.total + REFUSED_CONNECTIONS)
            .shutdown_timeout(DRAIN)
            .disable_signals();
        let stopping = server.graceful_shutdown_signal();
        let service = move || {
            let stopping = stopping.clone();
            acceptor.clone().service(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
        };
        let server = server.listen("http", listener, service)?.run();
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

/// Reads the certificate again at each SIGHUP, if there is one. Returns when the terminal that the server was
/// started at has gone.
async fn follow_hangups(mut hangup: Hangup, certificate: Option<Arc<Certificate>>) {
    while hangup.is_request().await {
        match certificate.as_ref().map(|certificate| certificate.read_again()) {
            None => {}
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(failure)) => tracing::error!("the certificate stays as it was: {failure}"),
        }
    }
    tracing::warn!("the terminal has gone; stops");
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
            warn_text(format_args!(
                "\nAn account was made. Its auth token is shown this once:\n\n  \
                 export COUNTERSIGN_ACCOUNT_SID={}\n  export COUNTERSIGN_AUTH_TOKEN={}\n",
                made.account.sid,
                made.auth_token.expose()
            ));
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
