//! The HTTP API: routes, form parameters, JSON views and error bodies.
//!
//! [`ROUTES`] lists the whole API: every method and path, its handler, and the callers that it accepts. A handler takes
//! an [`AuthorizedRequest`], reads its parameters, runs a use case of the crate `app`, and returns a view of the
//! result. Handlers contain no business rules.
//!
//! # How a request is handled
//!
//! | Step | File |
//! | --- | --- |
//! | The server accepts a connection, if the connection limits permit it, and negotiates TLS | `acceptor.rs`, `connection_limits.rs`, `connection.rs` |
//! | The middleware looks up the route, which determines the handler and the accepted callers | `middleware.rs`, `routes.rs`, `route.rs`, `callers.rs` |
//! | It assigns a request ID, reads the body, and refuses requests under overload | `middleware.rs`, `body.rs`, `load_shedding.rs` |
//! | The caller is authenticated, and the rate limits are checked | `authentication.rs`, `rate_limit.rs` |
//! | The caller is authorized for the route and for the resource in the path | `request.rs`, `resource.rs` |
//! | The parameters are parsed | `form.rs`, `paging.rs` |
//! | The handler runs | one file per resource, such as `challenges.rs` |
//! | Errors are rendered as JSON, and every response receives its standard headers | `middleware.rs`, `error.rs` |

mod acceptor;
mod access_tokens;
mod alerts;
mod application;
mod audit;
mod authentication;
mod body;
mod callers;
mod challenges;
mod client_ip;
mod connection;
mod connection_limits;
mod context;
mod credentials;
mod date_range;
mod draining;
mod entities;
mod error;
mod factors;
mod form;
mod health;
mod json_suffix;
mod load_shedding;
mod middleware;
mod notifications;
mod openapi;
mod paging;
mod path_parameters;
mod public_url;
mod rate_limit;
mod request;
mod resource;
mod route;
mod routes;
mod services;
mod state;
mod unsupported;
mod webhooks;

pub use crate::acceptor::Acceptor;
pub use crate::callers::{CallerClass, Callers};
pub use crate::client_ip::TrustedProxies;
pub use crate::connection_limits::{ConnectionLimiter, ConnectionLimits, MAX_REFUSED_CONNECTIONS};
pub use crate::draining::Draining;
pub use crate::error::Error;
pub use crate::form::Form;
pub use crate::load_shedding::LoadShedder;
pub use crate::public_url::PublicUrl;
pub use crate::rate_limit::{RateLimiter, RequestLimits};
pub use crate::request::{AuthorizedRequest, ReceivedRequest, authorized};
pub use crate::resource::{Lookup, Resource};
pub use crate::route::Route;
pub use crate::routes::ROUTES;
pub use crate::state::Settings;
