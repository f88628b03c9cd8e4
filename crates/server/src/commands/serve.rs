//! `countersign serve`: starts the server, and stops it on a signal.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use app::{App, AppConfig, DeliveryWorker, SystemClock};
use domain::Clock;
use store::{Location, OldSchema, Store};
use terminal::{CliError, say};
use tokio::net::TcpListener;
use webhook_client::Guard;

use crate::config::Settings;
use crate::database;
use crate::hangup::Hangup;
use crate::http_server::{HttpServer, ServerConfig, application, bind};
use crate::log::Log;
use crate::master_key_file::ephemeral_master_key;
use crate::metrics_listener::{self, MetricsListener};
use crate::options::ServeOptions;
use crate::sampling::{SampledFolders, Sampling};
use crate::serve_settings::{
    ServeSettings, connection_limits, creation_limits, stream_limits, verification_rules,
};
use crate::stop_signal::StopSignal;
use crate::test_mode::{self, RunningTestMode, TestMode};
use crate::tls::Certificate;

/// Maximum time for running deliveries to finish when the server stops, after all requests have finished.
const DELIVERY_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two checks for changed master keys.
const MASTER_KEY_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the server until a signal arrives or its terminal is closed.
///
/// # Errors
/// Returns an error if the server can't start, or if its delivery worker fails.
pub(super) async fn run(mut options: Box<ServeOptions>, configured: Settings) -> Result<(), CliError> {
    // Install this first, because it reads how the process handled SIGHUP when it started.
    let hangup = Hangup::install()?;
    let log = Log::start(&options.log, options.log_format)?;
    for warning in configured.warnings() {
        tracing::warn!("{warning}");
    }
    test_mode::prepare(&mut options, &configured)?;
    let log_levels = log.follow_signals(configured)?;
    let settings = ServeSettings::read(&options)?;
    let test_mode = TestMode::new(&options, &settings.first_account);
    // Bind before opening the database: a server that can't use its address must create nothing and lease no
    // deliveries.
    let sockets = Sockets {
        api: bind(options.listen)?,
        metrics: match options.metrics_listen {
            Some(listen) => Some(metrics_listener::bind(listen).await?),
            None => None,
        },
    };
    // Install this before waiting for the database, so that a signal ends the wait.
    let mut stop_signal = StopSignal::install()?;
    let mut terminal_closed = std::pin::pin!(follow_hangups(hangup, settings.certificate.clone()));
    let app = tokio::select! {
        opened = open_app(&options, &settings, test_mode.as_ref()) => Arc::new(opened?),
        () = stop_signal.received() => return Ok(()),
        () = &mut terminal_closed => return Ok(()),
    };
    let mut exporter = None;
    let result = match Server::start(&app, &options, settings, sockets, test_mode, &mut exporter).await {
        Ok(server) => server.run(&app, &options, stop_signal, terminal_closed, log_levels).await,
        Err(error) => Err(error),
    };
    // Stop the app even after a failed start, so that its audit records are chained.
    app.stop().await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    result
}

/// The bound sockets of the API and the metrics listener, which do not accept connections yet.
struct Sockets {
    api: socket2::Socket,
    metrics: Option<TcpListener>,
}

/// The running parts of a server that uses an open database.
struct Server {
    http: HttpServer,
    delivery_worker: DeliveryWorker,
    // Dropping these two stops the metrics listener and the sampling task.
    _metrics: Option<MetricsListener>,
    _sampling: Option<Sampling>,
    test_mode: Option<RunningTestMode>,
}

impl Server {
    /// Starts all parts of the server, and stores the trace exporter in `exporter`. The caller must stop the exporter
    /// even if this fails. It must do so only after stopping the app, because spans end at that point.
    async fn start(
        app: &Arc<App>,
        options: &ServeOptions,
        settings: ServeSettings,
        sockets: Sockets,
        test_mode: Option<TestMode>,
        exporter: &mut Option<telemetry::traces::Exporter>,
    ) -> Result<Self, CliError> {
        // Use no checkpoint file for an ephemeral database: the database is new in each process, so it would contradict
        // the checkpoints of earlier processes.
        let checkpoint_file =
            options.checkpoints.audit_checkpoint_file.as_deref().filter(|_| !options.ephemeral);
        app.publish_checkpoints(checkpoint_file).await?;
        settings.first_account.ensure_exists(app).await?;
        if let Some(traces) = settings.traces {
            *exporter = Some(telemetry::traces::Exporter::start(traces, env!("CARGO_PKG_VERSION"))?);
        }
        let scheme = if settings.certificate.is_some() { "https" } else { "http" };
        let config = ServerConfig {
            socket: sockets.api,
            limits: connection_limits(options),
            certificate: settings.certificate,
        };
        let application = application(Arc::clone(app), settings.web, options.browser_phone);
        let application = match &test_mode {
            Some(test_mode) => test_mode.mount(application, app),
            None => application,
        };
        let http = HttpServer::start(application, config)?;
        let test_mode = test_mode.map(|test_mode| test_mode.start(Arc::clone(app), http.address));
        let delivery_worker = DeliveryWorker::start(Arc::clone(app), settings.deliveries, settings.senders)?;
        let metrics = sockets
            .metrics
            .map(|listener| MetricsListener::start(listener, Arc::clone(app), Arc::clone(&http.draining)))
            .transpose()?;
        let sampling = match options.metrics_listen {
            Some(_) => Some(Sampling::start(Arc::clone(app), sampled_folders(options)?)),
            None => None,
        };
        // A closed standard output must not stop the server.
        let _ = say(format_args!("countersign listening on {scheme}://{}", http.address));
        Ok(Self { http, delivery_worker, _metrics: metrics, _sampling: sampling, test_mode })
    }

