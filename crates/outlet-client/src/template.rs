//! Texts with placeholders, such as `{"to": "{{to}}"}`. Values are escaped for the place into which they are put, so
//! that no value can end its JSON string or its form field.

use std::borrow::Cow;

use domain::Expected;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::message::Message;

/// A URL that no server has (RFC 2606 section 2). Gateways refuse a message whose URL for reports is no URL.
const NO_REPORT_URL: &str = "http://report.invalid/";

/// The characters that are escaped in queries and forms: all but the unreserved ones (RFC 3986 section 2.3).
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Declares the placeholders with their names.
macro_rules! placeholders {
    ($($(#[$doc:meta])* $placeholder:ident $name:literal;)*) => {
        /// A part of a message, or of the settings, that a template can contain.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Placeholder {
            $($(#[$doc])* $placeholder,)*
        }

        impl Placeholder {
            const ALL: &[Self] = &[$(Self::$placeholder),*];

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$placeholder => $name,)*
                }
            }
        }
    };
}

placeholders! {
    /// The recipient: a phone number with its plus sign, or a mail address.
    To "to";
    /// The sender; empty if there is none.
    From "from";
    /// The text of the message, with the code. For a call, the code is spelled.
    Body "body";
    /// The subject of a mail.
    Subject "subject";
    /// The code.
    Code "code";
    /// The instructions for a call in TwiML; empty for other channels.
    Twiml "twiml";
    /// The keys to press after a call is answered; empty if there are none.
    SendDigits "send_digits";
    /// The channel: `sms`, `call`, `email` or `whatsapp`.
    Channel "channel";
    /// The locale of the text, such as `de`.
    Locale "locale";
    /// The SID of the attempt (`VL…`), which is also the idempotency key.
    AttemptSid "attempt_sid";
    /// The name of the service, or the name that the backend gave for this message.
    Service "service";
    /// The URL for delivery reports of this message, or [`NO_REPORT_URL`] if the server has no public URL.
    ReportUrl "report_url";
    /// The secret of the outlet.
    Secret "secret";
}

/// How values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escaping {
    /// As the content of a JSON string, without its quotes.
    Json,
    /// As a part of a query or a form.
    Percent,
    /// Not at all.
    None,
}

impl Escaping {
    fn escape<'a>(self, value: &'a str) -> Cow<'a, str> {
        match self {
            Self::Json => escape_json(value).into(),
            Self::Percent => utf8_percent_encode(value, RESERVED).into(),
            Self::None => value.into(),
        }
    }
}

/// Returns a text as the content of a JSON string, without its quotes.
pub(crate) fn escape_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Value(Placeholder),
}

impl Template {
    /// Parses a template. Placeholders are names in two pairs of braces.
    ///
    /// # Errors
    /// Returns a description of the accepted values if a name is unknown or its braces are not closed.
    pub(crate) fn parse(text: &str) -> Result<Self, Expected> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(expected)?;
            let placeholder = Placeholder::ALL.iter().find(|placeholder| placeholder.name() == name.trim());
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Value(*placeholder.ok_or_else(expected)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Returns whether the template contains the placeholder.
    pub(crate) fn contains(&self, placeholder: Placeholder) -> bool {
        self.placeholders().any(|found| found == placeholder)
    }

    /// Iterates over the placeholders, as often as they occur.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(placeholder) => Some(*placeholder),
        })
    }

    /// Returns the text with the values of the placeholders.
    pub(crate) fn render<'v>(
        &self,
        escaping: Escaping,
        value_of: impl Fn(Placeholder) -> Cow<'v, str>,
    ) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(placeholder) => text.push_str(&escaping.escape(&value_of(*placeholder))),
            }
        }
        text
    }
}

fn expected() -> Expected {
    let names: Vec<_> = Placeholder::ALL.iter().map(|found| format!("{{{{{}}}}}", found.name())).collect();
    Expected::new(format!("must contain no placeholders other than {}", names.join(", ")))
}

