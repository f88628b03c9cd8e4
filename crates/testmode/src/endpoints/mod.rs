//! The handlers of the endpoints, one file for each resource.

pub(crate) mod accounts;
pub(crate) mod captures;
pub(crate) mod chaos;
pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod reset;
pub(crate) mod rules;