    /// Serves requests until a signal arrives, the terminal is closed, or the delivery worker fails; then stops the
    /// server.
    async fn run(
        mut self,
        app: &App,
        options: &ServeOptions,
        mut stop_signal: StopSignal,
        terminal_closed: Pin<&mut impl Future<Output = ()>>,
        log_levels: impl Future<Output = ()>,
    ) -> Result<(), CliError> {
        let result = tokio::select! {
            () = stop_signal.received() => Ok(()),
            () = terminal_closed => Ok(()),
            () = log_levels => Ok(()),
            () = reload_master_keys(app) => Ok(()),
            () = self.delivery_worker.ended() => {
                Err(CliError::new("the delivery worker stopped unexpectedly; see the log for the reason"))
            }
        };
        if result.is_ok() && options.drain_delay > 0 {
            self.http.announce_stop();
            tracing::info!(delay_s = options.drain_delay, "server will stop after the drain delay");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(options.drain_delay.into())) => {}
                () = stop_signal.received() => tracing::info!("server stopping now: second signal received"),
                () = self.delivery_worker.ended() => {}
            }
        }
        app.end_streams();
        if let Some(test_mode) = &self.test_mode {
            test_mode.stop();
        }
        self.http.stop().await;
        self.delivery_worker.stop(DELIVERY_SHUTDOWN_TIMEOUT).await;
        result
    }
}

/// Opens the database selected by the options, and starts the app on it.
async fn open_app(
    options: &ServeOptions,
    settings: &ServeSettings,
    test_mode: Option<&TestMode>,
) -> Result<App, CliError> {
    let config = AppConfig {
        limits: creation_limits(&options.limits),
        verifications: verification_rules(&options.limits),
        webhook_max_age_seconds: i64::from(options.deliveries.webhook_max_age),
        webhook_guard: Guard::new(options.deliveries.webhook_allow_network.clone()),
        streams: stream_limits(options),
        capture: test_mode.map(TestMode::capture),
        configured_outlets: settings.configured_outlets.clone(),
        public_url: settings.web.public_url.configured().map(str::to_owned),
    };
    if options.ephemeral {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await?;
        let clock = test_mode.map_or_else(|| Arc::new(SystemClock) as Arc<dyn Clock>, TestMode::clock);
        return database::start(store, clock, ephemeral_master_key(), config).await;
    }
    let old_schema = if options.migrate { OldSchema::Migrate } else { OldSchema::Refuse };
    let connect_timeout = Duration::from_secs(options.database_wait.into());
    options.storage.open(old_schema, connect_timeout, config).await
}

/// Returns the folders whose disk space and last backup are reported in the metrics.
fn sampled_folders(options: &ServeOptions) -> Result<SampledFolders, CliError> {
    if options.ephemeral {
        return Ok(SampledFolders::default());
    }
    let data = options.storage.data_dir.clone();
    let is_sqlite = matches!(options.storage.location()?, Location::Sqlite(_));
    Ok(SampledFolders { database: is_sqlite.then(|| data.clone()), data: Some(data) })
}

/// Reloads the TLS certificate, if there is one, at each SIGHUP. Returns when the terminal from which the server was
/// started is closed.
async fn follow_hangups(mut hangup: Hangup, certificate: Option<Arc<Certificate>>) {
    while hangup.is_reload_request().await {
        match certificate.as_ref().map(|certificate| certificate.reload()) {
            None => {}
            Some(Ok(())) => tracing::info!("TLS certificate reloaded"),
            Some(Err(error)) => {
                tracing::error!(
                    "could not reload the TLS certificate, the previous one stays in use: {error}"
                );
            }
        }
    }
    tracing::warn!("server stopping: the terminal from which it was started was closed");
}

/// Reads the master keys again every [`MASTER_KEY_RELOAD_INTERVAL`], so that a rotation needs no restart. This
/// background task never returns.
async fn reload_master_keys(app: &App) {
    loop {
        tokio::time::sleep(MASTER_KEY_RELOAD_INTERVAL).await;
        app.reload_master_keys().await;
    }
}
