//! Templates: texts of an account's own for messages with one-time codes, in one or more languages (docs/templates.md).

use std::fmt;

use serde::Deserialize;

use crate::locales::Locale;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::recipients::Channel;
use crate::sids::{AccountSid, TemplateSid};
use crate::text::FriendlyName;
use crate::time::Timestamp;
use crate::variables;
use crate::verifications::Substitutions;

/// Maximum number of templates of an account.
const MAX_TEMPLATES: i64 = 100;

/// Maximum number of characters of the text of a template.
const MAX_CHARACTERS: usize = 500;

/// Maximum number of characters of the text of a template for mail.
const MAX_MAIL_CHARACTERS: usize = 4000;

/// Maximum number of templates among which a message is composed from the first that can be used.
const MAX_CHOICES: usize = 10;

/// Checks that an account with this number of templates may get another one.
///
/// # Errors
/// Returns error code 60306 if the account has the maximum number of templates.
pub fn require_template_capacity(templates: i64) -> Result<(), Problem> {
    if templates < MAX_TEMPLATES {
        return Ok(());
    }
    let advice = format!("the account has {MAX_TEMPLATES} templates, the maximum; delete a template first");
    Err(Problem::with_advice(Code::InvalidRequest, advice))
}

/// A template as it is stored.
#[derive(Clone, Debug)]
pub struct Template {
    /// SID of the template (`HJ…`).
    pub sid: TemplateSid,
    /// Account that owns the template.
    pub account_sid: AccountSid,
    /// Display name of the template.
    pub friendly_name: FriendlyName,
    /// Channels for which the template is.
    pub channels: TemplateChannels,
    /// Translations of the template, sorted by locale. Exactly one is the default.
    pub translations: Vec<Translation>,
    /// Creation time of the template.
    pub created_at: Timestamp,
    /// Time of the last change to the template or a translation.
    pub updated_at: Timestamp,
}

impl Listed for Template {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// The text of a template in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Locale of the text.
    pub locale: Locale,
    /// Whether the text is used for locales without a translation.
    pub is_default: bool,
    /// Text with variables.
    pub text: TemplateBody,
    /// Creation time of the translation.
    pub created_at: Timestamp,
    /// Time of the last change to the translation.
    pub updated_at: Timestamp,
}

impl Template {
    /// Iterates over the texts for a message through `channel` with their locales, best first. For each of the wanted
    /// locales, these are its translation and those of its language. The default translation is last. A text may occur
    /// twice. If the template is not for `channel`, there are no texts.
    pub fn texts_for(&self, channel: Channel, wanted: &[Locale]) -> impl Iterator<Item = (&str, Locale)> {
        let has_channel = self.channels.contains(channel);
        let of_locale = move |locale: Locale| {
            let related = self.translations.iter().filter(move |found| found.locale.is_related_to(locale));
            self.translation(locale).into_iter().chain(related)
        };
        let default = self.translations.iter().filter(|translation| translation.is_default);
        let found = wanted.iter().copied().flat_map(of_locale).chain(default);
        found.filter(move |_| has_channel).map(|found| (found.text.as_str(), found.locale))
    }

    /// Returns the translation for a locale, or `None` if there is none.
    pub fn translation(&self, locale: Locale) -> Option<&Translation> {
        self.translations.iter().find(|translation| translation.locale == locale)
    }

    /// Checks that a translation for `locale` can be added, or that one can be replaced if `replace` is set.
    ///
    /// # Errors
    /// Returns error code 60306 if the template has a translation that must not be replaced.
    pub fn require_settable(&self, locale: Locale, replace: bool) -> Result<(), Problem> {
        if replace || self.translation(locale).is_none() {
            return Ok(());
        }
        let advice =
            format!("the template already has a translation for {locale}; replace it with --replace");
        Err(Problem::with_advice(Code::InvalidRequest, advice))
    }

