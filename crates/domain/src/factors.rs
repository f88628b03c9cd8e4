//! Factors: the devices of an entity, each with a key of its own.
//!
//! ```text
//! (create) ─▶ unverified ──signature of its own sid──▶ verified ──delete──▶ gone
//!                  └──────────────────delete──────────────────────────────▶ gone
//! ```

use std::fmt;

use crate::entities::EntityPath;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::sids::{AccountSid, CredentialSid, EntitySid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity, StringMap, Text};
use crate::time::Timestamp;

/// Push factors that an entity may have, verified or not (docs/protocol/decisions.md, No. 7).
pub const MAX_PUSH_FACTORS: i64 = 20;

/// How a factor proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorType {
    /// A device key and signed answers.
    Push,
    /// A shared secret and codes.
    Totp,
    /// WebAuthn.
    Passkeys,
}

impl FactorType {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Totp => "totp",
            Self::Passkeys => "passkeys",
        }
    }

    /// The first two digits of the SIDs of its factors and challenges (docs/protocol/authentication.md, section 5).
    pub const fn digits(self) -> u8 {
        match self {
            Self::Totp => 0x02,
            Self::Push => 0x03,
            Self::Passkeys => 0x04,
        }
    }

    /// The type, if this server serves it.
    ///
    /// # Errors
    /// 60369 for the types that exist and are not served here.
    pub fn served(self) -> Result<Self, Problem> {
        match self {
            Self::Push => Ok(self),
            Self::Totp | Self::Passkeys => Err(Problem::with(
                Code::FactorTypeNotServed,
                format_args!("this server does not serve {} factors; use push", self.as_str()),
            )),
        }
    }
}

impl Parameter for FactorType {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "push" => Ok(Self::Push),
            "totp" => Ok(Self::Totp),
            "passkeys" => Ok(Self::Passkeys),
            _ => Err(Expected::new("must be push")),
        }
    }
}

/// A P-256 public key as DER SubjectPublicKeyInfo, 91 bytes. `crypto::signatures` makes it out of
/// what a device sends, after it has checked that the point lies on the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// A key that was checked: by `crypto`, or before it was stored.
    pub const fn from_checked_der(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

/// Whether the device has shown that it holds the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not yet: it can't be challenged.
    Unverified,
    /// Yes.
    Verified,
}

impl Status {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Verified => "verified",
        }
    }
}

/// Name of an app: Android package or iOS bundle id, 1–100 characters.
pub type AppId = Text<1, 100>;

/// Version of the SDK, as it says.
pub type SdkVersion = Text<1, 64>;

/// The push provider's address of an app on a device. Any 1–4096 characters: a token that the
/// provider refuses is a matter of delivery and must not keep a device from enrolling
/// (<https://github.com/twilio/twilio-verify-ios/issues/238>), and the documented 255 are less than FCM may send.
pub type RegistrationToken = Text<1, 4096>;

/// How a device hears of a new challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Not at all: the app polls.
    None,
    /// Apple's service.
    Apn(RegistrationToken),
    /// Google's service.
    Fcm(RegistrationToken),
}

/// The name of a push provider, as `Config.NotificationPlatform` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// No push.
    None,
    /// Apple's service.
    Apn,
    /// Google's service.
    Fcm,
}

impl Platform {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Apn => "apn",
            Self::Fcm => "fcm",
        }
    }
}

impl Parameter for Platform {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "none" => Ok(Self::None),
            "apn" => Ok(Self::Apn),
            "fcm" => Ok(Self::Fcm),
            _ => Err(Expected::new("must be apn, fcm or none")),
        }
    }
}

impl Notification {
    /// Which provider it is.
    pub const fn platform(&self) -> Platform {
        match self {
            Self::None => Platform::None,
            Self::Apn(_) => Platform::Apn,
            Self::Fcm(_) => Platform::Fcm,
        }
    }

    /// The device's address with the provider.
    pub const fn token(&self) -> Option<&RegistrationToken> {
        match self {
            Self::None => None,
            Self::Apn(token) | Self::Fcm(token) => Some(token),
        }
    }

