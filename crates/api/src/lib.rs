//! The HTTP face: routes, forms, JSON views, error bodies.
//!
//! [`ROUTES`] is the whole API: every method and path, its handler, and who may call it. A handler gets
//! one authorized request (`call.rs`), reads its parameters (`form.rs`), runs a use case of `app`, and
//! shows what came of it. It holds no rules. Every response passes through `envelope.rs`.

mod acceptor;
mod access_tokens;
mod address;
mod admission;
mod alerts;
mod audit;
mod base;
mod call;
mod challenges;
mod connection;
mod credentials;
mod entities;
mod envelope;
mod error;
mod factors;
mod form;
mod health;
mod incoming;
mod limits;
mod list;
mod notifications;
mod openapi;
mod path;
mod reach;
mod services;
mod under_way;
mod unserved;
mod webhooks;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard, middleware};
use app::App;
use domain::Code;

pub use crate::acceptor::Acceptor;
pub use crate::address::TrustedProxies;
pub use crate::admission::{Admission, ConnectionLimits, REFUSED_CONNECTIONS};
pub use crate::base::PublicUrl;
pub use crate::envelope::Draining;
pub use crate::form::Form;
pub use crate::limits::{Limits, RequestLimits};
pub use crate::under_way::UnderWay;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Anyone, without credentials.
    Anyone,
    /// A backend: the account or one of its API keys.
    Backend,
    /// A backend, or a phone with an access token.
    BackendOrEnrollee,
    /// A backend, or a device for what is its own.
    BackendOrDevice,
}

/// One line of the route table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method. `GET` answers `HEAD` too.
    pub method: &'static str,
    /// The path, with the names of its segments in braces.
    pub path: &'static str,
    /// Who may call.
    pub admits: Admits,
}

macro_rules! routes {
    ($($path:literal { $($method:ident $handler:path, $admits:ident;)+ })+) => {
        /// Every route that is served.
        pub const ROUTES: &[Route] = &[$($(
            Route { method: stringify!($method), path: $path, admits: Admits::$admits },
        )+)+];

        fn routes(config: &mut ServiceConfig) {
            $(config.service(
                web::resource($path)
                    $(.route(routes!(@guarded $method).to($handler)))+
                    .default_service(web::to(|| async { not_allowed(&[$(stringify!($method)),+]) })),
            );)+
        }
    };
    (@guarded GET) => { web::route().guard(guard::Any(guard::Get()).or(guard::Head())) };
    (@guarded POST) => { web::post() };
    (@guarded DELETE) => { web::delete() };
}

routes! {
    "/healthz" {
        GET health::alive, Anyone;
    }
    "/readyz" {
        GET health::ready, Anyone;
    }
    "/openapi.json" {
        GET openapi::document, Anyone;
    }
    "/v2/Services" {
        POST services::create, Backend;
        GET services::list, Backend;
    }
    "/v2/Services/{ServiceSid}" {
        GET services::fetch, Backend;
        POST services::update, Backend;
        DELETE services::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/AccessTokens" {
        POST access_tokens::create, Backend;
    }
    "/v2/Services/{ServiceSid}/AccessTokens/{Sid}" {
        GET access_tokens::fetch, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities" {
        POST entities::create, Backend;
        GET entities::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}" {
        GET entities::fetch, Backend;
        DELETE entities::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors" {
        POST factors::create, BackendOrEnrollee;
        GET factors::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}" {
        GET factors::fetch, BackendOrDevice;
        POST factors::update, BackendOrDevice;
        DELETE factors::delete, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges" {
        POST challenges::create, Backend;
        GET challenges::list, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}" {
        GET challenges::fetch, BackendOrDevice;
        POST challenges::update, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications" {
        POST notifications::create, Backend;
    }
    "/v2/Services/{ServiceSid}/Webhooks" {
        POST webhooks::create, Backend;
        GET webhooks::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Webhooks/{Sid}" {
        GET webhooks::fetch, Backend;
        POST webhooks::update, Backend;
        DELETE webhooks::delete, Backend;
    }
    "/v1/Credentials" {
        POST credentials::create, Backend;
        GET credentials::list, Backend;
    }
    "/v1/Credentials/{Sid}" {
        GET credentials::fetch, Backend;
        POST credentials::update, Backend;
        DELETE credentials::delete, Backend;
    }
    "/v1/Alerts" {
        GET alerts::list, Backend;
    }
    "/v1/Alerts/{Sid}" {
        GET alerts::fetch, Backend;
    }
    "/v1/Events" {
        GET audit::list, Backend;
    }
    "/v1/Events/{Sid}" {
        GET audit::fetch, Backend;
    }
}

/// What the operator decides about the way in.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How the server is reached.
    pub public_url: PublicUrl,
    /// Who is believed about where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// What is worked on, counted over all workers.
    pub under_way: Arc<UnderWay>,
    /// How much may come in.
    pub limits: Arc<Limits>,
}

/// The whole application. `Data` is shared by all workers.
fn application(
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
        .app_data(Data::from(app))
        .app_data(Data::from(draining))
        .app_data(Data::from(settings.under_way))
        .app_data(Data::new(settings.public_url))
        .app_data(Data::new(settings.trusted_proxies))
        .app_data(Data::from(settings.limits))
        .wrap(middleware::from_fn(envelope::envelope))
        // The last one is the first to see a request.
        .wrap(middleware::from_fn(path::normalize))
        .configure(routes)
        .default_service(web::to(unknown))
}

/// The path exists, the method does not.
fn not_allowed(allowed: &[&str]) -> HttpResponse {
    let mut response = error::body(&Code::MethodNotAllowed.into(), None);
    let mut methods = allowed.join(", ");
    if allowed.contains(&"GET") {
        methods.push_str(", HEAD");
    }
    methods.push_str(", OPTIONS");
    if let Ok(value) = methods.parse() {
        response.headers_mut().insert(actix_web::http::header::ALLOW, value);
    }
    response
}

/// No such path.
async fn unknown(request: HttpRequest) -> HttpResponse {
    match unserved::endpoint(request.path()) {
        Some(problem) => error::body(&problem, None),
        None => error::body(&Code::NotFound.into(), Some(request.path())),
    }
}
