//! Parses the parameters of forms and queries.
//!
//! The parser is strict and hand-written. Generic form deserializers accept broken percent-encoding and invalid UTF-8,
//! and their errors cannot name the parameter (decision 0002). The parser accepts everything that the SDKs send
//! (docs/protocol/device.md, section 3):
//!
//! - A pair is split at its *first* `=`, because the iOS SDK does not percent-encode the `=` padding of base64.
//! - `;` is not a separator.
//! - Unknown parameters are ignored, because an unencoded `&` in a friendly name from the iOS SDK looks like the start
//!   of one.

use domain::Problem;
use domain::parameter::{Expected, Parameter};

/// The decoded parameters of a request body or a URL query.
#[derive(Debug, Default)]
pub struct Form {
    pairs: Vec<(String, String)>,
    /// Whether parameter names match in any case. They do in queries, because the iOS SDK sends `pageToken`
    /// (docs/protocol/device.md, section 6).
    ignores_case: bool,
}

impl Form {
    /// Decodes the parameters of a body in the format `application/x-www-form-urlencoded`. Their names are
    /// case-sensitive.
    ///
    /// # Errors
    /// Returns error code 60306, with the parameter's name, if the text contains broken percent-encoding, invalid UTF-8
    /// or a NUL character.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            let name = decode(name).map_err(|expected| Problem::invalid("parameter names", &expected))?;
            let value = decode(value).map_err(|expected| Problem::invalid(&printable(&name), &expected))?;
            Ok((name, value))
        });
        Ok(Self { pairs: pairs.collect::<Result<_, Problem>>()?, ignores_case: false })
    }

    /// Decodes the parameters of a URL's query. Their names match in any case.
    ///
    /// # Errors
    /// Returns the same errors as [`Form::parse`].
    pub fn parse_query(text: &str) -> Result<Self, Problem> {
        Ok(Self { ignores_case: true, ..Self::parse(text.as_bytes())? })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> + use<'_> {
        let name = name.to_owned();
        let matches = move |candidate: &str| {
            if self.ignores_case { candidate.eq_ignore_ascii_case(&name) } else { candidate == name }
        };
        self.pairs.iter().filter(move |(candidate, _)| matches(candidate)).map(|(_, value)| value.as_str())
    }

    /// Returns the text of a parameter that may appear at most once, or `None` if it is absent.
    ///
    /// # Errors
    /// Returns error code 60306 if the parameter appears more than once.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Problem::invalid(name, &Expected::new("must be sent only once"))),
        }
    }

    /// Returns the last value of a parameter that may appear several times, or `None` if it is absent. Values that
    /// count as absent ([`Parameter::is_absent`]) are skipped.
    ///
    /// # Errors
    /// Returns error code 60306 if the value cannot be parsed.
    pub fn last<T: Parameter>(&self, name: &str) -> Result<Option<T>, Problem> {
        let text = self.values(name).filter(|text| !T::is_absent(text)).last();
        text.map(T::from_parameter).transpose().map_err(|expected| Problem::invalid(name, &expected))
    }

    /// Returns the value of an optional parameter. Returns `None` if the parameter is absent or its text counts as
    /// absent ([`Parameter::is_absent`]).
    ///
    /// # Errors
    /// Returns error code 60306 if the value cannot be parsed or the parameter appears more than once.
    pub fn optional<T: Parameter>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.optional_or(name, |expected| Problem::invalid(name, expected))
    }

    /// Returns the value of an optional parameter, like [`Form::optional`]. `problem` converts the description of an
    /// invalid value into the problem to return.
    ///
    /// # Errors
    /// Returns error code 60306 if the parameter appears more than once, or the result of `problem` if the value cannot
    /// be parsed.
    pub fn optional_or<T: Parameter>(
        &self,
        name: &str,
        problem: impl Fn(&Expected) -> Problem,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(name)?.filter(|text| !T::is_absent(text));
        text.map(T::from_parameter).transpose().map_err(|expected| problem(&expected))
    }

    /// Returns the value of a required parameter.
    ///
    /// # Errors
    /// Returns error code 20001 if the parameter is missing or empty, or 60306 if the value cannot be parsed or the
    /// parameter appears more than once.
    pub fn required<T: Parameter>(&self, name: &str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| Problem::missing(name))
    }

    /// Returns all values of a parameter that may appear several times, in the order of the form. Values that count as
    /// absent are skipped, because twilio-node sends an empty list as one empty value.
    ///
    /// # Errors
    /// Returns error code 60306 if a value cannot be parsed.
    pub fn all<T: Parameter>(&self, name: &str) -> Result<Vec<T>, Problem> {
        self.values(name)
            .filter(|text| !T::is_absent(text))
            .map(|text| T::from_parameter(text).map_err(|expected| Problem::invalid(name, &expected)))
            .collect()
    }

    /// Sets `field` to the parameter's value. Leaves `field` unchanged if the parameter is absent or its text counts as
    /// absent.
    ///
    /// # Errors
    /// Returns error code 60306 if the value cannot be parsed or the parameter appears more than once.
    pub fn set<T: Parameter>(&self, name: &str, field: &mut T) -> Result<(), Problem> {
        if let Some(value) = self.optional(name)? {
            *field = value;
        }
        Ok(())
    }

    /// Sets `field` to the parameter's value, or to `None` if the value is empty. Leaves `field` unchanged if the
    /// parameter is absent.
    ///
    /// # Errors
    /// Returns error code 60306 if the value cannot be parsed or the parameter appears more than once.
    pub fn set_or_clear<T: Parameter>(&self, name: &str, field: &mut Option<T>) -> Result<(), Problem> {
        match self.text(name)? {
            None => {}
            Some("") => *field = None,
            Some(_) => *field = self.optional(name)?,
        }
        Ok(())
    }
}

