//! Outlets: the gateways and mail servers through which one-time codes are sent (docs/outlets.md).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::Problem;
use crate::recipients::Channel;
use crate::secret::Sealed;
use crate::sids::{AccountSid, MailerSid, MessagingServiceSid, ParseSidError, Sid};
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// Maximum number of outlets of an account.
pub const MAX_OUTLETS: i64 = 50;

/// Checks that an account with `outlets` existing outlets may add one more.
///
/// # Errors
/// Returns error 60306 if the account already has [`MAX_OUTLETS`] outlets.
pub fn require_outlet_capacity(outlets: i64) -> Result<(), Problem> {
    if outlets < MAX_OUTLETS {
        return Ok(());
    }
    let expected = format!(
        "must not be added to an account that has {MAX_OUTLETS} outlets, the maximum; delete an outlet first"
    );
    Err(Problem::invalid("Outlet", &Expected::new(expected)))
}

/// Checks the channels of an outlet, and returns them without duplicates, in the order of [`Channel::ALL`].
///
/// # Errors
/// Returns error 60306 if there is no channel, or mail together with another channel. The SID of an outlet says whether
/// it sends mail.
pub fn require_channels(channels: &[Channel]) -> Result<Vec<Channel>, Problem> {
    let channels: Vec<_> = Channel::ALL.into_iter().filter(|channel| channels.contains(channel)).collect();
    match channels.as_slice() {
        [] => Err(Problem::invalid("Channel", &Expected::new("must be given at least once"))),
        [_, _, ..] if channels.contains(&Channel::Email) => {
            let expected = "must not be email together with another channel: create an outlet for each";
            Err(Problem::invalid("Channel", &Expected::new(expected)))
        }
        _ => Ok(channels),
    }
}

/// The SID of an outlet: that of a mailer (`MD…`) or of a messaging service (`MG…`), as the official API names them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutletSid {
    /// The outlet sends text messages, WhatsApp messages or calls.
    Messaging(MessagingServiceSid),
    /// The outlet sends mail.
    Mailer(MailerSid),
}

impl OutletSid {
    /// Returns the SID with these 16 bytes of an outlet that serves `channels`.
    pub fn from_stored(bytes: [u8; 16], channels: &[Channel]) -> Self {
        if channels.contains(&Channel::Email) {
            Self::Mailer(MailerSid::from_bytes(bytes))
        } else {
            Self::Messaging(MessagingServiceSid::from_bytes(bytes))
        }
    }

    /// Returns the SID's 16 bytes, without its prefix.
    pub fn to_bytes(self) -> [u8; 16] {
        match self {
            Self::Messaging(sid) => sid.to_bytes(),
            Self::Mailer(sid) => sid.to_bytes(),
        }
    }

    /// Returns the identifier to which the sealed settings of the outlet are bound: its SID as one of a messaging
    /// service, also for a mailer. The table does not store which of the two it is.
    pub fn sealed_owner(self) -> String {
        MessagingServiceSid::from_bytes(self.to_bytes()).to_string()
    }
}

impl fmt::Display for OutletSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messaging(sid) => sid.fmt(f),
            Self::Mailer(sid) => sid.fmt(f),
        }
    }
}

impl fmt::Debug for OutletSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OutletSid {
    type Err = ParseSidError;

    fn from_str(text: &str) -> Result<Self, ParseSidError> {
        text.parse().map(Self::Messaging).or_else(|_| text.parse().map(Self::Mailer))
    }
}

/// The kind of an outlet: the protocol that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutletKind {
    /// A mail server.
    Smtp,
    /// A server that is compatible with Twilio's API for messages and calls.
    Twilio,
    /// Any gateway that takes one HTTP request for each message.
    Http,
    /// A file that records the messages instead of sending them, for tests and demonstrations.
    Capture,
}

impl OutletKind {
    /// All kinds of outlets.
    pub const ALL: [Self; 4] = [Self::Smtp, Self::Twilio, Self::Http, Self::Capture];

    /// Returns the kind's name in the database and in commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Twilio => "twilio",
            Self::Http => "http",
            Self::Capture => "capture",
        }
    }
}

impl Parameter for OutletKind {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| Expected::new("must be smtp, twilio, http or capture"))
    }
}

/// The plaintext settings of an outlet with their secrets, in the form in which the crate `outlet-client` serializes
/// them.
pub struct OutletContent(Vec<u8>);

