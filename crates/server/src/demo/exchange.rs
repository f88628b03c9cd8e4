//! One request and its answer, as they are printed.

use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::demo::text::{pick, pretty, short, short_path, wrap};

/// Narrowest column of words behind a label.
const MIN_WIDTH: usize = 20;

/// One request and its answer.
pub(super) struct Exchange<'e> {
    /// `backend` or `phone`.
    pub(super) who: &'static str,
    pub(super) method: &'e str,
    pub(super) path_and_query: &'e str,
    /// How the sender signs in: secrets already cut.
    pub(super) authorization: Vec<String>,
    /// The form, encoded.
    pub(super) form: &'e str,
    /// What in the form is signed, and how, indented.
    pub(super) signed: Vec<String>,
    /// What the server looks at before it does what it is asked.
    pub(super) checks: &'static str,
    pub(super) status: u16,
    /// A header of the answer that matters.
    pub(super) header: Option<(&'static str, String)>,
    pub(super) body: &'e str,
    /// Members of the body to show.
    pub(super) interesting: &'static [&'static str],
}

impl Exchange<'_> {
    /// All of it, line by line, with paragraphs of this width.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let (path, query) = self.path_and_query.split_once('?').unwrap_or((self.path_and_query, ""));
        let mut lines = vec![format!("  {:<7} → server   {} {}", self.who, self.method, short_path(path))];
        lines.extend(self.authorization.iter().map(|line| format!("    {line}")));
        lines.extend(table(&pairs(query), "?"));
        lines.extend(table(&pairs(self.form), ""));
        lines.extend(self.signed.iter().map(|line| format!("    {line}")));
        paragraph(&mut lines, width, "  server checks: ", self.checks);
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        lines.push(format!("  {:<7} ← server   {} {}", self.who, self.status, reason.unwrap_or_default()));
        if let Some((name, value)) = &self.header {
            // Without spaces on the wire; they are here so that it can be broken.
            paragraph(&mut lines, width, &format!("    {name}: "), &value.replace(',', ", "));
        }
        lines.extend(self.body().into_iter().map(|line| format!("    {line}")));
        lines
    }

    fn body(&self) -> Vec<String> {
        // Of an error everything is interesting.
        const ERROR: &[&str] = &["code", "message", "more_info", "status"];
        let names = if self.status < 400 { self.interesting } else { ERROR };
        match serde_json::from_str::<Value>(self.body) {
            Ok(body) => pretty(pick(&body, names)),
            Err(_) => vec![short(self.body)],
        }
    }
}

/// What the server says to somebody outside.
pub(super) struct Notice<'n> {
    /// `Google` or `backend`.
    pub(super) to: &'static str,
    pub(super) path: &'n str,
    /// Headers that matter, secrets already cut.
    pub(super) headers: Vec<String>,
    pub(super) form: &'n [(String, String)],
    pub(super) json: Option<Value>,
}

impl Notice<'_> {
    /// All of it, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("  server  → {:<7}  POST {}", self.to, short_path(self.path))];
        lines.extend(self.headers.iter().map(|line| format!("    {line}")));
        lines.extend(table(self.form, ""));
        lines.extend(self.json.iter().cloned().flat_map(pretty).map(|line| format!("    {line}")));
        lines.push(format!("  server  ← {:<7}  200 OK", self.to));
        lines
    }
}

/// The pairs of a form or a query, decoded.
pub(super) fn pairs(encoded: &str) -> Vec<(String, String)> {
    let url = Url::parse(&format!("http://form/?{encoded}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

fn table(pairs: &[(String, String)], mark: &str) -> Vec<String> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    pairs.iter().map(|(name, value)| format!("    {mark}{name:width$}  {}", short(value))).collect()
}

/// Words behind a label, the following lines below the first one.
fn paragraph(lines: &mut Vec<String>, width: usize, label: &str, text: &str) {
    let indent = label.chars().count();
    for (index, line) in wrap(text, width.saturating_sub(indent).max(MIN_WIDTH)).into_iter().enumerate() {
        lines.push(if index == 0 { format!("{label}{line}") } else { format!("{:indent$}{line}", "") });
    }
}
