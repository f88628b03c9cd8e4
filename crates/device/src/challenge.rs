//! Challenges and lists of challenges, as an SDK parses them from a response (docs/protocol/device.md,
//! sections 5, 6, 8).

use std::collections::BTreeMap;
use std::fmt;

use domain::challenges::Status;
use domain::paging::Order;
use domain::{Parameter, Timestamp};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::json::{Node, UnreadableField};

/// Name of the response header that lists the fields a phone must sign.
pub(crate) const SIGNATURE_FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

/// A challenge, as an app receives it from the SDK.
#[derive(Clone, PartialEq)]
pub struct Challenge {
    /// SID of the challenge, `YC…`.
    pub sid: String,
    /// SID of the factor that the challenge is for, `YF…`; always the factor whose phone fetched it.
    pub factor_sid: String,
    /// Status of the challenge when it was fetched.
    pub status: Status,
    /// The question to show to the user.
    pub message: String,
    /// Further details to show to the user, each with a label and a value.
    pub fields: Vec<(String, String)>,
    /// Creation time to show to the user, or `None` if the service does not include it.
    pub date: Option<Timestamp>,
    /// Details that the phone signs but does not show to the user.
    pub hidden_details: Option<BTreeMap<String, String>>,
    /// Creation time of the challenge.
    pub created_at: Timestamp,
    /// Time of the challenge's last change.
    pub updated_at: Timestamp,
    /// Time until which the challenge can be answered.
    pub expires_at: Timestamp,
    /// The fields that the phone must sign. `None` unless the challenge was pending and was fetched by its
    /// SID: lists do not contain these fields.
    pub(crate) to_sign: Option<Map<String, Value>>,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message may contain personal data, so it is omitted.
        f.debug_struct("Challenge")
            .field("sid", &self.sid)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Challenge {
    /// Parses the response to a request for one challenge. `headers` are the values of
    /// [`SIGNATURE_FIELDS_HEADER`]. Returns an error if a published SDK could not parse the response.
    pub(crate) fn parse(body: &Value, headers: &[&str], factor_sid: &str) -> Result<Self, UnreadableField> {
        let mut challenge = Self::parse_node(&Node::root(body), factor_sid)?;
        if challenge.status == Status::Pending {
            challenge.to_sign = Some(fields_to_sign(body, headers)?);
        }
        Ok(challenge)
    }

    /// Returns the same challenge with another value of a field that the phone signs, for a test of what the server
    /// must refuse. Changes nothing if the challenge cannot be answered.
    #[must_use]
    pub fn with_signed_field(mut self, name: &str, value: Value) -> Self {
        if let Some(fields) = &mut self.to_sign {
            fields.insert(name.to_owned(), value);
        }
        self
    }

    fn parse_node(node: &Node<'_>, factor_sid: &str) -> Result<Self, UnreadableField> {
        let body = node.clone().object()?;
        let details = body.member("details").object()?;
        let field = |field: &Node<'_>| Ok((field.member("label").text()?, field.member("value").text()?));
        let own_sid = |sid: &str| (sid == factor_sid).then(|| sid.to_owned());
        let status = |word: &str| Status::from_parameter(word).ok();
        Ok(Self {
            sid: body.member("sid").text()?,
            factor_sid: body.member("factor_sid").parsed(own_sid, "the factor that fetched the challenge")?,
            status: body.member("status").parsed(status, "pending, expired, approved or denied")?,
            message: details.member("message").text()?,
            fields: details.member("fields").items_or_null()?.iter().map(field).collect::<Result<_, _>>()?,
            date: details.member("date").date_if_present()?,
            hidden_details: body.member("hidden_details").strings_or_null()?,
            created_at: body.member("date_created").date()?,
            updated_at: body.member("date_updated").date()?,
            expires_at: body.member("expiration_date").date()?,
            to_sign: None,
        })
    }
}

/// Returns the members of the body that the header lists, in the header's order. A member may be null.
///
/// As in both SDKs, names are not trimmed. If a space follows a comma, the body has no member of that name,
/// which is an error.
fn fields_to_sign(body: &Value, headers: &[&str]) -> Result<Map<String, Value>, UnreadableField> {
    let [names] = headers else {
        return Err(UnreadableField::new(SIGNATURE_FIELDS_HEADER, "sent once with a pending challenge"));
    };
    let value = |name: &str| {
        let value = body.get(name).cloned();
        value.ok_or_else(|| {
            UnreadableField::new(name, "in the body, because Twilio-Verify-Signature-Fields names it")
        })
    };
    names.split(',').map(|name| Ok((name.to_owned(), value(name)?))).collect()
}

/// The parameters of a request that lists a page of a factor's challenges.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Status of the challenges to return; `None` returns all.
    pub status: Option<Status>,
    /// Order of the challenges by creation time.
    pub order: Order,
    /// Maximum number of challenges on the page.
    pub page_size: u32,
    /// Token of the page to return, taken from another page. `None` returns the first page.
    pub page_token: Option<String>,
}

