//! Attempts to deliver the code of a verification. Each send is one; the API reports them under `Attempts`.

use std::fmt;

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::recipients::{Channel, Country, Recipient};
use crate::sids::{AccountSid, AttemptSid, ServiceSid, VerificationSid};
use crate::time::Timestamp;
use crate::verifications::{MessageOptions, Tags};

/// Number of seconds for which attempts are reported: 30 days.
const REPORTED_SECONDS: i64 = 30 * 86_400;

/// Returns the earliest creation time of the attempts that are reported at `now`.
pub const fn reported_since(now: Timestamp) -> Timestamp {
    now.plus_seconds(-REPORTED_SECONDS)
}

/// An attempt to deliver the code of a verification, as it is stored.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// SID of the attempt (`VL…`).
    pub sid: AttemptSid,
    /// Account that owns the verification.
    pub account_sid: AccountSid,
    /// Service to which the verification belongs.
    pub service_sid: ServiceSid,
    /// Verification whose code is sent.
    pub verification_sid: VerificationSid,
    /// Recipient of the code.
    pub to: Recipient,
    /// Channel of the attempt.
    pub channel: Channel,
    /// Country of the phone number; `None` for mail, and for numbers of no country.
    pub country: Option<Country>,
    /// Number of characters of the code.
    pub code_length: u32,
    /// Locale of the message; `None` for mail.
    pub locale: Option<String>,
    /// Whether the user entered the code of this attempt.
    pub is_converted: bool,
    /// How far the message got; `None` if nothing is known yet.
    pub progress: Option<DeliveryProgress>,
    /// Error code of the failure; `None` if there was none.
    pub error_code: Option<u32>,
    /// What the message is made of, apart from the code; `None` once the verification is closed.
    pub message: Option<MessageOptions>,
    /// Tags that the backend gave the attempt; `None` if there are none.
    pub tags: Option<Tags>,
    /// End of the verification's validity.
    pub expires_at: Timestamp,
    /// Creation time of the attempt.
    pub created_at: Timestamp,
    /// Time of the last change to the attempt.
    pub updated_at: Timestamp,
}

impl Listed for Attempt {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// Whether the code of an attempt was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptStatus {
    /// The user entered the code.
    Confirmed,
    /// The user has not entered the code, but still can.
    Unconfirmed,
    /// The user did not enter the code in time.
    Expired,
}

impl AttemptStatus {
    /// Returns the word for this state in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
            Self::Expired => "expired",
        }
    }
}

impl Attempt {
    /// Returns the attempt with its service, for the token of a URL.
    pub const fn reference(&self) -> AttemptReference {
        AttemptReference { service_sid: self.service_sid, attempt_sid: self.sid }
    }

    /// Returns whether the attempt is converted, in the word of the API.
    pub const fn conversion(&self) -> Conversion {
        if self.is_converted { Conversion::Converted } else { Conversion::Unconverted }
    }

    /// Returns whether the code was entered, at `now`.
    pub fn status(&self, now: Timestamp) -> AttemptStatus {
        match self.is_converted {
            true => AttemptStatus::Confirmed,
            false if now >= self.expires_at => AttemptStatus::Expired,
            false => AttemptStatus::Unconfirmed,
        }
    }
}

/// How far a message got, in the words of the managed service's message statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryProgress {
    /// The outlet was asked to send the message.
    Queued,
    /// The outlet is about to send the message.
    Sending,
    /// The outlet passed the message on.
    Sent,
    /// The message arrived.
    Delivered,
    /// The message did not arrive.
    Undelivered,
    /// The line was busy when the recipient was called.
    Busy,
    /// The message or call was canceled.
    Canceled,
    /// The outlet refused the message.
    Failed,
    /// The recipient read the message.
    Read,
}

