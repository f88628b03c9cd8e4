//! Challenges and lists of them, as an SDK reads them out of an answer (docs/protocol/device.md, sections 5, 6, 8).

use std::collections::BTreeMap;
use std::fmt;

use domain::challenges::Status;
use domain::paging::Order;
use domain::{Parameter, Timestamp};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::reading::{Flaw, Node};

/// The header that lists what a device has to sign.
pub(crate) const FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

/// A challenge, as the app shows it to the person.
#[derive(Clone, PartialEq)]
pub struct ShownChallenge {
    /// `YC…`
    pub sid: String,
    /// The factor that is asked; always the one that asked for it.
    pub factor_sid: String,
    /// What has become of it.
    pub status: Status,
    /// The question.
    pub message: String,
    /// Facts beside it: label and value.
    pub fields: Vec<(String, String)>,
    /// When it was made, if the service wants that shown.
    pub date: Option<Timestamp>,
    /// What is signed but not shown.
    pub hidden_details: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Until when it can be answered.
    pub expires_at: Timestamp,
    /// What has to be signed, if it was fetched by itself and is pending: a list does not say.
    pub(crate) to_sign: Option<Map<String, Value>>,
}

impl fmt::Debug for ShownChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The question may be personal.
        f.debug_struct("ShownChallenge")
            .field("sid", &self.sid)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl ShownChallenge {
    /// Reads the answer to a fetch, with the values of [`FIELDS_HEADER`].
    pub(crate) fn read(body: &Value, headers: &[&str], factor_sid: &str) -> Result<Self, Flaw> {
        let mut challenge = Self::read_node(&Node::root(body), factor_sid)?;
        if challenge.status == Status::Pending {
            challenge.to_sign = Some(to_sign(body, headers)?);
        }
        Ok(challenge)
    }

    fn read_node(node: &Node<'_>, factor_sid: &str) -> Result<Self, Flaw> {
        let body = node.clone().object()?;
        let details = body.get("details").object()?;
        let field = |field: &Node<'_>| Ok((field.get("label").text()?, field.get("value").text()?));
        let ours = |sid: &str| (sid == factor_sid).then(|| sid.to_owned());
        let status = |word: &str| Status::from_parameter(word).ok();
        Ok(Self {
            sid: body.get("sid").text()?,
            factor_sid: body.get("factor_sid").word(ours, "the factor that asked")?,
            status: body.get("status").word(status, "pending, expired, approved or denied")?,
            message: details.get("message").text()?,
            fields: details.get("fields").items_or_null()?.iter().map(field).collect::<Result<_, _>>()?,
            date: details.get("date").date_if_present()?,
            hidden_details: body.get("hidden_details").strings_or_null()?,
            created_at: body.get("date_created").date()?,
            updated_at: body.get("date_updated").date()?,
            expires_at: body.get("expiration_date").date()?,
            to_sign: None,
        })
    }
}

/// The members of the body that the header names, in its order. Names are not trimmed, so that a
/// space after a comma makes one that the body doesn't have; a null value is a value.
fn to_sign(body: &Value, headers: &[&str]) -> Result<Map<String, Value>, Flaw> {
    let [names] = headers else {
        return Err(Flaw::new(FIELDS_HEADER, "sent once with a pending challenge"));
    };
    let value = |name: &str| {
        let value = body.get(name).cloned();
        value.ok_or_else(|| Flaw::new(name, "in the body, since Twilio-Verify-Signature-Fields names it"))
    };
    names.split(',').map(|name| Ok((name.to_owned(), value(name)?))).collect()
}

/// Which challenges a phone asks for.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Only those with this status.
    pub status: Option<Status>,
    /// By creation.
    pub order: Order,
    /// Most challenges on a page.
    pub page_size: u32,
    /// Which page: a token out of another page.
    pub page_token: Option<String>,
}

impl Default for ListRequest {
    /// The first twenty of all challenges, oldest first.
    fn default() -> Self {
        Self { status: None, order: Order::Ascending, page_size: 20, page_token: None }
    }
}

/// A page of challenges.
#[derive(Clone, Debug)]
pub struct ChallengeList {
    /// The challenges.
    pub challenges: Vec<ShownChallenge>,
    /// Number of the page, as the server counts it.
    pub page: i64,
    /// Most challenges on a page.
    pub page_size: i64,
    /// Token of the page before.
    pub previous_page_token: Option<String>,
    /// Token of the page after.
    pub next_page_token: Option<String>,
}

impl ChallengeList {
    pub(crate) fn read(body: &Value, factor_sid: &str) -> Result<Self, Flaw> {
        let body = Node::root(body).object()?;
        let meta = body.get("meta").object()?;
        let challenge = |node: &Node<'_>| ShownChallenge::read_node(node, factor_sid);
        Ok(Self {
            challenges: body.get("challenges").items()?.iter().map(challenge).collect::<Result<_, _>>()?,
            page: meta.get("page").integer()?,
            page_size: meta.get("page_size").integer()?,
            previous_page_token: page_token(&meta.get("previous_page_url"))?,
            next_page_token: page_token(&meta.get("next_page_url"))?,
        })
    }
}

