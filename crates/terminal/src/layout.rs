//! Arranges text in lines of limited width and in columns.

use textwrap::{Options, WordSplitter};

use crate::escape::plain;

/// Extra indentation of continuation lines compared to the first line, in columns.
const HANGING_INDENT_COLUMNS: usize = 4;

/// Wraps a paragraph at spaces into lines of at most `width` columns. A word longer than that gets a line of its own
/// and is not broken.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    lines(&words.join(" "), options(width).break_words(false))
}

/// Breaks a line that is wider than `width` columns, at spaces where possible, and preserves its inner spacing.
/// Continuation lines are indented further than the first. Returns the resulting lines, or the unchanged line if it is
/// narrow enough.
pub fn fold(line: &str, width: usize) -> Vec<String> {
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let first = " ".repeat(indent);
    let later = " ".repeat((indent + HANGING_INDENT_COLUMNS).min(width / 2));
    lines(text, options(width).initial_indent(&first).subsequent_indent(&later))
}

/// Returns a two-column table with one line per row: each name, followed by its value. The values are aligned in one
/// column, and characters in them that control a terminal are escaped.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = rows.iter().map(|(name, value)| format!("  {name:width$}  {}", plain(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the wrapping options for `width` columns. They disable hyphenation, because options such as `--listen` and
/// SIDs must not be split.
fn options<'a>(width: usize) -> Options<'a> {
    Options::new(width).word_splitter(WordSplitter::NoHyphenation)
}

fn lines(text: &str, options: Options<'_>) -> Vec<String> {
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraph_is_wrapped_only_at_spaces() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("set --long-option now", 8), ["set", "--long-option", "now"]);
        assert_eq!(wrap("✓ … ok", 6), ["✓ … ok"]);
        assert_eq!(wrap("", 7), [""]);
    }

    #[test]
    fn long_line_is_broken_at_spaces_and_a_long_word_at_the_width() {
        assert_eq!(fold("  short", 20), ["  short"]);
        assert_eq!(fold("  one two three four", 12), ["  one two", "      three", "      four"]);
        let long = format!("    {}", "x".repeat(30));
        let folded = fold(&long, 20);
        assert!(folded.iter().all(|line| line.chars().count() <= 20), "{folded:?}");
        assert_eq!(folded.concat().matches('x').count(), 30);
        assert_eq!(fold("", 20), [""]);
    }

    #[test]
    fn folding_a_line_preserves_its_indentation_and_inner_spaces() {
        assert_eq!(fold("name   value", 20), ["name   value"]);
        assert_eq!(fold("    name   value of many words", 24), ["    name   value of many", "        words"]);
    }

    #[test]
    fn table_aligns_and_escapes_values() {
        let rows = [("user", "a\nb".to_owned()), ("service", "VA".to_owned())];
        assert_eq!(table(&rows), "  user     a\\nb\n  service  VA");
    }
}