impl DeliveryProgress {
    /// All states, from the first to the last.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Sending,
        Self::Sent,
        Self::Undelivered,
        Self::Busy,
        Self::Canceled,
        Self::Failed,
        Self::Delivered,
        Self::Read,
    ];

    /// Returns the word for this state in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Undelivered => "undelivered",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// Returns the word for this state of a message in the API.
    pub const fn message_status(self) -> &'static str {
        match self {
            Self::Busy => Self::Undelivered.as_str(),
            _ => self.as_str(),
        }
    }

    /// Returns the word for this state of a call in the API.
    pub const fn call_status(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "ringing",
            Self::Sent => "in-progress",
            Self::Undelivered => "no-answer",
            Self::Busy => "busy",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Delivered | Self::Read => "completed",
        }
    }

    /// Returns the state with this name, or `None` if there is none.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| progress.as_str() == word)
    }

    /// Returns the state that an outlet reports with this word, or `None` if the word is unknown. Understands the
    /// statuses of messages and calls of the managed service, the message states of SMPP 3.4 (section 5.2.28 and
    /// appendix B) in any case, Jasmin's `ESME_ROK`, and the numbers of Kannel's delivery reports.
    pub fn from_report(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "accepted" | "queued" | "scheduled" | "buffered" | "4" => Self::Queued,
            "sending" | "initiated" | "ringing" => Self::Sending,
            "sent" | "in-progress" | "answered" | "acceptd" | "enroute" | "unknown" | "esme_rok" | "8" => {
                Self::Sent
            }
            "delivered" | "completed" | "delivrd" | "1" => Self::Delivered,
            "read" => Self::Read,
            "undelivered" | "undeliv" | "expired" | "deleted" | "no-answer" | "2" => Self::Undelivered,
            "busy" => Self::Busy,
            "canceled" => Self::Canceled,
            "failed" | "rejected" | "rejectd" | "16" => Self::Failed,
            _ => return None,
        })
    }

    /// Returns the states from which a message can reach this one. A late report never returns a message to one of
    /// them, and a failure is never replaced by another one.
    pub fn earlier(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |progress| progress.rank() < self.rank())
    }

    /// Returns the place of this state in the order in which a message passes through them.
    const fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Sending => 1,
            Self::Sent => 2,
            Self::Undelivered | Self::Busy | Self::Canceled | Self::Failed => 3,
            Self::Delivered => 4,
            Self::Read => 5,
        }
    }

    /// Returns whether the message did not arrive.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Undelivered | Self::Busy | Self::Canceled | Self::Failed)
    }

    /// Returns whether the message arrived.
    pub const fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered | Self::Read)
    }
}

/// An attempt and its service, as they are contained in the token of a URL that an outlet gets with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptReference {
    /// Service to which the attempt belongs.
    pub service_sid: ServiceSid,
    /// SID of the attempt.
    pub attempt_sid: AttemptSid,
}

/// What an outlet reports about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// How far the message got.
    pub progress: DeliveryProgress,
    /// The outlet's error code; `None` if it reports none.
    pub error_code: Option<u32>,
}

/// Whether an attempt led to the proof that the verification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The user entered the code of the attempt.
    Converted,
    /// The user did not, or has not done so yet.
    Unconverted,
}

impl Conversion {
    /// Returns the word for this state in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converted => "converted",
            Self::Unconverted => "unconverted",
        }
    }
}

/// Accepts any case: the official document spells the words in capitals and in small letters.
impl Parameter for Conversion {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let all = [Self::Converted, Self::Unconverted];
        let found = all.into_iter().find(|conversion| conversion.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Expected::new("must be converted or unconverted"))
    }
}

/// A filter that selects attempts by channel. The API defines a further channel, through which this server sends
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelFilter {
    /// Selects the attempts through a channel.
    Is(Channel),
    /// The channel `rbm`, which selects no attempt.
    Never,
}

impl Parameter for ChannelFilter {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match (text, Channel::from_name(text)) {
            (_, Some(channel)) => Ok(Self::Is(channel)),
            ("rbm", None) => Ok(Self::Never),
            _ => Err(Expected::new("must be sms, call, email, whatsapp or rbm")),
        }
    }
}

/// The beginning of phone numbers: a plus sign and 1 to 15 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationPrefix(String);

impl DestinationPrefix {
    /// Returns the prefix with its plus sign.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Parameter for DestinationPrefix {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let is_prefix = text.strip_prefix('+').is_some_and(|digits| {
            (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_prefix {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must be a plus sign and 1 to 15 digits, such as +4366"))
        }
    }
}

/// How many attempts there were, and how many of them were converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptSummary {
    /// Number of attempts.
    pub total: u64,
    /// Number of converted attempts among them.
    pub converted: u64,
}

impl AttemptSummary {
    /// Returns the number of attempts that were not converted.
    pub const fn unconverted(self) -> u64 {
        self.total.saturating_sub(self.converted)
    }
}

