//! Locales of messages with one-time codes (docs/protocol/verifications.md).

use std::fmt;

use serde::{Serialize, Serializer};

use crate::parameter::{Expected, Parameter};
use crate::recipients::Country;

/// The locale of a message: a language tag (BCP 47) that the managed service has a default text for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locale {
    tag: &'static str,
    voice: &'static str,
}

const fn locale(tag: &'static str, voice: &'static str) -> Locale {
    Locale { tag, voice }
}

/// All locales, each with the language tag of the voice that reads its texts.
const LOCALES: [Locale; 43] = [
    locale("af", "af-ZA"),
    locale("ar", "ar-XA"),
    locale("ca", "ca-ES"),
    locale("cs", "cs-CZ"),
    locale("da", "da-DK"),
    locale("de", "de-DE"),
    locale("el", "el-GR"),
    locale("en", "en-US"),
    locale("en-GB", "en-GB"),
    locale("es", "es-ES"),
    locale("et", "et-EE"),
    locale("fi", "fi-FI"),
    locale("fr", "fr-FR"),
    locale("he", "he-IL"),
    locale("hi", "hi-IN"),
    locale("hr", "hr-HR"),
    locale("hu", "hu-HU"),
    locale("id", "id-ID"),
    locale("it", "it-IT"),
    locale("ja", "ja-JP"),
    locale("kn", "kn-IN"),
    locale("ko", "ko-KR"),
    locale("lt", "lt-LT"),
    locale("mr", "mr-IN"),
    locale("ms", "ms-MY"),
    locale("nb", "nb-NO"),
    locale("nl", "nl-NL"),
    locale("pl", "pl-PL"),
    locale("pt", "pt-PT"),
    locale("pt-BR", "pt-BR"),
    locale("ro", "ro-RO"),
    locale("ru", "ru-RU"),
    locale("sk", "sk-SK"),
    locale("sv", "sv-SE"),
    locale("te", "te-IN"),
    locale("th", "th-TH"),
    locale("tl", "fil-PH"),
    locale("tr", "tr-TR"),
    locale("uk", "uk-UA"),
    locale("vi", "vi-VN"),
    locale("zh", "zh-CN"),
    locale("zh-CN", "zh-CN"),
    locale("zh-HK", "zh-HK"),
];

/// The tags of the locales for which a default text is installed.
const INSTALLED: [&str; 9] = ["de", "en", "en-GB", "es", "fr", "it", "nl", "pl", "pt-BR"];

impl Locale {
    /// English, the locale of messages for which no better one is known.
    pub const ENGLISH: Self = locale("en", "en-US");

    /// Iterates over all locales, sorted by their tags.
    pub fn all() -> impl Iterator<Item = Self> {
        LOCALES.into_iter()
    }

