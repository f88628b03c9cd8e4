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
pub mod forms;
pub mod housekeeping;
pub mod limits;
pub mod locales;
pub mod messages;
pub mod messaging_configurations;
pub mod notifications;
pub mod outlets;
pub mod paging;
pub mod parameter;
pub mod problem;
pub mod rate_limits;
pub mod recipients;
pub mod safe_list;
pub mod secret;
pub mod services;
pub mod sids;
pub mod streams;
pub mod templates;
pub mod text;
pub mod time;
pub mod traces;
mod variables;
pub mod verifications;
pub mod webhooks;

pub use access_tokens::AccessToken;
pub use accounts::{Account, ApiKey};
pub use challenges::Challenge;
pub use entities::{Entity, EntityPath, EntityRef};
pub use entropy::Entropy;
pub use error_report::error_report;
pub use factors::{Factor, FactorType, HasFactorType};
pub use locales::Locale;
pub use messaging_configurations::MessagingConfiguration;
pub use paging::{Order, Page, PageRequest};
pub use parameter::{Expected, Parameter};
pub use problem::{Code, Problem};
pub use rate_limits::{RateLimit, RateLimitBucket};
pub use recipients::{Channel, Country, EmailAddress, PhoneNumber, Recipient};
pub use safe_list::SafeNumber;
pub use secret::{Sealed, Secret};
pub use services::Service;
pub use sids::{
    AccessTokenSid, AccountSid, AlertSid, ApiKeySid, AttemptSid, BucketSid, ChallengeSid, CredentialSid,
    EntitySid, EventSid, FactorSid, MailerSid, MessagingConfigurationSid, MessagingServiceSid,
    NotificationSid, RateLimitSid, RequestSid, SafeNumberSid, ServiceSid, Sid, TemplateSid, VerificationSid,
    WebhookSid,
};
pub use templates::Template;
pub use text::{FriendlyName, Identity};
pub use time::{Clock, Timestamp};
pub use traces::TraceParent;
pub use webhooks::{CallbackUrl, Webhook};
