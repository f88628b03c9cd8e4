//! Push factors: devices with a private key, whose signature answers challenges.

use std::fmt;

use crate::factor_type::{FactorType, HasFactorType};
use crate::factors::Factor;
use crate::parameter::{Expected, Parameter};
use crate::problem::Problem;
use crate::sids::CredentialSid;
use crate::text::{FriendlyName, Text};
use crate::time::Timestamp;

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

/// What a push factor adds to a [`Factor`]: a device, its key, and the app on it.
#[derive(Clone, Debug)]
pub struct PushFactor {
    /// Public key of the device, which verifies its signatures.
    pub public_key: PublicKey,
    /// SID that the device's tokens contain as `kid`. It is unique per factor. It never changes, because the device
    /// stores it permanently (docs/protocol/authentication.md, section 1).
    pub credential_sid: CredentialSid,
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
}

impl HasFactorType for PushFactor {
    fn factor_type(&self) -> FactorType {
        FactorType::Push
    }
}

/// An update of a push factor. Fields that are `None` stay unchanged.
#[derive(Clone, Debug, Default)]
pub struct PushChanges {
    /// New friendly name of the factor.
    pub friendly_name: Option<FriendlyName>,
    /// New registration token of the device.
    pub notification_token: Option<RegistrationToken>,
    /// New push provider of the device.
    pub notification_platform: Option<Platform>,
    /// New version of the SDK in the app.
    pub sdk_version: Option<SdkVersion>,
}

impl PushChanges {
    /// Returns whether the update changes no field.
    pub const fn is_empty(&self) -> bool {
        self.friendly_name.is_none() && !self.has_push_fields()
    }

    /// Returns whether the update changes a field of [`PushFactor`].
    pub const fn has_push_fields(&self) -> bool {
        self.notification_token.is_some()
            || self.notification_platform.is_some()
            || self.sdk_version.is_some()
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
    pub fn apply(self, factor: &mut Factor<PushFactor>, now: Timestamp) -> Result<(), Problem> {
        let push = &mut factor.kind;
        let names_an_address = self.notification_token.is_some() || self.notification_platform.is_some();
        push.notification = push.notification.updated(self.notification_platform, self.notification_token)?;
        if names_an_address {
            push.unreachable = false;
            push.token_registered_at = now;
        }
        if let Some(friendly_name) = self.friendly_name {
            factor.friendly_name = friendly_name;
        }
        if let Some(sdk_version) = self.sdk_version {
            factor.kind.sdk_version = Some(sdk_version);
        }
        factor.updated_at = now;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::factors::tests::factor_of;
    use crate::problem::Code;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns a verified push factor.
    pub(crate) fn factor(notification: Notification) -> Factor<PushFactor> {
        factor_of(PushFactor {
            public_key: PublicKey::from_checked_der(vec![1; 91]),
            credential_sid: format!("CR{}", "6".repeat(32)).parse().unwrap(),
            app_id: AppId::from_stored("com.example.owl".into()),
            sdk_version: None,
            notification,
            unreachable: false,
            token_registered_at: NOW,
        })
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
    fn push_platforms_have_the_names_used_by_the_api() {
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
    }

    #[test]
    fn public_key_returns_the_given_bytes() {
        assert_eq!(PublicKey::from_checked_der(vec![4, 5, 6]).as_der(), [4, 5, 6]);
    }

    #[test]
    fn factor_update_lists_the_names_of_the_changed_fields() {
        let each = [
            (
                PushChanges {
                    friendly_name: Some(FriendlyName::from_stored("A".into())),
                    ..PushChanges::default()
                },
                "friendly_name",
            ),
            (
                PushChanges { notification_token: token("b"), ..PushChanges::default() },
                "config.notification_token",
            ),
            (
                PushChanges { notification_platform: Some(Platform::None), ..PushChanges::default() },
                "config.notification_platform",
            ),
            (
                PushChanges {
                    sdk_version: Some(SdkVersion::from_stored("1.0".into())),
                    ..PushChanges::default()
                },
                "config.sdk_version",
            ),
        ];
        for (changes, name) in each {
            assert!(!changes.is_empty(), "{name}");
            assert_eq!(changes.names(), [name]);
        }
        assert!(PushChanges::default().is_empty());
        assert_eq!(PushChanges::default().names(), [""; 0]);
    }

    #[test]
    fn factor_update_changes_only_the_given_fields() {
        let later = NOW.plus_seconds(9);
        let mut factor = factor(Notification::Fcm(token("a").unwrap()));
        let changes = PushChanges {
            friendly_name: Some(FriendlyName::from_stored("Tablet".into())),
            sdk_version: Some(SdkVersion::from_stored("1.2".into())),
            ..PushChanges::default()
        };
        changes.apply(&mut factor, later).unwrap();
        assert_eq!((factor.friendly_name.as_str(), factor.updated_at), ("Tablet", later));
        assert_eq!(factor.kind.sdk_version, Some(SdkVersion::from_stored("1.2".into())));
        assert_eq!(factor.kind.notification.token().cloned(), token("a"));

        // A refused update changes nothing.
        let refused = PushChanges {
            friendly_name: Some(FriendlyName::from_stored("Phone".into())),
            notification_platform: Some(Platform::Apn),
            ..PushChanges::default()
        };
        refused.apply(&mut factor, later.plus_seconds(1)).unwrap_err();
        assert_eq!((factor.friendly_name.as_str(), factor.updated_at), ("Tablet", later));
        assert_eq!(factor.kind.notification.platform(), Platform::Fcm);
    }

    #[test]
    fn factor_stays_unreachable_until_an_update_contains_a_token_or_platform() {
        let unreachable = || {
            let mut factor = factor(Notification::Fcm(token("a").unwrap()));
            factor.kind.unreachable = true;
            factor
        };
        for (changes, stays) in [
            (
                PushChanges {
                    friendly_name: Some(FriendlyName::from_stored("A".into())),
                    ..PushChanges::default()
                },
                true,
            ),
            (PushChanges { notification_token: token("b"), ..PushChanges::default() }, false),
            (PushChanges { notification_platform: Some(Platform::Fcm), ..PushChanges::default() }, false),
        ] {
            let (named, mut factor) = (changes.names(), unreachable());
            changes.apply(&mut factor, NOW).unwrap();
            assert_eq!(factor.kind.unreachable, stays, "{named:?}");
        }
        let mut reachable = factor(Notification::Fcm(token("a").unwrap()));
        PushChanges::default().apply(&mut reachable, NOW).unwrap();
        assert!(!reachable.kind.unreachable);
    }
}
