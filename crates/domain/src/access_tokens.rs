//! Access tokens: the permission, given by a backend to a phone, to enrol one factor.

use crate::factors::FactorType;
use crate::parameter::Bounded;
use crate::problem::{Code, Problem};
use crate::secret::{Sealed, Secret};
use crate::sids::{AccessTokenSid, AccountSid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity};
use crate::time::Timestamp;

/// Seconds an access token lives: 60 to 300 (protocol 02 section 6).
pub type Ttl = Bounded<60, 300>;

/// What an access token permits. The token itself carries these claims, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `YK…`
    pub sid: AccessTokenSid,
    /// Account that asked.
    pub account_sid: AccountSid,
    /// Service in which the factor may be made.
    pub service_sid: ServiceSid,
    /// Entity for which it may be made.
    pub identity: Identity,
    /// Type of factor that may be made.
    pub factor_type: FactorType,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Grant {
    /// Checks that factors of this entity may be made with it. `None` is a SID or an identity that can't be, and so
    /// not the token's.
    ///
    /// # Errors
    /// 60313 when the token was made for another identity or service (protocol 00, row 8).
    pub fn permits_entity(
        &self,
        service_sid: Option<ServiceSid>,
        identity: Option<&Identity>,
    ) -> Result<(), Problem> {
        Self::permits_if(service_sid == Some(self.service_sid) && identity == Some(&self.identity))
    }

    /// Checks that factors of this type may be made with it.
    ///
    /// # Errors
    /// 60313 when the token was made for another type (protocol 00, row 8).
    pub fn permits_type(&self, factor_type: FactorType) -> Result<(), Problem> {
        Self::permits_if(factor_type == self.factor_type)
    }

    fn permits_if(is_made_for_it: bool) -> Result<(), Problem> {
        if is_made_for_it {
            return Ok(());
        }
        let advice = "the access token was made for another service, identity or factor type";
        Err(Problem::with(Code::UnauthorizedFactorCreation, advice))
    }
}

/// The text of an access token, in the open: a JWE that the device treats as opaque.
#[derive(Clone, Debug)]
pub struct TokenText(Secret<String>);

impl TokenText {
    /// Takes the text out of sight.
    pub const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The token's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// An access token as it is remembered.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// What it permits.
    pub grant: Grant,
    /// Name that the phone may show for the new factor.
    pub factor_friendly_name: Option<FriendlyName>,
    /// Its lifetime.
    pub ttl: Ttl,
    /// The text, sealed: the backend may fetch it again while it is good.
    pub token: Sealed<TokenText>,
    /// The factor that was made with it; a token makes one.
    pub spent_on: Option<FactorSid>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl AccessToken {
    /// Whether it can still be used, and so is still to be seen (protocol 00, row 8).
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.spent_on.is_none() && now < self.grant.expires_at
    }
}
