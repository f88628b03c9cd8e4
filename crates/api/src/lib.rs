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
//! | The connection is accepted, the body is read, and the request is refused under overload | the crate `web` |
//! | The route is looked up, which determines the handler and the accepted callers | `face.rs`, `routes.rs`, `endpoint.rs` |
//! | The caller is authenticated, and the rate limits are checked | `authentication.rs`, `callers.rs` |
//! | The caller is authorized for the route and for the resource in the path | `request.rs`, `resource.rs` |
//! | The parameters are parsed | `request.rs`, `paging.rs`, and `form.rs` and `json.rs` of `web` |
//! | The handler runs | one file per resource, such as `challenges.rs` |
//! | Errors are rendered as JSON, and every response receives its standard headers | `face.rs`, `error.rs`, `headers.rs` |

mod access_tokens;
mod accounts;
mod alerts;
mod api_keys;
mod attempts;
mod audit;
mod authentication;
mod callers;
mod challenges;
mod credentials;
mod date_range;
mod delivery_reports;
mod endpoint;
mod entities;
mod error;
mod face;
mod factors;
mod forms;
mod headers;
mod health;
mod json_suffix;
mod messaging_configurations;
mod notifications;
mod openapi;
mod paging;
mod passkeys;
mod rate_limits;
mod request;
mod resource;
mod routes;
mod safe_list;
mod services;
mod spoken_codes;
mod state;
mod streams;
mod templates;
mod verification_parameters;
mod verifications;
mod webhooks;

pub use crate::callers::{CallerClass, Callers};
pub use crate::endpoint::Endpoint;
pub use crate::error::Error;
pub use crate::face::Api;
pub use crate::request::{AuthorizedRequest, ReceivedRequest, RequestBody, authorized};
pub use crate::resource::{Lookup, Resource};
pub use crate::routes::ROUTES;
