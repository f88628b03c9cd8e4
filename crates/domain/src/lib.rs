//! The concepts and rules of Verify: what a service, an entity, a factor, a challenge and an access token are, and how
//! they may change. Each type of factor has its own files in [`factors`] and [`challenges`].
//!
//! Nothing in this crate does I/O, awaits, or reads the clock. Rules take `now` as a parameter, so that tests control
//! time. Every value from outside is parsed once into a type that holds only valid values ([`Identity`],
//! [`FriendlyName`], [`FactorSid`] …). A rule that refuses a request returns a [`Problem`].

pub mod access_tokens;
pub mod accounts;
pub mod alerts;
pub mod audit;
pub mod challenges;
pub mod checkpoints;
pub mod clock_trust;
pub mod credentials;
pub mod deliveries;
pub mod entities;
pub mod entropy;
pub mod error_report;
pub mod events;
mod factor_type;
pub mod factors;
pub mod housekeeping;
pub mod limits;
pub mod notifications;
pub mod paging;
pub mod parameter;
pub mod problem;
pub mod secret;
pub mod services;
pub mod sids;
pub mod streams;
pub mod text;
pub mod time;
pub mod traces;
pub mod webhooks;

pub use access_tokens::AccessToken;
pub use accounts::{Account, ApiKey};
pub use challenges::Challenge;
pub use entities::{Entity, EntityPath, EntityRef};
pub use entropy::Entropy;
pub use error_report::error_report;
pub use factors::{Factor, FactorType, HasFactorType};
pub use paging::{Order, Page, PageRequest};
pub use parameter::{Expected, Parameter};
pub use problem::{Code, Problem};
pub use secret::{Sealed, Secret};
pub use services::Service;
pub use sids::{
    AccessTokenSid, AccountSid, AlertSid, ApiKeySid, ChallengeSid, CredentialSid, EntitySid, EventSid,
    FactorSid, NotificationSid, RequestSid, ServiceSid, Sid, WebhookSid,
};
pub use text::{FriendlyName, Identity};
pub use time::{Clock, Timestamp};
pub use traces::TraceParent;
pub use webhooks::{CallbackUrl, Webhook};
