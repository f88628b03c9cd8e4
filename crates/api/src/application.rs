//! The application that serves each connection. It has no routes of its own: `middleware.rs` looks each request up in the
//! route table, because logs, metrics and the limits on bodies depend on the route before its handler runs.

use std::sync::Arc;

use actix_service::fn_service;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use app::App;

use crate::draining::Draining;
use crate::middleware;
use crate::state::{ApiState, Settings};

/// Builds the application of one worker thread. All worker threads share the `app`, the limiters in `settings`, and the
/// `draining` state.
pub(crate) fn application(
    app: Arc<App>,
    settings: Settings,
    draining: Arc<Draining>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let state = Arc::new(ApiState { app, settings, draining });
    actix_web::App::new().default_service(fn_service(move |request: ServiceRequest| {
        let state = Arc::clone(&state);
        async move { Ok::<_, actix_web::Error>(middleware::handle(state, request).await) }
    }))
}
