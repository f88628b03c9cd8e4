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

/// The codes of ISO 3166-1 alpha-2, and the three other codes that numbering plans have: Ascension Island, Tristan da
/// Cunha and Kosovo.
const COUNTRIES: &str = "\
    AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO \
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW TA XK";

/// The country of a messaging configuration, or all countries: the parameter `Country`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagingCountry {
    /// All countries without a messaging configuration of their own, written `all`.
    All,
    /// One country.
    Only(Country),
}

impl MessagingCountry {
    /// Returns whether phone numbers of this country exist. Others, such as `UK`, are probably mistakes.
    pub fn exists(&self) -> bool {
        match self {
            Self::All => true,
            Self::Only(country) => COUNTRIES.split(' ').any(|code| code == country.as_str()),
        }
    }

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
    fn country_exists_if_phone_numbers_of_it_do() {
        for (text, exists) in [
            ("all", true),
            ("at", true),
            ("AC", true),
            ("XK", true),
            ("ZW", true),
            ("UK", false),
            ("ZZ", false),
        ] {
            assert_eq!(MessagingCountry::from_parameter(text).unwrap().exists(), exists, "{text}");
        }
    }

    #[test]
    fn messaging_configuration_is_for_one_country_or_all_countries() {
        for (text, stored) in [("AT", "AT"), ("at", "AT"), ("XK", "XK"), ("ZW", "ZW"), ("all", "all")] {
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
