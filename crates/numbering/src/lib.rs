//! Numbering plans: the country and the kind of line of a phone number. The data are those of libphonenumber, which the
//! crate `phonenumber` contains.

use domain::{Country, Parameter as _, PhoneNumber};
use phonenumber::Type;
use phonenumber::metadata::DATABASE;

/// The kind of line to which a phone number belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A mobile phone.
    Mobile,
    /// A landline.
    Landline,
    /// A line of the Internet (VoIP).
    Voip,
    /// The plan does not say, as in North America.
    Unknown,
}

/// What a numbering plan says about a phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberFacts {
    /// Country of the number; `None` for numbers of no country, such as those of satellite phones.
    pub country: Option<Country>,
    /// Kind of line.
    pub line: Line,
    /// Whether the number exists in its plan. Plans change, so a number that does not may still be in use.
    pub is_valid: bool,
}

/// Looks a number up in its numbering plan. The first call takes a few milliseconds, to load the plans.
pub fn facts(number: &PhoneNumber) -> NumberFacts {
    let Ok(parsed) = phonenumber::parse(None, number.as_str()) else {
        return NumberFacts { country: None, line: Line::Unknown, is_valid: false };
    };
    let country = parsed.country().id().and_then(|id| Country::from_parameter(id.as_ref()).ok());
    let line = match parsed.number_type(&DATABASE) {
        Type::Mobile | Type::Pager => Line::Mobile,
        Type::FixedLine => Line::Landline,
        Type::Voip => Line::Voip,
        _ => Line::Unknown,
    };
    NumberFacts { country, line, is_valid: parsed.is_valid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(number: &str) -> (Option<String>, Line, bool) {
        let facts = facts(&PhoneNumber::from_parameter(number).unwrap());
        (facts.country.map(|country| country.to_string()), facts.line, facts.is_valid)
    }

    #[test]
    fn numbers_are_assigned_to_countries_and_lines() {
        let at = |country: &str| Some(country.to_owned());
        assert_eq!(look_up("+4366412345678"), (at("AT"), Line::Mobile, true));
        assert_eq!(look_up("+431514440"), (at("AT"), Line::Landline, true));
        assert_eq!(look_up("+14155552671"), (at("US"), Line::Unknown, true));
        assert_eq!(look_up("+14165550100").0, at("CA"));
        assert_eq!(look_up("+447400123456"), (at("GB"), Line::Mobile, true));
        assert_eq!(look_up("+2391234567").0, at("ST"));
    }

    #[test]
    fn number_of_no_country_has_none() {
        assert_eq!(look_up("+881612345678").0, None);
        assert_eq!(look_up("+9991234567"), (None, Line::Unknown, false));
    }
}
