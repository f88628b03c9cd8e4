//! What a phone needs in order to enroll, and what it stores afterwards.

use std::collections::BTreeMap;
use std::fmt;

use crypto::SigningKey;
use domain::factors::{Platform, Status};
use domain::{Parameter, Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::style::Style;
use crate::{factor, json};

/// The parameters of a new factor, as an app passes them to the SDK (docs/protocol/device.md, section 3).
#[derive(Clone)]
pub struct NewFactor {
    /// SID of the service, `VA…`.
    pub service_sid: String,
    /// Identity of the user: the backend's own id for the user.
    pub identity: String,
    /// Access token that the app received from its backend.
    pub access_token: Secret<String>,
    /// Display name of the phone, chosen by the user.
    pub friendly_name: String,
    /// Push provider and registration token. `None` or an empty token means a phone without push.
    pub notification: Option<(Platform, String)>,
    /// Arbitrary data for the server to store with the factor.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Id of the app: the Android package or the iOS bundle id.
    pub app_id: String,
}

/// A factor as a phone stores it, including its private key. Serialize an enrollment only to storage that is
/// protected as well as a [`Keyring`](crate::Keyring).
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "StoredEnrollment", try_from = "StoredEnrollment")]
pub struct Enrollment {
    /// The SDK that the phone imitates in its requests.
    pub style: Style,
    /// Base URL of the server.
    pub base_url: String,
    /// SID of the account, `AC…`; the `sub` claim of device tokens.
    pub account_sid: String,
    /// SID of the service, `VA…`.
    pub service_sid: String,
    /// Identity of the user: the backend's own id for the user.
    pub identity: String,
    /// SID of the factor, `YF…`.
    pub factor_sid: String,
    /// SID of the credential, `CR…`; the `kid` header of device tokens.
    pub credential_sid: String,
    /// Display name of the phone, chosen by the user.
    pub friendly_name: String,
    /// Id of the app: the Android package or the iOS bundle id.
    pub app_id: String,
    /// Creation time of the factor.
    pub created_at: Timestamp,
    /// Status of the factor: whether the phone has proved to the server that it holds the private key.
    pub status: Status,
    pub(crate) key: SigningKey,
}

impl Enrollment {
    /// Returns the private key of the factor.
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Returns the same factor with another key, with which a test signs what the server must refuse.
    #[must_use]
    pub fn with_key(self, key: SigningKey) -> Self {
        Self { key, ..self }
    }
}

impl fmt::Debug for Enrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrollment")
            .field("factor_sid", &self.factor_sid)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The serialized form of an [`Enrollment`], with all values as text.
#[derive(Serialize, Deserialize)]
struct StoredEnrollment {
    style: String,
    base_url: String,
    account_sid: String,
    service_sid: String,
    identity: String,
    factor_sid: String,
    credential_sid: String,
    friendly_name: String,
    app_id: String,
    date_created: String,
    status: String,
    /// The private key in PKCS#8, base64-encoded.
    private_key: String,
}

impl From<Enrollment> for StoredEnrollment {
    fn from(enrollment: Enrollment) -> Self {
        Self {
            style: enrollment.style.to_string(),
            base_url: enrollment.base_url,
            account_sid: enrollment.account_sid,
            service_sid: enrollment.service_sid,
            identity: enrollment.identity,
            factor_sid: enrollment.factor_sid,
            credential_sid: enrollment.credential_sid,
            friendly_name: enrollment.friendly_name,
            app_id: enrollment.app_id,
            date_created: enrollment.created_at.to_string(),
            status: enrollment.status.as_str().to_owned(),
            private_key: enrollment.key.to_pkcs8_base64().expose().clone(),
        }
    }
}

impl TryFrom<StoredEnrollment> for Enrollment {
    type Error = &'static str;

    fn try_from(record: StoredEnrollment) -> Result<Self, Self::Error> {
        let key = SigningKey::from_pkcs8_base64(&record.private_key);
        Ok(Self {
            style: Style::from_parameter(&record.style).map_err(|_| "style is neither android nor ios")?,
            base_url: record.base_url,
            account_sid: record.account_sid,
            service_sid: record.service_sid,
            identity: record.identity,
            factor_sid: record.factor_sid,
            credential_sid: record.credential_sid,
            friendly_name: record.friendly_name,
            app_id: record.app_id,
            created_at: json::parse_date(&record.date_created).ok_or("date_created is not a date")?,
            status: factor::parse_status(&record.status)
                .ok_or("status is neither verified nor unverified")?,
            key: key.ok_or("private_key is not a PKCS#8 P-256 key in base64")?,
        })
    }
}

/// Returns an enrollment with the SIDs from docs/protocol/device.md, section 10, and a newly generated key.
#[cfg(test)]
pub(crate) fn sample(style: Style) -> Enrollment {
    let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
    Enrollment {
        style,
        base_url: "http://127.0.0.1:8080".into(),
        account_sid: sid("AC", "1"),
        service_sid: sid("VA", "2"),
        identity: "user-0001-abcd".into(),
        factor_sid: "YF03333333333333333333333333333333".into(),
        credential_sid: sid("CR", "5"),
        friendly_name: "My phone".into(),
        app_id: "com.example.app".into(),
        created_at: Timestamp::from_seconds(1_767_225_600),
        status: Status::Unverified,
        key: SigningKey::generate(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialized_enrollment_can_be_read_back() {
        let enrollment = sample(Style::Ios);
        let text = serde_json::to_string(&enrollment).unwrap();
        let again: Enrollment = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert_eq!(again.key.public_key_base64(), enrollment.key.public_key_base64());
    }

    #[test]
    fn debug_output_of_an_enrollment_does_not_contain_the_key() {
        let enrollment = sample(Style::Android);
        let shown = format!("{enrollment:?} {enrollment:#?}");
        assert!(shown.contains(&enrollment.factor_sid));
        assert!(!shown.contains(enrollment.key.to_pkcs8_base64().expose().as_str()));
        assert!(!shown.to_lowercase().contains("key"));
    }

    #[test]
    fn stored_enrollment_with_an_invalid_field_is_rejected() {
        let good = serde_json::to_value(sample(Style::Android)).unwrap();
        for field in ["style", "date_created", "status", "private_key"] {
            let mut bad = good.clone();
            bad[field] = "x".into();
            assert!(serde_json::from_value::<Enrollment>(bad).is_err(), "{field}");
        }
    }
}
