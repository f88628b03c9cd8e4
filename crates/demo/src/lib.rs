//! The command `countersign demo`: a guided tour of server, backend and phone over real HTTP.
//!
//! The tour runs step by step against a server that keeps everything in memory. It prints each request, its
//! response, and the checks behind it. Every step ends with a check; the first check that fails ends the demo
//! with an error.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `tour/` | the steps, in their order |
//! | `backend.rs` | the application's server: plain HTTP with account SID and auth token |
//! | `phone_observer.rs` | prints the exchanges of a [`device::Phone`] and verifies its signatures independently |
//! | `receiver.rs` | receives pushes, in place of Google, webhooks, and messages, in place of a gateway |
//! | `exchange.rs`, `format.rs` | turn a request and its response into lines of text |
//! | `printer.rs` | prints the lines and counts the steps |
//! | `clock.rs` | a clock that can be paused, for `--step` |
//! | `code_tour.rs` | with `--codes`, one-time codes instead of the tour of a phone |
//! | `stay.rs` | after the tour, a browser acts as the phone, for `--stay` |
//!
//! The API server itself belongs to the binary, which passes it to [`run`] as an [`ApiServer`].

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod backend;
mod clock;
mod code_tour;
mod exchange;
mod format;
mod phone_observer;
mod printer;
mod receiver;
mod stay;
mod tour;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use app::{App, AppConfig, DeliverySettings, DeliveryWorker, MasterKeySource, Origin, Senders};
use clap::Args;
use crypto::{AccessTokenCipher, MasterKey, MasterKeys, SystemEntropy};
use domain::{FriendlyName, Parameter as _};
use store::{Location, OldSchema, Store};
use terminal::CliError;

use crate::backend::Backend;
use crate::clock::PausableClock;
use crate::code_tour::CodeTour;
use crate::printer::Printer;
use crate::receiver::Receiver;
use crate::stay::Stay;
use crate::tour::Tour;

/// Command-line options of `countersign demo`.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Wait for Enter before each step. The demo's clock stands still while waiting, so that nothing expires
    #[arg(long)]
    step: bool,

    /// Keep the server after the tour, and print a link that makes your browser the phone, until you press Ctrl-C
    #[arg(long)]
    stay: bool,

    /// Show one-time codes by text message and by mail, instead of a phone
    #[arg(long, conflicts_with = "stay")]
    codes: bool,
}

impl DemoOptions {
    /// Returns whether the demo's server must serve the browser phone.
    pub const fn needs_browser_phone(&self) -> bool {
        self.stay
    }
}

/// An API server that runs in this process.
pub trait ApiServer {
    /// Returns the address and port on which the server accepts connections.
    fn address(&self) -> SocketAddr;

    /// Stops the server after all running requests have finished.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Maximum time to wait for running deliveries at the end of the demo.
const DELIVERY_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the demo and prints it to standard output. `start_server` starts the API server on a free port of the
/// loopback interface, for an application with an empty in-memory database. `cipher` encrypts access tokens.
///
/// # Errors
/// Returns an error if a step fails or the server cannot start, or [`CliError::output_closed`] if the reader
/// of standard output has closed it.
pub async fn run<S: ApiServer>(
    options: &DemoOptions,
    cipher: Arc<dyn AccessTokenCipher>,
    start_server: impl FnOnce(Arc<App>) -> Result<S, CliError>,
) -> Result<(), CliError> {
    let clock = Arc::new(PausableClock::default());
    let printer = Arc::new(Printer::new(options.step.then(|| Arc::clone(&clock))));
    let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await?;
    let master_keys =
        MasterKeySource::fixed(MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new()));
    let app = App::start(
        store,
        Arc::clone(&clock) as _,
        Arc::new(SystemEntropy),
        cipher,
        master_keys,
        AppConfig::default(),
    );
    let app = Arc::new(app.await?);
    let result = run_with_app(&app, options, &clock, &printer, start_server).await;
    app.stop().await;
    result
}

async fn run_with_app<S: ApiServer>(
    app: &Arc<App>,
    options: &DemoOptions,
    clock: &Arc<PausableClock>,
    printer: &Arc<Printer>,
    start_server: impl FnOnce(Arc<App>) -> Result<S, CliError>,
) -> Result<(), CliError> {
    let started = Instant::now();
    let name =
        FriendlyName::from_parameter("Demo").map_err(|expected| CliError::new(expected.to_string()))?;
    let account = app.create_account(&Origin::operator("demo"), None, None, name).await?;
    let account = account.ok_or_else(|| CliError::new("the account of the demo already exists"))?;
    let account = Arc::new(account);
    let receiver = Receiver::start().await?;
    let deliveries = delivery_settings(&receiver);
    let senders = Senders::new(&deliveries, Arc::clone(clock) as _)?;
    let worker = DeliveryWorker::start(Arc::clone(app), deliveries, senders)?;
    let server = start_server(Arc::clone(app))?;
    let url = format!("http://{}", server.address());
    let run = async {
        let backend = || Backend::new(&url, Arc::clone(&account), Arc::clone(printer));
        // `run` drops the backend and the phone, so that the server does not wait for their connections when
        // it stops.
        if options.codes {
            let (sid, printer) = (account.account.sid, Arc::clone(printer));
            let tour = CodeTour::new(app, sid, &url, backend()?, receiver, Arc::clone(&printer)).await?;
            printer.print_summary(tour.run().await, started.elapsed())?;
            printer.print_next_steps_with_codes();
            return Ok(());
        }
        let tour = Tour::new(&url, backend()?, receiver, Arc::clone(clock), Arc::clone(printer))?;
        printer.print_summary(tour.run().await, started.elapsed())?;
        if options.stay {
            return Stay::new(&url, backend()?, Arc::clone(printer)).await?.run().await;
        }
        printer.print_next_steps();
        Ok(())
    };
    let result = run.await;
    server.stop().await;
    worker.stop(DELIVERY_SHUTDOWN_TIMEOUT).await;
    result
}

/// Returns delivery settings that send all pushes to `receiver` and permit webhooks to the loopback address.
fn delivery_settings(receiver: &Receiver) -> DeliverySettings {
    let mut settings = DeliverySettings::default();
    settings.webhooks.allow = vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()];
    settings.push.fcm_endpoint = Some(receiver.url());
    settings
}
