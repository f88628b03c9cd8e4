//! The test mode of a server, which the crate `testmode` implements.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::header::{HeaderName, HeaderValue};
use app::{App, Capture, SystemClock};
use domain::Clock;
use telemetry::metrics::METRICS;
use testmode::{Exposure, Settings};
use tokio::task::JoinHandle;
use web::Application;

use crate::first_account::FirstAccount;
use crate::options::{ServeOptions, TestModeOption};
use crate::test_mode::HEADER;

/// Time between two log records that remind of test mode.
const REMINDER_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

/// The test mode of a server.
pub(crate) struct TestMode(testmode::TestMode);

impl TestMode {
    /// Creates the test mode that the options select, or returns `None`.
    pub(crate) fn new(options: &ServeOptions, account: &FirstAccount) -> Option<Self> {
        let exposure = match options.test_mode {
            TestModeOption::Off => return None,
            TestModeOption::Local => Exposure::Local,
            TestModeOption::Exposed => Exposure::Exposed,
        };
        let settings = Settings {
            exposure,
            hosts: options.test_mode_host.clone(),
            account_sid: account.sid?,
            is_account_public: account.has_test_token(),
            auth_token: account.auth_token.clone()?,
            version: env!("CARGO_PKG_VERSION"),
        };
        Some(Self(testmode::TestMode::new(Arc::new(SystemClock), settings)))
    }

    /// Returns the clock of the server.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock()
    }

    /// Returns the capture, which receives pushes and webhooks.
    pub(crate) fn capture(&self) -> Arc<dyn Capture> {
        self.0.capture()
    }

    /// Adds the faces of test mode, and the header of every response.
    pub(crate) fn mount(&self, application: Application, app: &Arc<App>) -> Application {
        let (name, value) = HEADER;
        self.0
            .mount(application, app)
            .with_header(HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    /// Starts the background tasks. `address` is the address on which the server listens.
    pub(crate) fn start(self, app: Arc<App>, address: SocketAddr) -> RunningTestMode {
        METRICS.test_mode.set(1);
        let mut tasks = self.0.start(app, address);
        tasks.push(tokio::spawn(remind()));
        RunningTestMode { test_mode: self.0, tasks }
    }
}

/// The running test mode of a server. Dropping it stops its background tasks.
pub(crate) struct RunningTestMode {
    test_mode: testmode::TestMode,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningTestMode {
    /// Ends requests that wait for a push, a webhook or a challenge.
    pub(crate) fn stop(&self) {
        self.test_mode.stop();
    }
}

impl Drop for RunningTestMode {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Logs a warning now and every minute. This background task never returns.
async fn remind() {
    loop {
        tracing::warn!(
            "test mode is on: every client that can connect controls this server; never use it in production"
        );
        tokio::time::sleep(REMINDER_INTERVAL).await;
    }
}
