//! The place of test mode in a binary that was built without it. No value of these types exists.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use app::{App, Capture};
use domain::Clock;
use web::Application;

use crate::first_account::FirstAccount;
use crate::options::ServeOptions;

/// The test mode of a server.
pub(crate) struct TestMode(Infallible);

impl TestMode {
    /// Returns `None`.
    pub(crate) const fn new(_: &ServeOptions, _: &FirstAccount) -> Option<Self> {
        None
    }

    /// Returns the clock of the server.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match self.0 {}
    }

    /// Returns the capture, which receives pushes and webhooks.
    pub(crate) fn capture(&self) -> Arc<dyn Capture> {
        match self.0 {}
    }

    /// Adds the faces of test mode.
    pub(crate) fn mount(&self, _: Application, _: &Arc<App>) -> Application {
        match self.0 {}
    }

    /// Starts the background tasks.
    pub(crate) fn start(self, _: Arc<App>, _: SocketAddr) -> RunningTestMode {
        match self.0 {}
    }
}

/// The running test mode of a server.
pub(crate) struct RunningTestMode(Infallible);

impl RunningTestMode {
    /// Ends requests that wait.
    pub(crate) fn stop(&self) {
        match self.0 {}
    }
}
