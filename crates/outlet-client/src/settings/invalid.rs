//! Validation errors for the settings of an outlet, worded for the operator who enters them.

use std::fmt;

use domain::Expected;

/// Why the settings of an outlet are invalid. Displayed as a sentence, such as `the sender must be a mail address`. The
/// `reason` alone can be displayed after the name of an option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidOutlet {
    /// The invalid setting.
    pub field: OutletField,
    /// What is expected of it.
    pub reason: Expected,
}

/// A setting of an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutletField {
    /// The URL of the server.
    Url,
    /// The sender.
    From,
    /// The name of the sender of mails.
    FromName,
    /// The address to which answers to mails go.
    ReplyTo,
    /// The SID of the account at the provider.
    AccountSid,
    /// The SID of the messaging service at the provider.
    MessagingServiceSid,
    /// The user as which the server is used.
    User,
    /// The password, token or key of the user.
    Secret,
    /// The HTTP method.
    Method,
    /// The authentication of requests.
    Auth,
    /// A header of the requests.
    Header,
    /// The content type of the requests.
    ContentType,
    /// The template of the body.
    Body,
    /// The rule by which responses of success are recognized.
    Success,
    /// The place of the gateway's ID in responses.
    IdPointer,
    /// The file that records messages.
    Path,
    /// A channel of the outlet.
    Channel,
}

impl OutletField {
    /// Returns the error that this field is not as expected.
    pub(crate) const fn invalid(self, reason: Expected) -> InvalidOutlet {
        InvalidOutlet { field: self, reason }
    }

    /// Returns the error that this field must be as these words say.
    pub(crate) fn must(self, words: &'static str) -> InvalidOutlet {
        self.invalid(Expected::new(words))
    }
}

impl fmt::Display for OutletField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url => "the URL",
            Self::From => "the sender",
            Self::FromName => "the sender's name",
            Self::ReplyTo => "the address for replies",
            Self::AccountSid => "the account SID",
            Self::MessagingServiceSid => "the messaging service SID",
            Self::User => "the user",
            Self::Secret => "the secret",
            Self::Method => "the method",
            Self::Auth => "the authentication",
            Self::Header => "the header",
            Self::ContentType => "the content type",
            Self::Body => "the body",
            Self::Success => "the rule of success",
            Self::IdPointer => "the pointer to the ID",
            Self::Path => "the path",
            Self::Channel => "the channel",
        })
    }
}
