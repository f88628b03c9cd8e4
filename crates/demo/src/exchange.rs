//! Formats requests and their responses as the demo prints them.

use reqwest::StatusCode;
use serde_json::Value;
use terminal::wrap;
use url::form_urlencoded;

use crate::format::{abbreviate, abbreviate_path, pretty, select_members};

/// Minimum width of the text behind a label, in columns.
const MIN_TEXT_COLUMNS: usize = 20;

/// Names of the members of an error body, all of which are shown.
const ERROR_MEMBERS: &[&str] = &["code", "message", "more_info", "status"];

/// A request to the server and its response, for printing.
pub(crate) struct ExchangeView<'e> {
    /// Name of the sender: `backend` or `phone`.
    pub(crate) sender: &'static str,
    pub(crate) method: &'e str,
    pub(crate) path_and_query: &'e str,
    /// Lines that show the authentication of the request, with secrets abbreviated.
    pub(crate) authorization: Vec<String>,
    /// The encoded form in the request body, or an empty string.
    pub(crate) form: &'e str,
    /// Lines that explain which parts of the form are signed.
    pub(crate) signed: Vec<String>,
    /// Description of what the server checks before it executes the request.
    pub(crate) checks: &'static str,
    pub(crate) status: u16,
    /// Name and value of a response header to show, if any.
    pub(crate) header: Option<(&'static str, String)>,
    pub(crate) body: &'e str,
    /// Names of the response body members to show.
    pub(crate) shown_members: &'static [&'static str],
}

impl ExchangeView<'_> {
    /// Returns the exchange as lines of text. Paragraphs are wrapped at `width` columns.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        let (path, query) = self.path_and_query.split_once('?').unwrap_or((self.path_and_query, ""));
        let mut lines =
            vec![format!("  {:<7} → server   {} {}", self.sender, self.method, abbreviate_path(path))];
        lines.extend(self.authorization.iter().map(|line| format!("    {line}")));
        lines.extend(pair_lines(&decode_form(query), "?"));
        lines.extend(pair_lines(&decode_form(self.form), ""));
        lines.extend(self.signed.iter().map(|line| format!("    {line}")));
        push_paragraph(&mut lines, width, "  server checks: ", self.checks);
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        lines.push(format!("  {:<7} ← server   {} {}", self.sender, self.status, reason.unwrap_or_default()));
        if let Some((name, value)) = &self.header {
            // The header's value has no spaces; they are added here so that the line can be wrapped.
            push_paragraph(&mut lines, width, &format!("    {name}: "), &value.replace(',', ", "));
        }
        lines.extend(self.body_lines().into_iter().map(|line| format!("    {line}")));
        lines
    }

    fn body_lines(&self) -> Vec<String> {
        let names = if self.status < 400 { self.shown_members } else { ERROR_MEMBERS };
        match serde_json::from_str::<Value>(self.body) {
            Ok(body) => pretty(select_members(&body, names)),
            Err(_) => vec![abbreviate(self.body)],
        }
    }
}

/// A push or webhook that the server sent, for printing. The response is always 200.
pub(crate) struct DeliveryView<'d> {
    /// Name of the recipient: `Google` or `backend`.
    pub(crate) recipient: &'static str,
    pub(crate) path: &'d str,
    /// Lines that show request headers, with secrets abbreviated.
    pub(crate) headers: Vec<String>,
    pub(crate) form: &'d [(String, String)],
    pub(crate) json: Option<Value>,
}

impl DeliveryView<'_> {
    /// Returns the delivery as lines of text.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("  server  → {:<7}  POST {}", self.recipient, abbreviate_path(self.path))];
        lines.extend(self.headers.iter().map(|line| format!("    {line}")));
        lines.extend(pair_lines(self.form, ""));
        lines.extend(self.json.iter().cloned().flat_map(pretty).map(|line| format!("    {line}")));
        lines.push(format!("  server  ← {:<7}  200 OK", self.recipient));
        lines
    }
}

/// Returns the decoded names and values of a form or query.
pub(crate) fn decode_form(encoded: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded.as_bytes()).into_owned().collect()
}

/// Returns a line for each pair, with the values aligned in one column and `prefix` before each name.
fn pair_lines(pairs: &[(String, String)], prefix: &str) -> Vec<String> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    pairs.iter().map(|(name, value)| format!("    {prefix}{name:width$}  {}", abbreviate(value))).collect()
}

/// Appends `label` and `text`, wrapped at `width` columns. Later lines are aligned with the start of the
/// text.
fn push_paragraph(lines: &mut Vec<String>, width: usize, label: &str, text: &str) {
    let indent = label.chars().count();
    let width = width.saturating_sub(indent).max(MIN_TEXT_COLUMNS);
    for (index, line) in wrap(text, width).into_iter().enumerate() {
        lines.push(if index == 0 { format!("{label}{line}") } else { format!("{:indent$}{line}", "") });
    }
}
