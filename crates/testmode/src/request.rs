//! A request to an endpoint of test mode, with what the handlers need.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::HttpRequest;
use app::{App, Origin};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

use crate::error::Error;
use crate::state::State;

/// A request that passed the guard.
pub(crate) struct ControlRequest {
    /// The state of test mode.
    pub(crate) state: Arc<State>,
    /// The use cases of the server.
    pub(crate) app: Arc<App>,
    /// The request's head.
    pub(crate) http: HttpRequest,
    /// The path pattern of the route.
    pub(crate) pattern: &'static str,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl ControlRequest {
    /// Parses the body as JSON. An empty body counts as an empty object.
    ///
    /// # Errors
    /// Returns error code 60306 with the reason if the body cannot be parsed.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let body = if self.body.is_empty() { b"{}" } else { self.body.as_slice() };
        serde_json::from_slice(body)
            .map_err(|reason| Error::invalid(format_args!("the body is invalid: {reason}")))
    }

    /// Returns the value of a parameter of the path.
    pub(crate) fn path_parameter(&self, name: &str) -> &str {
        let parameters = web::PathParameters { pattern: self.pattern, path: self.http.match_info().as_str() };
        parameters.get(name).unwrap_or_default()
    }

    /// Returns the parameters of the query by name.
    ///
    /// # Errors
    /// Returns error code 60306 if a parameter is not one of `known` or occurs twice.
    pub(crate) fn query(&self, known: &[&str]) -> Result<BTreeMap<String, String>, Error> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(self.http.query_string().as_bytes()).into_owned() {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(Error::invalid(format_args!(
                    "the query has the parameter {name}; known are {known}"
                )));
            }
            if let Some(_previous) = parameters.insert(name.clone(), value) {
                return Err(Error::invalid(format_args!("the query has the parameter {name} twice")));
            }
        }
        Ok(parameters)
    }
}

/// Returns the origin of changes that test mode makes, for the audit log.
pub(crate) fn origin() -> Origin {
    Origin::operator("test mode")
}

/// Returns a JSON array of these values.
pub(crate) fn array(values: Vec<Value>) -> Value {
    Value::Array(values)
}