impl Default for ListRequest {
    /// Returns a query for the first page of all challenges, up to twenty, oldest first.
    fn default() -> Self {
        Self { status: None, order: Order::Ascending, page_size: 20, page_token: None }
    }
}

/// A page of a factor's challenges.
#[derive(Clone, Debug)]
pub struct ChallengeList {
    /// The challenges on the page, in the requested order.
    pub challenges: Vec<Challenge>,
    /// Page number that the server reports; the first page is 0.
    pub page: i64,
    /// Maximum number of challenges on a page, as the server reports it.
    pub page_size: i64,
    /// Token of the previous page, or `None` on the first page.
    pub previous_page_token: Option<String>,
    /// Token of the next page, or `None` on the last page.
    pub next_page_token: Option<String>,
}

impl ChallengeList {
    /// Parses the response to a list request. Returns an error if a published SDK could not parse it.
    pub(crate) fn parse(body: &Value, factor_sid: &str) -> Result<Self, UnreadableField> {
        let body = Node::root(body).object()?;
        let meta = body.member("meta").object()?;
        let challenge = |node: &Node<'_>| Challenge::parse_node(node, factor_sid);
        Ok(Self {
            challenges: body.member("challenges").items()?.iter().map(challenge).collect::<Result<_, _>>()?,
            page: meta.member("page").integer()?,
            page_size: meta.member("page_size").integer()?,
            previous_page_token: page_token(&meta.member("previous_page_url"))?,
            next_page_token: page_token(&meta.member("next_page_url"))?,
        })
    }
}