    /// What `platform` and `token` make together; a token for `none` is dropped.
    ///
    /// # Errors
    /// 20001 when the platform needs a token and there is none.
    pub fn new(platform: Platform, token: Option<RegistrationToken>) -> Result<Self, Problem> {
        let token = || token.ok_or_else(|| Problem::missing("Config.NotificationToken"));
        match platform {
            Platform::None => Ok(Self::None),
            Platform::Apn => token().map(Self::Apn),
            Platform::Fcm => token().map(Self::Fcm),
        }
    }

    /// What becomes of this when an update names a platform, a token, or both.
    ///
    /// # Errors
    /// 20001 for a new platform without a token, 60306 for a token without any platform.
    pub fn updated(
        &self,
        platform: Option<Platform>,
        token: Option<RegistrationToken>,
    ) -> Result<Self, Problem> {
        let target = platform.unwrap_or(self.platform());
        if target == Platform::None && platform.is_none() && token.is_some() {
            let expected = Expected::new("must be sent with Config.NotificationPlatform apn or fcm");
            return Err(Problem::invalid("Config.NotificationToken", &expected));
        }
        let kept = || self.token().cloned().filter(|_| target == self.platform());
        Self::new(target, token.or_else(kept))
    }
}

/// A registered device.
#[derive(Clone, Debug)]
pub struct Factor {
    /// `YF03…`
    pub sid: FactorSid,
    /// The owner.
    pub account_sid: AccountSid,
    /// The service.
    pub service_sid: ServiceSid,
    /// The entity.
    pub entity_sid: EntitySid,
    /// The entity's identity.
    pub identity: Identity,
    /// What the user calls the device.
    pub friendly_name: FriendlyName,
    /// The device's key.
    pub public_key: PublicKey,
    /// `kid` of the device's tokens: unique per factor, stored on the device for ever, never changed
    /// (docs/protocol/authentication.md, section 1).
    pub credential_sid: CredentialSid,
    /// Whether the device has shown that it holds the key.
    pub status: Status,
    /// The app.
    pub app_id: AppId,
    /// Version of the SDK in the app.
    pub sdk_version: Option<SdkVersion>,
    /// How it hears of challenges.
    pub notification: Notification,
    /// Whether the provider said that its token leads nowhere. Nothing is pushed to it then, until the
    /// device sends its token anew or the credential changes; it can still poll.
    pub unreachable: bool,
    /// When the device last sent its notification token, be it the same one; without a token, when the factor
    /// was made.
    pub token_registered_at: Timestamp,
    /// What the app wanted to be remembered.
    pub metadata: Option<StringMap>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Listed for Factor {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Factor {
    /// Where its entity is to be found.
    pub fn path(&self) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: self.identity.clone(),
        }
    }

    /// Whether it may be challenged.
    ///
    /// # Errors
    /// 60318 while it is unverified.
    pub fn challengeable(&self) -> Result<(), Problem> {
        match self.status {
            Status::Verified => Ok(()),
            Status::Unverified => Err(Code::FactorUnverified.into()),
        }
    }
}

/// What an update of a factor may change. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New name.
    pub friendly_name: Option<FriendlyName>,
    /// New address with the provider.
    pub notification_token: Option<RegistrationToken>,
    /// New provider.
    pub notification_platform: Option<Platform>,
    /// New version of the SDK.
    pub sdk_version: Option<SdkVersion>,
}

impl Changes {
    /// Whether nothing at all is to change.
    pub const fn is_empty(&self) -> bool {
        self.friendly_name.is_none()
            && self.notification_token.is_none()
            && self.notification_platform.is_none()
            && self.sdk_version.is_none()
    }

