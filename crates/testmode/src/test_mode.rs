//! The interface of test mode to the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use app::{App, Capture};
use domain::Clock;
use tokio::task::JoinHandle;
use web::Application;

use crate::auto_enrollment;
use crate::clock::TravelingClock;
use crate::face::ControlFace;
use crate::guard::Gate;
use crate::observer::Observer;
use crate::readiness::ReadinessFace;
use crate::state::{Settings, State};

/// Prefix of the paths of test mode.
const PREFIX: &str = "/_countersign/v1";

/// The test mode of a server: its clock, its captures and its virtual devices.
pub struct TestMode(Arc<State>);

impl TestMode {
    /// Creates a test mode whose time is that of `clock` until a test changes it.
    pub fn new(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self(Arc::new(State::new(clock, settings)))
    }

    /// Returns the clock from which the server must take its time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TravelingClock>::clone(&self.0.clock)
    }

    /// Returns the receiver of the server's pushes and webhooks.
    pub fn capture(&self) -> Arc<dyn Capture> {
        Arc::new(Observer {
            captures: Arc::clone(&self.0.captures),
            fleet: Arc::clone(&self.0.fleet),
            chaos: self.0.chaos.clone(),
        })
    }

    /// Adds the endpoints of test mode to the server's application, and its clock to the `Date` header.
    pub fn mount(&self, application: Application, app: &Arc<App>) -> Application {
        let clock = Arc::clone(&self.0.clock);
        application
            .mount(PREFIX, ControlFace::new(Arc::clone(&self.0), Arc::clone(app)))
            .mount("/readyz", ReadinessFace::new(self.0.settings.exposure, Arc::clone(app)))
            .with_date(move || clock.now())
            .with_interceptor(Gate { hosts: self.0.settings.hosts.clone(), chaos: self.0.chaos.clone() })
    }

    /// Starts the virtual devices, which send their requests to the server that listens on `address`. Must be called
    /// once, inside of a runtime. The returned tasks never end.
    pub fn start(&self, app: Arc<App>, address: SocketAddr) -> Vec<JoinHandle<()>> {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other,
        };
        vec![
            self.0.fleet.start(SocketAddr::new(ip, address.port())),
            tokio::spawn(auto_enrollment::run(app, Arc::clone(&self.0.fleet))),
        ]
    }

    /// Ends the requests that wait for a push, a webhook or a challenge, because the server stops.
    pub fn stop(&self) {
        self.0.stop();
    }
}
