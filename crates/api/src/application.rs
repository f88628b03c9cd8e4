//! Combines the middleware and the routes into the application that serves each connection.

use std::sync::Arc;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use app::App;

use crate::draining::Draining;
use crate::json_suffix::strip_json_suffix;
use crate::middleware;
use crate::routes::{self, ROUTES};
use crate::state::{ApiState, Settings};

/// Builds the application of one worker thread. All worker threads share the `app`, the limiters in `settings`, and the
/// `draining` state.
pub(crate) fn application(
    app: Arc<App>,
    settings: Settings,
    draining: Arc<Draining>,
) -> actix_web::App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    actix_web::App::new()
        .app_data(Data::new(ApiState { app, settings, draining, routes: ROUTES }))
        .wrap(from_fn(middleware::handle))
        // actix-web runs middleware in reverse order of registration, so the suffix is removed first.
        .wrap(from_fn(strip_json_suffix))
        .configure(routes::configure)
        .default_service(web::to(routes::not_found))
}
