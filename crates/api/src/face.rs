//! The API as a face of the server.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use app::{App, Caller};
use domain::{Code, Problem};
use telemetry::metrics::{Fault, FaultLabels, METRICS};
use tracing::error;
use web::{BodySender, Face, RequestContext, Route, RouteMatch, Settings};

use crate::authentication::{authenticate, record_failure};
use crate::callers::body_memory;
use crate::endpoint::Endpoint;
use crate::error::{self, Error};
use crate::headers::{add_preflight_headers, add_standard_headers};
use crate::json_suffix::strip_json_suffix;
use crate::request::ReceivedRequest;
use crate::routes;
use crate::state::ApiState;

/// The API of an [`App`]: Twilio's surface over HTTP.
#[derive(Clone)]
pub struct Api {
    state: Arc<ApiState>,
}

impl Api {
    /// Creates the API of `app`. The `settings` must be those of the [`web::Application`] that serves it.
    pub fn new(app: Arc<App>, settings: Settings) -> Self {
        Self { state: Arc::new(ApiState { app, settings }) }
    }

    /// Returns the response to a handler's error. Logs server faults, and records failed authentications.
    fn render(&self, http: &HttpRequest, context: RequestContext, error: &Error) -> HttpResponse {
        if let app::Error::Fault(fault) = &error.0 {
            log_fault(fault);
        }
        let problem = error.problem();
        if problem.code() == Code::Unauthenticated {
            record_failure(&self.state, http, context.client_ip);
        }
        error::body(&problem, Some(http.path()))
    }
}

impl Face for Api {
    type Endpoint = Endpoint;
    type Authentication = Result<Caller, Error>;

    fn rewrite(&self, request: &mut ServiceRequest) {
        strip_json_suffix(request);
    }

    fn find(&self, path: &str, method: &Method) -> RouteMatch<Endpoint> {
        routes::find(path, method)
    }

    async fn authenticate(
        &self,
        http: &HttpRequest,
        context: RequestContext,
    ) -> BodySender<Self::Authentication> {
        let authentication = authenticate(&self.state, http, context.client_ip).await;
        BodySender { memory: authentication.as_ref().ok().map(body_memory), authentication }
    }

    async fn call(
        &self,
        route: &'static Route<Endpoint>,
        request: web::ReceivedRequest<Self::Authentication>,
    ) -> HttpResponse {
        let web::ReceivedRequest { http, pattern, context, body, authentication } = request;
        let state = Arc::clone(&self.state);
        let request = ReceivedRequest { state, http: http.clone(), pattern, context, body, authentication };
        match (route.endpoint.handler)(request).await {
            Ok(response) => response,
            Err(error) => self.render(&http, context, &error),
        }
    }

    fn problem_response(&self, problem: &Problem) -> HttpResponse {
        error::body(problem, None)
    }

    fn not_found(&self, path: &str) -> HttpResponse {
        routes::not_found(path)
    }

    fn add_headers(&self, http: &HttpRequest, context: RequestContext, response: &mut HttpResponse) {
        add_standard_headers(response.headers_mut(), context.id);
        if *http.method() == Method::OPTIONS {
            add_preflight_headers(response.headers_mut(), http.path());
        }
        // Some clients find header names only in their documented capitalization.
        response.head_mut().set_camel_case_headers(true);
    }
}

/// Counts a server fault and logs it with its causes. The causes name tables and files, but never include their
/// contents.
fn log_fault(fault: &app::Fault) {
    let kind = match fault {
        app::Fault::Unavailable(_) => Fault::Unavailable,
        app::Fault::Store(_) => Fault::Database,
        app::Fault::Crypto(_)
        | app::Fault::BrokenChain
        | app::Fault::RolledBackChain { .. }
        | app::Fault::CheckpointFile(_) => Fault::Crypto,
    };
    METRICS.faults.get_or_create(&FaultLabels { kind }).inc();
    if !fault.is_logged() {
        error!("request failed with an internal server error: {}", domain::error_report(fault));
    }
}