    /// Checks that the translation for `locale` can be removed.
    ///
    /// # Errors
    /// Returns error code 60229 if there is no such translation, and 60306 if it is the default one.
    pub fn require_removable(&self, locale: Locale) -> Result<(), Problem> {
        match self.translation(locale) {
            None => Err(Problem::with_advice(Code::LocaleNotFound, locale)),
            Some(translation) if translation.is_default => {
                let advice = format!("{locale} is the default translation, which can only be replaced");
                Err(Problem::with_advice(Code::InvalidRequest, advice))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The channels of a template, without duplicates: either mail alone, or any others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChannels(Vec<Channel>);

impl TemplateChannels {
    /// Returns the channels.
    pub fn as_slice(&self) -> &[Channel] {
        &self.0
    }

    /// Wraps channels from the database without validation. They were validated before they were stored.
    pub const fn from_stored(channels: Vec<Channel>) -> Self {
        Self(channels)
    }

    /// Returns whether a channel is among these.
    pub fn contains(&self, channel: Channel) -> bool {
        self.0.contains(&channel)
    }

    /// Returns the names of the channels in the API.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().copied().map(channel_name).collect()
    }
}

/// Returns the name of a channel in the API of templates, which calls a call `voice`.
const fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Call => "voice",
        channel => channel.as_str(),
    }
}

/// Parses names that are separated by commas.
impl Parameter for TemplateChannels {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let mut channels = Vec::new();
        for name in text.split(',').map(str::trim) {
            let found = Channel::ALL.into_iter().find(|channel| channel_name(*channel) == name);
            let channel = found
                .ok_or_else(|| Expected::new("must be a list of sms, voice and whatsapp, or email alone"))?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        if channels.len() > 1 && channels.contains(&Channel::Email) {
            return Err(Expected::new("must not contain email together with other channels"));
        }
        Ok(Self(channels))
    }
}

/// The text of a translation: at most 500 characters, for mail 4000, with a variable for the code. Lines end with `\n`.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateBody(String);

impl TemplateBody {
    /// Parses the text of a translation for messages through `channels`. Line ends are unified, and white space at the
    /// end is removed.
    ///
    /// # Errors
    /// Returns a description of the permitted texts if the text is empty or too long, contains control characters, or
    /// lacks the code.
    pub fn parse(text: &str, channels: &[Channel]) -> Result<Self, Expected> {
        let is_mail = channels.contains(&Channel::Email);
        let text = text.replace("\r\n", "\n");
        let text = text.trim_end();
        let maximum = if is_mail { MAX_MAIL_CHARACTERS } else { MAX_CHARACTERS };
        if !(1..=maximum).contains(&text.chars().count()) {
            return Err(Expected::new(format!("must have 1 to {maximum} characters")));
        }
        if text.chars().any(|letter| letter.is_control() && letter != '\n') {
            return Err(Expected::new("must not contain control characters"));
        }
        let is_code =
            |name: &str| name == "code" || is_mail && matches!(name, "twilio_code" | "twilio_message");
        if variables::names(text).any(is_code) {
            Ok(Self(text.to_owned()))
        } else if is_mail {
            Err(Expected::new("must contain {{code}}, {{twilio_code}} or {{twilio_message}}"))
        } else {
            Err(Expected::new("must contain {{code}}"))
        }
    }

    /// Wraps a text from the database without validation. It was validated before it was stored.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TemplateBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateBody({} bytes)", self.0.len())
    }
}

/// A template that a backend prefers for a message, with the values of its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoice {
    /// SID of the template.
    pub sid: TemplateSid,
    /// Values of the template's variables.
    pub substitutions: Substitutions,
}

/// The parameter `Templates`: 1 to 10 templates, of which the first one that can be used is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoices(Vec<TemplateChoice>);

impl TemplateChoices {
    /// Returns the templates, the preferred one first.
    pub fn as_slice(&self) -> &[TemplateChoice] {
        &self.0
    }
}

/// An entry of the parameter `Templates`.
#[derive(Deserialize)]
struct Entry {
    sid: TemplateSid,
    #[serde(default)]
    substitutions: serde_json::Value,
}

