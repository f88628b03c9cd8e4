//! The nouns and rules of Verify Push: what a Service, an Entity, a Factor, a Challenge and an
//! AccessToken are, and what may become of them.
//!
//! Nothing here does I/O, awaits, or asks the machine for the time: rules take `now` as a
//! parameter, so a test can hold the clock still. Every value that enters from outside is parsed
//! once into a type that can't hold anything else ([`Identity`], [`FriendlyName`],
//! [`FactorSid`] …), and a rule that refuses says so with a [`Problem`].

pub mod access_tokens;
pub mod accounts;
pub mod alerts;
pub mod audit;
pub mod causes;
pub mod challenges;
pub mod checkpoints;
pub mod clock_trust;
pub mod credentials;
pub mod deliveries;
pub mod entities;
pub mod entropy;
pub mod events;
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
pub mod text;
pub mod time;
pub mod traces;
pub mod webhooks;

pub use access_tokens::AccessToken;
pub use accounts::{Account, ApiKey};
pub use causes::causes;
pub use challenges::Challenge;
pub use entities::{Entity, EntityPath};
pub use entropy::Entropy;
pub use factors::{Factor, FactorType};
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
