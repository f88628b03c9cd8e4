//! How much of an answer is read: its head, and the beginning of its body.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use domain::Timestamp;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::limits::Limits;

/// How much of a body is kept.
pub const MAX_BODY: usize = 64 * 1024;

/// The longest wait that is read out of an answer. How much of it is granted is the caller's decision
/// (docs/protocol/decisions.md, No. 35).
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a receiver answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case. What is not UTF-8 in a value is replaced.
    pub headers: Vec<(String, String)>,
    /// The first [`MAX_BODY`] bytes of the body.
    pub body: Vec<u8>,
    /// Whether there was, or may have been, more: the body was longer, took too long or broke off. The
    /// status stands all the same, since a receiver that has said 200 has the event.
    pub truncated: bool,
    /// How long the receiver asks to wait, at most [`MAX_RETRY_AFTER`] (RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
}

impl Response {
    /// Reads what there is to read, within the limits. `now` is when the attempt began.
    pub(crate) async fn read<B>(answer: hyper::Response<B>, limits: &Limits, now: Timestamp) -> Self
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, mut rest) = answer.into_parts();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let mut response = Self {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: Vec::new(),
            truncated: false,
            retry_after: retry_after(&head.headers, now, limits.elapsed()),
        };
        loop {
            match limits.read(rest.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) if response.take(frame.data_ref()) => {}
                _ => {
                    response.truncated = true;
                    break;
                }
            }
        }
        response
    }

    /// Whether all of this part of the body was kept.
    fn take(&mut self, part: Option<&Bytes>) -> bool {
        let part = part.map_or(&[][..], |part| part);
        let kept = part.len().min(MAX_BODY.saturating_sub(self.body.len()));
        self.body.extend_from_slice(&part[..kept]);
        kept == part.len()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest is the receiver's, and may hold what is nobody else's business.
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

/// Both forms of `Retry-After`: seconds, and a date in any of the three formats that HTTP knows.
fn retry_after(headers: &HeaderMap, began: Timestamp, elapsed: Duration) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let then = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = Duration::from_micros(began.micros().try_into().unwrap_or_default());
        then.saturating_sub(began.saturating_add(elapsed))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let new_year = Timestamp::from_seconds(1_767_225_600);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86401", Some(86_400)),
            ("99999999999999999999999999", Some(86_400)),
            ("Thu, 01 Jan 2026 00:02:00 GMT", Some(110)),
            ("Thursday, 01-Jan-26 00:02:00 GMT", Some(110)),
            ("Thu Jan  1 00:02:00 2026", Some(110)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 01 Jan 2026 00:02:00 CET", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            let found = retry_after(&headers, new_year, Duration::from_secs(10));
            assert_eq!(found, seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), new_year, Duration::ZERO), None);
    }

    #[test]
    fn times_before_the_epoch_do_not_panic() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "Thu, 01 Jan 1970 00:00:09 GMT".parse().unwrap())]);
        let found = retry_after(&headers, Timestamp::from_micros(i64::MIN), Duration::from_secs(2));
        assert_eq!(found, Some(Duration::from_secs(7)));
    }
}
