//! Factors: the registered devices of an entity, each of which has its own key.
//!
//! ```text
//! (create) ─▶ unverified ──signature of its own sid──▶ verified ──delete──▶ gone
//!                  └──────────────────delete──────────────────────────────▶ gone
//! ```

use std::fmt;

use crate::entities::EntityPath;
pub use crate::factor_type::FactorType;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::sids::{AccountSid, CredentialSid, EntitySid, FactorSid, ServiceSid};
use crate::text::{FriendlyName, Identity, StringMap, Text};
use crate::time::Timestamp;

/// Maximum number of push factors per entity, verified or not (docs/protocol/decisions.md, No. 7).
pub const MAX_PUSH_FACTORS: i64 = 20;

/// A device's P-256 public key, as a DER SubjectPublicKeyInfo of 91 bytes. `crypto::signatures` creates it from the key
/// that the device sends, after checking that the point is on the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Wraps a key in DER form that `crypto` has checked, either now or before the key was stored.
    pub const fn from_checked_der(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// Returns the DER bytes of the key.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}

/// Whether the device has proved that it holds the private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The device has not proved that it holds the private key. The factor cannot be challenged.
    Unverified,
    /// The device has proved that it holds the private key.
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

/// The identifier of an app: an Android package name or an iOS bundle ID, 1 to 100 characters.
pub type AppId = Text<1, 100>;

/// The version of the SDK in an app, as the SDK reports it: 1 to 64 characters.
pub type SdkVersion = Text<1, 64>;

/// The push token of an app on a device, which is the push provider's address of that app: 1 to 4096 characters.
///
/// The text is not validated further, because a token that the provider refuses must not prevent enrollment
/// (<https://github.com/twilio/twilio-verify-ios/issues/238>). FCM may send more than the documented 255 characters.
pub type RegistrationToken = Text<1, 4096>;

/// The channel through which a device is notified of new challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The device is not notified; the app polls for challenges.
    None,
    /// The device is notified through the Apple Push Notification service, with this token.
    Apn(RegistrationToken),
    /// The device is notified through Firebase Cloud Messaging, with this token.
    Fcm(RegistrationToken),
}

/// A push provider, as selected by `Config.NotificationPlatform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// No push provider: no pushes are sent.
    None,
    /// Apple Push Notification service (APNs).
    Apn,
    /// Firebase Cloud Messaging (FCM).
    Fcm,
}

impl Platform {
    /// Returns the provider's name in the API and in the database.
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
    /// Returns the push provider; [`Platform::None`] if the device is not notified.
    pub const fn platform(&self) -> Platform {
        match self {
            Self::None => Platform::None,
            Self::Apn(_) => Platform::Apn,
            Self::Fcm(_) => Platform::Fcm,
        }
    }

    /// Returns the device's registration token, or `None` if the device is not notified.
    pub const fn token(&self) -> Option<&RegistrationToken> {
        match self {
            Self::None => None,
            Self::Apn(token) | Self::Fcm(token) => Some(token),
        }
    }

    /// Combines a push provider and a registration token. A token for [`Platform::None`] is dropped.
    ///
    /// # Errors
    /// Returns error 20001 if the push provider requires a token and `token` is `None`.
    pub fn new(platform: Platform, token: Option<RegistrationToken>) -> Result<Self, Problem> {
        let token = || token.ok_or_else(|| Problem::missing("Config.NotificationToken"));
        match platform {
            Platform::None => Ok(Self::None),
            Platform::Apn => token().map(Self::Apn),
            Platform::Fcm => token().map(Self::Fcm),
        }
    }

