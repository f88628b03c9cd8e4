//! Passkey challenges: requests for a WebAuthn assertion.

use serde_json::Value;

use crate::challenges::{ChallengedKind, Target};
use crate::factors::passkey::{Origin, PasskeyFactor, RelyingPartyId, WebAuthnChallengeDigest};
use crate::factors::{Factor, FactorType, HasFactorType};
use crate::services::Requirement;
use crate::sids::{EntitySid, FactorSid};
use crate::text::Identity;

/// Whose passkey may answer a challenge. Once the challenge is approved, it is the passkey that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasskeyTarget {
    /// Any discoverable passkey of the relying party. The answer tells whose it is.
    Anyone,
    /// Any passkey of an entity.
    Entity {
        /// SID of the entity.
        entity_sid: EntitySid,
        /// Identity of the entity.
        identity: Identity,
    },
    /// One passkey.
    Factor(Target),
}

impl PasskeyTarget {
    /// Returns the SID of the entity; `None` if it is not known.
    pub const fn entity_sid(&self) -> Option<EntitySid> {
        match self {
            Self::Anyone => None,
            Self::Entity { entity_sid, .. } => Some(*entity_sid),
            Self::Factor(target) => Some(target.entity_sid),
        }
    }

    /// Returns the identity of the entity; `None` if it is not known.
    pub const fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Anyone => None,
            Self::Entity { identity, .. } => Some(identity),
            Self::Factor(target) => Some(&target.identity),
        }
    }

    /// Returns whether this passkey may answer. Its relying party is that of the challenge.
    pub fn permits(&self, factor: &Factor<PasskeyFactor>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Entity { entity_sid, .. } => *entity_sid == factor.entity_sid,
            Self::Factor(target) => target.factor_sid == factor.sid,
        }
    }

    /// Returns the SID of the only factor that may answer, or `None` if several may.
    pub fn factor_sid(&self) -> Option<FactorSid> {
        self.target().map(|target| target.factor_sid)
    }
}

impl HasFactorType for PasskeyTarget {
    fn factor_type(&self) -> FactorType {
        FactorType::Passkeys
    }
}

impl ChallengedKind for PasskeyTarget {
    fn target(&self) -> Option<&Target> {
        match self {
            Self::Anyone | Self::Entity { .. } => None,
            Self::Factor(target) => Some(target),
        }
    }
}

/// What a passkey challenge adds to a [`Challenge`](crate::Challenge): whose passkey may answer, and what the answer
/// must match.
#[derive(Clone, Debug)]
pub struct PasskeyChallenge {
    /// Whose passkey may answer.
    pub target: PasskeyTarget,
    /// Digest of the WebAuthn challenge.
    pub challenge_digest: WebAuthnChallengeDigest,
    /// Domain name of the relying party.
    pub relying_party_id: RelyingPartyId,
    /// Origins of the pages and apps that may answer the challenge.
    pub origins: Vec<Origin>,
    /// Whether the authenticator must verify the user.
    pub user_verification: Requirement,
    /// Options for the browser, as they were sent when the challenge was created. Stored without the WebAuthn
    /// challenge.
    pub options: Value,
}

impl HasFactorType for PasskeyChallenge {
    fn factor_type(&self) -> FactorType {
        FactorType::Passkeys
    }
}

impl ChallengedKind for PasskeyChallenge {
    fn target(&self) -> Option<&Target> {
        self.target.target()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::challenges::tests::target;

    /// Returns what a passkey challenge for this target adds.
    pub(crate) fn kind(target: PasskeyTarget) -> PasskeyChallenge {
        PasskeyChallenge {
            target,
            challenge_digest: WebAuthnChallengeDigest([9; 32]),
            relying_party_id: RelyingPartyId::from_stored("example.com".to_owned()),
            origins: vec![Origin::from_stored("https://example.com".to_owned())],
            user_verification: Requirement::Preferred,
            options: json!({ "publicKey": {} }),
        }
    }

    #[test]
    fn passkey_target_knows_the_entity_before_the_factor() {
        let target = target();
        let entity =
            PasskeyTarget::Entity { entity_sid: target.entity_sid, identity: target.identity.clone() };
        let known = |target: &PasskeyTarget| {
            (target.entity_sid().is_some(), target.identity().is_some(), target.factor_sid().is_some())
        };
        assert_eq!(known(&PasskeyTarget::Anyone), (false, false, false));
        assert_eq!(known(&entity), (true, true, false));
        assert_eq!(known(&PasskeyTarget::Factor(target)), (true, true, true));
    }

    #[test]
    fn passkey_target_permits_only_passkeys_that_it_names() {
        let factor = crate::factors::tests::factor_of(crate::factors::passkey::tests::kind(None));
        let sid = |prefix: &str| format!("{prefix}{}", "7".repeat(32));
        let identity = factor.identity.clone();
        let of = |entity_sid, factor_sid| {
            let identity = identity.clone();
            let entity = PasskeyTarget::Entity { entity_sid, identity: identity.clone() };
            [entity, PasskeyTarget::Factor(Target { entity_sid, identity, factor_sid })]
        };
        for target in of(factor.entity_sid, factor.sid) {
            assert!(target.permits(&factor), "{target:?}");
        }
        for target in of(sid("YE").parse().unwrap(), sid("YF").parse().unwrap()) {
            assert!(!target.permits(&factor), "{target:?}");
        }
        assert!(PasskeyTarget::Anyone.permits(&factor));
    }
}
