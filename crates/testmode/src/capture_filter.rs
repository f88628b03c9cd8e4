//! The query of requests about captured pushes, messages and webhooks: which of them are meant, and how long to wait
//! for one.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Parameter as _, Timestamp};
use serde_json::Value;

use crate::error::Error;

/// Number of captures in a response, unless the query sets another.
const DEFAULT_LIMIT: usize = 1000;

/// Longest time that a request may wait.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);

/// The parameters that select captures.
const SELECTION: [&str; 9] = [
    "account_sid",
    "challenge_sid",
    "channel",
    "factor_sid",
    "service_sid",
    "since",
    "to",
    "type",
    "verification_sid",
];

/// The parameters of a request that reads captures.
pub(crate) const READING: [&str; 11] = [
    "account_sid",
    "challenge_sid",
    "channel",
    "factor_sid",
    "limit",
    "service_sid",
    "since",
    "to",
    "type",
    "verification_sid",
    "wait",
];

/// The parameters of a request that deletes captures.
pub(crate) const DELETING: [&str; 9] = SELECTION;

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Query {
    /// Selects captures.
    pub(crate) filter: Filter,
    /// How long to wait until a capture fits; zero to return at once.
    pub(crate) wait: Duration,
    /// Maximum number of captures to return, the newest.
    pub(crate) limit: usize,
}

/// Selects captures by their members.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Names of members, and the values that they must have.
    members: Vec<(String, String)>,
    /// Start of the selection; `None` selects captures of any age.
    pub(crate) since: Option<Since>,
}

/// The start of a selection.
#[derive(Debug)]
pub(crate) enum Since {
    /// Captures at this instant and later.
    Instant(Timestamp),
    /// Captures after the one with this ID.
    Id(String),
}

impl Query {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// Returns error code 60306 if a value is invalid.
    pub(crate) fn from_parameters(mut parameters: BTreeMap<String, String>) -> Result<Self, Error> {
        let wait = parameters.remove("wait").map(|text| parse_wait(&text)).transpose()?;
        let limit = parameters.remove("limit").map(|text| text.parse().ok().filter(|limit| *limit > 0));
        let limit = match limit {
            None => DEFAULT_LIMIT,
            Some(limit) => limit.ok_or_else(|| Error::invalid("limit must be a number of at least 1"))?,
        };
        Ok(Self { filter: Filter::from_parameters(parameters)?, wait: wait.unwrap_or_default(), limit })
    }
}

impl Filter {
    /// Reads the parameters that select captures.
    ///
    /// # Errors
    /// Returns error code 60306 if a value is invalid.
    pub(crate) fn from_parameters(mut parameters: BTreeMap<String, String>) -> Result<Self, Error> {
        let since = parameters.remove("since").map(|text| match Timestamp::from_parameter(&text) {
            Ok(instant) => Since::Instant(instant),
            Err(_) => Since::Id(text),
        });
        Ok(Self { members: parameters.into_iter().collect(), since })
    }

    /// Returns whether a capture has the required members. The members of a webhook are also those of its parameters, and
    /// those of its event and the event's data if it has a JSON body.
    pub(crate) fn matches(&self, capture: &Value) -> bool {
        self.members.iter().all(|(name, expected)| {
            let event = || capture.get("body")?.get(0);
            let found = capture
                .get(name)
                .or_else(|| capture.get("parameters")?.get(name))
                .or_else(|| event()?.get(name))
                .or_else(|| event()?.get("data")?.get(name));
            found.and_then(Value::as_str) == Some(expected)
        })
    }
}

/// Parses a time to wait, in seconds from 0 to 60.
///
/// # Errors
/// Returns error code 60306 if the text is not such a number.
fn parse_wait(text: &str) -> Result<Duration, Error> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(|| Error::invalid("wait must be a number of seconds from 0 to 60"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn filter_looks_at_the_members_and_at_the_parameters_of_a_webhook() {
        let webhook = json!({ "account_sid": "AC1", "parameters": { "type": "challenge.approved" } });
        let matches = |pairs| Filter::from_parameters(parameters(pairs)).unwrap().matches(&webhook);
        assert!(matches(&[]));
        assert!(matches(&[("account_sid", "AC1"), ("type", "challenge.approved")]));
        assert!(!matches(&[("account_sid", "AC2")]));
        assert!(!matches(&[("type", "challenge.denied")]));
        let event = json!({ "parameters": {}, "body": [{ "type": "approved", "data": { "verification_sid": "VE1" } }] });
        let matches = |pairs| Filter::from_parameters(parameters(pairs)).unwrap().matches(&event);
        assert!(matches(&[("type", "approved"), ("verification_sid", "VE1")]));
        assert!(!matches(&[("verification_sid", "VE2")]) && !matches(&[("type", "pending")]));
        assert!(!matches(&[("factor_sid", "YF1")]));
    }

    #[test]
    fn invalid_wait_and_limit_are_refused() {
        for pair in [
            ("wait", "61"),
            ("wait", "-1"),
            ("wait", "soon"),
            ("wait", "NaN"),
            ("limit", "0"),
            ("limit", "x"),
        ] {
            assert!(Query::from_parameters(parameters(&[pair])).is_err(), "{pair:?}");
        }
        let query = Query::from_parameters(parameters(&[("wait", "0.5"), ("limit", "2")])).unwrap();
        assert_eq!((query.wait, query.limit), (Duration::from_millis(500), 2));
    }
}
