//! Factors: what a user proves an identity with. Each type of factor has a file of its own.
//!
//! ```text
//! (create) ─▶ unverified ──proof of its type──▶ verified ──delete──▶ gone
//!                  └───────────────delete───────────────────────────▶ gone
//! ```

pub mod passkey;
pub mod push;
pub mod totp;

use crate::entities::EntityPath;
pub use crate::factor_type::{FactorType, HasFactorType};
pub use crate::factors::passkey::PasskeyFactor;
pub use crate::factors::push::{
    AppId, Notification, Platform, PublicKey, PushChanges, PushFactor, RegistrationToken, SdkVersion,
};
pub use crate::factors::totp::{TotpChanges, TotpChoices, TotpCode, TotpFactor, TotpSettings};
use crate::paging::{Listed, Position, position};
use crate::problem::{Code, Problem};
use crate::sids::{AccountSid, EntitySid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity, StringMap};
use crate::time::Timestamp;

/// Whether the user has proved possession of the factor's secret: a private key or a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The user has not proved possession of the secret. The factor cannot be challenged.
    Unverified,
    /// The user has proved possession of the secret.
    Verified,
}

impl Status {
    /// Returns the name of the status in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Verified => "verified",
        }
    }
}

/// A factor of an entity. `Kind` is what its type adds: [`PushFactor`], [`TotpFactor`] or [`PasskeyFactor`];
/// [`FactorKind`] if the type is known only at run time; [`FactorType`] if nothing but the type is of interest.
#[derive(Clone, Debug)]
pub struct Factor<Kind = FactorKind> {
    /// SID of the factor. Its first byte is that of the type ([`FactorType::sid_byte`]).
    pub sid: FactorSid,
    /// Account that owns the factor.
    pub account_sid: AccountSid,
    /// Service to which the entity belongs.
    pub service_sid: ServiceSid,
    /// Entity to which the factor belongs.
    pub entity_sid: EntitySid,
    /// Identity of the entity.
    pub identity: Identity,
    /// The user's name for the factor.
    pub friendly_name: FriendlyName,
    /// Whether the user has proved to hold the factor's secret.
    pub status: Status,
    /// Data that the app or the backend has stored with the factor.
    pub metadata: Option<StringMap>,
    /// Creation time of the factor.
    pub created_at: Timestamp,
    /// Time of the last change to the factor.
    pub updated_at: Timestamp,
    /// What the factor's type adds.
    pub kind: Kind,
}

/// What the type of a factor adds to the fields that all factors have.
#[derive(Clone, Debug)]
pub enum FactorKind {
    /// A device with a private key.
    Push(PushFactor),
    /// A secret that is shared with an authenticator app.
    Totp(TotpFactor),
    /// A WebAuthn credential.
    Passkey(PasskeyFactor),
}

impl HasFactorType for FactorKind {
    fn factor_type(&self) -> FactorType {
        match self {
            Self::Push(_) => FactorType::Push,
            Self::Totp(_) => FactorType::Totp,
            Self::Passkey(_) => FactorType::Passkeys,
        }
    }
}

/// Implements the conversions between [`Factor`] and the factors of each kind. The conversion of a factor to another
/// kind returns the factor unchanged as the error.
macro_rules! kinds {
    ($($variant:ident($kind:ty);)*) => {
        $(
            impl From<Factor<$kind>> for Factor {
                fn from(factor: Factor<$kind>) -> Self {
                    let (factor, kind) = factor.split();
                    factor.with(FactorKind::$variant(kind))
                }
            }

            impl TryFrom<Factor> for Factor<$kind> {
                type Error = Factor;

                fn try_from(factor: Factor) -> Result<Self, Factor> {
                    let (factor, kind) = factor.split();
                    match kind {
                        FactorKind::$variant(kind) => Ok(factor.with(kind)),
                        other => Err(factor.with(other)),
                    }
                }
            }
        )*
    };
}

kinds! {
    Push(PushFactor);
    Totp(TotpFactor);
    Passkey(PasskeyFactor);
}

