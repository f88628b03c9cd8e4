//! Access tokens: the permission, given by a backend to a phone, to enroll one factor.

use crate::factors::FactorType;
use crate::parameter::Bounded;
use crate::problem::{Code, Problem};
use crate::secret::{Sealed, Secret};
use crate::sids::{AccessTokenSid, AccountSid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity};
use crate::time::Timestamp;

/// Seconds an access token lives: 60 to 300 (docs/protocol/resources.md, section 6).
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
    /// 60313 when the token was made for another identity or service (docs/protocol/decisions.md, No. 8).
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
    /// 60313 when the token was made for another type (docs/protocol/decisions.md, No. 8).
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
    /// Whether it can still be used, and so is still to be seen (docs/protocol/decisions.md, No. 8).
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.spent_on.is_none() && now < self.grant.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::parameter::Parameter as _;
    use crate::sids::Sid as _;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn token() -> AccessToken {
        AccessToken {
            grant: Grant {
                sid: AccessTokenSid::from_bytes([1; 16]),
                account_sid: AccountSid::from_bytes([2; 16]),
                service_sid: ServiceSid::from_bytes([3; 16]),
                identity: Identity::from_parameter("user-0001").unwrap(),
                factor_type: FactorType::Push,
                expires_at: NOW.plus_seconds(60),
            },
            factor_friendly_name: None,
            ttl: Ttl::new(60).unwrap(),
            token: Sealed::from_bytes(Vec::new()),
            spent_on: None,
            created_at: NOW,
        }
    }

    #[test]
    fn a_grant_permits_its_service_identity_and_type_and_no_other() {
        let grant = token().grant;
        let (service, identity) = (grant.service_sid, grant.identity.clone());
        let (other_service, other) =
            (ServiceSid::from_bytes([4; 16]), Identity::from_parameter("user-0002").unwrap());
        let permits = |service, identity, factor_type| {
            grant.permits_entity(Some(service), Some(identity)).and_then(|()| grant.permits_type(factor_type))
        };
        assert_eq!(permits(service, &identity, FactorType::Push), Ok(()));
        for (service, identity) in [(None, Some(&identity)), (Some(service), None)] {
            let problem = grant.permits_entity(service, identity).unwrap_err();
            assert_eq!(problem.code(), Code::UnauthorizedFactorCreation);
        }
        for (service, identity, factor_type) in [
            (other_service, &identity, FactorType::Push),
            (service, &other, FactorType::Push),
            (service, &identity, FactorType::Totp),
            (other_service, &other, FactorType::Totp),
        ] {
            let problem = permits(service, identity, factor_type).unwrap_err();
            assert_eq!(problem.code(), Code::UnauthorizedFactorCreation);
        }
    }

    #[test]
    fn a_token_is_usable_until_it_expires_or_is_spent() {
        let mut token = token();
        let expiry = token.grant.expires_at;
        assert!(token.is_usable(NOW));
        assert!(token.is_usable(Timestamp::from_micros(expiry.micros() - 1)));
        assert!(!token.is_usable(expiry));
        assert!(!token.is_usable(expiry.plus_seconds(1)));
        token.spent_on = Some(FactorSid::from_bytes([5; 16]));
        assert!(!token.is_usable(NOW));
    }

    #[test]
    fn a_token_lives_one_to_five_minutes() {
        let lifetimes = [59, 60, 300, 301].map(|seconds| Ttl::new(seconds).map(Ttl::get));
        assert_eq!(lifetimes, [None, Some(60), Some(300), None]);
    }
}
