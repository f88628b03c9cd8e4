//! Access tokens, each of which permits a phone to enroll one factor. A backend requests a token and hands it to the
//! phone.

use crate::factors::FactorType;
use crate::parameter::Bounded;
use crate::problem::{Code, Problem};
use crate::secret::{Sealed, Secret};
use crate::sids::{AccessTokenSid, AccountSid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity};
use crate::time::Timestamp;

/// Lifetime of an access token, 60 to 300 seconds (docs/protocol/resources.md, section 6).
pub type Ttl = Bounded<60, 300>;

/// The permission that an access token grants. The token contains these claims in encrypted form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// SID of the access token (`YK…`).
    pub sid: AccessTokenSid,
    /// Account whose backend requested the token.
    pub account_sid: AccountSid,
    /// Service in which the factor may be created.
    pub service_sid: ServiceSid,
    /// Identity of the entity that the factor will belong to.
    pub identity: Identity,
    /// Type of the factor that may be created.
    pub factor_type: FactorType,
    /// Expiry of the token. At or after this time, the token is not valid.
    pub expires_at: Timestamp,
}

impl Grant {
    /// Checks that the token permits enrolling a factor for this service and identity. `None` stands for a malformed
    /// SID or identity, which matches no token.
    ///
    /// # Errors
    /// Returns error 60313 if the token was issued for another identity or service (docs/protocol/decisions.md, No. 8).
    pub fn require_entity(
        &self,
        service_sid: Option<ServiceSid>,
        identity: Option<&Identity>,
    ) -> Result<(), Problem> {
        Self::require(service_sid == Some(self.service_sid) && identity == Some(&self.identity))
    }

    /// Checks that the token permits enrolling a factor of this type.
    ///
    /// # Errors
    /// Returns error 60313 if the token was issued for another factor type (docs/protocol/decisions.md, No. 8).
    pub fn require_factor_type(&self, factor_type: FactorType) -> Result<(), Problem> {
        Self::require(factor_type == self.factor_type)
    }

    fn require(is_permitted: bool) -> Result<(), Problem> {
        if is_permitted {
            return Ok(());
        }
        let advice = "the access token was issued for another service, identity or factor type";
        Err(Problem::with_advice(Code::UnauthorizedFactorCreation, advice))
    }
}

/// The text of an access token: a JWE that phones treat as opaque. It cannot be printed by accident.
#[derive(Clone, Debug)]
pub struct TokenText(Secret<String>);

impl TokenText {
    /// Wraps the token's text so that it cannot be printed by accident.
    pub const fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Returns the token's text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// An access token as it is stored.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Claims of the token: what it permits, and until when.
    pub grant: Grant,
    /// Suggested friendly name of the new factor, which the phone may display.
    pub factor_friendly_name: Option<FriendlyName>,
    /// Lifetime that the backend requested, in seconds.
    pub ttl: Ttl,
    /// Sealed text of the token. A backend may fetch the text again while the token is usable.
    pub token: Sealed<TokenText>,
    /// Factor that was created with the token; `None` if the token is not spent. A token creates at most one factor.
    pub spent_on: Option<FactorSid>,
    /// Creation time of the token.
    pub created_at: Timestamp,
}

impl AccessToken {
    /// Returns whether the token can still create a factor at `now`, that is, whether it is neither used nor expired.
    /// The API shows only usable tokens (docs/protocol/decisions.md, No. 8).
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
    fn access_token_permits_only_its_service_identity_and_factor_type() {
        let grant = token().grant;
        let (service, identity) = (grant.service_sid, grant.identity.clone());
        let (other_service, other) =
            (ServiceSid::from_bytes([4; 16]), Identity::from_parameter("user-0002").unwrap());
        let permits = |service, identity, factor_type| {
            grant
                .require_entity(Some(service), Some(identity))
                .and_then(|()| grant.require_factor_type(factor_type))
        };
        assert_eq!(permits(service, &identity, FactorType::Push), Ok(()));
        for (service, identity) in [(None, Some(&identity)), (Some(service), None)] {
            let problem = grant.require_entity(service, identity).unwrap_err();
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
    fn access_token_is_usable_until_it_expires_or_is_spent() {
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
    fn access_token_lifetime_is_one_to_five_minutes() {
        let lifetimes = [59, 60, 300, 301].map(|seconds| Ttl::new(seconds).map(Ttl::get));
        assert_eq!(lifetimes, [None, Some(60), Some(300), None]);
    }
}
