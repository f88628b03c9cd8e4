//! Parameters of streams.

use crate::parameter::{Bounded, Expected, Parameter};

/// Time that a long poll waits for an answer, in seconds.
pub type PollSeconds = Bounded<1, 60>;

macro_rules! logged_events {
    ($($name:ident $word:literal;)*) => {
        /// A kind of event that a service's stream sends: an event type of the audit log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LoggedEvent {
            $(#[doc = concat!("The event `", $word, "`.")] $name,)*
        }

        impl LoggedEvent {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the event type in the audit log, which is also the event's name in the stream.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

logged_events! {
    ChallengeCreated "challenge.created";
    ChallengeApproved "challenge.approved";
    ChallengeDenied "challenge.denied";
    FactorCreated "factor.created";
    FactorVerified "factor.verified";
    FactorDeleted "factor.deleted";
}

impl LoggedEvent {
    /// Returns the kind with this event type; `None` if streams do not send the type.
    pub fn parse(event_type: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == event_type)
    }
}

/// The kinds of events that a service's stream sends. The default is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSelection(Vec<LoggedEvent>);

impl Default for EventSelection {
    fn default() -> Self {
        Self(LoggedEvent::ALL.to_vec())
    }
}

impl EventSelection {
    /// Returns whether events of this kind are sent.
    pub fn contains(&self, event: LoggedEvent) -> bool {
        self.0.contains(&event)
    }
}

/// A comma-separated list of event types, each of which may be a kind of resource followed by `.*`.
impl Parameter for EventSelection {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let mut selected = Vec::new();
        for pattern in text.split(',').map(str::trim) {
            let matches = |event: &&LoggedEvent| match pattern.strip_suffix('*') {
                Some(start) => start.ends_with('.') && event.as_str().starts_with(start),
                None => event.as_str() == pattern,
            };
            let before = selected.len();
            selected.extend(LoggedEvent::ALL.iter().filter(matches));
            if selected.len() == before {
                let words: Vec<_> = LoggedEvent::ALL.iter().map(|event| event.as_str()).collect();
                let words = words.join(", ");
                return Err(Expected::new(format!("must list challenge.*, factor.*, {words}")));
            }
        }
        Ok(Self(selected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditAction;

    #[test]
    fn event_selection_accepts_types_and_kinds_of_resources() {
        let selected = |text: &str| {
            let selection = EventSelection::from_parameter(text).ok()?;
            let events = LoggedEvent::ALL.iter().filter(|event| selection.contains(**event));
            Some(events.map(|event| event.as_str()).collect::<Vec<_>>().join(" "))
        };
        let challenges = "challenge.created challenge.approved challenge.denied";
        let factors = "factor.created factor.verified factor.deleted";
        assert_eq!(selected("challenge.*").as_deref(), Some(challenges));
        assert_eq!(selected("factor.*, challenge.*"), Some(format!("{challenges} {factors}")));
        assert_eq!(
            selected("factor.deleted,challenge.denied").as_deref(),
            Some("challenge.denied factor.deleted")
        );
        for wrong in ["", "*", "c*", "challenge", "challenge.", "challenge.*,", "service.*", "factor.updated"]
        {
            assert_eq!(selected(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_kind_of_event_is_an_event_type_of_the_audit_log() {
        for event in LoggedEvent::ALL {
            assert!(AuditAction::ALL.iter().any(|action| action.as_str() == event.as_str()), "{event:?}");
            assert_eq!(LoggedEvent::parse(event.as_str()), Some(*event));
        }
        assert_eq!(LoggedEvent::parse("factor.updated"), None);
    }
}
