//! Composition of messages with one-time codes, from the default texts or from a template of the account
//! (docs/templates.md).

mod texts;
mod twiml;

use std::borrow::Cow;
use std::fmt;

use self::texts::Texts;
use crate::locales::Locale;
use crate::problem::{Code, Problem};
use crate::recipients::Channel;
use crate::variables;
use crate::verifications::{AppHash, Payment, Substitutions};

/// Maximum number of characters of a message, except a mail.
const MAX_CHARACTERS: usize = 500;

/// Maximum number of characters of a mail. A template has fewer, but its variables can be longer than their names.
const MAX_MAIL_CHARACTERS: usize = 20_000;

/// Maximum number of bytes of a text message that Google's SMS Retriever reads.
const MAX_BYTES_WITH_APP_HASH: usize = 140;

/// What a message is made of.
#[derive(Clone, Copy)]
pub struct MessageInputs<'a> {
    /// Name of the service, or the name that the backend gave for this message.
    pub service_name: &'a str,
    /// Code of the verification.
    pub code: &'a str,
    /// Number of minutes for which the code remains valid.
    pub validity_minutes: i64,
    /// Channel through which the message is sent.
    pub channel: Channel,
    /// Requested locale of the default text, or the locale of the template's text.
    pub locale: Locale,
    /// Whether a default text of a text message ends with a warning not to share the code.
    pub do_not_share: bool,
    /// Hash of the Android app that reads the text message.
    pub app_hash: Option<&'a AppHash>,
    /// Payment that the user confirms.
    pub payment: Option<&'a Payment>,
    /// Text of a template, instead of the default text. It is not used for a payment that it does not name.
    pub template: Option<&'a str>,
    /// Values of the template's variables that this server does not know.
    pub substitutions: &'a Substitutions,
    /// URL where a call gets the instructions to say the text after a key was pressed; `None` if it says it at once.
    pub key_press_url: Option<&'a str>,
}

/// Hides the code.
impl fmt::Debug for MessageInputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageInputs({:?}, {:?})", self.channel, self.locale)
    }
}

/// A message with a one-time code.
#[derive(Clone, PartialEq, Eq)]
pub struct ComposedMessage {
    /// Text of the message, with the code. For a call, it is what the voice says, with the code spelled.
    pub text: String,
    /// Subject of a mail; empty for other channels.
    pub subject: String,
    /// Instructions for a call in TwiML; empty for other channels.
    pub twiml: String,
    /// Locale of the text. It differs from the requested one if no default text is installed for that.
    pub locale_used: Locale,
}

/// Hides the code.
impl fmt::Debug for ComposedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComposedMessage({} bytes, {:?})", self.text.len(), self.locale_used)
    }
}

/// Composes the message with a code.
///
/// # Errors
/// Returns error code 60224 if a variable of the template has no value, and 60247 if the message is too long for its
/// channel, or for an app that reads it.
pub fn compose(inputs: &MessageInputs<'_>) -> Result<ComposedMessage, Problem> {
    let (texts, locale_of_texts) = texts::nearest(inputs.locale);
    let template = inputs.template.filter(|text| inputs.payment.is_none() || names_payment(text));
    let locale_used = if template.is_some() { inputs.locale } else { locale_of_texts };
    let template = template.map_or_else(|| default_template(texts, inputs), Cow::Borrowed);
    let values = Values::new(inputs, texts)?;
    let mut text = variables::expand(&template, |name| values.get(name, inputs.code))?;
    require_length(&text, inputs.channel)?;
    let (mut subject, mut twiml) = (String::new(), String::new());
    match inputs.channel {
        Channel::Sms => {
            if let Some(hash) = inputs.app_hash {
                text = for_app(&text, hash)?;
            }
        }
        Channel::Email => subject = variables::expand(texts.subject, |name| values.get(name, inputs.code))?,
        Channel::Call => {
            let spelled = twiml::spell(inputs.code);
            text = variables::expand(&template, |name| values.get(name, &spelled))?;
            twiml = match inputs.key_press_url {
                Some(url) => {
                    let prompt = variables::expand(texts.key_prompt, |name| values.get(name, &spelled))?;
                    twiml::ask_for_key(&prompt, locale_of_texts, url)
                }
                None => twiml::say_twice(&text, locale_used),
            };
        }
        Channel::Whatsapp => {}
    }
    Ok(ComposedMessage { text, subject, twiml, locale_used })
}

