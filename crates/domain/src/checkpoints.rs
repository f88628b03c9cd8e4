//! Checkpoints of the audit log: the end of its chain at an instant, written down outside of the database.

use std::fmt;
use std::str::FromStr;

use crate::audit::Mark;
use crate::{Parameter as _, Timestamp};

/// Why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// The chain had come this far.
    Reached,
    /// An operator accepted the chain as it was. Former checkpoints do not count any more.
    Accepted,
}

impl CheckpointKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Accepted => "accepted",
        }
    }
}

/// The end of the chain at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// When it was written, in whole seconds.
    pub at: Timestamp,
    /// Why it was written.
    pub kind: CheckpointKind,
    /// The last line of the chain.
    pub mark: Mark,
}

/// `2026-01-01T00:00:00Z reached 42:MAC`; what is signed, so the form may never change.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.kind.as_str(), self.mark)
    }
}

/// A text that is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACheckpoint;

impl fmt::Display for NotACheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected TIME reached|accepted NUMBER:MAC")
    }
}

impl std::error::Error for NotACheckpoint {}

impl FromStr for Checkpoint {
    type Err = NotACheckpoint;

    fn from_str(text: &str) -> Result<Self, NotACheckpoint> {
        let words: Vec<_> = text.split(' ').collect();
        let [at, kind, mark] = words[..] else { return Err(NotACheckpoint) };
        let kind = [CheckpointKind::Reached, CheckpointKind::Accepted]
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or(NotACheckpoint)?;
        let at = Timestamp::from_parameter(at).map_err(|_| NotACheckpoint)?;
        let checkpoint = Self { at, kind, mark: mark.parse().map_err(|_| NotACheckpoint)? };
        // There is one spelling, which is the one that was signed.
        (checkpoint.to_string() == text).then_some(checkpoint).ok_or(NotACheckpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Mac;

    #[test]
    fn checkpoint_has_one_spelling() {
        let mac = "a0".repeat(32);
        let text = format!("2026-01-01T00:00:00Z reached 42:{mac}");
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(checkpoint.mark, Mark { number: 42, mac: Mac([0xa0; 32]) });
        assert_eq!(checkpoint.kind, CheckpointKind::Reached);
        for other in [
            text.replace("reached", "accepted"),
            text.replace("reached", "REACHED"),
            text.replace("00Z", "00.5Z"),
            text.replace("00Z", "00+00:00"),
            text.replace("42:", "042:"),
            text.replace("a0", "A0"),
            text.replacen(' ', "  ", 1),
            format!("{text} "),
            String::new(),
        ] {
            let is_right = other.contains("accepted");
            assert_eq!(other.parse::<Checkpoint>().is_ok(), is_right, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<Checkpoint>();
        }
    }
}
