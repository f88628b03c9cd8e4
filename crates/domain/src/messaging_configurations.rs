//! Messaging configurations: which outlet sends the text messages of a service to a country
//! (docs/protocol/verifications.md).

use std::fmt;

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::recipients::Country;
use crate::sids::{AccountSid, MessagingConfigurationSid, MessagingServiceSid, ServiceSid};
use crate::time::Timestamp;

/// A messaging configuration of a service, as it is stored.
#[derive(Clone, Debug)]
pub struct MessagingConfiguration {
    /// Internal SID. The API names the messaging configuration by its country.
    pub sid: MessagingConfigurationSid,
    /// Account that owns the messaging configuration.
    pub account_sid: AccountSid,
    /// Service whose text messages are sent through the outlet.
    pub service_sid: ServiceSid,
    /// Country to which the text messages are sent, or all countries. Unique in the service.
    pub country: MessagingCountry,
    /// Outlet that sends the text messages. It need not exist.
    pub messaging_service_sid: MessagingServiceSid,
    /// Creation time of the messaging configuration.
    pub created_at: Timestamp,
    /// Time of the last change to the messaging configuration.
    pub updated_at: Timestamp,
}

impl Listed for MessagingConfiguration {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// The country of a messaging configuration, or all countries: the parameter `Country`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagingCountry {
    /// All countries without a messaging configuration of their own, written `all`.
    All,
    /// One country.
    Only(Country),
}

impl MessagingCountry {
    /// Returns the text of the parameter.
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "all",
            Self::Only(country) => country.as_str(),
        }
    }
}

/// Accepts the code of a country in lower case too.
impl Parameter for MessagingCountry {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if text == "all" {
            return Ok(Self::All);
        }
        let expected = |_| Expected::new("must be all or a country code of two letters, such as AT");
        Country::from_parameter(text).map(Self::Only).map_err(expected)
    }
}

impl fmt::Display for MessagingCountry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messaging_configuration_is_for_one_country_or_all_countries() {
        for (text, stored) in [("AT", "AT"), ("at", "AT"), ("all", "all")] {
            let country = MessagingCountry::from_parameter(text).unwrap();
            assert_eq!(country.to_string(), stored);
            assert_eq!(MessagingCountry::from_parameter(stored), Ok(country));
        }
        for bad in ["", "A", "AUT", "ALL", "43", "*"] {
            let refused = MessagingCountry::from_parameter(bad).unwrap_err();
            assert!(refused.to_string().contains("all or a country code"), "{bad}");
        }
    }
}