/// The values of the placeholders.
pub(crate) struct Values<'a> {
    /// The message to send.
    pub(crate) message: &'a Message,
    /// The sender; empty if there is none.
    pub(crate) from: &'a str,
    /// The secret of the outlet; empty if there is none.
    pub(crate) secret: &'a str,
}

impl<'a> Values<'a> {
    /// Returns the value of a placeholder.
    pub(crate) fn get(&self, placeholder: Placeholder) -> Cow<'a, str> {
        let Self { message, from, secret } = *self;
        match placeholder {
            Placeholder::To => message.to.as_str().into(),
            Placeholder::From => from.into(),
            Placeholder::Body => message.text.as_str().into(),
            Placeholder::Subject => message.subject.as_str().into(),
            Placeholder::Code => message.code.expose().into(),
            Placeholder::Twiml => message.twiml.as_str().into(),
            Placeholder::SendDigits => message.send_digits.as_deref().unwrap_or_default().into(),
            Placeholder::Channel => message.channel.as_str().into(),
            Placeholder::Locale => message.locale.as_str().into(),
            Placeholder::AttemptSid => message.attempt_sid.to_string().into(),
            Placeholder::Service => message.service_name.as_str().into(),
            Placeholder::ReportUrl => message.report_url.as_deref().unwrap_or(NO_REPORT_URL).into(),
            Placeholder::Secret => secret.into(),
        }
    }
}

/// Returns a text as it is written in HTML.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::Url;
    use serde_json::json;

    use super::*;
    use crate::test_data::text_message;

    #[test]
    fn every_placeholder_has_a_value() {
        let message = Message { send_digits: Some("ww1#".to_owned()), ..text_message() };
        let values = Values { message: &message, from: "OwlBank", secret: "Secret/1" };
        let text: Vec<_> = Placeholder::ALL.iter().map(|found| format!("{{{{{}}}}}", found.name())).collect();
        let template = Template::parse(&text.join("|")).unwrap();
        assert_eq!(
            template.render(Escaping::None, |placeholder| values.get(placeholder)),
            "+4366412345678|OwlBank|Owl \"Bank\": 918273 is your code.|Your code|918273|\
             <Response><Say>9, 1, 8, 2, 7, 3</Say></Response>|ww1#|sms|en|\
             VL11111111111111111111111111111111|Owl \"Bank\"|http://report.invalid/|Secret/1"
        );
        assert!(template.contains(Placeholder::Secret) && template.placeholders().count() == text.len());
    }

    #[test]
    fn placeholders_may_have_spaces_and_lone_closing_braces_are_text() {
        let template = Template::parse(r#"{"a":{"to":"{{ to }}"}}"#).unwrap();
        assert_eq!(template.render(Escaping::Json, |_| "x".into()), r#"{"a":{"to":"x"}}"#);
        for bad in ["{{to", "{{}}", "{{To}}", "{{text}}", "{{to}} {{", "{{{to}}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn value_stays_inside_its_json_string(value in any::<String>()) {
            let template = Template::parse(r#"{"a":"{{body}}","b":"x{{body}}y"}"#).unwrap();
            let text = template.render(Escaping::Json, |_| value.as_str().into());
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parsed, json!({ "a": value, "b": format!("x{value}y") }));
        }

        #[test]
        fn value_stays_inside_its_field_of_a_query(value in any::<String>()) {
            let template = Template::parse("a={{body}}&b=x{{body}}y").unwrap();
            let text = template.render(Escaping::Percent, |_| value.as_str().into());
            let url = Url::parse(&format!("http://host/path?{text}")).unwrap();
            let pairs: Vec<_> = url.query_pairs().into_owned().collect();
            let expected = [("a".to_owned(), value.clone()), ("b".to_owned(), format!("x{value}y"))];
            prop_assert_eq!(pairs, expected);
            prop_assert_eq!((url.path(), url.fragment()), ("/path", None));
        }

        #[test]
        fn no_template_makes_the_parser_panic(text in ".{0,60}") {
            let _ = Template::parse(&text);
        }
    }
}
