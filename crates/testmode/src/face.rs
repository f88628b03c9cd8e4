//! The endpoints of test mode: the route table, and the face that serves it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use app::App;
use domain::Problem;
use futures_util::future::LocalBoxFuture;
use tracing::error;
use web::{
    BodyLimit, BodyMemory, BodySender, Face, MAX_BODY_BYTES, ReceivedRequest, RequestContext, Route,
    RouteMatch, Router,
};

use crate::endpoints::{accounts, captures, chaos, clock, devices, reset, rules};
use crate::error::{Error, problem_response};
use crate::guard;
use crate::headers::add_headers;
use crate::request::ControlRequest;
use crate::state::State;

/// Maximum time for a request. A request may wait for a minute, and a virtual device then sends three requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// The handler of a route.
type Handler = fn(ControlRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Error>>;

macro_rules! routes {
    ($($path:literal { $($method:ident $handler:path;)+ })+) => {
        /// Every route of test mode. The routes of a path are next to each other.
        const ROUTES: &[Route<Handler>] = &[$($(
            Route {
                method: stringify!($method),
                path: concat!("/_countersign/v1", $path),
                body: BodyLimit::UpTo(MAX_BODY_BYTES),
                endpoint: |request| Box::pin($handler(request)),
            },
        )+)+];
    };
}

routes! {
    "" {
        GET accounts::describe;
    }
    "/" {
        GET accounts::describe;
    }
    "/accounts" {
        POST accounts::create;
    }
    "/accounts/{AccountSid}" {
        POST accounts::update;
    }
    "/chaos" {
        GET chaos::fetch;
        PUT chaos::set;
        DELETE chaos::clear;
    }
    "/rules" {
        POST rules::create;
    }
    "/rules/{Id}" {
        DELETE rules::delete;
    }
    "/clock" {
        GET clock::fetch;
        POST clock::set;
    }
    "/housekeeping" {
        POST clock::run_housekeeping;
    }
    "/reset" {
        POST reset::reset;
    }
    "/pushes" {
        GET captures::list_pushes;
        DELETE captures::delete_pushes;
    }
    "/pushes/latest" {
        GET captures::latest_push;
    }
    "/messages" {
        GET captures::list_messages;
        DELETE captures::delete_messages;
    }
    "/messages/latest" {
        GET captures::latest_message;
    }
    "/webhooks" {
        GET captures::list_webhooks;
        DELETE captures::delete_webhooks;
    }
    "/webhooks/latest" {
        GET captures::latest_webhook;
    }
    "/devices" {
        GET devices::list;
        POST devices::create;
    }
    "/devices/{Id}" {
        GET devices::fetch;
        PATCH devices::update;
        DELETE devices::delete;
    }
    "/devices/{Id}/approve" {
        POST devices::approve;
    }
    "/devices/{Id}/deny" {
        POST devices::deny;
    }
    "/devices/{Id}/log" {
        GET devices::steps;
    }
}

/// The face of test mode. Its endpoints need no credentials: every client that can connect controls the server.
pub(crate) struct ControlFace {
    state: Arc<State>,
    app: Arc<App>,
    router: Router<Handler>,
}

impl ControlFace {
    /// Creates the face of a server in test mode.
    pub(crate) fn new(state: Arc<State>, app: Arc<App>) -> Self {
        Self { state, app, router: Router::new(ROUTES) }
    }

    async fn handle(
        &self,
        route: &Route<Handler>,
        request: ReceivedRequest<()>,
    ) -> Result<HttpResponse, Error> {
        guard::require_intended(&request.http, &self.state.settings.hosts)?;
        let request = ControlRequest {
            state: Arc::clone(&self.state),
            app: Arc::clone(&self.app),
            http: request.http,
            pattern: request.pattern,
            body: request.body?.to_vec(),
        };
        (route.endpoint)(request).await
    }
}

impl Face for ControlFace {
    type Endpoint = Handler;
    type Authentication = ();

    fn find(&self, path: &str, method: &Method) -> RouteMatch<Handler> {
        self.router.find(path, method)
    }

    async fn authenticate(&self, http: &HttpRequest, _: RequestContext) -> BodySender<()> {
        let is_intended = guard::require_intended(http, &self.state.settings.hosts).is_ok();
        BodySender { memory: is_intended.then_some(BodyMemory::Backends), authentication: () }
    }

    async fn call(&self, route: &'static Route<Handler>, request: ReceivedRequest<()>) -> HttpResponse {
        match self.handle(route, request).await {
            Ok(response) => response,
            Err(error) => {
                if let Error::Fault(fault) = &error {
                    error!(route = route.path, "request to test mode failed: {fault}");
                }
                error.to_response()
            }
        }
    }

    fn timeout(&self, _: &Route<Handler>) -> Option<Duration> {
        Some(REQUEST_TIMEOUT)
    }

    fn problem_response(&self, problem: &Problem) -> HttpResponse {
        problem_response(problem)
    }

    fn add_headers(&self, _: &HttpRequest, context: RequestContext, response: &mut HttpResponse) {
        add_headers(response.headers_mut(), context);
        response.head_mut().set_camel_case_headers(true);
    }
}