    /// Returns the locale with this tag, compared without regard to case, or `None` if there is none.
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::all().find(|locale| locale.tag.eq_ignore_ascii_case(tag))
    }

    /// Returns the locale of messages to a country: the main language there among those of all locales, or English.
    pub fn of_country(country: Option<Country>) -> Self {
        let tag = match country.as_ref().map_or("", Country::as_str) {
            "AE" | "BH" | "EG" | "IQ" | "JO" | "KW" | "LB" | "LY" | "OM" | "PS" | "QA" | "SA" | "SD"
            | "SY" | "YE" => "ar",
            "CZ" => "cs",
            "DK" | "FO" | "GL" => "da",
            "AT" | "CH" | "DE" | "LI" => "de",
            "CY" | "GR" => "el",
            "AD" | "AR" | "BO" | "CL" | "CO" | "CR" | "CU" | "DO" | "EC" | "ES" | "GQ" | "GT" | "HN"
            | "MX" | "NI" | "PA" | "PE" | "PR" | "PY" | "SV" | "UY" | "VE" => "es",
            "EE" => "et",
            "AX" | "FI" => "fi",
            "BF" | "BI" | "BJ" | "BL" | "CD" | "CF" | "CG" | "CI" | "CM" | "DJ" | "DZ" | "FR" | "GA"
            | "GF" | "GN" | "GP" | "HT" | "KM" | "LU" | "MA" | "MC" | "MF" | "MG" | "ML" | "MQ" | "MR"
            | "NC" | "NE" | "PF" | "PM" | "RE" | "SN" | "TD" | "TG" | "TN" | "WF" | "YT" => "fr",
            "IL" => "he",
            "HR" => "hr",
            "HU" => "hu",
            "ID" => "id",
            "IT" | "SM" | "VA" => "it",
            "JP" => "ja",
            "KP" | "KR" => "ko",
            "LT" => "lt",
            "BN" | "MY" => "ms",
            "NO" | "SJ" => "nb",
            "AW" | "BE" | "BQ" | "CW" | "NL" | "SR" | "SX" => "nl",
            "PL" => "pl",
            "BR" => "pt-BR",
            "AO" | "CV" | "GW" | "MZ" | "PT" | "ST" | "TL" => "pt",
            "MD" | "RO" => "ro",
            "BY" | "KG" | "KZ" | "RU" => "ru",
            "SK" => "sk",
            "SE" => "sv",
            "TH" => "th",
            "TR" => "tr",
            "UA" => "uk",
            "VN" => "vi",
            "TW" => "zh",
            "CN" => "zh-CN",
            "HK" | "MO" => "zh-HK",
            _ => "en",
        };
        Self::from_tag(tag).unwrap_or(Self::ENGLISH)
    }

    /// Returns whether both locales have the same language, such as `pt` and `pt-BR`.
    pub fn has_language_of(self, other: Self) -> bool {
        let language = |tag: &'static str| tag.split('-').next();
        language(self.tag) == language(other.tag)
    }

    /// Returns the tag of the locale.
    pub const fn as_str(self) -> &'static str {
        self.tag
    }

    /// Returns the tag of the voice that reads texts of the locale.
    pub const fn voice(self) -> &'static str {
        self.voice
    }

    /// Returns whether a default text is installed for the locale.
    pub fn is_installed(self) -> bool {
        INSTALLED.contains(&self.tag)
    }

    /// Returns the locale of the default text for this one: the same, another one of its language, or English.
    pub fn of_default_text(self) -> Self {
        match self.tag {
            _ if self.is_installed() => self,
            "pt" => Self::from_tag("pt-BR").unwrap_or(Self::ENGLISH),
            _ => Self::ENGLISH,
        }
    }
}

/// Accepts tags regardless of case.
impl Parameter for Locale {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        Self::from_tag(text).ok_or_else(|| Expected::new("must be a known locale, such as en or pt-BR"))
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag)
    }
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag)
    }
}

impl Serialize for Locale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_accepted_in_any_case_and_returned_in_its_canonical_form() {
        for (text, tag) in [("de", "de"), ("PT-br", "pt-BR"), ("ZH-HK", "zh-HK"), ("EN", "en")] {
            assert_eq!(Locale::from_parameter(text).unwrap().as_str(), tag);
        }
        for unknown in ["", "xx", "de-AT", "pt_BR", "en ", "deu"] {
            assert!(Locale::from_parameter(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn tags_are_sorted_and_unique() {
        let tags: Vec<_> = Locale::all().map(Locale::as_str).collect();
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]), "{tags:?}");
        assert_eq!(Locale::from_tag("en"), Some(Locale::ENGLISH));
    }

    #[test]
    fn voice_speaks_the_language_of_its_locale() {
        for locale in Locale::all() {
            let language = if locale.as_str() == "tl" { "fil" } else { &locale.as_str()[..2] };
            assert!(locale.voice().starts_with(language), "{locale}");
        }
    }

    #[test]
    fn locale_of_a_country_is_its_main_language() {
        let of = |code: &str| Locale::of_country(Country::from_parameter(code).ok()).as_str();
        for (country, tag) in [
            ("AT", "de"),
            ("MX", "es"),
            ("SN", "fr"),
            ("SM", "it"),
            ("BE", "nl"),
            ("PL", "pl"),
            ("PT", "pt"),
            ("BR", "pt-BR"),
            ("US", "en"),
            ("GB", "en"),
            ("TR", "tr"),
            ("JP", "ja"),
            ("HK", "zh-HK"),
            ("IN", "en"),
            ("ZZ", "en"),
        ] {
            assert_eq!(of(country), tag, "{country}");
        }
        assert_eq!(Locale::of_country(None), Locale::ENGLISH);
    }

    #[test]
    fn locales_of_one_language_are_recognized() {
        let is_same =
            |one, other| Locale::from_tag(one).unwrap().has_language_of(Locale::from_tag(other).unwrap());
        assert!(is_same("pt", "pt-BR") && is_same("zh-HK", "zh") && is_same("de", "de"));
        assert!(!is_same("pt", "pl") && !is_same("en", "et"));
    }
}
