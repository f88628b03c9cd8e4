//! Numbering plans: the country and the kind of line of a phone number. The data are those of libphonenumber, which the
//! crate `phonenumber` contains.

use domain::{Country, Parameter as _, PhoneNumber};
use phonenumber::metadata::{DATABASE, Descriptor};
use phonenumber::{Metadata, Type};

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
    let is_valid = parsed.is_valid();
    // Some national numbers begin with zeros, as in Italy. The crate ignores these zeros when it looks up the plan.
    if parsed.national().zeros() > 0 {
        let national = parsed.national().to_string();
        let plan = plan_with_zeros(&parsed, &national);
        let country = plan.and_then(|plan| Country::from_parameter(plan.id()).ok());
        return NumberFacts {
            country,
            line: plan.map_or(Line::Unknown, |plan| line(plan, &national)),
            is_valid,
        };
    }
    let country = parsed.country().id().and_then(|id| Country::from_parameter(id.as_ref()).ok());
    let line = match parsed.number_type(&DATABASE) {
        Type::Mobile | Type::Pager => Line::Mobile,
        Type::FixedLine => Line::Landline,
        Type::Voip => Line::Voip,
        _ => Line::Unknown,
    };
    NumberFacts { country, line, is_valid }
}

/// Returns whether the country has a numbering plan, and so phone numbers. The code of a country without one, such as
/// `UK`, is probably a mistake.
pub fn has_plan(country: Country) -> bool {
    DATABASE.by_id(country.as_str()).is_some()
}

/// Returns the first plan with the country code of a number that contains its national number.
fn plan_with_zeros(parsed: &phonenumber::PhoneNumber, national: &str) -> Option<&'static Metadata> {
    let regions = DATABASE.region(&parsed.code().value())?;
    let mut plans = regions.into_iter().filter_map(|region| DATABASE.by_id(region));
    plans.find(|plan| plan.descriptors().general().is_match(national))
}

/// Returns the kind of line of a national number in its plan.
fn line(plan: &Metadata, national: &str) -> Line {
    let plans = plan.descriptors();
    let is = |descriptor: Option<&Descriptor>| descriptor.is_some_and(|it| it.is_match(national));
    match (is(plans.mobile()), is(plans.fixed_line()), is(plans.voip())) {
        (true, false, _) => Line::Mobile,
        (false, true, _) => Line::Landline,
        (false, false, true) => Line::Voip,
        _ => Line::Unknown,
    }
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
    fn only_countries_with_phone_numbers_have_a_plan() {
        for (code, has) in
            [("AT", true), ("GB", true), ("XK", true), ("AC", true), ("UK", false), ("ZZ", false)]
        {
            assert_eq!(has_plan(Country::from_parameter(code).unwrap()), has, "{code}");
        }
    }

    #[test]
    fn zeros_after_the_country_code_are_part_of_the_number() {
        let at = |country: &str| Some(country.to_owned());
        assert_eq!(look_up("+390212345678"), (at("IT"), Line::Landline, true));
        assert_eq!(look_up("+393123456789"), (at("IT"), Line::Mobile, true));
        assert_eq!(look_up("+2250123456789"), (at("CI"), Line::Mobile, true));
    }

    #[test]
    fn number_of_no_country_has_none() {
        assert_eq!(look_up("+881612345678").0, None);
        assert_eq!(look_up("+9991234567"), (None, Line::Unknown, false));
    }
}
