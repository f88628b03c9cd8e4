//! A message, and the outcome of sending it.

use std::fmt;
use std::time::Duration;

use domain::verifications::{MailOptions, OneTimeCode};
use domain::{AttemptSid, Channel, Recipient};

/// A message with a one-time code.
#[derive(Clone)]
pub struct Message {
    /// Channel through which the message is sent.
    pub channel: Channel,
    /// Recipient of the message.
    pub to: Recipient,
    /// Text of the message, with the code.
    pub text: String,
    /// Subject of a mail.
    pub subject: String,
    /// Instructions for a call in TwiML, which read the code or ask for a key first.
    pub twiml: String,
    /// Code, for outlets whose templates contain it separately.
    pub code: OneTimeCode,
    /// Name of the service, or the name that the backend gave for this message.
    pub service_name: String,
    /// Locale of the text.
    pub locale: String,
    /// Attempt to which the message belongs. It is the idempotency key at outlets that know such keys.
    pub attempt_sid: AttemptSid,
    /// Number of seconds for which the code remains valid.
    pub validity_seconds: u32,
    /// Sender, instead of the outlet's; `None` for the outlet's.
    pub from: Option<String>,
    /// Keys to press after a call is answered.
    pub send_digits: Option<String>,
    /// URL with which a call continues after a key was pressed, as in `twiml`; `None` if it says the code at once.
    pub key_press_url: Option<String>,
    /// URL to which the outlet may report what became of the message; `None` if this server has no public URL.
    pub report_url: Option<String>,
    /// Options of a mail.
    pub mail: MailOptions,
}

/// Hides the text, the code and the recipient.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?}, {})", self.channel, self.attempt_sid)
    }
}

/// The outcome of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The outlet accepted the message.
    Accepted {
        /// The outlet's own ID of the message; `None` if it gave none.
        provider_id: Option<String>,
    },
    /// The outlet did not accept the message, but may accept it later.
    Retry {
        /// How long the outlet asked to wait; `None` if it did not ask.
        after: Option<Duration>,
        /// Error code of the failure.
        code: u32,
        /// What the outlet said, without the text and the recipient.
        reason: String,
    },
    /// The outlet will never accept the message.
    Refused {
        /// Error code of the failure.
        code: u32,
        /// What the outlet said, without the text and the recipient.
        reason: String,
    },
}