/// Returns the instructions in TwiML that end a call which has nothing to say.
pub fn hang_up() -> String {
    twiml::hang_up()
}

/// Returns whether a template names the amount and the payee of a payment, as strong customer authentication requires.
pub fn names_payment(template: &str) -> bool {
    ["amount", "payee"].into_iter().all(|wanted| variables::names(template).any(|name| name == wanted))
}

/// Returns the default text of the message, with its variables.
fn default_template(texts: &Texts, inputs: &MessageInputs<'_>) -> Cow<'static, str> {
    let message = message_of(texts, inputs);
    match inputs.channel {
        Channel::Sms if inputs.do_not_share => format!("{message} {}", texts.warning).into(),
        Channel::Email => format!("{message}\n\n{}", texts.mail_end).into(),
        Channel::Call if inputs.payment.is_none() => texts.call.into(),
        Channel::Sms | Channel::Whatsapp | Channel::Call => message.into(),
    }
}

/// Returns the default sentence with the code, with its variables.
const fn message_of(texts: &Texts, inputs: &MessageInputs<'_>) -> &'static str {
    if inputs.payment.is_some() { texts.payment } else { texts.message }
}

/// The values of the variables of a message.
struct Values<'a> {
    inputs: &'a MessageInputs<'a>,
    ttl: String,
    mail: Option<MailValues>,
}

/// The values of the variables that only mails have.
struct MailValues {
    message: String,
    introduction: String,
}

impl<'a> Values<'a> {
    fn new(inputs: &'a MessageInputs<'a>, texts: &Texts) -> Result<Self, Problem> {
        let mut values = Self { inputs, ttl: inputs.validity_minutes.to_string(), mail: None };
        if inputs.channel == Channel::Email {
            let introduction =
                if inputs.payment.is_some() { texts.payment_introduction } else { texts.introduction };
            let expand = |text| variables::expand(text, |name| values.get(name, inputs.code));
            let mail = MailValues {
                message: expand(message_of(texts, inputs))?,
                introduction: expand(introduction)?,
            };
            values.mail = Some(mail);
        }
        Ok(values)
    }

    /// Returns the value of a variable, or `None` if it has none. `code` is the code in the form that the message
    /// contains.
    fn get<'s>(&'s self, name: &str, code: &'s str) -> Option<&'s str> {
        let own = match name {
            "friendly_name" => Some(self.inputs.service_name),
            "code" => Some(code),
            "ttl" => Some(self.ttl.as_str()),
            "amount" => self.inputs.payment.map(|payment| payment.amount.as_str()),
            "payee" => self.inputs.payment.map(|payment| payment.payee.as_str()),
            "twilio_code" => self.mail.as_ref().map(|_| code),
            "twilio_message" => self.mail.as_ref().map(|mail| mail.message.as_str()),
            "twilio_message_without_code" => self.mail.as_ref().map(|mail| mail.introduction.as_str()),
            _ => None,
        };
        own.or_else(|| self.inputs.substitutions.get(name))
    }
}

/// Checks that a message is not too long for its channel.
fn require_length(text: &str, channel: Channel) -> Result<(), Problem> {
    let length = text.chars().count();
    match channel {
        Channel::Email if length > MAX_MAIL_CHARACTERS => {
            let message = format!("The mail is longer than {MAX_MAIL_CHARACTERS} characters");
            Err(Problem::with_message(Code::MessageTooLong, message))
        }
        Channel::Sms | Channel::Call | Channel::Whatsapp if length > MAX_CHARACTERS => {
            Err(Code::MessageTooLong.into())
        }
        _ => Ok(()),
    }
}

/// Returns a text message in the form in which an Android app reads it (Google's SMS Retriever).
fn for_app(text: &str, hash: &AppHash) -> Result<String, Problem> {
    let text = format!("<#> {text}\n{}", hash.as_str());
    if text.len() <= MAX_BYTES_WITH_APP_HASH {
        return Ok(text);
    }
    let message = format!("The message with AppHash is longer than {MAX_BYTES_WITH_APP_HASH} bytes");
    Err(Problem::with_message(Code::MessageTooLong, message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parameter::Parameter as _;
    use crate::templates::TemplateBody;
    use crate::text::Text;

    const CODE: &str = "012345";

    fn substitutions(json: &str) -> Substitutions {
        Substitutions::from_parameter(json).unwrap()
    }

    fn inputs<'a>(channel: Channel, tag: &str, substitutions: &'a Substitutions) -> MessageInputs<'a> {
        MessageInputs {
            service_name: "Owl Bank",
            code: CODE,
            validity_minutes: 10,
            channel,
            locale: Locale::from_tag(tag).unwrap(),
            do_not_share: false,
            app_hash: None,
            payment: None,
            template: None,
            substitutions,
            key_press_url: None,
        }
    }

    fn payment() -> Payment {
        let text = |text: &str| text.to_owned();
        Payment {
            amount: Text::from_stored(text("€ 9.50")), payee: Text::from_stored(text("Shop {{code}}"))
        }
    }

    /// Returns a code as a message through `channel` shows it.
    fn shown(code: &str, channel: Channel) -> String {
        match channel {
            Channel::Call => twiml::spell(code),
            Channel::Sms | Channel::Email | Channel::Whatsapp => code.to_owned(),
        }
    }

    #[test]
    fn text_message_names_the_service_and_the_code() {
        let none = Substitutions::default();
        let german = inputs(Channel::Sms, "de", &none);
        let message = compose(&german).unwrap();
        assert_eq!(message.text, "Owl Bank: 012345 ist Ihr Code.");
        assert_eq!((message.subject.as_str(), message.twiml.as_str()), ("", ""));
        assert_eq!(message.locale_used.as_str(), "de");
        let warning = compose(&MessageInputs { do_not_share: true, ..german }).unwrap();
        assert_eq!(warning.text, "Owl Bank: 012345 ist Ihr Code. Geben Sie ihn an niemanden weiter.");
        let elsewhere = MessageInputs { do_not_share: true, channel: Channel::Whatsapp, ..german };
        assert_eq!(compose(&elsewhere).unwrap().text, message.text);
    }

    #[test]
    fn text_of_a_payment_names_amount_and_payee() {
        let (none, payment) = (Substitutions::default(), payment());
        for locale in Locale::all() {
            for channel in Channel::ALL {
                let inputs =
                    MessageInputs { payment: Some(&payment), ..inputs(channel, locale.as_str(), &none) };
                let text = compose(&inputs).unwrap().text;
                for part in ["Owl Bank", &shown(CODE, channel), "€ 9.50", "Shop {{code}}"] {
                    assert!(text.contains(part), "{locale} {channel:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn template_is_used_for_a_payment_only_if_it_names_it() {
        let (none, payment) = (Substitutions::default(), payment());
        let text = |template| {
            let inputs = MessageInputs {
                payment: Some(&payment),
                template: Some(template),
                ..inputs(Channel::Sms, "tr", &none)
            };
            let message = compose(&inputs).unwrap();
            (message.text, message.locale_used.as_str())
        };
        assert_eq!(text("{{code}} {{amount}} {{payee}}"), ("012345 € 9.50 Shop {{code}}".to_owned(), "tr"));
        let default = "Owl Bank: 012345 is your code to pay € 9.50 to Shop {{code}}.".to_owned();
        assert_eq!(text("{{code}} {{amount}}"), (default, "en"));
    }

    #[test]
    fn unknown_language_falls_back_to_english() {
        let none = Substitutions::default();
        let message = compose(&inputs(Channel::Sms, "ja", &none)).unwrap();
        assert_eq!(
            (message.text.as_str(), message.locale_used),
            ("Owl Bank: 012345 is your code.", Locale::ENGLISH)
        );
    }

    #[test]
    fn variables_of_a_template_are_filled() {
        let values = substitutions(r#"{"user":"Ann {{ttl}}","code":"999999","amount":"7"}"#);
        let template = "{{user}}, {{code}} logs you in to {{friendly_name}} for {{ttl}} min. {{amount}}";
        let inputs = MessageInputs {
            template: Some(template),
            do_not_share: true,
            ..inputs(Channel::Sms, "en", &values)
        };
        let text = compose(&inputs).unwrap().text;
        assert_eq!(text, "Ann {{ttl}}, 012345 logs you in to Owl Bank for 10 min. 7");
        for unknown in ["{{code}} {{name}}", "{{code}} {{payee}}", "{{code}} {{twilio_message}}"] {
            let problem = compose(&MessageInputs { template: Some(unknown), ..inputs }).unwrap_err();
            assert_eq!(problem.code(), Code::MissingSubstitution, "{unknown}");
        }
    }

    #[test]
    fn mail_has_a_subject_and_variables_of_its_own() {
        let none = Substitutions::default();
        let mail = inputs(Channel::Email, "en", &none);
        let message = compose(&mail).unwrap();
        assert_eq!(message.subject, "Your code for Owl Bank");
        assert!(
            message.text.starts_with("Owl Bank: 012345 is your code.\n\nIt is valid for 10 min."),
            "{}",
            message.text
        );
        let template = "{{twilio_message_without_code}}\n{{twilio_code}}\n{{twilio_message}}";
        let message = compose(&MessageInputs { template: Some(template), ..mail }).unwrap();
        assert_eq!(message.text, "Your code for Owl Bank:\n012345\nOwl Bank: 012345 is your code.");
    }

    #[test]
    fn call_reads_the_code_twice_digit_by_digit() {
        let none = Substitutions::default();
        let call = MessageInputs { service_name: "Owl & Co", ..inputs(Channel::Call, "fr", &none) };
        let message = compose(&call).unwrap();
        assert_eq!(message.text, "Bonjour. Votre code Owl & Co est : 0, 1, 2, 3, 4, 5.");
        let sentence =
            "<Say language=\"fr-FR\">Bonjour. Votre code Owl &amp; Co est : 0, 1, 2, 3, 4, 5.</Say>";
        assert_eq!(message.twiml.matches(sentence).count(), 2, "{}", message.twiml);
        let spoken = compose(&MessageInputs { template: Some("{{code}}!"), ..call }).unwrap();
        assert_eq!(spoken.twiml.matches(">0, 1, 2, 3, 4, 5!<").count(), 2, "{}", spoken.twiml);
    }

    #[test]
    fn call_that_waits_for_a_key_does_not_contain_the_code() {
        let none = Substitutions::default();
        let url = Some("https://verify.example.com/a?b=c&d");
        let call = MessageInputs {
            service_name: "Owl & Co",
            key_press_url: url,
            template: Some("{{code}}!"),
            ..inputs(Channel::Call, "tr", &none)
        };
        let message = compose(&call).unwrap();
        let prompt =
            "<Say language=\"en-US\">Hello. This is Owl &amp; Co. Press any key to hear your code.</Say>";
        assert_eq!(message.twiml.matches(prompt).count(), 2, "{}", message.twiml);
        assert!(
            message.twiml.contains("action=\"https://verify.example.com/a?b=c&amp;d\""),
            "{}",
            message.twiml
        );
        assert!(!message.twiml.contains("0, 1") && !message.twiml.contains(CODE), "{}", message.twiml);
        assert_eq!(message.text, "0, 1, 2, 3, 4, 5!");
    }

    #[test]
    fn app_hash_surrounds_a_short_text_message() {
        let none = Substitutions::default();
        let hash = AppHash::from_parameter("He42w354ol9").unwrap();
        let sms = MessageInputs { app_hash: Some(&hash), ..inputs(Channel::Sms, "en", &none) };
        assert_eq!(compose(&sms).unwrap().text, "<#> Owl Bank: 012345 is your code.\nHe42w354ol9");
        // Besides the name, the message has 38 bytes.
        for (bytes, is_short) in [(102, true), (103, false)] {
            let name = "x".repeat(bytes);
            let composed = compose(&MessageInputs { service_name: &name, ..sms });
            assert_eq!(composed.map(|message| message.text.len()).ok(), is_short.then_some(140));
        }
    }

    #[test]
    fn message_of_more_than_500_characters_is_refused() {
        let none = Substitutions::default();
        let long = |channel, length: usize| {
            let template = format!("{{{{code}}}}{}", "ü".repeat(length - 6));
            let composed =
                compose(&MessageInputs { template: Some(&template), ..inputs(channel, "en", &none) });
            composed.map(|message| message.text.chars().count()).map_err(|problem| problem.code())
        };
        for channel in [Channel::Sms, Channel::Call, Channel::Whatsapp] {
            // Spelling the code does not count.
            let spelling = if channel == Channel::Call { 10 } else { 0 };
            assert_eq!(long(channel, 500), Ok(500 + spelling));
            assert_eq!(long(channel, 501), Err(Code::MessageTooLong));
        }
        assert_eq!(long(Channel::Email, 20_000), Ok(20_000));
        assert_eq!(long(Channel::Email, 20_001), Err(Code::MessageTooLong));
    }

    #[test]
    fn debug_output_of_a_message_hides_the_code() {
        let none = Substitutions::default();
        let inputs = inputs(Channel::Sms, "en", &none);
        let debug = format!("{inputs:?} {:?}", compose(&inputs).unwrap());
        assert!(!debug.contains(CODE), "{debug}");
    }

    fn locales() -> impl Strategy<Value = Locale> {
        proptest::sample::select(Locale::all().collect::<Vec<_>>())
    }

    fn channels() -> impl Strategy<Value = Channel> {
        proptest::sample::select(Channel::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn any_inputs_are_composed_or_refused_without_a_panic(
            service_name in ".*",
            code in ".*",
            validity_minutes: i64,
            channel in channels(),
            locale in locales(),
            do_not_share: bool,
            hash in proptest::option::of("[A-Za-z0-9+/]{11}"),
            payment in proptest::option::of((".*", ".*")),
            template in proptest::option::of("([{}a ü]|\\{\\{code\\}\\}|\\{\\{a\\}\\}|.)*"),
            value in "[^\\p{Cc}]{0,99}",
            key_press_url in proptest::option::of(".*"),
        ) {
            let app_hash = hash.map(|hash| AppHash::from_parameter(&hash).unwrap());
            let payment = payment.map(|(amount, payee)| Payment {
                amount: Text::from_stored(amount),
                payee: Text::from_stored(payee),
            });
            let values = substitutions(&serde_json::json!({ "a": value }).to_string());
            let composed = compose(&MessageInputs {
                service_name: &service_name,
                code: &code,
                validity_minutes,
                channel,
                locale,
                do_not_share,
                app_hash: app_hash.as_ref(),
                payment: payment.as_ref(),
                template: template.as_deref(),
                substitutions: &values,
                key_press_url: key_press_url.as_deref(),
            });
            if let (Ok(message), None) = (composed, template) {
                prop_assert!(message.text.contains(&shown(&code, channel)));
                prop_assert!(message.text.contains(&service_name));
            }
        }

        #[test]
        fn code_occurs_in_the_text_of_every_permitted_template(
            channel in channels(),
            locale in locales(),
            template in "([a-z {}]|\\{\\{(code|twilio_code|twilio_message|ttl|friendly_name)\\}\\}){0,20}",
        ) {
            if TemplateBody::parse(&template, &[channel]).is_ok() {
                let none = Substitutions::default();
                let inputs = MessageInputs { template: Some(&template), ..inputs(channel, locale.as_str(), &none) };
                if let Ok(message) = compose(&inputs) {
                    prop_assert!(message.text.contains(&shown(CODE, channel)), "{}", message.text);
                    prop_assert_eq!(message.locale_used, locale);
                }
            }
        }

        #[test]
        fn substitutions_are_never_expanded(value in "[{}a-z_]{0,40}", other in "\\{\\{(code|a|ttl)\\}\\}") {
            let values = substitutions(&serde_json::json!({ "a": value, "b": other }).to_string());
            let template = Some("{{a}}|{{code}}|{{b}}");
            let inputs = MessageInputs { template, ..inputs(Channel::Sms, "en", &values) };
            prop_assert_eq!(compose(&inputs).unwrap().text, format!("{value}|{CODE}|{other}"));
        }
    }
}