impl Parameter for TemplateChoices {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be a JSON array of 1 to 10 objects with sid and substitutions");
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| expected())?;
        if !(1..=MAX_CHOICES).contains(&entries.len()) {
            return Err(expected());
        }
        let choice = |entry: Entry| {
            let values = entry.substitutions.to_string();
            let substitutions = match Substitutions::is_absent(&values) {
                true => Substitutions::default(),
                false => Substitutions::from_parameter(&values)?,
            };
            Ok(TemplateChoice { sid: entry.sid, substitutions })
        };
        entries.into_iter().map(choice).collect::<Result<_, _>>().map(Self)
    }

    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::Text;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
    const SID: &str = "HJ019b76daa8007b6f0d0a5c3e91d2f4a8";

    fn template(channels: &str) -> Template {
        let translation = |tag, is_default| Translation {
            locale: Locale::from_tag(tag).unwrap(),
            is_default,
            text: TemplateBody::from_stored(format!("{{{{code}}}} {tag}")),
            created_at: NOW,
            updated_at: NOW,
        };
        Template {
            sid: SID.parse().unwrap(),
            account_sid: "AC019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            friendly_name: Text::from_stored("Login".to_owned()),
            channels: TemplateChannels::from_parameter(channels).unwrap(),
            translations: vec![translation("de", false), translation("pt", false), translation("tr", true)],
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn text_is_the_translation_of_a_wanted_locale_or_its_language_or_the_default_one() {
        let template = template("sms, voice");
        let texts = |channel, tags: &[&str]| {
            let wanted: Vec<_> = tags.iter().map(|tag| Locale::from_tag(tag).unwrap()).collect();
            let texts = template.texts_for(channel, &wanted);
            texts.map(|(text, locale)| (text.to_owned(), locale.as_str())).collect::<Vec<_>>()
        };
        let first = |tags| texts(Channel::Sms, tags)[0].clone();
        let text = |tag| (format!("{{{{code}}}} {tag}"), tag);
        for (wanted, expected) in [
            (&["de"][..], "de"),
            (&["tr"], "tr"),
            (&["pt-BR"], "pt"),
            (&["fr"], "tr"),
            (&["fr", "pt-BR", "de"], "pt"),
            (&[], "tr"),
        ] {
            assert_eq!(first(wanted), text(expected), "{wanted:?}");
        }
        assert_eq!(texts(Channel::Call, &["pt-BR", "de"]).last(), Some(&text("tr")));
        for channel in [Channel::Email, Channel::Whatsapp] {
            assert_eq!(texts(channel, &["en"]), []);
        }
        let empty = Template { translations: Vec::new(), ..template };
        assert_eq!(empty.texts_for(Channel::Sms, &[Locale::ENGLISH]).count(), 0);
    }

    #[test]
    fn translation_is_replaced_only_on_request_and_the_default_one_is_never_removed() {
        let template = template("sms");
        let [de, tr, fr] = ["de", "tr", "fr"].map(|tag| Locale::from_tag(tag).unwrap());
        let code = |result: Result<(), Problem>| result.map_err(|problem| problem.code());
        assert_eq!(code(template.require_settable(fr, false)), Ok(()));
        assert_eq!(code(template.require_settable(de, false)), Err(Code::InvalidRequest));
        assert_eq!(code(template.require_settable(de, true)), Ok(()));
        assert_eq!(code(template.require_removable(de)), Ok(()));
        assert_eq!(code(template.require_removable(tr)), Err(Code::InvalidRequest));
        assert_eq!(code(template.require_removable(fr)), Err(Code::LocaleNotFound));
    }

    #[test]
    fn account_has_at_most_100_templates() {
        assert_eq!(require_template_capacity(99), Ok(()));
        assert_eq!(require_template_capacity(100).unwrap_err().code(), Code::InvalidRequest);
    }

    #[test]
    fn channels_are_mail_alone_or_any_others() {
        for (text, names) in [
            ("sms", vec!["sms"]),
            ("voice, sms,voice", vec!["voice", "sms"]),
            ("email", vec!["email"]),
            ("whatsapp,sms", vec!["whatsapp", "sms"]),
        ] {
            assert_eq!(TemplateChannels::from_parameter(text).unwrap().names(), names);
        }
        for bad in ["", "call", "SMS", "sms,", "email,sms", "sna"] {
            assert!(TemplateChannels::from_parameter(bad).is_err(), "{bad}");
        }
        assert_eq!(TemplateChannels::from_parameter("voice").unwrap().as_slice(), [Channel::Call]);
    }

    #[test]
    fn text_of_a_template_must_contain_the_code() {
        let parse = |text: &str, channel| TemplateBody::parse(text, &[channel]).map(|body| body.0);
        assert_eq!(
            parse("{{ code }}\r\nfor {{user}}\n\n", Channel::Sms),
            Ok("{{ code }}\nfor {{user}}".to_owned())
        );
        for text in ["", " ", "code", "{code}", "{{user}}", "{{twilio_code}}", "{{code}}\u{7}", "{{code}}\rx"]
        {
            assert!(parse(text, Channel::Sms).is_err(), "{text}");
        }
        for text in ["{{code}}", "{{twilio_code}}", "{{twilio_message}}"] {
            assert!(parse(text, Channel::Email).is_ok(), "{text}");
        }
        assert!(parse("{{twilio_message_without_code}}", Channel::Email).is_err());
        let body = TemplateBody::parse("{{code}} {{user}} {{code}}", &[Channel::Sms]).unwrap();
        assert!(!format!("{body:?}").contains("user"));
    }

    #[test]
    fn text_of_a_template_has_at_most_500_characters_and_for_mail_4000() {
        let of = |length: usize| format!("{{{{code}}}}{}", "ü".repeat(length - 8));
        for (channel, maximum) in [(Channel::Sms, 500), (Channel::Call, 500), (Channel::Email, 4000)] {
            assert!(TemplateBody::parse(&of(maximum), &[channel]).is_ok());
            assert!(TemplateBody::parse(&of(maximum + 1), &[channel]).is_err());
        }
    }

    #[test]
    fn choices_are_1_to_10_templates_with_their_substitutions() {
        let parse = |text: &str| TemplateChoices::from_parameter(text);
        let one = format!(r#"{{"sid":"{SID}"}}"#);
        let with_values = format!(r#"{{"sid":"{SID}","substitutions":{{"user":"Ann"}},"more":1}}"#);
        let choices = parse(&format!("[{with_values},{one}]")).unwrap();
        let values: Vec<_> =
            choices.as_slice().iter().map(|choice| choice.substitutions.get("user")).collect();
        assert_eq!(values, [Some("Ann"), None]);
        assert_eq!(choices.as_slice()[0].sid.to_string(), SID);
        assert!(parse(&format!("[{}]", vec![one.clone(); 10].join(","))).is_ok());
        assert!(parse(&format!(r#"[{{"sid":"{SID}","substitutions":null}}]"#)).is_ok());
        for bad in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            "[null]".to_owned(),
            one.clone(),
            "[{}]".to_owned(),
            r#"[{"sid":"VA019b76daa8007b6f0d0a5c3e91d2f4a8"}]"#.to_owned(),
            format!(r#"[{{"sid":"{SID}","substitutions":{{"user":1}}}}]"#),
            format!(r#"[{{"sid":"{SID}","substitutions":[]}}]"#),
            format!("[{}]", vec![one; 11].join(",")),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(TemplateChoices::is_absent("null") && TemplateChoices::is_absent(""));
    }

    proptest! {
        #[test]
        fn parsing_a_template_never_panics(text in ".*") {
            let _ = TemplateBody::parse(&text, &[Channel::Sms]);
            let _ = TemplateChoices::from_parameter(&text);
            let _ = TemplateChannels::from_parameter(&text);
        }
    }
}