impl OutletContent {
    /// Wraps the plaintext bytes so that they cannot be printed by accident.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the plaintext bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for OutletContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// An outlet as it is stored.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// SID of the outlet (`MG…` or `MD…`).
    pub sid: OutletSid,
    /// Account that owns the outlet.
    pub account_sid: AccountSid,
    /// Display name of the outlet.
    pub friendly_name: FriendlyName,
    /// Protocol that the outlet speaks.
    pub kind: OutletKind,
    /// Channels that the outlet serves, without duplicates: either mail alone, or any others.
    pub channels: Vec<Channel>,
    /// Sealed settings of the outlet, with its secrets.
    pub content: Sealed<OutletContent>,
    /// Maximum number of messages per second; `None` for no limit.
    pub rate: Option<NonZeroU32>,
    /// Creation time of the outlet.
    pub created_at: Timestamp,
    /// Time of the last change to the outlet.
    pub updated_at: Timestamp,
}

impl Outlet {
    /// Returns whether the outlet serves a channel.
    pub fn serves(&self, channel: Channel) -> bool {
        self.channels.contains(&channel)
    }

    /// Returns a text that identifies this version of the outlet. Connections are kept under it.
    pub fn version(&self) -> String {
        format!("{} {}", self.sid, self.updated_at.micros())
    }
}

impl Listed for Outlet {
    fn position(&self) -> Position {
        match self.sid {
            OutletSid::Messaging(sid) => position(sid, self.created_at),
            OutletSid::Mailer(sid) => position(sid, self.created_at),
        }
    }
}

/// The outlet that sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutletChoice {
    /// An outlet of the account.
    Stored(OutletSid),
    /// The mail server of the option `smtp_url`.
    SmtpUrl,
    /// The gateway of the option `sms_url`.
    SmsUrl,
    /// The server itself, which only records the messages in test mode.
    TestServer,
}

impl fmt::Display for OutletChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(sid) => sid.fmt(f),
            Self::SmtpUrl => f.write_str("smtp-url"),
            Self::SmsUrl => f.write_str("sms-url"),
            Self::TestServer => f.write_str("test-server"),
        }
    }
}

impl FromStr for OutletChoice {
    type Err = ParseSidError;

    fn from_str(text: &str) -> Result<Self, ParseSidError> {
        match text {
            "smtp-url" => Ok(Self::SmtpUrl),
            "sms-url" => Ok(Self::SmsUrl),
            "test-server" => Ok(Self::TestServer),
            sid => sid.parse().map(Self::Stored),
        }
    }
}

impl Serialize for OutletChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OutletChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_of_an_outlet_is_stored_as_a_word_or_a_sid() {
        let stored = OutletChoice::Stored("MG11111111111111111111111111111111".parse().unwrap());
        for choice in [OutletChoice::SmtpUrl, OutletChoice::SmsUrl, OutletChoice::TestServer, stored] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<OutletChoice>(&json).unwrap(), choice);
        }
    }

    #[test]
    fn sid_of_an_outlet_depends_on_whether_it_sends_mail() {
        let sid = |channels: &[Channel]| OutletSid::from_stored([0x11; 16], channels).to_string();
        assert_eq!(sid(&[Channel::Email]), "MD11111111111111111111111111111111");
        assert_eq!(sid(&[Channel::Sms, Channel::Call]), "MG11111111111111111111111111111111");
        for text in ["MD11111111111111111111111111111111", "MG11111111111111111111111111111111"] {
            assert_eq!(text.parse::<OutletSid>().unwrap().to_string(), text);
        }
        assert!("VA11111111111111111111111111111111".parse::<OutletSid>().is_err());
    }

    #[test]
    fn settings_of_mailers_and_messaging_services_are_sealed_alike() {
        for channel in Channel::ALL {
            let owner = OutletSid::from_stored([0x11; 16], &[channel]).sealed_owner();
            assert_eq!(owner, "MG11111111111111111111111111111111");
        }
    }

    #[test]
    fn channels_are_mail_alone_or_any_others() {
        use Channel::{Call, Email, Sms, Whatsapp};
        for (given, channels) in [
            (&[Email, Email][..], Some(vec![Email])),
            (&[Whatsapp, Sms, Call, Sms], Some(vec![Sms, Call, Whatsapp])),
            (&[], None),
            (&[Email, Sms], None),
        ] {
            assert_eq!(require_channels(given).ok(), channels, "{given:?}");
        }
    }

    #[test]
    fn account_has_at_most_50_outlets() {
        assert!(require_outlet_capacity(49).is_ok());
        assert!(require_outlet_capacity(50).is_err());
    }

    #[test]
    fn kinds_of_outlets_have_names() {
        for kind in OutletKind::ALL {
            assert_eq!(OutletKind::from_parameter(kind.as_str()), Ok(kind));
        }
        assert!(OutletKind::from_parameter("smpp").is_err());
    }

    #[test]
    fn debug_output_of_settings_hides_them() {
        assert_eq!(format!("{:?}", OutletContent::new(b"secret".to_vec())), "[secret]");
    }
}
