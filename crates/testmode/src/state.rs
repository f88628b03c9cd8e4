//! The state that all endpoints and background tasks of test mode share.

use std::sync::Arc;

use domain::accounts::AuthToken;
use domain::{AccountSid, Clock};
use tokio::sync::watch;

use crate::captures::Captures;
use crate::chaos::Chaos;
use crate::clock::TravelingClock;
use crate::fleet::Fleet;

/// Who can connect to a server in test mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine.
    Local,
    /// Programs on any machine that reaches the address on which the server listens.
    Exposed,
}

impl Exposure {
    /// Returns the value of the option that selects this exposure.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Exposed => "exposed",
        }
    }
}

/// Settings of test mode.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who can connect to the server.
    pub exposure: Exposure,
    /// Host names, in addition to those that are always accepted, by which clients may reach the server.
    pub hosts: Vec<String>,
    /// SID of the test account.
    pub account_sid: AccountSid,
    /// Auth token of the test account.
    pub auth_token: AuthToken,
    /// Whether this is the account of every test server. The auth token of another one is not shown.
    pub is_account_public: bool,
    /// Version of the server.
    pub version: &'static str,
}

/// The clock, the captures and the virtual devices of a server.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<TravelingClock>,
    pub(crate) captures: Arc<Captures>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) chaos: Chaos,
    stopped: watch::Sender<bool>,
}

impl State {
    /// Creates the state of a server whose time is that of `clock` until a test changes it.
    pub(crate) fn new(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let clock = Arc::new(TravelingClock::new(clock));
        let fleet = Arc::new(Fleet::new(Arc::clone(&clock)));
        Self {
            settings,
            clock,
            captures: Arc::default(),
            fleet,
            chaos: Chaos::default(),
            stopped: watch::Sender::new(false),
        }
    }

    /// Ends the requests that wait.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits until [`stop`](Self::stop) is called.
    pub(crate) async fn stopped(&self) {
        // The sender is a member of this type, so the channel cannot be closed.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}
