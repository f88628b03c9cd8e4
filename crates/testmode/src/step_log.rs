//! The steps of a virtual device, which tell why a test failed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use domain::Timestamp;
use serde_json::{Map, Value, json};

use crate::behavior::Reaction;

/// Maximum number of steps that are kept for each device.
const MAX_STEPS: usize = 1000;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The device learned of a challenge.
    Heard,
    /// The device waited before its reaction.
    Waited,
    /// The device sent a request.
    Sent,
    /// The device received a response.
    Got,
    /// The device ended its reaction without the intended result.
    GaveUp,
}

impl What {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Waited => "waited",
            Self::Sent => "sent",
            Self::Got => "got",
            Self::GaveUp => "gave up",
        }
    }
}

/// What the steps of an operation are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// SID of the challenge, if the operation is about one.
    pub(crate) challenge_sid: Option<String>,
    /// The reaction that the operation carries out, if it does.
    pub(crate) reaction: Option<Reaction>,
}

/// The newest steps of a device.
#[derive(Debug, Default)]
pub(crate) struct StepLog(Mutex<VecDeque<Value>>);

impl StepLog {
    /// Adds a step without further members.
    pub(crate) fn add(&self, at: Timestamp, what: What, subject: &Subject, words: &str) {
        self.add_with(at, what, subject, words, &[]);
    }

    /// Adds a step with further members.
    pub(crate) fn add_with(
        &self,
        at: Timestamp,
        what: What,
        subject: &Subject,
        words: &str,
        further: &[(&str, Value)],
    ) {
        let mut step = Map::new();
        step.insert("at".into(), at.to_precise_text().into());
        step.insert("what".into(), what.as_str().into());
        if let Some(sid) = &subject.challenge_sid {
            step.insert("challenge_sid".into(), sid.as_str().into());
        }
        if let Some(reaction) = subject.reaction {
            step.insert("do".into(), reaction.as_str().into());
        }
        step.extend(further.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        step.insert("words".into(), json!(words));
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == MAX_STEPS {
            steps.pop_front();
        }
        steps.push_back(Value::Object(step));
    }

    /// Returns the steps, oldest first.
    pub(crate) fn steps(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
