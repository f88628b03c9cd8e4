//! `GET /readyz` in test mode. The body says that test mode is on, so that a probe in production can notice it.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use app::App;
use domain::Problem;
use serde_json::json;
use web::{BodyLimit, BodySender, Face, ReceivedRequest, RequestContext, Route, RouteMatch, Router};

use crate::error::{Error, problem_response};
use crate::headers::add_headers;
use crate::state::Exposure;

const ROUTES: &[Route<()>] =
    &[Route { method: "GET", path: "/readyz", body: BodyLimit::Small, endpoint: () }];

/// The face that serves `/readyz` instead of the API.
pub(crate) struct ReadinessFace {
    exposure: Exposure,
    app: Arc<App>,
    router: Router<()>,
}

impl ReadinessFace {
    /// Creates the face of a server in test mode.
    pub(crate) fn new(exposure: Exposure, app: Arc<App>) -> Self {
        Self { exposure, app, router: Router::new(ROUTES) }
    }
}

impl Face for ReadinessFace {
    type Endpoint = ();
    type Authentication = ();

    fn find(&self, path: &str, method: &Method) -> RouteMatch<()> {
        self.router.find(path, method)
    }

    async fn authenticate(&self, _: &HttpRequest, _: RequestContext) -> BodySender<()> {
        BodySender { memory: None, authentication: () }
    }

    async fn call(&self, _: &'static Route<()>, _: ReceivedRequest<()>) -> HttpResponse {
        match self.app.check_ready().await {
            Ok(()) => {
                HttpResponse::Ok().json(json!({ "status": "ready", "test_mode": self.exposure.as_str() }))
            }
            Err(error) => Error::from(error).to_response(),
        }
    }

    fn problem_response(&self, problem: &Problem) -> HttpResponse {
        problem_response(problem)
    }

    fn add_headers(&self, _: &HttpRequest, context: RequestContext, response: &mut HttpResponse) {
        add_headers(response.headers_mut(), context);
        response.head_mut().set_camel_case_headers(true);
    }
}
