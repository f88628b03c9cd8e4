//! What a virtual device does with a challenge: the choice, which depends on the challenge and on earlier ones.

use std::collections::{BTreeMap, VecDeque};

use domain::Challenge;
use domain::challenges::PushChallenge;
use regex_lite::Regex;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::duration::Span;

/// Maximum number of steps of a script.
const MAX_SCRIPT_STEPS: usize = 1000;

/// Maximum number of rules.
const MAX_RULES: usize = 100;

/// How a device reacts to a challenge, the member `do`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reaction {
    /// Approves the challenge.
    Approve,
    /// Denies the challenge.
    Deny,
    /// Does nothing.
    #[default]
    Ignore,
    /// Approves the challenge a second after its expiry.
    Late,
    /// Sends two approvals with different signatures at the same time.
    Twice,
    /// Approves the challenge with the signature of another key.
    WrongSignature,
    /// Approves the challenge after changing its message.
    Tampered,
    /// Approves the challenge with a device token of two hours ago.
    StaleToken,
    /// Approves the challenge with a clock that is one hour fast, which it corrects as the SDKs do.
    WrongClock,
    /// Approves the challenge, but loses the connection before the response has arrived.
    LostAnswer,
    /// Has been removed from the phone, so that its provider reports the registration token as invalid.
    Uninstall,
    /// Receives no push.
    Offline,
}

impl Reaction {
    /// Returns the name of the reaction in bodies.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Ignore => "ignore",
            Self::Late => "late",
            Self::Twice => "twice",
            Self::WrongSignature => "wrong_signature",
            Self::Tampered => "tampered",
            Self::StaleToken => "stale_token",
            Self::WrongClock => "wrong_clock",
            Self::LostAnswer => "lost_answer",
            Self::Uninstall => "uninstall",
            Self::Offline => "offline",
        }
    }
}

/// A reaction, and the time until it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    /// The reaction.
    #[serde(rename = "do")]
    pub(crate) reaction: Reaction,
    /// Time between the push and the reaction; `None` to react at once.
    #[serde(default)]
    pub(crate) after: Option<Span>,
}

/// A reaction to challenges with a certain content.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    when: Condition,
    #[serde(rename = "do")]
    reaction: Reaction,
    #[serde(default)]
    after: Option<Span>,
}

/// Which challenges a rule is for: those whose texts match every pattern.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    message: Option<Pattern>,
    #[serde(default)]
    field: BTreeMap<String, Pattern>,
    #[serde(default)]
    hidden: BTreeMap<String, Pattern>,
}

/// A regular expression that a text must contain.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Returns whether the text contains the expression.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let invalid =
            |reason| de::Error::custom(format_args!("invalid regular expression {text:?}: {reason}"));
        Regex::new(&text).map(Self).map_err(invalid)
    }
}

impl Condition {
    fn matches(&self, challenge: &PushChallenge) -> bool {
        let details = &challenge.details;
        let has_field = |(label, pattern): (&String, &Pattern)| {
            details.fields.iter().any(|field| field.label() == label && pattern.matches(field.value()))
        };
        let has_hidden = |(name, pattern): (&String, &Pattern)| {
            let hidden = challenge.hidden_details.as_ref().and_then(|hidden| hidden.get(name));
            hidden.is_some_and(|value| pattern.matches(value))
        };
        self.message.as_ref().is_none_or(|pattern| pattern.matches(details.message.as_str()))
            && self.field.iter().all(has_field)
            && self.hidden.iter().all(has_hidden)
    }
}

/// The behavior of a device: rules before the script, the script before the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behavior {
    /// The behavior as it was requested.
    pub(crate) json: Value,
    default: Act,
    script: VecDeque<Act>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BehaviorObject {
    #[serde(default)]
    default: Act,
    #[serde(default)]
    script: VecDeque<Act>,
    #[serde(default)]
    rules: Vec<Rule>,
}

impl<'de> Deserialize<'de> for Behavior {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        if json.is_string() {
            let reaction = Reaction::deserialize(&json).map_err(de::Error::custom)?;
            return Ok(Self { json, ..Self::always(reaction) });
        }
        let BehaviorObject { default, script, rules } =
            BehaviorObject::deserialize(&json).map_err(de::Error::custom)?;
        if script.len() > MAX_SCRIPT_STEPS || rules.len() > MAX_RULES {
            return Err(de::Error::custom(
                "the member `behaviour` must have at most 1000 steps in its script, and at most 100 rules",
            ));
        }
        let is_empty = |rule: &Rule| {
            rule.when.message.is_none() && rule.when.field.is_empty() && rule.when.hidden.is_empty()
        };
        if rules.iter().any(is_empty) {
            return Err(de::Error::custom("the member `when` of a rule must have message, field or hidden"));
        }
        Ok(Self { json, default, script, rules })
    }
}

impl Behavior {
    /// Returns the behavior of a device that always reacts in this way.
    pub(crate) fn always(reaction: Reaction) -> Self {
        Self { json: reaction.as_str().into(), default: Act { reaction, after: None }, ..Self::default() }
    }

    /// Chooses what to do with a challenge. A step of the script is used up.
    pub(crate) fn choose(&mut self, challenge: &Challenge<PushChallenge>) -> Act {
        let rule = self.rules.iter().find(|rule| rule.when.matches(&challenge.kind));
        match rule {
            Some(rule) => Act { reaction: rule.reaction, after: rule.after },
            None => self.script.pop_front().unwrap_or(self.default),
        }
    }
}
