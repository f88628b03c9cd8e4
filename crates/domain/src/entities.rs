//! Entities: the users of a service, each of which is known by an identity that the backend chose.

use crate::paging::{Listed, Position, position};
use crate::sids::{AccountSid, EntitySid, ServiceSid};
use crate::text::Identity;
use crate::time::Timestamp;

/// A user of a service. An entity has no mutable fields and only groups the user's factors.
#[derive(Clone, Debug)]
pub struct Entity {
    /// SID of the entity (`YE…`).
    pub sid: EntitySid,
    /// Account that owns the entity.
    pub account_sid: AccountSid,
    /// Service to which the user belongs.
    pub service_sid: ServiceSid,
    /// The backend's own ID of the user.
    pub identity: Identity,
    /// Creation time of the entity.
    pub created_at: Timestamp,
    /// Always equal to `created_at`, because an entity cannot change.
    pub updated_at: Timestamp,
}

impl Entity {
    /// Returns the path with which queries address the entity.
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

/// A reference to an entity that exists: its SID and its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRef {
    /// SID of the entity.
    pub sid: EntitySid,
    /// Path of the entity.
    pub path: EntityPath,
}

/// The path of an entity, and of its factors and challenges: the caller's account, and the URL segments of the service
/// and the identity.
///
/// Every query for data below an entity takes all three fields, so that it never returns data of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityPath {
    /// Account of the caller.
    pub account_sid: AccountSid,
    /// Service of the entity.
    pub service_sid: ServiceSid,
    /// Identity of the entity.
    pub identity: Identity,
}
