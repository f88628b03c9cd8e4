//! Formats challenges for the terminal. All data from a server passes through [`plain`], so that a challenge
//! cannot move the cursor, color its own text, or reverse its direction.

use std::fmt::Write as _;

use device::Challenge;
use domain::Timestamp;
use terminal::plain;

/// Returns the challenge's question and its details as lines. Each line begins with a bar, to distinguish it
/// from this program's own output.
pub(crate) fn question(challenge: &Challenge) -> String {
    let mut shown = String::new();
    // The message may contain line breaks; all other fields are a single line.
    for line in challenge.message.lines() {
        push_line(&mut shown, &plain(line));
    }
    let fields: Vec<_> = challenge.fields.iter().map(|(label, value)| (plain(label), plain(value))).collect();
    let width = fields.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    for (label, value) in fields {
        push_line(&mut shown, &format!("{label:width$}  {value}"));
    }
    shown
}

fn push_line(shown: &mut String, line: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(shown, "  | {}", line.trim_end());
}

/// Returns the text that shows a pending challenge: its SID, the time left to answer it, its question, and
/// its details.
pub(crate) fn pending_challenge(challenge: &Challenge, now: Timestamp) -> String {
    format!("{}  {}\n{}", plain(&challenge.sid), time_left(challenge.expires_at, now), question(challenge))
}

/// Returns the time left until `expires_at` in minutes and seconds, or `expired`.
pub(crate) fn time_left(expires_at: Timestamp, now: Timestamp) -> String {
    let seconds = expires_at.seconds().saturating_sub(now.seconds());
    match (seconds / 60, seconds % 60) {
        _ if seconds <= 0 => "expired".to_owned(),
        (0, seconds) => format!("{seconds} s left"),
        (minutes, seconds) => format!("{minutes} min {seconds} s left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_shown_in_minutes_and_seconds() {
        let now = Timestamp::from_seconds(1000);
        let left = |seconds: i64| time_left(now.plus_seconds(seconds), now);
        assert_eq!(left(3600), "60 min 0 s left");
        assert_eq!(left(61), "1 min 1 s left");
        assert_eq!(left(59), "59 s left");
        assert_eq!(left(0), "expired");
        assert_eq!(left(-5), "expired");
    }
}
