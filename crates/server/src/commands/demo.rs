//! `countersign demo`, which the crate `demo` implements. This file provides the API server that the demo runs.

use std::net::SocketAddr;
use std::sync::Arc;

use ::demo::ApiServer;
use app::App;
use terminal::CliError;
use web::{ConnectionLimits, Settings};

use crate::http_server::{HttpServer, ServerConfig, application, bind};

pub(crate) use ::demo::DemoOptions as Arguments;

/// Maximum number of open connections to the demo's server; the demo opens far fewer.
const MAX_CONNECTIONS: usize = 64;

/// Runs the guided tour.
///
/// # Errors
/// Returns an error if a step of the demo fails.
pub(crate) async fn run(options: &Arguments) -> Result<(), CliError> {
    let browser_phone = options.needs_browser_phone();
    ::demo::run(options, Arc::new(jwe::Josekit), |app| start_server(app, browser_phone)).await
}

/// Starts an API server for `app` on a free port of the loopback interface, with the browser phone if wanted.
fn start_server(app: Arc<App>, browser_phone: bool) -> Result<HttpServer, CliError> {
    let limits = ConnectionLimits { total: MAX_CONNECTIONS, per_address: None };
    let config = ServerConfig { socket: bind(([127, 0, 0, 1], 0).into())?, limits, certificate: None };
    HttpServer::start(application(app, Settings::default(), browser_phone), config)
}

impl ApiServer for HttpServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn stop(self) {
        self.stop().await;
    }
}
