//! The provider-independent content of a push.

use std::fmt;

use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, FactorSid, Timestamp};

/// The `type` field of every push, by which apps recognize it (docs/protocol/push.md, section 1).
pub(crate) const PUSH_TYPE: &str = "verify_push_challenge";

/// A push to one device. `payload.rs` of each provider defines its wire format.
#[derive(Clone)]
pub struct Message {
    /// The pending challenge.
    pub challenge_sid: ChallengeSid,
    /// The factor that the challenge is for.
    pub factor_sid: FactorSid,
    /// The text that is shown to the user: `Details.Message`.
    pub text: String,
    /// The device token: the provider's address of the app on this device.
    pub token: RegistrationToken,
    /// When the device registered `token`. An APNs report of a dead token from before then is outdated.
    pub token_registered_at: Timestamp,
    /// The app. For APNs this is the bundle id and the topic.
    pub app_id: AppId,
    /// How long APNs may store the push. `None` means a time to live of 0: deliver now or never.
    pub expires_at: Option<Timestamp>,
    /// How many seconds FCM may store the push. 0 means deliver now or never.
    pub ttl: u32,
    /// The UUID of the delivery, the same on every attempt. It becomes the `apns-id`; APNs generates one if
    /// this is not a UUID.
    pub id: String,
}

impl fmt::Debug for Message {
    /// Omits the text, which may be personal, and the device token, which allows pushing to the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} about {} to {})", self.id, self.challenge_sid, self.factor_sid)
    }
}