impl<Kind> Listed for Factor<Kind> {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Factor<()> {
    /// Returns the factor with `kind`, which [`Factor::split`] has taken from it or which replaces that.
    pub fn with<Kind>(self, kind: Kind) -> Factor<Kind> {
        self.replace_kind(kind).0
    }
}

impl<Kind> Factor<Kind> {
    /// Takes the factor's kind out of it, so that code can branch on the kind and continue with a factor of that kind.
    pub fn split(self) -> (Factor<()>, Kind) {
        self.replace_kind(())
    }

    /// Returns the factor with another kind, and the kind that it had.
    fn replace_kind<Other>(self, kind: Other) -> (Factor<Other>, Kind) {
        let factor = Factor {
            sid: self.sid,
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            entity_sid: self.entity_sid,
            identity: self.identity,
            friendly_name: self.friendly_name,
            status: self.status,
            metadata: self.metadata,
            created_at: self.created_at,
            updated_at: self.updated_at,
            kind,
        };
        (factor, self.kind)
    }

    /// Returns the path of the entity to which the factor belongs.
    pub fn path(&self) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: self.identity.clone(),
        }
    }

    /// Checks that the factor is verified and can therefore be challenged.
    ///
    /// # Errors
    /// Returns error 60318 if the factor is unverified.
    pub fn require_verified(&self) -> Result<(), Problem> {
        match self.status {
            Status::Verified => Ok(()),
            Status::Unverified => Err(Code::FactorUnverified.into()),
        }
    }
}

impl<Kind: HasFactorType> Factor<Kind> {
    /// Returns the type of the factor.
    pub fn factor_type(&self) -> FactorType {
        self.kind.factor_type()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::secret::Sealed;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns a verified factor of this kind.
    pub(crate) fn factor_of<Kind>(kind: Kind) -> Factor<Kind> {
        let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
        Factor {
            sid: sid("YF", "3").parse().unwrap(),
            account_sid: sid("AC", "1").parse().unwrap(),
            service_sid: sid("VA", "2").parse().unwrap(),
            entity_sid: sid("YE", "5").parse().unwrap(),
            identity: Identity::from_stored("user-0001-abcd".into()),
            friendly_name: FriendlyName::from_stored("Telephone".into()),
            status: Status::Verified,
            metadata: None,
            created_at: NOW,
            updated_at: NOW,
            kind,
        }
    }

    #[test]
    fn only_a_verified_factor_can_be_challenged() {
        let mut factor = factor_of(());
        assert_eq!(factor.require_verified(), Ok(()));
        factor.status = Status::Unverified;
        assert_eq!(factor.require_verified().unwrap_err().code(), Code::FactorUnverified);
    }

    #[test]
    fn factor_statuses_have_the_names_used_by_the_api() {
        assert_eq!((Status::Unverified.as_str(), Status::Verified.as_str()), ("unverified", "verified"));
    }

    #[test]
    fn factor_is_converted_only_to_its_own_kind() {
        let push: Factor = push::tests::factor(Notification::None).into();
        let totp: Factor = factor_of(totp::tests::kind(Sealed::from_bytes(Vec::new()))).into();
        let passkey: Factor = factor_of(passkey::tests::kind(None)).into();
        for (factor, factor_type) in
            [(push, FactorType::Push), (totp, FactorType::Totp), (passkey, FactorType::Passkeys)]
        {
            assert_eq!(factor.factor_type(), factor_type);
            let converted = [
                Factor::<PushFactor>::try_from(factor.clone()).map(|factor| factor.factor_type()),
                Factor::<TotpFactor>::try_from(factor.clone()).map(|factor| factor.factor_type()),
                Factor::<PasskeyFactor>::try_from(factor.clone()).map(|factor| factor.factor_type()),
            ];
            for (result, kind) in
                converted.into_iter().zip([FactorType::Push, FactorType::Totp, FactorType::Passkeys])
            {
                match result {
                    Ok(found) => assert_eq!((found, kind), (factor_type, factor_type)),
                    Err(unchanged) => {
                        assert_ne!(kind, factor_type);
                        assert_eq!((unchanged.sid, unchanged.factor_type()), (factor.sid, factor_type));
                    }
                }
            }
        }
    }
}
