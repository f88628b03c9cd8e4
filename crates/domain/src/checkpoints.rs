//! Checkpoints of the audit log: positions of the audit chain that are recorded outside the database.

use std::fmt;
use std::str::FromStr;

use crate::audit::ChainPosition;
use crate::{Parameter as _, Timestamp};

/// The reason why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// The audit chain reached the position.
    Reached,
    /// An operator accepted the audit chain as it was. Earlier checkpoints no longer count.
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

/// A checkpoint: the head of the audit chain at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Time at which the checkpoint was written, in whole seconds.
    pub at: Timestamp,
    /// Reason why the checkpoint was written.
    pub kind: CheckpointKind,
    /// Position of the newest record in the chain.
    pub position: ChainPosition,
}

/// Formats the checkpoint as `2026-01-01T00:00:00Z reached 42:MAC`, where `MAC` is that of record 42. The checkpoint's
/// own MAC is computed over this text, so the format must never change.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.kind.as_str(), self.position)
    }
}

/// The error for a text that is not a [`Checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseCheckpointError;

impl fmt::Display for ParseCheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected TIME reached|accepted NUMBER:MAC")
    }
}

impl std::error::Error for ParseCheckpointError {}

impl FromStr for Checkpoint {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, ParseCheckpointError> {
        let words: Vec<_> = text.split(' ').collect();
        let [at, kind, position] = words[..] else { return Err(ParseCheckpointError) };
        let kind = [CheckpointKind::Reached, CheckpointKind::Accepted]
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or(ParseCheckpointError)?;
        let at = Timestamp::from_parameter(at).map_err(|_| ParseCheckpointError)?;
        let position = position.parse().map_err(|_| ParseCheckpointError)?;
        let checkpoint = Self { at, kind, position };
        // Accept only the exact text over which the MAC was computed.
        (checkpoint.to_string() == text).then_some(checkpoint).ok_or(ParseCheckpointError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Mac;

    #[test]
    fn checkpoint_is_accepted_only_in_its_canonical_form() {
        let mac = "a0".repeat(32);
        let text = format!("2026-01-01T00:00:00Z reached 42:{mac}");
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(checkpoint.position, ChainPosition { number: 42, mac: Mac([0xa0; 32]) });
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
            let is_accepted = other.contains("accepted");
            assert_eq!(other.parse::<Checkpoint>().is_ok(), is_accepted, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_checkpoint_never_panics(text in ".*") {
            let _ = text.parse::<Checkpoint>();
        }
    }
}
