//! Parsing of request parameters into validated values.

use std::borrow::Cow;
use std::fmt;

/// A value that is parsed from the text of a request parameter.
pub trait Parameter: Sized {
    /// Parses the decoded text of the parameter, and returns the value.
    ///
    /// # Errors
    /// Returns a description of the accepted values if the text is not one of them.
    fn from_parameter(text: &str) -> Result<Self, Expected>;

    /// Returns whether a parameter with this text counts as absent. By default, only an empty text does, because some
    /// of Twilio's libraries send null that way.
    fn is_absent(text: &str) -> bool {
        text.is_empty()
    }
}

/// A description of the values that a parameter accepts. It is worded to follow the parameter's name:
/// `must be true or false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Cow<'static, str>);

impl Expected {
    /// Creates a description from words in the form `must …`.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Parameter for bool {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if text.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(Expected::new("must be true or false"))
        }
    }
}

impl Parameter for String {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        Ok(text.to_owned())
    }
}

/// An integer from `MIN` to `MAX`, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Bounded<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Bounded<MIN, MAX> {
    /// Returns `value` as a bounded integer, or `None` if it is out of bounds.
    pub const fn new(value: i64) -> Option<Self> {
        if value >= MIN && value <= MAX { Some(Self(value)) } else { None }
    }

    /// Returns the value of the integer.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> Parameter for Bounded<MIN, MAX> {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| Expected::new(format!("must be a whole number from {MIN} to {MAX}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Bounded<-2, 3>;

    #[test]
    fn numeric_parameter_outside_its_bounds_is_refused() {
        for (text, number) in [
            ("-3", None),
            ("-2", Some(-2)),
            ("0", Some(0)),
            ("3", Some(3)),
            ("4", None),
            ("", None),
            ("1.0", None),
            ("x", None),
        ] {
            let read = Small::from_parameter(text);
            assert_eq!(read.as_ref().ok().copied().map(Small::get), number, "{text}");
            if let Err(expected) = read {
                assert_eq!(expected.to_string(), "must be a whole number from -2 to 3");
            }
        }
    }

    #[test]
    fn boolean_parameters_are_parsed_in_upper_and_lower_case() {
        for (text, value) in [("true", true), ("True", true), ("false", false), ("FALSE", false)] {
            assert_eq!(bool::from_parameter(text), Ok(value), "{text}");
        }
        for bad in ["", "1", "yes"] {
            assert!(bool::from_parameter(bad).is_err(), "{bad}");
        }
        assert_eq!(String::from_parameter("a b"), Ok("a b".to_owned()));
    }
}
