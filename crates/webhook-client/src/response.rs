//! Reads a response: its status, its headers, and a limited part of its body.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use domain::Timestamp;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::timeouts::Deadlines;

/// Maximum number of bytes of a response body that are kept.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Maximum delay accepted from a `Retry-After` header. The caller decides how much of it to honor
/// (docs/protocol/decisions.md, No. 35).
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A receiver's response to a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The response headers, with names in lower case. Invalid UTF-8 in values is replaced.
    pub headers: Vec<(String, String)>,
    /// The response body: at most its first [`MAX_BODY_BYTES`] bytes.
    pub body: Vec<u8>,
    /// Whether `body` is incomplete, because the body was too long, timed out, or was interrupted. The status
    /// counts nevertheless: a receiver that responded with 200 has the event.
    pub truncated: bool,
    /// The delay that the receiver requested with the `Retry-After` header (RFC 9110 section 10.2.3), at most
    /// [`MAX_RETRY_AFTER`]. `None` if the header is missing or malformed.
    pub retry_after: Option<Duration>,
}

impl Response {
    /// Reads the body until its end, [`MAX_BODY_BYTES`], or a timeout, and returns the response. The attempt
    /// started at `now`.
    pub(crate) async fn read<B>(response: hyper::Response<B>, deadlines: &Deadlines, now: Timestamp) -> Self
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, mut body) = response.into_parts();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let mut response = Self {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: Vec::new(),
            truncated: false,
            retry_after: retry_after(&head.headers, now, deadlines.elapsed()),
        };
        loop {
            match deadlines.read(body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) if response.append(frame.data_ref()) => {}
                _ => {
                    response.truncated = true;
                    break;
                }
            }
        }
        response
    }

    /// Appends a part of the body up to [`MAX_BODY_BYTES`] in total. Returns whether the whole part fit.
    fn append(&mut self, part: Option<&Bytes>) -> bool {
        let part = part.map_or(&[][..], |part| part);
        let kept = part.len().min(MAX_BODY_BYTES.saturating_sub(self.body.len()));
        self.body.extend_from_slice(&part[..kept]);
        kept == part.len()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers and body come from the receiver and may be confidential.
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

/// Returns the delay in the `Retry-After` header, given in seconds or in any of HTTP's three date formats.
/// The delay is at most 24 hours. Returns `None` if the header is missing or malformed.
fn retry_after(headers: &HeaderMap, started_at: Timestamp, elapsed: Duration) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let then = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at = Duration::from_micros(started_at.micros().try_into().unwrap_or_default());
        then.saturating_sub(started_at.saturating_add(elapsed))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_accepts_seconds_and_http_dates() {
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
    fn parsing_retry_after_with_a_clock_before_1970_does_not_panic() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "Thu, 01 Jan 1970 00:00:09 GMT".parse().unwrap())]);
        let found = retry_after(&headers, Timestamp::from_micros(i64::MIN), Duration::from_secs(2));
        assert_eq!(found, Some(Duration::from_secs(7)));
    }
}
