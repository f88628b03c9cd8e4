//! What the person sees. Everything that comes from a server passes through [`plain`] on its way to the
//! terminal: a challenge must not be able to move the cursor, colour over its own text, or write backwards.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use device::ShownChallenge;
use domain::Timestamp;

use crate::failure::Failure;

/// Prints a line. A reader that has gone away ends the command, and is no reason to panic.
pub(super) fn say(line: impl Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Prints a question and stays on its line.
pub(super) fn prompt(question: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    write!(out, "{question} ")?;
    Ok(out.flush()?)
}

/// A stranger's text on one line, with everything escaped that acts instead of being seen.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, character| {
        if acts(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
        plain
    })
}

/// Control characters, and those that are invisible or turn the direction of writing.
fn acts(character: char) -> bool {
    let invisible = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    character.is_control() || invisible
}

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

/// Names and values below one another.
pub(super) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("  {name:width$}  {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("Käse für 3 €? 👨‍👩‍👧"), "Käse für 3 €? 👨‍👩‍👧");
        assert_eq!(plain("a\x1b[2Jb\x07\r\n\u{9b}31m\x7f"), r"a\u{1b}[2Jb\u{7}\r\n\u{9b}31m\u{7f}");
        assert_eq!(plain("pay \u{202e}01 ot\u{202c}\u{200b}"), r"pay \u{202e}01 ot\u{202c}\u{200b}");
    }

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