/// Formats the percentage of converted attempts, with up to nine decimals without trailing zeros. Without attempts it
/// is `0`.
impl fmt::Display for AttemptSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BILLION: u128 = 1_000_000_000;
        let (total, converted) = (u128::from(self.total.max(1)), u128::from(self.converted));
        let billionths = (converted * 100 * BILLION + total / 2) / total;
        write!(f, "{}", billionths / BILLION)?;
        match format!("{:09}", billionths % BILLION).trim_end_matches('0') {
            "" => Ok(()),
            decimals => write!(f, ".{decimals}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_rate_has_up_to_nine_decimals() {
        for (converted, total, rate) in [
            (0, 0, "0"),
            (0, 7, "0"),
            (3, 4, "75"),
            (7, 7, "100"),
            (9, 11, "81.818181818"),
            (2, 3, "66.666666667"),
            (1, 8, "12.5"),
            (1, 1_000, "0.1"),
            (u64::MAX, u64::MAX, "100"),
        ] {
            let summary = AttemptSummary { total, converted };
            assert_eq!(summary.to_string(), rate);
            assert_eq!(summary.unconverted(), total - converted);
        }
    }

    #[test]
    fn filters_accept_the_words_of_the_api() {
        for word in ["converted", "CONVERTED", "Converted"] {
            assert_eq!(Conversion::from_parameter(word), Ok(Conversion::Converted));
        }
        assert_eq!(Conversion::from_parameter("UNCONVERTED"), Ok(Conversion::Unconverted));
        assert!(Conversion::from_parameter("pending").is_err());
        assert_eq!(ChannelFilter::from_parameter("call"), Ok(ChannelFilter::Is(Channel::Call)));
        assert_eq!(ChannelFilter::from_parameter("rbm"), Ok(ChannelFilter::Never));
        assert!(ChannelFilter::from_parameter("sna").is_err());
        for prefix in ["+1", "+436641234567890"] {
            assert_eq!(DestinationPrefix::from_parameter(prefix).unwrap().as_str(), prefix);
        }
        for bad in ["", "+", "1", "+1a", "+1 ", "+1234567890123456", "++1"] {
            assert!(DestinationPrefix::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attempt_expires_with_its_verification_unless_it_is_converted() {
        let now = Timestamp::from_seconds(1_767_225_600);
        let attempt = |is_converted| Attempt {
            sid: "VL019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            account_sid: "AC019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            service_sid: "VA019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            verification_sid: "VE019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            to: Recipient::from_stored("+4366412345678".to_owned()),
            channel: Channel::Sms,
            country: None,
            code_length: 6,
            locale: None,
            is_converted,
            progress: None,
            error_code: None,
            message: None,
            tags: None,
            expires_at: now,
            created_at: now,
            updated_at: now,
        };
        let before = Timestamp::from_micros(now.micros() - 1);
        assert_eq!(attempt(false).status(before), AttemptStatus::Unconfirmed);
        assert_eq!(attempt(false).status(now), AttemptStatus::Expired);
        assert_eq!(attempt(true).status(now), AttemptStatus::Confirmed);
        assert_eq!(attempt(true).conversion().as_str(), "converted");
        assert_eq!(reported_since(now).seconds(), now.seconds() - 2_592_000);
    }

    #[test]
    fn progress_of_a_message_has_the_words_of_the_api() {
        for progress in DeliveryProgress::ALL {
            assert_eq!(DeliveryProgress::from_name(progress.as_str()), Some(progress));
        }
        assert_eq!(DeliveryProgress::from_name("Delivered"), None);
    }

    #[test]
    fn status_words_of_outlets_map_to_progress() {
        for (words, progress) in [
            // Statuses of messages and of calls at Twilio.
            ("accepted scheduled queued buffered", DeliveryProgress::Queued),
            ("sending initiated ringing", DeliveryProgress::Sending),
            ("sent in-progress answered ESME_ROK", DeliveryProgress::Sent),
            ("delivered completed", DeliveryProgress::Delivered),
            ("read", DeliveryProgress::Read),
            ("undelivered no-answer", DeliveryProgress::Undelivered),
            ("busy", DeliveryProgress::Busy),
            ("canceled", DeliveryProgress::Canceled),
            ("failed", DeliveryProgress::Failed),
            // States of SMPP, and numbers of Kannel.
            ("ENROUTE ACCEPTD UNKNOWN 8", DeliveryProgress::Sent),
            ("DELIVRD 1", DeliveryProgress::Delivered),
            ("UNDELIV EXPIRED DELETED 2", DeliveryProgress::Undelivered),
            ("REJECTD rejected 16", DeliveryProgress::Failed),
            ("4", DeliveryProgress::Queued),
        ] {
            for word in words.split(' ') {
                assert_eq!(DeliveryProgress::from_report(word), Some(progress), "{word}");
            }
        }
        assert_eq!(["", "perhaps", "32"].map(DeliveryProgress::from_report), [None; 3]);
        assert!(DeliveryProgress::Failed.is_failure() && !DeliveryProgress::Sent.is_failure());
        let earlier: Vec<_> = DeliveryProgress::Sent.earlier().collect();
        assert_eq!(earlier, [DeliveryProgress::Queued, DeliveryProgress::Sending]);
        // A text message has no line that can be busy.
        assert_eq!(DeliveryProgress::Busy.message_status(), "undelivered");
        let failures = DeliveryProgress::ALL.into_iter().filter(|progress| progress.is_failure());
        assert_eq!(failures.clone().count(), 4);
        for failure in failures {
            assert!(failure.earlier().all(|earlier| !earlier.is_failure()), "{failure:?}");
            assert!(DeliveryProgress::Delivered.earlier().any(|earlier| earlier == failure), "{failure:?}");
        }
    }
}
