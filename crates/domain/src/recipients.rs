//! Recipients of one-time codes: phone numbers, mail addresses, and the channels that reach them
//! (docs/protocol/verifications.md).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameter::{Expected, Parameter};

/// A phone number in the format E.164: a plus sign and 7 to 15 digits, of which the first is not 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Returns the number with its plus sign.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a number from the database without validation. The number was validated before it was stored.
    pub const fn from_stored(number: String) -> Self {
        Self(number)
    }

    /// Returns the number without its last four digits. Numbers with the same prefix often belong to the same range of
    /// an operator.
    pub fn prefix(&self) -> &str {
        // The number is ASCII and has at least eight characters.
        self.0.get(..self.0.len().saturating_sub(4)).unwrap_or(&self.0)
    }
}

impl Parameter for PhoneNumber {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be a phone number in the format E.164, such as +14155552671");
        let digits = text.strip_prefix('+').ok_or_else(expected)?;
        let is_number = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        if is_number { Ok(Self(text.to_owned())) } else { Err(expected()) }
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(…)")
    }
}

/// A mail address: a local part and a domain, at most 254 bytes (RFC 5321), without white space and control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Returns the address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps an address from the database without validation. The address was validated before it was stored.
    pub const fn from_stored(address: String) -> Self {
        Self(address)
    }
}

impl Parameter for EmailAddress {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be a mail address, such as ann@example.com");
        let (local, domain) = text.split_once('@').ok_or_else(expected)?;
        let is_address = text.len() <= 254
            && (1..=64).contains(&local.len())
            && !domain.is_empty()
            && !domain.contains('@')
            && !domain.starts_with(['.', '-'])
            && !domain.ends_with(['.', '-'])
            && !domain.contains("..")
            && domain.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '-'))
            && !text.chars().any(|letter| {
                letter.is_control() || letter.is_whitespace() || matches!(letter, '<' | '>' | '"' | ',' | ';')
            });
        if is_address { Ok(Self(text.to_owned())) } else { Err(expected()) }
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

/// The recipient of a one-time code.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// The owner of a phone number.
    Phone(PhoneNumber),
    /// The owner of a mail address.
    Mail(EmailAddress),
}

impl Recipient {
    /// Parses the recipient of a message through `channel`.
    ///
    /// # Errors
    /// Returns a description of the accepted values: a mail address for mail, otherwise a phone number.
    pub fn of_channel(channel: Channel, text: &str) -> Result<Self, Expected> {
        match channel {
            Channel::Email => EmailAddress::from_parameter(text).map(Self::Mail),
            Channel::Sms | Channel::Call | Channel::Whatsapp => {
                PhoneNumber::from_parameter(text).map(Self::Phone)
            }
        }
    }

    /// Wraps a recipient from the database without validation. The recipient was validated before it was stored.
    pub fn from_stored(text: String) -> Self {
        if text.contains('@') {
            Self::Mail(EmailAddress::from_stored(text))
        } else {
            Self::Phone(PhoneNumber::from_stored(text))
        }
    }

    /// Returns the recipient as it was given.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Phone(number) => number.as_str(),
            Self::Mail(address) => address.as_str(),
        }
    }

    /// Returns the normal form of the recipient. Recipients with the same normal form are the same: the domain of a
    /// mail address is compared without regard to case, its local part exactly.
    pub fn key(&self) -> String {
        match self {
            Self::Phone(number) => number.as_str().to_owned(),
            Self::Mail(address) => match address.as_str().split_once('@') {
                Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
                None => address.as_str().to_owned(),
            },
        }
    }

    /// Returns the phone number; `None` for a mail address.
    pub const fn phone_number(&self) -> Option<&PhoneNumber> {
        match self {
            Self::Phone(number) => Some(number),
            Self::Mail(_) => None,
        }
    }
}

/// Parses a recipient whose channel is unknown: with an at sign it is a mail address, otherwise a phone number.
impl Parameter for Recipient {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        Self::of_channel(if text.contains('@') { Channel::Email } else { Channel::Sms }, text)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(…)")
    }
}

