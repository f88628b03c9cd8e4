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

    /// Returns the locales of messages to a country, best first: its most common languages among those of all locales,
    /// and English.
    pub fn of_country(country: Option<Country>) -> Vec<Self> {
        let tags: &[_] = match country.as_ref().map_or("", Country::as_str) {
            "AE" | "BH" | "EG" | "IQ" | "JO" | "KW" | "LY" | "OM" | "PS" | "QA" | "SA" | "SD" | "SY"
            | "YE" => &["ar"],
            "DJ" | "DZ" | "KM" | "LB" | "MA" | "MR" | "TD" | "TN" => &["ar", "fr"],
            "AD" => &["ca", "es"],
            "CZ" => &["cs"],
            "DK" | "FO" | "GL" => &["da"],
            "AT" | "DE" | "LI" => &["de"],
            "CH" => &["de", "fr", "it"],
            "CY" | "GR" => &["el"],
            "AR" | "BO" | "CL" | "CO" | "CR" | "CU" | "DO" | "EC" | "ES" | "GQ" | "GT" | "HN" | "MX"
            | "NI" | "PA" | "PE" | "PR" | "PY" | "SV" | "UY" | "VE" => &["es"],
            "EE" => &["et"],
            "FI" => &["fi", "sv"],
            "AX" => &["sv", "fi"],
            "BF" | "BI" | "BJ" | "BL" | "CD" | "CF" | "CG" | "CI" | "CM" | "FR" | "GA" | "GF" | "GN"
            | "GP" | "HT" | "MC" | "MF" | "MG" | "ML" | "MQ" | "NC" | "NE" | "PF" | "PM" | "RE" | "SN"
            | "TG" | "WF" | "YT" => &["fr"],
            "LU" => &["fr", "de"],
            "IL" => &["he", "ar"],
            "HR" => &["hr"],
            "HU" => &["hu"],
            "ID" => &["id"],
            "IT" | "SM" | "VA" => &["it"],
            "JP" => &["ja"],
            "KP" | "KR" => &["ko"],
            "LT" => &["lt"],
            "BN" | "MY" => &["ms"],
            "NO" | "SJ" => &["nb"],
            "AW" | "BQ" | "CW" | "NL" | "SR" | "SX" => &["nl"],
            "BE" => &["nl", "fr", "de"],
            "PL" => &["pl"],
            "BR" => &["pt-BR"],
            "AO" | "CV" | "GW" | "MZ" | "PT" | "ST" | "TL" => &["pt"],
            "MD" => &["ro", "ru"],
            "RO" => &["ro"],
            "BY" | "KG" | "KZ" | "RU" => &["ru"],
            "SK" => &["sk"],
            "SE" => &["sv"],
            "TH" => &["th"],
            "TR" => &["tr"],
            "UA" => &["uk"],
            "VN" => &["vi"],
            "TW" => &["zh"],
            "CN" => &["zh-CN"],
            "HK" | "MO" => &["zh-HK"],
            _ => &[],
        };
        tags.iter().filter_map(|tag| Self::from_tag(tag)).chain([Self::ENGLISH]).collect()
    }

    /// Returns whether readers of both locales understand each other's texts, such as those of `pt` and `pt-BR`. Texts of
    /// `zh-HK` are written and spoken differently from those of `zh-CN`.
    pub fn is_related_to(self, other: Self) -> bool {
        let language = |locale: Self| match locale.tag {
            "zh-HK" => "zh-HK",
            tag => tag.split_once('-').map_or(tag, |(language, _)| language),
        };
        language(self) == language(other)
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

    /// Returns the locale of the default text for this one: the same, or another one of its language. Returns `None` if
    /// none is installed.
    pub fn default_text(self) -> Option<Self> {
        match self.tag {
            "pt" => Self::from_tag("pt-BR"),
            _ => self.is_installed().then_some(self),
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
    fn locales_of_a_country_are_its_languages_and_english() {
        let of = |code: &str| {
            let locales = Locale::of_country(Country::from_parameter(code).ok());
            locales.iter().map(|locale| locale.as_str()).collect::<Vec<_>>().join(" ")
        };
        for (country, tags) in [
            ("AT", "de en"),
            ("CH", "de fr it en"),
            ("MX", "es en"),
            ("AD", "ca es en"),
            ("SN", "fr en"),
            ("MA", "ar fr en"),
            ("BE", "nl fr de en"),
            ("PT", "pt en"),
            ("BR", "pt-BR en"),
            ("HK", "zh-HK en"),
            ("US", "en"),
            ("GB", "en"),
            ("ZZ", "en"),
        ] {
            assert_eq!(of(country), tags, "{country}");
        }
        assert_eq!(Locale::of_country(None), [Locale::ENGLISH]);
    }

    #[test]
    fn locales_of_one_language_are_related() {
        let related =
            |one, other| Locale::from_tag(one).unwrap().is_related_to(Locale::from_tag(other).unwrap());
        assert!(related("pt", "pt-BR") && related("zh-CN", "zh") && related("de", "de"));
        assert!(!related("pt", "pl") && !related("en", "et") && !related("zh-HK", "zh"));
    }
}
