//! What a device is to be told.

use std::fmt;

use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, FactorSid, Timestamp};

/// The `type` of every push, by which an app knows it from others of its own (docs/protocol/push.md, section 1).
pub(crate) const TYPE: &str = "verify_push_challenge";

/// A push to one device. What becomes of it on the wire is in `payload.rs` of each provider.
#[derive(Clone)]
pub struct Message {
    /// The challenge to be answered.
    pub challenge_sid: ChallengeSid,
    /// The factor that is to answer.
    pub factor_sid: FactorSid,
    /// What the user reads: `Details.Message`.
    pub text: String,
    /// The provider's address of the app on the device.
    pub token: RegistrationToken,
    /// When the device sent that address: what Apple says of it from before then is outdated.
    pub token_registered_at: Timestamp,
    /// The app: for Apple the bundle id, and with it the topic.
    pub app_id: AppId,
    /// Until when Apple may keep it; `None` is a time to live of 0: now or never.
    pub expires_at: Option<Timestamp>,
    /// How many seconds Google may keep it; 0 is now or never.
    pub ttl: u32,
    /// The delivery's UUID, the same on every attempt. Apple takes it as `apns-id` and says it back; if
    /// it is none, Apple makes one.
    pub id: String,
}

impl fmt::Debug for Message {
    /// Neither the text, which may be personal, nor the token, with which anybody who has a credential
    /// could push.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} about {} to {})", self.id, self.challenge_sid, self.factor_sid)
    }
}
