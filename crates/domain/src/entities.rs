//! Entities: the users of a service, each known by an identity that the customer chose.

use crate::paging::{Listed, Position, position};
use crate::sids::{AccountSid, EntitySid, ServiceSid};
use crate::text::Identity;
use crate::time::Timestamp;

/// One user within one service. It has no fields to change: it exists, and its factors hang on it.
#[derive(Clone, Debug)]
pub struct Entity {
    /// `YE…`
    pub sid: EntitySid,
    /// The owner.
    pub account_sid: AccountSid,
    /// The service.
    pub service_sid: ServiceSid,
    /// The customer's name for the user.
    pub identity: Identity,
    /// When it was made.
    pub created_at: Timestamp,
    /// Equal to `created_at`, since nothing can change.
    pub updated_at: Timestamp,
}

impl Entity {
    /// Where it is to be found.
    pub fn path(&self) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: self.identity.clone(),
        }
    }
}

impl Listed for Entity {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// Where an entity is to be found, and with it its factors and challenges: the words of the request's
/// path, and the account that the caller speaks for. Every query on what lies under an entity takes all
/// three, so that nothing of another account is ever found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityPath {
    /// The caller's account.
    pub account_sid: AccountSid,
    /// The service.
    pub service_sid: ServiceSid,
    /// The entity's identity.
    pub identity: Identity,
}
