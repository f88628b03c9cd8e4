//! What a person at a terminal sees. Every command prints through here.
//!
//! Data from the database, from users and from other servers may hold characters that a terminal acts on: they move
//! the cursor, color the text or reverse its direction. All of them are printed as visible marks, such as
//! `\u{1b}`. A reader that closes the pipe, such as `head`, ends a command quietly.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use crate::failure::Failure;

/// Prints one line to standard output, with marks for all that a terminal acts on, line breaks included.
///
/// # Errors
/// When it can't be written. [`Failure::is_unread`] if its reader has closed the pipe.
pub(crate) fn say(line: impl Display) -> Result<(), Failure> {
    write(format!("{}\n", plain(&line.to_string())).as_bytes())
}

/// Prints a text of our own to standard output, with marks for all that a terminal acts on but line breaks. Data
/// in it has passed through [`plain`].
///
/// # Errors
/// As [`say`].
pub(crate) fn say_text(text: impl Display) -> Result<(), Failure> {
    write(format!("{}\n", plain_text(&text.to_string())).as_bytes())
}

/// Prints a question to standard output and stays on its line.
///
/// # Errors
/// As [`say`].
pub(crate) fn prompt(question: &str) -> Result<(), Failure> {
    write(format!("{} ", plain(question)).as_bytes())
}

/// Writes a file for programs, such as a script, to standard output as it is.
///
/// # Errors
/// As [`say`].
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| unwritten(&error))
}

/// Why standard output can't be written to.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::unread(),
        _ => Failure::new(format!("standard output: {error}")),
    }
}

/// Prints one line to standard error, with marks for all that a terminal acts on. A standard error that is closed
/// is no failure.
pub(crate) fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Prints a text to standard error, as [`say_text`] does to standard output. A standard error that is closed is no
/// failure.
pub(crate) fn warn_text(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain_text(&text.to_string()));
}

/// Asks for input on standard error, which leaves standard output to the result.
pub(crate) fn ask(question: &str) {
    let _ = write!(io::stderr(), "{} ", plain(question));
}

/// Whether a stream may be colored: it is a terminal, and `NO_COLOR` (<https://no-color.org>) is not set.
pub(crate) fn is_colored(stream: &impl IsTerminal) -> bool {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && stream.is_terminal()
}

/// Columns of the terminal that a stream is, if it is one.
pub(crate) fn width(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// This program as it was called, so that a command that is shown can be copied.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "countersign".into());
    quoted(&called.to_string_lossy())
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let is_simple = |character: char| character.is_ascii_alphanumeric() || "/._-:=@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_simple) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A text on one line, with a mark for each character that a terminal acts on, line breaks included.
pub(crate) fn plain(text: &str) -> String {
    marked(text, |_| false)
}

/// A text in lines, with a mark for each character that a terminal acts on but line breaks.
pub(crate) fn plain_text(text: &str) -> String {
    marked(text, |character| character == '\n')
}

fn marked(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut marked = String::with_capacity(text.len());
    for character in text.chars() {
        if acts(character) && !is_kept(character) {
            marked.extend(character.escape_default());
        } else {
            marked.push(character);
        }
    }
    marked
}

/// JSON with each character that a terminal acts on as an escape, which means the same to a program.
pub(crate) fn plain_json(json: &impl Display) -> String {
    let mut units = [0; 2];
    json.to_string().chars().fold(String::new(), |mut plain, character| {
        if acts(character) {
            let escapes = character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
            plain.extend(escapes);
        } else {
            plain.push(character);
        }
        plain
    })
}

/// Whether a terminal acts on this character instead of showing it: control characters, and those that are
/// invisible or change the direction of writing.
pub(crate) fn acts(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A writer of the log: each call of `write` is one line, in which invisible characters and line breaks are marks.
/// Control characters are left, since colors consist of them; `tracing_subscriber` has marked those in data.
pub(crate) struct LogLine<W>(pub(crate) W);

impl<W: Write> Write for LogLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let end = text.trim_end_matches('\n').len();
        let mut plain: String = String::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            match character {
                '\n' | '\r' if at < end => plain.extend(character.escape_default()),
                _ if is_invisible(character) => plain.extend(character.escape_default()),
                _ => plain.push(character),
            }
        }
        self.0.write_all(plain.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Lines in which each value stands behind its name, in one column.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = rows.iter().map(|(name, value)| format!("  {name:width$}  {}", plain(value)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_acts_on_are_marks() {
        assert_eq!(plain("Käse für 3 €? 👨‍👩‍👧"), "Käse für 3 €? 👨‍👩‍👧");
        assert_eq!(plain("a\x1b[2Jb\x07\r\n\u{9b}31m\x7f"), r"a\u{1b}[2Jb\u{7}\r\n\u{9b}31m\u{7f}");
        assert_eq!(plain("pay \u{202e}01 ot\u{202c}\u{200b}"), r"pay \u{202e}01 ot\u{202c}\u{200b}");
        assert_eq!(plain_text("a\nb\r\u{202e}"), "a\nb\\r\\u{202e}");
    }

    #[test]
    fn marks_in_json_mean_the_same() {
        let value = serde_json::json!({ "name": "\x1b[2J\u{9b}\u{202e}\u{e0041} 🦉\n" });
        let plain = plain_json(&value);
        assert!(!plain.chars().any(acts), "{plain}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
    }

    #[test]
    fn a_line_of_the_log_stays_one_line() {
        let mut written = Vec::new();
        LogLine(&mut written).write_all("\x1b[2mINFO\x1b[0m a\nforged \u{202e}line\n".as_bytes()).unwrap();
        assert_eq!(written, b"\x1b[2mINFO\x1b[0m a\\nforged \\u{202e}line\n");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("target/release/countersign"), "target/release/countersign");
        assert_eq!(quoted("my phone's"), r"'my phone'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
