//! Test mode: a server with which the tests of a backend control phones, pushes, webhooks and time.
//!
//! Nothing of the API is faked. Virtual devices are software phones of the crate `device`, which make their own keys
//! and send their requests to the server's own listener. Only what leaves the server is replaced: pushes are captured
//! instead of sent, and webhooks are captured and sent.
//!
//! | Question | File |
//! | --- | --- |
//! | Which endpoints are there? | `face.rs`, the route table; `endpoints/` has their handlers |
//! | Which requests are refused? | `guard.rs` |
//! | What is captured, and how do requests wait for it? | `captures.rs`, `capture_filter.rs` |
//! | How does the server report pushes, webhooks and challenges? | `observer.rs` |
//! | What is a virtual device, how does it enroll, and which are there? | `device.rs`, `enrollment.rs`, `fleet.rs` |
//! | How does a device react to a challenge? | `behavior.rs` (the choice), `reaction.rs` (the requests), `step_log.rs` |
//! | Which failures are simulated? | `chaos.rs` |
//! | Which access tokens do devices spend by themselves? | `auto_rules.rs`, `auto_enrollment.rs` |
//! | What is the time, and how is it moved? | `clock.rs` |
//!
//! `docs/testing-your-backend.md` describes test mode for its users, and
//! `docs/decisions/0022-test-mode-is-not-production.md` what keeps it out of production.

mod auto_enrollment;
mod auto_rules;
mod behavior;
mod capture_filter;
mod captures;
mod chaos;
mod clock;
mod device;
mod duration;
mod endpoints;
mod enrollment;
mod error;
mod face;
mod fleet;
mod guard;
mod headers;
mod network;
mod observer;
mod reaction;
mod readiness;
mod request;
mod state;
mod step_log;
mod test_mode;

pub use crate::state::{Exposure, Settings};
pub use crate::test_mode::TestMode;
