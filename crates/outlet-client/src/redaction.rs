//! What an outcome may repeat of the words of a server. Servers quote what they received, and an outcome ends up in
//! logs and alerts, so codes, texts, recipients, URLs with tokens and secrets are masked.

use domain::{Recipient, Secret};
use percent_encoding::utf8_percent_encode;
use url::form_urlencoded;

use crate::message::Message;
use crate::template::{RESERVED, escape_html, escape_json};

/// Maximum length of a reason, in characters.
const MAX_REASON_CHARACTERS: usize = 200;

/// Length of the shortest text that is masked, in bytes. Shorter ones occur everywhere.
const MIN_MASKED_BYTES: usize = 4;

/// Masks the contents of one message, and the secrets of the outlet that sends it.
pub(crate) struct Redactor {
    /// The texts to mask, in lower case, longest first.
    masked: Vec<String>,
}

impl Redactor {
    /// Creates a redactor for `message` and the outlet's `secret`.
    pub(crate) fn new(message: &Message, secret: Option<&Secret<String>>) -> Self {
        let mut texts = Vec::new();
        for text in [message.text.as_str(), &message.subject, &message.twiml, message.to.as_str()] {
            texts.extend(encodings(text));
        }
        if let Some(secret) = secret {
            texts.extend(encodings(secret.expose()));
        }
        for url in [&message.report_url, &message.key_press_url].into_iter().flatten() {
            // The URL, and the token at its end.
            texts.extend(encodings(url));
            texts.extend(url.rsplit('/').next().map(str::to_owned));
        }
        texts.extend(spellings(message.code.expose()).iter().flat_map(|spelled| encodings(spelled)));
        if let Recipient::Phone(number) = &message.to {
            // The number as such, and without its country code of up to three digits.
            let digits = number.as_str().trim_start_matches('+');
            texts.extend((0..=3).filter_map(|start| digits.get(start..)).map(str::to_owned));
        }
        texts.iter_mut().for_each(|text| text.make_ascii_lowercase());
        texts.retain(|text| text.len() >= MIN_MASKED_BYTES);
        texts.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        texts.dedup();
        Self { masked: texts }
    }

    /// Returns at most 200 characters of a server's text on one line, without the contents of the message.
    pub(crate) fn reason(&self, text: &str) -> String {
        let line = one_line(text.trim());
        let mut reason: String = line.chars().take(MAX_REASON_CHARACTERS).collect();
        if reason.len() < line.len() {
            reason = self.mask_cut_end(reason);
        }
        self.masked.iter().fold(reason, |reason, text| mask(&reason, text))
    }

    /// Masks a text of which the end of `reason` is only the beginning.
    fn mask_cut_end(&self, reason: String) -> String {
        let lower = reason.to_ascii_lowercase();
        let starts_masked = |start: &usize| {
            let rest = &lower[*start..];
            self.masked.iter().any(|text| text.starts_with(rest))
        };
        match lower.char_indices().map(|(start, _)| start).find(starts_masked) {
            Some(start) => format!("{}…", &reason[..start]),
            None => reason,
        }
    }
}

/// Returns `text` with control characters replaced by spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Returns a text in the encodings in which a server may quote it.
fn encodings(text: &str) -> Vec<String> {
    let percent = utf8_percent_encode(text, RESERVED).to_string();
    let form = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    vec![one_line(text), one_line(&escape_html(text)), escape_json(text), percent, form]
}

/// Returns a code as it is written and as it is read aloud.
fn spellings(code: &str) -> Vec<String> {
    let letters: Vec<_> = code.chars().map(String::from).collect();
    ["", " ", ", ", ",", ". ", "-"].iter().map(|separator| letters.join(separator)).collect()
}