    /// What is to change, as the API's answers name it.
    pub fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("config.notification_token", self.notification_token.is_some()),
            ("config.notification_platform", self.notification_platform.is_some()),
            ("config.sdk_version", self.sdk_version.is_some()),
        ];
        names.into_iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name).collect()
    }

    /// Changes the factor.
    ///
    /// # Errors
    /// Those of [`Notification::updated`]; the factor is then as it was.
    pub fn apply(self, factor: &mut Factor, now: Timestamp) -> Result<(), Problem> {
        let names_an_address = self.notification_token.is_some() || self.notification_platform.is_some();
        let unreachable = factor.unreachable && !names_an_address;
        factor.notification =
            factor.notification.updated(self.notification_platform, self.notification_token)?;
        factor.unreachable = unreachable;
        if names_an_address {
            factor.token_registered_at = now;
        }
        if let Some(friendly_name) = self.friendly_name {
            factor.friendly_name = friendly_name;
        }
        if let Some(sdk_version) = self.sdk_version {
            factor.sdk_version = Some(sdk_version);
        }
        factor.updated_at = now;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    pub(crate) fn factor(notification: Notification) -> Factor {
        let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
        Factor {
            sid: sid("YF", "3").parse().unwrap(),
            account_sid: sid("AC", "1").parse().unwrap(),
            service_sid: sid("VA", "2").parse().unwrap(),
            entity_sid: sid("YE", "5").parse().unwrap(),
            identity: Identity::from_stored("user-0001-abcd".into()),
            friendly_name: FriendlyName::from_stored("Telephone".into()),
            public_key: PublicKey::from_checked_der(vec![1; 91]),
            credential_sid: sid("CR", "6").parse().unwrap(),
            status: Status::Verified,
            app_id: AppId::from_stored("com.example.owl".into()),
            sdk_version: None,
            notification,
            unreachable: false,
            metadata: None,
            token_registered_at: NOW,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    fn token(text: &str) -> Option<RegistrationToken> {
        Some(RegistrationToken::from_stored(text.to_owned()))
    }

    #[test]
    fn a_platform_needs_a_token_and_none_needs_nothing() {
        assert_eq!(Notification::new(Platform::None, token("a")), Ok(Notification::None));
        assert!(Notification::new(Platform::Apn, None).is_err());
        let fcm = Notification::new(Platform::Fcm, token("a")).unwrap();
        assert_eq!(fcm.updated(None, token("b")), Notification::new(Platform::Fcm, token("b")));
        assert_eq!(fcm.updated(Some(Platform::Fcm), None), Ok(fcm.clone()));
        assert_eq!(fcm.updated(Some(Platform::None), None), Ok(Notification::None));
        assert!(fcm.updated(Some(Platform::Apn), None).is_err(), "the other provider's token is of no use");
        assert!(Notification::None.updated(None, token("b")).is_err());
        assert_eq!(
            Notification::None.updated(Some(Platform::Apn), token("b")),
            Notification::new(Platform::Apn, token("b"))
        );
    }

    #[test]
    fn a_platform_that_stays_none_takes_no_token() {
        let none = Notification::None;
        assert_eq!(none.updated(None, None), Ok(Notification::None));
        assert_eq!(none.updated(Some(Platform::None), token("b")), Ok(Notification::None));
        assert_eq!(none.updated(None, token("b")).unwrap_err().code(), Code::InvalidRequest);
        let missing = none.updated(Some(Platform::Fcm), None).unwrap_err();
        assert_eq!(missing.code(), Code::MissingParameter);
    }

    #[test]
    fn platforms_types_and_states_have_the_words_of_the_api() {
        let given = |platform| match platform {
            Platform::None => Notification::None,
            Platform::Apn => Notification::Apn(token("a").unwrap()),
            Platform::Fcm => Notification::Fcm(token("a").unwrap()),
        };
        for (word, platform) in [("none", Platform::None), ("apn", Platform::Apn), ("fcm", Platform::Fcm)] {
            assert_eq!((platform.as_str(), Platform::from_parameter(word)), (word, Ok(platform)));
            assert_eq!(given(platform).platform(), platform);
            assert_eq!(given(platform).token().cloned(), token("a").filter(|_| platform != Platform::None));
        }
        assert!(Platform::from_parameter("gcm").is_err());
        let types = [
            ("push", 3, FactorType::Push),
            ("totp", 2, FactorType::Totp),
            ("passkeys", 4, FactorType::Passkeys),
        ];
        for (word, digits, factor_type) in types {
            assert_eq!((factor_type.as_str(), FactorType::from_parameter(word)), (word, Ok(factor_type)));
            assert_eq!(factor_type.digits(), digits);
        }
        assert!(FactorType::from_parameter("sms").is_err());
        assert_eq!((Status::Unverified.as_str(), Status::Verified.as_str()), ("unverified", "verified"));
    }

    #[test]
    fn a_public_key_keeps_its_bytes() {
        assert_eq!(PublicKey::from_checked_der(vec![4, 5, 6]).as_der(), [4, 5, 6]);
    }

    #[test]
    fn a_factor_is_challengeable_once_it_is_verified() {
        let mut factor = factor(Notification::None);
        assert_eq!(factor.challengeable(), Ok(()));
        factor.status = Status::Unverified;
        assert_eq!(factor.challengeable().unwrap_err().code(), Code::FactorUnverified);
    }

    #[test]
    fn each_change_alone_is_a_change_and_is_named() {
        let each = [
            (
                Changes { friendly_name: Some(FriendlyName::from_stored("A".into())), ..Changes::default() },
                "friendly_name",
            ),
            (Changes { notification_token: token("b"), ..Changes::default() }, "config.notification_token"),
            (
                Changes { notification_platform: Some(Platform::None), ..Changes::default() },
                "config.notification_platform",
            ),
            (
                Changes { sdk_version: Some(SdkVersion::from_stored("1.0".into())), ..Changes::default() },
                "config.sdk_version",
            ),
        ];
        for (changes, name) in each {
            assert!(!changes.is_empty(), "{name}");
            assert_eq!(changes.names(), [name]);
        }
        assert!(Changes::default().is_empty());
        assert_eq!(Changes::default().names(), [""; 0]);
    }

    #[test]
    fn a_change_applies_to_what_it_names_and_to_nothing_else() {
        let later = NOW.plus_seconds(9);
        let mut factor = factor(Notification::Fcm(token("a").unwrap()));
        let changes = Changes {
            friendly_name: Some(FriendlyName::from_stored("Tablet".into())),
            sdk_version: Some(SdkVersion::from_stored("1.2".into())),
            ..Changes::default()
        };
        changes.apply(&mut factor, later).unwrap();
        assert_eq!((factor.friendly_name.as_str(), factor.updated_at), ("Tablet", later));
        assert_eq!(factor.sdk_version, Some(SdkVersion::from_stored("1.2".into())));
        assert_eq!(factor.notification.token().cloned(), token("a"));

        // Nothing changes when a part of it is refused.
        let refused = Changes {
            friendly_name: Some(FriendlyName::from_stored("Phone".into())),
            notification_platform: Some(Platform::Apn),
            ..Changes::default()
        };
        refused.apply(&mut factor, later.plus_seconds(1)).unwrap_err();
        assert_eq!((factor.friendly_name.as_str(), factor.updated_at), ("Tablet", later));
        assert_eq!(factor.notification.platform(), Platform::Fcm);
    }

    #[test]
    fn an_unreachable_factor_stays_so_until_an_update_names_its_address() {
        let unreachable = || Factor { unreachable: true, ..factor(Notification::Fcm(token("a").unwrap())) };
        for (changes, stays) in [
            (
                Changes { friendly_name: Some(FriendlyName::from_stored("A".into())), ..Changes::default() },
                true,
            ),
            (Changes { notification_token: token("b"), ..Changes::default() }, false),
            (Changes { notification_platform: Some(Platform::Fcm), ..Changes::default() }, false),
        ] {
            let (named, mut factor) = (changes.names(), unreachable());
            changes.apply(&mut factor, NOW).unwrap();
            assert_eq!(factor.unreachable, stays, "{named:?}");
        }
        let mut reachable = factor(Notification::Fcm(token("a").unwrap()));
        Changes::default().apply(&mut reachable, NOW).unwrap();
        assert!(!reachable.unreachable);
    }
}