    /// Returns the result of an update to a platform, a token, or both. The current token is kept if the update has no
    /// token and the platform stays the same.
    ///
    /// # Errors
    /// Returns error 20001 for a new platform without a token. Returns error 60306 for a token if neither the update
    /// nor the device has a platform.
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

/// A factor: a registered device of an entity.
#[derive(Clone, Debug)]
pub struct Factor {
    /// SID of the factor (`YF03…`).
    pub sid: FactorSid,
    /// Account that owns the factor.
    pub account_sid: AccountSid,
    /// Service to which the entity belongs.
    pub service_sid: ServiceSid,
    /// Entity to which the factor belongs.
    pub entity_sid: EntitySid,
    /// Identity of the entity.
    pub identity: Identity,
    /// The user's name for the device.
    pub friendly_name: FriendlyName,
    /// Public key of the device, which verifies its signatures.
    pub public_key: PublicKey,
    /// SID that the device's tokens contain as `kid`. It is unique per factor. It never changes, because the device
    /// stores it permanently (docs/protocol/authentication.md, section 1).
    pub credential_sid: CredentialSid,
    /// Whether the device has proved that it holds the private key.
    pub status: Status,
    /// Identifier of the app on the device.
    pub app_id: AppId,
    /// Version of the SDK in the app; `None` if the app did not report it.
    pub sdk_version: Option<SdkVersion>,
    /// Channel through which the device is notified of new challenges.
    pub notification: Notification,
    /// Whether the push provider reported that the registration token is no longer valid. If so, no push is sent until
    /// the device sends its token again or the credential changes. The device can still poll.
    pub unreachable: bool,
    /// Time at which the device last sent its registration token, even if the token was unchanged. Without a token, the
    /// creation time of the factor.
    pub token_registered_at: Timestamp,
    /// Data that the app has stored with the factor.
    pub metadata: Option<StringMap>,
    /// Creation time of the factor.
    pub created_at: Timestamp,
    /// Time of the last change to the factor.
    pub updated_at: Timestamp,
}

impl Listed for Factor {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl Factor {
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

/// An update of a factor. Fields that are `None` stay unchanged.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New friendly name of the factor.
    pub friendly_name: Option<FriendlyName>,
    /// New registration token of the device.
    pub notification_token: Option<RegistrationToken>,
    /// New push provider of the device.
    pub notification_platform: Option<Platform>,
    /// New version of the SDK in the app.
    pub sdk_version: Option<SdkVersion>,
}

impl Changes {
    /// Returns whether the update changes no field.
    pub const fn is_empty(&self) -> bool {
        self.friendly_name.is_none()
            && self.notification_token.is_none()
            && self.notification_platform.is_none()
            && self.sdk_version.is_none()
    }

    /// Returns the names of the changed fields, as API responses spell them.
    pub fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("config.notification_token", self.notification_token.is_some()),
            ("config.notification_platform", self.notification_platform.is_some()),
            ("config.sdk_version", self.sdk_version.is_some()),
        ];
        names.into_iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name).collect()
    }

    /// Applies the update, made at `now`, to `factor`.
    ///
    /// # Errors
    /// Returns the errors of [`Notification::updated`]; in that case, the factor stays unchanged.
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
    fn push_platform_other_than_none_requires_a_registration_token() {
        assert_eq!(Notification::new(Platform::None, token("a")), Ok(Notification::None));
        assert!(Notification::new(Platform::Apn, None).is_err());
        let fcm = Notification::new(Platform::Fcm, token("a")).unwrap();
        assert_eq!(fcm.updated(None, token("b")), Notification::new(Platform::Fcm, token("b")));
        assert_eq!(fcm.updated(Some(Platform::Fcm), None), Ok(fcm.clone()));
        assert_eq!(fcm.updated(Some(Platform::None), None), Ok(Notification::None));
        assert!(fcm.updated(Some(Platform::Apn), None).is_err(), "a token of the other provider is not kept");
        assert!(Notification::None.updated(None, token("b")).is_err());
        assert_eq!(
            Notification::None.updated(Some(Platform::Apn), token("b")),
            Notification::new(Platform::Apn, token("b"))
        );
    }

    #[test]
    fn registration_token_for_the_push_platform_none_is_dropped_or_refused() {
        let none = Notification::None;
        assert_eq!(none.updated(None, None), Ok(Notification::None));
        assert_eq!(none.updated(Some(Platform::None), token("b")), Ok(Notification::None));
        assert_eq!(none.updated(None, token("b")).unwrap_err().code(), Code::InvalidRequest);
        let missing = none.updated(Some(Platform::Fcm), None).unwrap_err();
        assert_eq!(missing.code(), Code::MissingParameter);
    }

    #[test]
    fn push_platforms_factor_types_and_statuses_have_the_names_used_by_the_api() {
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
        for (word, byte, factor_type) in types {
            assert_eq!((factor_type.as_str(), FactorType::from_parameter(word)), (word, Ok(factor_type)));
            assert_eq!(factor_type.sid_byte(), byte);
        }
        assert!(FactorType::from_parameter("sms").is_err());
        assert_eq!((Status::Unverified.as_str(), Status::Verified.as_str()), ("unverified", "verified"));
    }

    #[test]
    fn public_key_returns_the_given_bytes() {
        assert_eq!(PublicKey::from_checked_der(vec![4, 5, 6]).as_der(), [4, 5, 6]);
    }

    #[test]
    fn only_a_verified_factor_can_be_challenged() {
        let mut factor = factor(Notification::None);
        assert_eq!(factor.require_verified(), Ok(()));
        factor.status = Status::Unverified;
        assert_eq!(factor.require_verified().unwrap_err().code(), Code::FactorUnverified);
    }

    #[test]
    fn factor_update_lists_the_names_of_the_changed_fields() {
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
    fn factor_update_changes_only_the_given_fields() {
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

        // A refused update changes nothing.
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
    fn factor_stays_unreachable_until_an_update_contains_a_token_or_platform() {
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