/// Replaces each occurrence of `masked`, which is in lower case, by an ellipsis.
fn mask(text: &str, masked: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (mut result, mut end) = (String::with_capacity(text.len()), 0);
    for (start, found) in lower.match_indices(masked) {
        result.push_str(&text[end..start]);
        result.push('…');
        end = start + found.len();
    }
    result.push_str(&text[end..]);
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_data::{mail, text_message};

    fn redact(text: &str) -> String {
        Redactor::new(&text_message(), Some(&Secret::new("Secret/1".to_owned()))).reason(text)
    }

    #[test]
    fn code_text_recipient_and_secret_are_masked() {
        for (said, kept) in [
            ("550 no such user", "550 no such user"),
            ("code 918273 is bad", "code … is bad"),
            ("Owl \"Bank\": 918273 is your code.", "…"),
            (r#"{"text":"Owl \"Bank\": 918273 is your code."}"#, r#"{"text":"…"}"#),
            ("Owl &quot;Bank&quot;: 918273 is your code.", "…"),
            ("Body=Owl+%22Bank%22%3A+918273+is+your+code.", "Body=…"),
            ("9 1 8 2 7 3", "…"),
            ("9, 1, 8, 2, 7, 3!", "…!"),
            ("9,1,8,2,7,3!", "…!"),
            ("is%3A+9%2C+1%2C+8%2C+2%2C+7%2C+3", "is%3A+…"),
            ("is: 9%2C%201%2C%208%2C%202%2C%207%2C%203", "is: …"),
            ("The 'To' number +4366412345678 is wrong", "The 'To' number … is wrong"),
            ("0066412345678 and %2B4366412345678", "00… and …"),
            ("bad password SECRET/1", "bad password …"),
            ("two\r\nlines\u{1b}[0m", "two  lines [0m"),
        ] {
            assert_eq!(redact(said), kept, "{said}");
        }
    }

    #[test]
    fn url_for_reports_is_masked_whole_and_by_its_token() {
        let report_url =
            Some("https://verify.example.com/countersign/v1/DeliveryReports/AaIq-82_".to_owned());
        let redactor = Redactor::new(&Message { report_url, ..text_message() }, None);
        for (said, kept) in [
            ("bad https://verify.example.com/countersign/v1/DeliveryReports/AaIq-82_", "bad …"),
            (
                "dlr-url=https%3A%2F%2Fverify.example.com%2Fcountersign%2Fv1%2FDeliveryReports%2FAaIq-82_",
                "dlr-url=…",
            ),
            ("cannot call /DeliveryReports/AaIq-82_", "cannot call /DeliveryReports/…"),
        ] {
            assert_eq!(redactor.reason(said), kept, "{said}");
        }
    }

    #[test]
    fn url_of_a_call_is_masked_whole_and_by_its_token() {
        let url = "https://verify.example.com/countersign/v1/SpokenCodes/AaIq-82_";
        let redactor =
            Redactor::new(&Message { key_press_url: Some(url.to_owned()), ..text_message() }, None);
        for (said, kept) in [
            (format!("bad action=\"{url}\""), "bad action=\"…\""),
            (
                "Twiml=https%3A%2F%2Fverify.example.com%2Fcountersign%2Fv1%2FSpokenCodes%2FAaIq-82_"
                    .to_owned(),
                "Twiml=…",
            ),
            ("cannot call /SpokenCodes/AaIq-82_".to_owned(), "cannot call /SpokenCodes/…"),
        ] {
            assert_eq!(redactor.reason(&said), kept, "{said}");
        }
    }

    #[test]
    fn mail_address_is_masked_in_upper_and_lower_case() {
        let redactor = Redactor::new(&mail(), None);
        assert_eq!(redactor.reason("550 <ANN@example.com>: no"), "550 <…>: no");
        assert_eq!(redactor.reason("to=ann%40Example.com"), "to=…");
    }

    #[test]
    fn reason_is_cut_to_200_characters_without_a_part_of_the_code() {
        let reason = redact(&format!("{}918273", "é".repeat(197)));
        assert_eq!(reason, format!("{}…", "é".repeat(197)));
        assert_eq!(redact(&"é".repeat(300)).chars().count(), 200);
    }

    proptest! {
        #[test]
        fn no_text_around_it_reveals_the_code(before in ".{0,210}", after in ".{0,20}") {
            let reason = redact(&format!("{before}918273{after}"));
            prop_assert!(reason.chars().count() <= 200);
            prop_assert!(!reason.chars().any(char::is_control));
            // The text around the code may contain the same digits.
            prop_assume!(!before.contains("91827") && !after.contains("18273"));
            prop_assert!(!reason.contains("91827") && !reason.contains("18273"), "{}", reason);
        }
    }
}
