//! Escapes text so that it is safe to print on a terminal, in a log record, in JSON or in a shell command.

use std::fmt::Display;
use std::io::{self, Write};

/// Returns `word` quoted for a POSIX shell, or unchanged if it needs no quotes.
pub fn quoted(word: &str) -> String {
    let is_simple = |character: char| character.is_ascii_alphanumeric() || "/._-:=@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_simple) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns `text` as a single line: every character that controls a terminal, including line breaks, becomes a visible
/// escape such as `\u{1b}`.
pub fn plain(text: &str) -> String {
    escaped(text, |_| false)
}

/// Returns `text` with every character that controls a terminal, except line breaks, replaced by a visible escape such
/// as `\u{1b}`.
pub fn plain_text(text: &str) -> String {
    escaped(text, |character| character == '\n')
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if acts(character) && !is_kept(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Returns the text of `json` with every character that controls a terminal replaced by a JSON escape. Parsing the
/// result yields the same value as parsing `json`.
pub fn plain_json(json: &impl Display) -> String {
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

/// Returns whether `character` can affect how a terminal displays other text: it is a control character, is invisible,
/// or changes the direction of text.
pub fn acts(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A log writer that escapes invisible characters and line breaks. Each call of `write` must pass exactly one line.
///
/// Control characters are not escaped here, because color codes consist of them. `tracing_subscriber` has already
/// escaped the control characters in logged data.
#[derive(Debug)]
pub struct LogLine<W>(pub W);

impl<W: Write> Write for LogLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        // Almost every line is of this kind. Every invisible character is beyond ASCII.
        if content.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r')) {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_become_visible_escapes() {
        assert_eq!(plain("Käse für 3 €? 👨‍👩‍👧"), "Käse für 3 €? 👨‍👩‍👧");
        assert_eq!(plain("a\x1b[2Jb\x07\r\n\u{9b}31m\x7f"), r"a\u{1b}[2Jb\u{7}\r\n\u{9b}31m\u{7f}");
        assert_eq!(plain("pay \u{202e}01 ot\u{202c}\u{200b}"), r"pay \u{202e}01 ot\u{202c}\u{200b}");
        assert_eq!(plain_text("a\nb\r\u{202e}"), "a\nb\\r\\u{202e}");
    }

    #[test]
    fn escaped_json_parses_to_the_same_value() {
        let value = serde_json::json!({ "name": "\x1b[2J\u{9b}\u{202e}\u{e0041} 🦉\n" });
        let plain = plain_json(&value);
        assert!(!plain.chars().any(acts), "{plain}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
    }

    #[test]
    fn line_breaks_in_a_log_line_are_escaped() {
        let mut written = Vec::new();
        LogLine(&mut written).write_all("\x1b[2mINFO\x1b[0m a\nforged \u{202e}line\n".as_bytes()).unwrap();
        assert_eq!(written, b"\x1b[2mINFO\x1b[0m a\\nforged \\u{202e}line\n");
    }

    #[test]
    fn words_are_quoted_for_a_shell_only_if_needed() {
        assert_eq!(quoted("target/release/countersign"), "target/release/countersign");
        assert_eq!(quoted("my phone's"), r"'my phone'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