/// The channel through which a one-time code is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A text message.
    Sms,
    /// A call that reads the code.
    Call,
    /// A mail.
    Email,
    /// A WhatsApp message.
    Whatsapp,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 4] = [Self::Sms, Self::Call, Self::Email, Self::Whatsapp];

    /// Returns the channel's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Call => "call",
            Self::Email => "email",
            Self::Whatsapp => "whatsapp",
        }
    }

    /// Returns the channel whose name in the API this is, or `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

impl Parameter for Channel {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        Self::from_name(text).ok_or_else(|| Expected::new("must be sms, call, email or whatsapp"))
    }
}

/// A country, by its code of ISO 3166-1 alpha-2: two capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Returns the two letters of the country's code.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters get in.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Accepts lower case too.
impl Parameter for Country {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Ok(Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
            }
            _ => Err(Expected::new("must be a country code of two letters, such as AT")),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_number_must_be_in_the_format_e164() {
        for good in ["+14155552671", "+4366412345678", "+1234567", "+123456789012345"] {
            assert_eq!(PhoneNumber::from_parameter(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "+",
            "14155552671",
            "+04155552671",
            "+123456",
            "+1234567890123456",
            "+1 415 555 2671",
            "+1415555267a",
            "+١٤١٥٥٥٥٢٦٧١",
            "++4155552671",
        ] {
            assert!(PhoneNumber::from_parameter(bad).is_err(), "{bad}");
        }
        assert_eq!(PhoneNumber::from_parameter("+14155552671").unwrap().prefix(), "+1415555");
    }

    #[test]
    fn mail_address_must_have_a_local_part_and_a_domain() {
        for good in ["ann@example.com", "a.b+c@sub.example.com", "ann@localhost", "ann@bücher.example"] {
            assert_eq!(EmailAddress::from_parameter(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "@",
            "ann",
            "ann@",
            "@example.com",
            "ann@@example.com",
            "a@b@c",
            "ann@.com",
            "ann@example..com",
            "ann@example.com.",
            "ann <ann@example.com>",
            "ann@exa mple.com",
            "ann@example.com\r\nBcc: b@example.com",
            "ann@example.com,bob@example.com",
        ] {
            assert!(EmailAddress::from_parameter(bad).is_err(), "{bad}");
        }
        assert!(EmailAddress::from_parameter(&format!("ann@{}.com", "x".repeat(247))).is_err());
        assert!(EmailAddress::from_parameter(&format!("{}@example.com", "x".repeat(65))).is_err());
    }

    #[test]
    fn recipients_that_differ_in_the_case_of_the_domain_are_the_same() {
        let key = |text| Recipient::from_parameter(text).unwrap().key();
        assert_eq!(key("Ann@Example.COM"), "Ann@example.com");
        assert_ne!(key("ann@example.com"), key("Ann@example.com"));
        assert_eq!(key("+14155552671"), "+14155552671");
    }

    #[test]
    fn channel_decides_whether_the_recipient_is_a_number_or_an_address() {
        for channel in Channel::ALL {
            let is_mail = channel == Channel::Email;
            assert_eq!(Recipient::of_channel(channel, "ann@example.com").is_ok(), is_mail, "{channel:?}");
            assert_eq!(Recipient::of_channel(channel, "+14155552671").is_ok(), !is_mail, "{channel:?}");
            assert_eq!(Channel::from_name(channel.as_str()), Some(channel));
        }
    }

    #[test]
    fn country_code_has_two_letters() {
        assert_eq!(Country::from_parameter("at").unwrap().to_string(), "AT");
        for bad in ["", "A", "AUT", "A1", "Ä", "all"] {
            assert!(Country::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_of_a_recipient_hides_it() {
        let recipient = Recipient::from_parameter("+14155552671").unwrap();
        let debug = format!("{recipient:?} {:?}", recipient.phone_number());
        assert!(!debug.contains("4155"), "{debug}");
    }
}
