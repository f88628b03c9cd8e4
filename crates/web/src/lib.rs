//! The way into the server: what every HTTP face needs, and nothing that is specific to one.
//!
//! A [`Face`] is a set of paths with their own handlers, error bodies and response headers, such as the API. An
//! [`Application`] consists of the faces of a listener, and an [`Acceptor`] serves it on accepted sockets. This crate
//! knows neither use cases nor the faces.
//!
//! # How a request is handled
//!
//! | Step | File |
//! | --- | --- |
//! | The server accepts a connection, if the connection limits permit it, and negotiates TLS | `acceptor.rs`, `connection_limits.rs`, `connection.rs` |
//! | The path determines the face, and the face's route table the route | `application.rs`, `face.rs`, `route.rs` |
//! | The middleware assigns a request ID, reads the body, and refuses requests under overload or during shutdown | `middleware.rs`, `body.rs`, `load_shedding.rs`, `draining.rs` |
//! | The face authenticates and authorizes the caller, within the rate limits | `rate_limit.rs`, `client_ip.rs` |
//! | The face parses the parameters | `form.rs`, `json.rs`, `path_parameters.rs` |
//! | The face's handler runs, and returns a response or a problem | `status.rs`, `public_url.rs`, `streaming.rs` |
//! | Every response receives the headers of its face, and is logged and counted | `middleware.rs`, `security_headers.rs` |

mod acceptor;
mod application;
mod body;
mod client_ip;
mod connection;
mod connection_limits;
mod context;
mod draining;
mod face;
mod form;
mod json;
mod load_shedding;
mod middleware;
mod path_parameters;
mod public_url;
mod rate_limit;
mod request;
mod route;
mod security_headers;
mod settings;
mod status;
mod streaming;

pub use crate::acceptor::Acceptor;
pub use crate::application::Application;
pub use crate::body::{Body, MAX_BODY_BYTES};
pub use crate::client_ip::TrustedProxies;
pub use crate::connection_limits::{ConnectionLimiter, ConnectionLimits, MAX_REFUSED_CONNECTIONS};
pub use crate::context::RequestContext;
pub use crate::draining::Draining;
pub use crate::face::{BodySender, Face};
pub use crate::form::Form;
pub use crate::json::{JsonObject, Members};
pub use crate::load_shedding::{BodyMemory, LoadShedder};
pub use crate::path_parameters::PathParameters;
pub use crate::public_url::PublicUrl;
pub use crate::rate_limit::{RateLimitPermit, RateLimiter, RequestLimits, Requester};
pub use crate::request::{ReceivedRequest, has_content_type};
pub use crate::route::{BodyLimit, Route, RouteMatch, Router};
pub use crate::security_headers::add_security_headers;
pub use crate::settings::{Interceptor, Settings};
pub use crate::status::status;
pub use crate::streaming::{streaming_response, streaming_response_head};
