//! The provider-independent content of a push.

use std::fmt;

use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, FactorSid, Timestamp};

/// The value of the `type` field in every push, by which apps recognize the push (docs/protocol/push.md,
/// section 1).
pub(crate) const PUSH_TYPE: &str = "verify_push_challenge";

/// The content of a push to one device. `payload.rs` of each provider defines its wire format.
#[derive(Clone)]
pub struct Message {
    /// The pending challenge that the push announces.
    pub challenge_sid: ChallengeSid,
    /// The factor whose device must answer the challenge.
    pub factor_sid: FactorSid,
    /// The text to show to the user: `Details.Message`.
    pub text: String,
    /// The device token: the provider's address of the app on the device.
    pub token: RegistrationToken,
    /// When the device registered `token`. If APNs reports an earlier time at which the token became invalid,
    /// that report is outdated.
    pub token_registered_at: Timestamp,
    /// The id of the app. For APNs this is the bundle id, which is also the topic.
    pub app_id: AppId,
    /// Time until which APNs may store the push. `None` tells APNs to deliver the push now or never.
    pub expires_at: Option<Timestamp>,
    /// Number of seconds for which FCM may store the push. 0 tells FCM to deliver the push now or never.
    pub ttl: u32,
    /// The UUID of the delivery, the same on every attempt. Sent as the `apns-id`. If this is not a UUID,
    /// APNs generates an id.
    pub id: String,
}

impl fmt::Debug for Message {
    /// Omits the text, which may contain personal data, and the device token, which would allow pushing to
    /// the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} about {} to {})", self.id, self.challenge_sid, self.factor_sid)
    }
}