/// The query parameter `PageToken` of the URL, which is all that a device takes from it.
fn page_token(url: &Node<'_>) -> Result<Option<String>, Flaw> {
    if url.text_or_null()?.is_none() {
        return Ok(None);
    }
    let url = url.word(|text| Url::parse(text).ok(), "a URL or null")?;
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

    fn read(body: &Value) -> Result<ShownChallenge, Flaw> {
        ShownChallenge::read(body, &["sid,status"], FACTOR)
    }

    fn flawed(change: impl FnOnce(&mut Value)) -> String {
        let mut body = body();
        change(&mut body);
        let alone = read(&body).unwrap_err().field;
        // One bad challenge spoils the list.
        let list = ChallengeList::read(&list(json!([super::tests::body(), body])), FACTOR);
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
    fn reads_a_challenge() {
        let challenge = read(&body()).unwrap();
        assert_eq!(challenge.message, "Sign in?");
        assert_eq!(challenge.fields, [("IP".to_owned(), "203.0.113.9".to_owned())]);
        assert_eq!(challenge.hidden_details.unwrap()["txn"], "a/b");
        assert_eq!(challenge.expires_at, challenge.created_at.plus_seconds(300));
        assert_eq!(challenge.date, None);
    }

    #[test]
    fn some_parts_may_be_missing() {
        let mut bare = body();
        for field in ["fields", "date"] {
            without(&mut bare["details"], field);
        }
        without(&mut bare, "hidden_details");
        assert!(read(&bare).is_ok());
        bare["details"]["fields"] = Value::Null;
        bare["hidden_details"] = Value::Null;
        bare["details"]["date"] = json!("2026-01-01T00:00:00Z");
        assert!(read(&bare).unwrap().date.is_some());
    }

    #[test]
    fn every_required_field_is_missed_by_name() {
        let required =
            ["sid", "factor_sid", "status", "details", "date_created", "date_updated", "expiration_date"];
        for field in required {
            assert_eq!(flawed(|body| body[field] = Value::Null), field);
            assert_eq!(flawed(|body| body[field] = json!(1)), field);
            assert_eq!(flawed(|body| without(body, field)), field);
        }
        for field in ["date_created", "date_updated", "expiration_date"] {
            assert_eq!(flawed(|body| body[field] = json!("2026-01-01T00:00:00.5Z")), field);
        }
        assert_eq!(flawed(|body| *body = json!("x")), "body");
    }

    #[test]
    fn each_part_has_its_type() {
        assert_eq!(flawed(|body| body["status"] = json!("answered")), "status");
        assert_eq!(flawed(|body| body["factor_sid"] = json!("YF03")), "factor_sid");
        assert_eq!(flawed(|body| body["hidden_details"]["n"] = json!(1)), "hidden_details.n");
        assert_eq!(flawed(|body| body["hidden_details"] = json!("{}")), "hidden_details");
        assert_eq!(flawed(|body| body["details"] = json!("{}")), "details");
        assert_eq!(flawed(|body| without(&mut body["details"], "message")), "details.message");
        assert_eq!(flawed(|body| body["details"]["fields"] = json!({})), "details.fields");
        assert_eq!(flawed(|body| body["details"]["date"] = Value::Null), "details.date");
        assert_eq!(flawed(|body| body["details"]["date"] = json!("today")), "details.date");
        let label = flawed(|body| body["details"]["fields"][0]["label"] = Value::Null);
        assert_eq!(label, "details.fields[0].label");
        assert_eq!(
            flawed(|body| without(&mut body["details"]["fields"][0], "value")),
            "details.fields[0].value"
        );
    }

    #[test]
    fn a_pending_challenge_needs_the_header_once() {
        for headers in [&[][..], &["sid", "status"]] {
            assert_eq!(ShownChallenge::read(&body(), headers, FACTOR).unwrap_err().field, FIELDS_HEADER);
        }
        for (header, missing) in [("sid, status", " status"), ("sid,identity", "identity"), ("", "")] {
            assert_eq!(ShownChallenge::read(&body(), &[header], FACTOR).unwrap_err().field, missing);
        }
        let mut answered = body();
        answered["status"] = json!("approved");
        assert_eq!(ShownChallenge::read(&answered, &[], FACTOR).unwrap().to_sign, None);
    }

    #[test]
    fn copies_what_the_header_names_in_its_order() {
        let challenge =
            ShownChallenge::read(&body(), &["status,metadata,hidden_details,sid"], FACTOR).unwrap();
        let keys: Vec<String> = challenge.to_sign.unwrap().keys().cloned().collect();
        assert_eq!(keys, ["status", "metadata", "hidden_details", "sid"]);
    }

    #[test]
    fn reads_a_list_and_its_tokens() {
        let page = ChallengeList::read(&list(json!([body()])), FACTOR).unwrap();
        assert_eq!((page.page, page.page_size, page.challenges.len()), (1, 2, 1));
        assert_eq!(page.previous_page_token, None);
        assert_eq!(page.next_page_token.as_deref(), Some("PAab+1"));
        assert_eq!(page.challenges[0].to_sign, None);
    }

    #[test]
    fn a_list_has_its_types_too() {
        let flawed = |change: &dyn Fn(&mut Value)| {
            let mut list = list(json!([]));
            change(&mut list);
            ChallengeList::read(&list, FACTOR).unwrap_err().field
        };
        assert_eq!(flawed(&|list| without(list, "challenges")), "challenges");
        assert_eq!(flawed(&|list| without(list, "meta")), "meta");
        for field in ["page", "page_size"] {
            assert_eq!(flawed(&|list| list["meta"][field] = json!("0")), format!("meta.{field}"));
            assert_eq!(flawed(&|list| list["meta"][field] = json!(0.5)), format!("meta.{field}"));
            assert_eq!(flawed(&|list| without(&mut list["meta"], field)), format!("meta.{field}"));
        }
        for field in ["next_page_url", "previous_page_url"] {
            assert_eq!(flawed(&|list| list["meta"][field] = json!(1)), format!("meta.{field}"));
            assert_eq!(flawed(&|list| list["meta"][field] = json!("")), format!("meta.{field}"));
        }
    }
}
