//! The command `countersign load`: puts a deployment under load and measures it.
//!
//! The command enrolls software phones, lets virtual users act as backend and phone, and reports throughput, latencies,
//! errors and processor time. It needs only the public API, so it works with any deployment: one server, several behind
//! a load balancer, with or without TLS. Requests and signatures of the phones come from crate [`device`], and equal
//! those of the SDKs.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `options.rs` | the options, and what they mean together |
//! | `target.rs`, `client.rs`, `failure.rs` | the deployment, a connection to it, and how a request can fail |
//! | `backend.rs`, `phones.rs` | the requests of the two parties |
//! | `setup.rs` | enrolls phones, prepares challenges, and deletes them at the end |
//! | `plan.rs`, `schedule.rs` | what virtual users share; when their iterations start |
//! | `scenario.rs` | the work of a virtual user |
//! | `measurement.rs`, `process.rs`, `report.rs` | latencies, processor time, and the report |
//! | `progress.rs` | the progress bar |
//!
//! Driver and server often share a machine, so the driver must use little processor time. All virtual users of a thread
//! run in one task, each drives its own connection, and nothing is shared between threads but counters.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod backend;
mod client;
mod failure;
mod measurement;
mod options;
mod phones;
mod plan;
mod process;
mod progress;
mod report;
mod scenario;
mod schedule;
mod setup;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use domain::Clock;
use terminal::{CliError, plain_json, say, say_text, warn};
use tokio::signal::ctrl_c;
use tokio::time::sleep;

pub use backend::Credentials;
pub use options::LoadOptions;

use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::process::{Process, Usage};
use crate::progress::{Progress, UPDATE_INTERVAL};
use crate::report::{Report, ServerUsage};
use crate::scenario::run_users;
use crate::schedule::Schedule;
use crate::setup::Setup;

/// Runs `countersign load` and prints its report. `credentials` returns the credentials of the backend, and `clock` is
/// the clock of this machine, from which the phones take the time for their tokens.
///
/// # Errors
/// Returns an error with a message for the terminal if there is no host, if the deployment cannot be reached, if it
/// refuses a request of the preparation, or if not a single iteration of the run succeeded.
pub async fn run(
    options: LoadOptions,
    credentials: impl FnOnce() -> Result<Credentials, CliError>,
    clock: Arc<dyn Clock>,
) -> Result<(), CliError> {
    let settings = options.settings()?;
    let setup = Setup::open(settings, &credentials()?, clock).await?;
    let result = tokio::select! {
        result = measure(&setup) => result.and_then(|report| print(&report)),
        _ = ctrl_c() => Err(CliError::new("interrupted")),
    };
    if !setup.settings.is_kept
        && let Err(error) = setup.clean_up().await
    {
        warn(format_args!("countersign: {error}"));
    }
    result
}

/// Prepares and executes the run.
async fn measure(setup: &Setup) -> Result<Report, CliError> {
    let phones = setup.enroll_phones().await?;
    let prepared = setup.prepare_requests(&phones).await?;
    let settings = setup.settings.clone();
    let server = setup.target.local_port().and_then(Process::listening_on);
    let plan = Arc::new(Plan {
        target: Arc::clone(&setup.target),
        backend: Arc::clone(&setup.backend),
        phones,
        prepared,
        scenario: settings.scenario.clone(),
        concurrency: settings.concurrency,
        schedule: Schedule::new(settings.pace, settings.warmup, settings.duration),
        ended: AtomicU64::new(0),
    });
    // Stops the threads if this future is dropped.
    let run = Run { workers: start_workers(&plan, settings.threads)?, plan };
    run.wait_until(|run| run.plan.schedule.measured_from() <= Instant::now()).await;
    let before = Snapshot::take(server.as_ref());
    run.wait_until(|run| run.workers.iter().all(JoinHandle::is_finished)).await;
    let used = Snapshot::take(server.as_ref()).since(&before);
    let schedule = &run.plan.schedule;
    let (scheduled, measured_from) = (schedule.scheduled_count(), schedule.measured_from());
    let measurement = run.finish()?;
    Ok(Report {
        service: setup.backend.service().to_string(),
        elapsed: measurement.last_end().map_or(Duration::ZERO, |end| end - measured_from),
        scheduled,
        driver: used.driver,
        server: server.zip(used.server).map(|(process, usage)| ServerUsage { process, usage }),
        measurement,
        settings,
    })
}

/// Prints the report, as the options request.
fn print(report: &Report) -> Result<(), CliError> {
    if report.settings.is_json {
        say(plain_json(&report.to_json()))?;
    } else {
        say_text(report.to_text())?;
    }
    if report.completed() == 0 {
        return Err(CliError::new("not a single iteration succeeded; the report lists the errors"));
    }
    Ok(())
}

/// The threads that send requests. They stop early if this value is dropped.
struct Run {
    plan: Arc<Plan>,
    workers: Vec<JoinHandle<Result<Measurement, CliError>>>,
}

impl Run {
    /// Waits until `is_over` returns `true`, and updates the progress bar meanwhile.
    async fn wait_until(&self, is_over: impl Fn(&Self) -> bool) {
        let schedule = &self.plan.schedule;
        let progress = Progress::time("running", schedule.duration());
        let mut ended_before = 0;
        while !is_over(self) {
            let ended = self.plan.ended.load(Ordering::Relaxed);
            let rate = ended.saturating_sub(ended_before) as f64 / UPDATE_INTERVAL.as_secs_f64();
            progress.update(schedule.elapsed(), format!("{rate:.0}/s"));
            ended_before = ended;
            let until_measured = schedule.measured_from().saturating_duration_since(Instant::now());
            let next_change = Some(until_measured).filter(|time| !time.is_zero());
            sleep(next_change.map_or(UPDATE_INTERVAL, |time| time.min(UPDATE_INTERVAL))).await;
        }
    }

    /// Returns everything that the threads measured.
    ///
    /// # Errors
    /// Returns an error if a thread could not start its runtime, or panicked.
    fn finish(mut self) -> Result<Measurement, CliError> {
        let mut all = Measurement::new();
        for worker in std::mem::take(&mut self.workers) {
            all.merge(worker.join().map_err(|_| CliError::new("a thread that sends requests panicked"))??);
        }
        Ok(all)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.plan.schedule.stop();
    }
}

/// Starts the threads, each with its share of the virtual users and a runtime of its own.
fn start_workers(
    plan: &Arc<Plan>,
    threads: usize,
) -> Result<Vec<JoinHandle<Result<Measurement, CliError>>>, CliError> {
    let start = |thread: usize| {
        let plan = Arc::clone(plan);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let users = (thread..plan.concurrency).step_by(threads);
            Ok(runtime.block_on(run_users(&plan, users)))
        };
        Ok(thread::Builder::new().name(format!("load-{thread}")).spawn(work)?)
    };
    (0..threads).map(start).collect()
}

/// What the driver and the server have used, where the kernel provides it.
struct Snapshot {
    driver: Option<Usage>,
    server: Option<Usage>,
}

impl Snapshot {
    fn take(server: Option<&Process>) -> Self {
        Self { driver: Process::current().usage(), server: server.and_then(Process::usage) }
    }

    fn since(self, before: &Self) -> Self {
        let since = |now: Option<Usage>, before: Option<Usage>| Some(now?.since(&before?));
        Self { driver: since(self.driver, before.driver), server: since(self.server, before.server) }
    }
}
