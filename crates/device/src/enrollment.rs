//! What a phone needs in order to enroll, and what it keeps afterwards.

use std::collections::BTreeMap;
use std::fmt;

use crypto::SigningKey;
use domain::factors::{Platform, Status};
use domain::{Parameter, Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::style::Style;
use crate::{factor, reading};

/// What an app gives to the SDK to enroll (docs/protocol/device.md, section 3).
#[derive(Clone)]
pub struct NewFactor {
    /// `VA…`
    pub service_sid: String,
    /// The user.
    pub identity: String,
    /// The permission, from the app's backend.
    pub access_token: Secret<String>,
    /// What the user calls the phone.
    pub friendly_name: String,
    /// Push provider and the app's address with it; nothing, or an empty address, to be without push.
    pub notification: Option<(Platform, String)>,
    /// What the app wants to be remembered.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Android package or iOS bundle id.
    pub app_id: String,
}

/// What a phone keeps of a factor for as long as it lives, private key included. Serialise it only
/// into something as well guarded as a [`Keyring`](crate::Keyring).
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct Enrollment {
    /// Whose manners the phone has.
    pub style: Style,
    /// The server.
    pub base_url: String,
    /// `AC…`, the `sub` of the phone's tokens.
    pub account_sid: String,
    /// `VA…`
    pub service_sid: String,
    /// The user.
    pub identity: String,
    /// `YF…`
    pub factor_sid: String,
    /// `CR…`, the `kid` of the phone's tokens.
    pub credential_sid: String,
    /// What the user calls the phone.
    pub friendly_name: String,
    /// Android package or iOS bundle id.
    pub app_id: String,
    /// When the factor was made.
    pub created_at: Timestamp,
    /// Whether the server knows that the phone holds the key.
    pub status: Status,
    pub(crate) key: SigningKey,
}

impl fmt::Debug for Enrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrollment")
            .field("factor_sid", &self.factor_sid)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// An enrollment as it is written down.
#[derive(Serialize, Deserialize)]
struct Record {
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
    /// PKCS#8, base64.
    private_key: String,
}

impl From<Enrollment> for Record {
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

impl TryFrom<Record> for Enrollment {
    type Error = &'static str;

    fn try_from(record: Record) -> Result<Self, Self::Error> {
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
            created_at: reading::date(&record.date_created).ok_or("date_created is no date")?,
            status: factor::status(&record.status).ok_or("status is neither verified nor unverified")?,
            key: key.ok_or("private_key is no PKCS#8 P-256 key in base64")?,
        })
    }
}

/// An enrollment for tests, with the SIDs of docs/protocol/device.md, section 10 and a new key.
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
    fn survives_being_written_down() {
        let enrollment = sample(Style::Ios);
        let text = serde_json::to_string(&enrollment).unwrap();
        let again: Enrollment = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert_eq!(again.key.public_key_base64(), enrollment.key.public_key_base64());
    }

    #[test]
    fn never_shows_the_key() {
        let enrollment = sample(Style::Android);
        let shown = format!("{enrollment:?} {enrollment:#?}");
        assert!(shown.contains(&enrollment.factor_sid));
        assert!(!shown.contains(enrollment.key.to_pkcs8_base64().expose().as_str()));
        assert!(!shown.to_lowercase().contains("key"));
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let good = serde_json::to_value(sample(Style::Android)).unwrap();
        for field in ["style", "date_created", "status", "private_key"] {
            let mut bad = good.clone();
            bad[field] = "x".into();
            assert!(serde_json::from_value::<Enrollment>(bad).is_err(), "{field}");
        }
    }
}
