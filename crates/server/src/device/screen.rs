//! How a challenge is shown to the person who is asked. All that comes from a server passes through [`plain`], so
//! that a challenge can't move the cursor, color its own text or reverse its direction.

use std::fmt::Write as _;

use device::ShownChallenge;
use domain::Timestamp;

use crate::terminal::plain;

/// The question and the facts beside it. A bar runs along it, so that nothing in it passes for this
/// program's own words.
pub(super) fn question(challenge: &ShownChallenge) -> String {
    let mut shown = String::new();
    // Line breaks are allowed in a message, and nowhere else.
    for line in challenge.message.lines() {
        bar(&mut shown, &plain(line));
    }
    let fields: Vec<_> = challenge.fields.iter().map(|(label, value)| (plain(label), plain(value))).collect();
    let width = fields.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    for (label, value) in fields {
        bar(&mut shown, &format!("{label:width$}  {value}"));
    }
    shown
}

fn bar(shown: &mut String, line: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(shown, "  | {}", line.trim_end());
}

/// A challenge that waits, as the person is asked about it.
pub(super) fn waiting(challenge: &ShownChallenge, now: Timestamp) -> String {
    format!("{}  {}\n{}", plain(&challenge.sid), time_left(challenge.expires_at, now), question(challenge))
}

/// How long there is to answer.
pub(super) fn time_left(expires_at: Timestamp, now: Timestamp) -> String {
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
    fn time_left_is_in_minutes_and_seconds() {
        let now = Timestamp::from_seconds(1000);
        let left = |seconds: i64| time_left(now.plus_seconds(seconds), now);
        assert_eq!(left(3600), "60 min 0 s left");
        assert_eq!(left(61), "1 min 1 s left");
        assert_eq!(left(59), "59 s left");
        assert_eq!(left(0), "expired");
        assert_eq!(left(-5), "expired");
    }
}