/// Returns a parameter name for use in an error message: without control characters, and shortened to 64 characters.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Decodes percent-encoded text strictly. A `+` decodes to a space, because every client encodes a plus sign as `%2B`.
fn decode(text: &[u8]) -> Result<String, Expected> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high << 4 | low) as u8,
                    _ => return Err(Expected::new("must be percent-encoded correctly")),
                }
            }
            byte => *byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Expected::new("must be UTF-8"))?;
    if text.contains('\0') {
        return Err(Expected::new("must not contain NUL characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use domain::Code;
    use proptest::prelude::*;

    use super::*;

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parameters_of_android_ios_and_python_clients_are_parsed() {
        let android = form(
            "FriendlyName=My%20phone%20%26%20co&Binding.PublicKey=a%2Fb%3D%3D&Metadata=%7B%22os%22%3A%22Android%22%7D",
        );
        assert_eq!(android.text("FriendlyName"), Ok(Some("My phone & co")));
        assert_eq!(android.text("Binding.PublicKey"), Ok(Some("a/b==")));
        let ios = form(
            "Binding.PublicKey=MFkw/iRZ%2B8w==&FriendlyName=A;b!$'()*,@:?&Metadata=%7B%22os%22:%22iOS%22%7D",
        );
        assert_eq!(ios.text("Binding.PublicKey"), Ok(Some("MFkw/iRZ+8w==")));
        assert_eq!(ios.text("FriendlyName"), Ok(Some("A;b!$'()*,@:?")));
        let python = form("Message=Sign+in&Details.Fields=1&Details.Fields=2");
        assert_eq!(python.text("Message"), Ok(Some("Sign in")));
        assert_eq!(python.all::<String>("Details.Fields"), Ok(vec!["1".into(), "2".into()]));
    }

    #[test]
    fn error_for_a_malformed_form_names_the_parameter_and_the_defect() {
        let message = |text: &[u8]| Form::parse(text).unwrap_err().message().to_owned();
        assert_eq!(message(b"A=%zz"), "Invalid Request: A must be percent-encoded correctly");
        assert_eq!(message(b"A=%"), "Invalid Request: A must be percent-encoded correctly");
        assert_eq!(message(b"A=%e4"), "Invalid Request: A must be UTF-8");
        assert_eq!(message(b"A=\xff"), "Invalid Request: A must be UTF-8");
        assert_eq!(message(b"A=x%00y"), "Invalid Request: A must not contain NUL characters");
        let twice = form("A=1&A=2");
        assert_eq!(twice.text("A").unwrap_err().message(), "Invalid Request: A must be sent only once");
    }

    #[test]
    fn parameter_names_are_case_sensitive_in_bodies_but_not_in_queries() {
        assert_eq!(form("pageToken=x").text("PageToken"), Ok(None));
        assert_eq!(Form::parse_query("pageToken=x").unwrap().text("PageToken"), Ok(Some("x")));
    }

    #[test]
    fn empty_parameter_counts_as_absent_or_clears_an_optional_field() {
        let form = form("A=&B");
        assert_eq!(form.optional::<bool>("A"), Ok(None));
        assert_eq!(form.required::<bool>("B").unwrap_err().code(), Code::MissingParameter);
        let mut field = Some(true);
        form.set_or_clear("A", &mut field).unwrap();
        assert_eq!(field, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Form::parse(&bytes);
        }

        #[test]
        fn percent_encoded_value_is_decoded_unchanged(value in "[^\0]*") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let form = Form::parse(format!("A={encoded}").as_bytes()).unwrap();
            prop_assert_eq!(form.text("A"), Ok(Some(value.as_str())));
        }
    }
}
