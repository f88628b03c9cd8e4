//! Parameters, as forms and queries carry them.
//!
//! Parsed strictly and by hand rather than with a form deserializer: those let broken percent-encoding
//! and UTF-8 pass, and can't name the parameter in their errors. What the SDKs send in their own ways is accepted (docs/protocol/device.md, section 3): a pair is
//! split at its *first* `=`, since iOS leaves the padding of base64 as it is; `;` separates nothing;
//! parameters that nobody asks for are ignored, since an `&` inside an iOS friendly name makes one.

use domain::Problem;
use domain::parameter::{Expected, Parameter};

/// The parameters of one request, decoded.
#[derive(Debug, Default)]
pub struct Form {
    pairs: Vec<(String, String)>,
    /// Whether `pageToken` finds `PageToken`: in queries, for the iOS SDK (docs/protocol/device.md, section 6).
    any_case: bool,
}

impl Form {
    /// Decodes `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    /// 60306 for broken percent-encoding, for what is not UTF-8, and for NUL characters, with the
    /// parameter's name.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            let name = decode(name).map_err(|expected| Problem::invalid("parameter names", &expected))?;
            let value = decode(value).map_err(|expected| Problem::invalid(&shown(&name), &expected))?;
            Ok((name, value))
        });
        Ok(Self { pairs: pairs.collect::<Result<_, Problem>>()?, any_case: false })
    }

    /// Decodes the query of an address. Its names are found in any case.
    ///
    /// # Errors
    /// Those of [`Form::parse`].
    pub fn parse_query(text: &str) -> Result<Self, Problem> {
        Ok(Self { any_case: true, ..Self::parse(text.as_bytes())? })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> + use<'_> {
        let name = name.to_owned();
        let is = move |candidate: &str| {
            if self.any_case { candidate.eq_ignore_ascii_case(&name) } else { candidate == name }
        };
        self.pairs.iter().filter(move |(candidate, _)| is(candidate)).map(|(_, value)| value.as_str())
    }

    /// The text of a parameter that can be given once; `None` if it wasn't.
    ///
    /// # Errors
    /// 60306 when it was given more than once.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Problem::invalid(name, &Expected::new("must be sent only once"))),
        }
    }

    /// A parameter of which the last one counts, however often it was given. Those that count as absent don't.
    ///
    /// # Errors
    /// 60306 when it can't be parsed.
    pub fn last<T: Parameter>(&self, name: &str) -> Result<Option<T>, Problem> {
        let text = self.values(name).filter(|text| !T::is_absent(text)).last();
        text.map(T::from_parameter).transpose().map_err(|expected| Problem::invalid(name, &expected))
    }

    /// A parameter that may be absent, or sent with a text that counts as absent ([`Parameter::is_absent`]).
    ///
    /// # Errors
    /// 60306 when it can't be parsed.
    pub fn optional<T: Parameter>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.optional_or(name, |expected| Problem::invalid(name, expected))
    }

    /// A parameter that may be absent, with its own words for what can't be parsed.
    ///
    /// # Errors
    /// What `problem` makes of it.
    pub fn optional_or<T: Parameter>(
        &self,
        name: &str,
        problem: impl Fn(&Expected) -> Problem,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(name)?.filter(|text| !T::is_absent(text));
        text.map(T::from_parameter).transpose().map_err(|expected| problem(&expected))
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// 20001 when it isn't, or is empty; 60306 when it can't be parsed.
    pub fn required<T: Parameter>(&self, name: &str) -> Result<T, Problem> {
        self.optional(name)?.ok_or_else(|| Problem::missing(name))
    }

    /// A parameter that can be given several times, in order. Those that count as absent are left out: an empty list
    /// is sent as one empty value by twilio-node.
    ///
    /// # Errors
    /// 60306 when one can't be parsed.
    pub fn all<T: Parameter>(&self, name: &str) -> Result<Vec<T>, Problem> {
        self.values(name)
            .filter(|text| !T::is_absent(text))
            .map(|text| T::from_parameter(text).map_err(|expected| Problem::invalid(name, &expected)))
            .collect()
    }

    /// Sets `field` if the parameter was given.
    ///
    /// # Errors
    /// 60306 when it can't be parsed.
    pub fn set<T: Parameter>(&self, name: &str, field: &mut T) -> Result<(), Problem> {
        if let Some(value) = self.optional(name)? {
            *field = value;
        }
        Ok(())
    }

    /// Sets `field` if the parameter was given, and clears it if it was given empty.
    ///
    /// # Errors
    /// 60306 when it can't be parsed.
    pub fn set_or_clear<T: Parameter>(&self, name: &str, field: &mut Option<T>) -> Result<(), Problem> {
        match self.text(name)? {
            None => {}
            Some("") => *field = None,
            Some(_) => *field = self.optional(name)?,
        }
        Ok(())
    }
}

/// Limits what of a caller's own words comes back to them in an error.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Undoes percent-encoding, strictly. `+` is a space: no client leaves one as it is.
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
    fn reads_what_both_platforms_send() {
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
    fn names_what_is_wrong() {
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
    fn names_have_case_in_bodies_only() {
        assert_eq!(form("pageToken=x").text("PageToken"), Ok(None));
        assert_eq!(Form::parse_query("pageToken=x").unwrap().text("PageToken"), Ok(Some("x")));
    }

    #[test]
    fn empty_is_absent_unless_it_clears() {
        let form = form("A=&B");
        assert_eq!(form.optional::<bool>("A"), Ok(None));
        assert_eq!(form.required::<bool>("B").unwrap_err().code(), Code::MissingParameter);
        let mut field = Some(true);
        form.set_or_clear("A", &mut field).unwrap();
        assert_eq!(field, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Form::parse(&bytes);
        }

        #[test]
        fn what_is_encoded_comes_back(value in "[^\0]*") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let form = Form::parse(format!("A={encoded}").as_bytes()).unwrap();
            prop_assert_eq!(form.text("A"), Ok(Some(value.as_str())));
        }
    }
}