/// Returns the `PageToken` query parameter of a page URL, or `None` if the URL is null or has no such
/// parameter. A phone uses nothing else of the URL.
fn page_token(url: &Node<'_>) -> Result<Option<String>, UnreadableField> {
    if url.text_or_null()?.is_none() {
        return Ok(None);
    }
    let url = url.parsed(|text| Url::parse(text).ok(), "a URL or null")?;
    Ok(url.query_pairs().find(|(name, _)| name == "PageToken").map(|(_, token)| token.into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FACTOR: &str = "YF03333333333333333333333333333333";

    fn body() -> Value {
        json!({
            "sid": "YC03444444444444444444444444444444",
            "factor_sid": FACTOR,
            "status": "pending",
            "details": { "message": "Sign in?", "fields": [{ "label": "IP", "value": "203.0.113.9" }] },
            "hidden_details": { "txn": "a/b" },
            "metadata": null,
            "date_created": "2026-01-01T00:00:00Z",
            "date_updated": "2026-01-01T00:00:00Z",
            "expiration_date": "2026-01-01T00:05:00Z",
        })
    }

    fn parse(body: &Value) -> Result<Challenge, UnreadableField> {
        Challenge::parse(body, &["sid,status"], FACTOR)
    }

    fn unreadable_field(change: impl FnOnce(&mut Value)) -> String {
        let mut body = body();
        change(&mut body);
        let alone = parse(&body).unwrap_err().field;
        // A single unreadable challenge makes the whole list unreadable.
        let list = ChallengeList::parse(&list(json!([super::tests::body(), body])), FACTOR);
        let path = if alone == "body" { String::new() } else { format!(".{alone}") };
        assert_eq!(list.unwrap_err().field, format!("challenges[1]{path}"));
        alone
    }

    fn without(body: &mut Value, field: &str) {
        body.as_object_mut().unwrap().remove(field);
    }

    fn list(challenges: Value) -> Value {
        json!({
            "challenges": challenges,
            "meta": {
                "page": 1, "page_size": 2,
                "previous_page_url": null,
                "next_page_url": "https://verify.example/v2/x?Status=pending&PageSize=2&PageToken=PAab%2B1",
            },
        })
    }

    #[test]
    fn challenge_response_is_parsed() {
        let challenge = parse(&body()).unwrap();
        assert_eq!(challenge.message, "Sign in?");
        assert_eq!(challenge.fields, [("IP".to_owned(), "203.0.113.9".to_owned())]);
        assert_eq!(challenge.hidden_details.unwrap()["txn"], "a/b");
        assert_eq!(challenge.expires_at, challenge.created_at.plus_seconds(300));
        assert_eq!(challenge.date, None);
    }

    #[test]
    fn challenge_without_optional_fields_is_parsed() {
        let mut bare = body();
        for field in ["fields", "date"] {
            without(&mut bare["details"], field);
        }
        without(&mut bare, "hidden_details");
        assert!(parse(&bare).is_ok());
        bare["details"]["fields"] = Value::Null;
        bare["hidden_details"] = Value::Null;
        bare["details"]["date"] = json!("2026-01-01T00:00:00Z");
        assert!(parse(&bare).unwrap().date.is_some());
    }

    #[test]
    fn error_names_a_missing_or_invalid_top_level_field() {
        let required =
            ["sid", "factor_sid", "status", "details", "date_created", "date_updated", "expiration_date"];
        for field in required {
            assert_eq!(unreadable_field(|body| body[field] = Value::Null), field);
            assert_eq!(unreadable_field(|body| body[field] = json!(1)), field);
            assert_eq!(unreadable_field(|body| without(body, field)), field);
        }
        for field in ["date_created", "date_updated", "expiration_date"] {
            assert_eq!(unreadable_field(|body| body[field] = json!("2026-01-01T00:00:00.5Z")), field);
        }
        assert_eq!(unreadable_field(|body| *body = json!("x")), "body");
    }

    #[test]
    fn error_names_an_invalid_nested_field_by_its_path() {
        assert_eq!(unreadable_field(|body| body["status"] = json!("answered")), "status");
        assert_eq!(unreadable_field(|body| body["factor_sid"] = json!("YF03")), "factor_sid");
        assert_eq!(unreadable_field(|body| body["hidden_details"]["n"] = json!(1)), "hidden_details.n");
        assert_eq!(unreadable_field(|body| body["hidden_details"] = json!("{}")), "hidden_details");
        assert_eq!(unreadable_field(|body| body["details"] = json!("{}")), "details");
        assert_eq!(unreadable_field(|body| without(&mut body["details"], "message")), "details.message");
        assert_eq!(unreadable_field(|body| body["details"]["fields"] = json!({})), "details.fields");
        assert_eq!(unreadable_field(|body| body["details"]["date"] = Value::Null), "details.date");
        assert_eq!(unreadable_field(|body| body["details"]["date"] = json!("today")), "details.date");
        let label = unreadable_field(|body| body["details"]["fields"][0]["label"] = Value::Null);
        assert_eq!(label, "details.fields[0].label");
        assert_eq!(
            unreadable_field(|body| without(&mut body["details"]["fields"][0], "value")),
            "details.fields[0].value"
        );
    }

    #[test]
    fn pending_challenge_requires_exactly_one_signature_fields_header() {
        for headers in [&[][..], &["sid", "status"]] {
            assert_eq!(
                Challenge::parse(&body(), headers, FACTOR).unwrap_err().field,
                SIGNATURE_FIELDS_HEADER
            );
        }
        for (header, missing) in [("sid, status", " status"), ("sid,identity", "identity"), ("", "")] {
            assert_eq!(Challenge::parse(&body(), &[header], FACTOR).unwrap_err().field, missing);
        }
        let mut answered = body();
        answered["status"] = json!("approved");
        assert_eq!(Challenge::parse(&answered, &[], FACTOR).unwrap().to_sign, None);
    }

    #[test]
    fn fields_to_sign_keep_the_order_of_the_signature_fields_header() {
        let challenge = Challenge::parse(&body(), &["status,metadata,hidden_details,sid"], FACTOR).unwrap();
        let keys: Vec<String> = challenge.to_sign.unwrap().keys().cloned().collect();
        assert_eq!(keys, ["status", "metadata", "hidden_details", "sid"]);
    }

    #[test]
    fn challenge_list_and_its_page_tokens_are_parsed() {
        let page = ChallengeList::parse(&list(json!([body()])), FACTOR).unwrap();
        assert_eq!((page.page, page.page_size, page.challenges.len()), (1, 2, 1));
        assert_eq!(page.previous_page_token, None);
        assert_eq!(page.next_page_token.as_deref(), Some("PAab+1"));
        assert_eq!(page.challenges[0].to_sign, None);
    }

    #[test]
    fn error_names_a_missing_or_invalid_field_of_a_challenge_list() {
        let unreadable_field = |change: &dyn Fn(&mut Value)| {
            let mut list = list(json!([]));
            change(&mut list);
            ChallengeList::parse(&list, FACTOR).unwrap_err().field
        };
        assert_eq!(unreadable_field(&|list| without(list, "challenges")), "challenges");
        assert_eq!(unreadable_field(&|list| without(list, "meta")), "meta");
        for field in ["page", "page_size"] {
            assert_eq!(unreadable_field(&|list| list["meta"][field] = json!("0")), format!("meta.{field}"));
            assert_eq!(unreadable_field(&|list| list["meta"][field] = json!(0.5)), format!("meta.{field}"));
            assert_eq!(unreadable_field(&|list| without(&mut list["meta"], field)), format!("meta.{field}"));
        }
        for field in ["next_page_url", "previous_page_url"] {
            assert_eq!(unreadable_field(&|list| list["meta"][field] = json!(1)), format!("meta.{field}"));
            assert_eq!(unreadable_field(&|list| list["meta"][field] = json!("")), format!("meta.{field}"));
        }
    }
}
