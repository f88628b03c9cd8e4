//! Streams as Server-Sent Events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), and the long poll
//! of a challenge. docs/streams.md describes them to their clients.
//!
//! The response begins at once, and its body follows while the connection is open. A stream therefore does not count as
//! a request in progress: neither the time limit of handlers nor the limits on concurrent requests apply to it.

use actix_web::http::Method;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use app::streams::{
    ChallengePoll, EndReason, EventStream, LoggedRecord, LoggedResource, PollEvent, StreamCaller, StreamEvent,
};
use app::{Backend, BackendOrDevice, Credentials};
use domain::challenges::{ChallengeSummary, Version};
use domain::streams::{EventSelection, LoggedEvent, PollSeconds};
use domain::{Challenge, Code, Factor, Problem, Secret, Service};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use web::{streaming_response, streaming_response_head};

use crate::authentication::credentials;
use crate::error::Error;
use crate::request::AuthorizedRequest;

const MEDIA_TYPE: &str = "text/event-stream";

/// The beginning of a stream: the time after which browsers connect again, in milliseconds.
const BEGIN: &str = "retry: 1000\n\n";

/// A comment, which clients ignore.
const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// The time after which browsers connect again if newer streams have taken the place of theirs.
const RETRY_AFTER_OVERLOAD: &str = "retry: 30000\n";

/// White space before a JSON text, which parsers ignore. Proxies close connections on which nothing is sent.
const POLL_KEEP_ALIVE: &str = "\n";

pub(crate) async fn challenge(
    request: AuthorizedRequest<Challenge, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let wait = request.query.optional::<PollSeconds>("Wait")?;
    let (http, challenge) = (request.http(), &request.resource);
    let caller = stream_caller(&request.caller, http);
    match wait {
        _ if is_head(http) => Ok(streaming_response_head(MEDIA_TYPE)),
        None => {
            let stream = request.app.challenge_stream(caller, challenge, last_event_id(http)?)?;
            Ok(event_stream(http, stream, HasIds::Yes))
        }
        Some(wait) => Ok(poll_response(http, request.app.challenge_poll(caller, challenge, wait)?)),
    }
}

pub(crate) async fn factor(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let http = request.http();
    if is_head(http) {
        return Ok(streaming_response_head(MEDIA_TYPE));
    }
    let stream = request.app.factor_stream(stream_caller(&request.caller, http), &request.resource)?;
    Ok(event_stream(http, stream, HasIds::No))
}

pub(crate) async fn service(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let selected = request.query.optional::<EventSelection>("Types")?.unwrap_or_default();
    let http = request.http();
    if is_head(http) {
        return Ok(streaming_response_head(MEDIA_TYPE));
    }
    let caller = stream_caller(&request.caller.into(), http);
    let after = last_event_id(http)?;
    let stream = request.app.service_stream(caller, &request.resource, selected, after.as_deref())?;
    Ok(event_stream(http, stream, HasIds::No))
}

/// Whether the events about challenges have IDs. Only the stream of one challenge can continue after one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HasIds {
    Yes,
    No,
}

fn stream_caller(caller: &BackendOrDevice, request: &HttpRequest) -> StreamCaller {
    // The request was authenticated with these credentials, so they are there.
    let missing = || Credentials { user: String::new(), password: Secret::new(String::new()) };
    StreamCaller::new(caller, credentials(request).unwrap_or_else(missing))
}

/// Returns the header `Last-Event-ID`, with which a client continues after an earlier stream.
///
/// # Errors
/// Returns error code 60306 if it is not ASCII text.
fn last_event_id(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(value) = request.headers().get("Last-Event-ID") else { return Ok(None) };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Problem::with_advice(Code::InvalidRequest, "Last-Event-ID must be ASCII text")),
    }
}

fn is_head(request: &HttpRequest) -> bool {
    *request.method() == Method::HEAD
}

/// Returns a response whose body is the stream.
fn event_stream(request: &HttpRequest, stream: EventStream, has_ids: HasIds) -> HttpResponse {
    let events = unfold(Some(stream), async |stream| {
        let mut stream = stream?;
        let event = stream.next().await?;
        let next = if matches!(event, StreamEvent::End(_)) { None } else { Some(stream) };
        Some((event, next))
    });
    let mut is_begun = false;
    let frames = events.map(move |event| {
        let begin = if std::mem::replace(&mut is_begun, true) { "" } else { BEGIN };
        Ok(format!("{begin}{}", frame(&event, has_ids)).into())
    });
    streaming_response(request, MEDIA_TYPE, frames)
}

/// Returns a response whose body is the challenge at the end of the wait.
fn poll_response(request: &HttpRequest, poll: ChallengePoll) -> HttpResponse {
    let chunks = unfold(Some(poll), async |poll| {
        let mut poll = poll?;
        Some(match poll.next().await {
            PollEvent::Waiting => (Ok(Bytes::from_static(POLL_KEEP_ALIVE.as_bytes())), Some(poll)),
            PollEvent::Challenge(summary, version) => {
                (Ok(challenge_data(&summary, version).to_string().into()), None)
            }
            // The status has been sent already, so the response can only be cut off.
            PollEvent::Failed => (Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted)), None),
        })
    });
    streaming_response(request, "application/json", chunks)
}

/// Returns an event in the format of Server-Sent Events.
fn frame(event: &StreamEvent, has_ids: HasIds) -> String {
    let data = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    match event {
        StreamEvent::KeepAlive => KEEP_ALIVE.to_owned(),
        StreamEvent::Challenge(summary, version) => {
            let id = match has_ids {
                HasIds::Yes => format!("id: {version}\n"),
                HasIds::No => String::new(),
            };
            let name = format!("challenge.{}", version.status.as_str());
            format!("{id}{}", data(&name, challenge_data(summary, *version)))
        }
        StreamEvent::Pending(sids) => data("snapshot", json!({ "pending": sids })),
        StreamEvent::Record(record) => data(record.event.as_str(), record_data(record)),
        // An event without data is not dispatched, but its ID is the next Last-Event-ID.
        StreamEvent::Position(number) => format!("id: {number}\n\n"),
        StreamEvent::Resync(reason) => data("resync", json!({ "why": reason.as_str() })),
        StreamEvent::End(reason) => {
            let retry = match reason {
                EndReason::Overload => RETRY_AFTER_OVERLOAD,
                _ => "",
            };
            format!("{retry}{}", data("end", json!({ "why": reason.as_str() })))
        }
    }
}

/// Returns what streams and long polls show of a challenge.
fn challenge_data(summary: &ChallengeSummary, version: Version) -> Value {
    json!({
        "sid": summary.sid,
        "service_sid": summary.service_sid,
        "identity": summary.identity,
        "factor_sid": summary.factor_sid,
        "status": version.status.as_str(),
        "expiration_date": summary.expires_at,
        "date_responded": summary.state.responded_at(),
        "date_updated": summary.updated_at,
    })
}

/// Returns what the stream of a service shows of a record.
fn record_data(record: &LoggedRecord) -> Value {
    match &record.resource {
        LoggedResource::Challenge { sid, factor_sid, expires_at } => {
            let (status, responded_at) = match record.event {
                LoggedEvent::ChallengeApproved => ("approved", Some(record.at)),
                LoggedEvent::ChallengeDenied => ("denied", Some(record.at)),
                _ => ("pending", None),
            };
            json!({
                "sid": sid,
                "service_sid": record.service_sid,
                "identity": record.identity,
                "factor_sid": factor_sid,
                "status": status,
                "expiration_date": expires_at,
                "date_responded": responded_at,
                "date_updated": record.at,
                "event_sid": record.sid,
            })
        }
        LoggedResource::Factor { sid, entity_sid, status } => json!({
            "sid": sid,
            "service_sid": record.service_sid,
            "entity_sid": entity_sid,
            "identity": record.identity,
            "status": status,
            "date_updated": record.at,
            "event_sid": record.sid,
        }),
    }
}

#[cfg(test)]
mod tests {
    use app::streams::ResyncReason;
    use domain::challenges::State;
    use domain::{ChallengeSid, Identity, ServiceSid, Sid as _, Timestamp};

    use super::*;

    #[test]
    fn events_have_the_format_of_server_sent_events() {
        let summary = ChallengeSummary {
            sid: ChallengeSid::from_bytes([3; 16]),
            service_sid: ServiceSid::from_bytes([1; 16]),
            identity: Some(Identity::from_stored("user-0001".to_owned())),
            factor_sid: None,
            state: State::Pending,
            expires_at: Timestamp::from_seconds(1_767_225_900),
            updated_at: Timestamp::from_micros(1_767_225_600_000_113),
        };
        let version = summary.version(Timestamp::from_seconds(1_767_225_600));
        let challenge = StreamEvent::Challenge(summary, version);
        let data = "event: challenge.pending\ndata: {\"sid\":\"YC03030303030303030303030303030303\",\
            \"service_sid\":\"VA01010101010101010101010101010101\",\"identity\":\"user-0001\",\
            \"factor_sid\":null,\"status\":\"pending\",\"expiration_date\":\"2026-01-01T00:05:00Z\",\
            \"date_responded\":null,\"date_updated\":\"2026-01-01T00:00:00Z\"}\n\n";
        assert_eq!(frame(&challenge, HasIds::Yes), format!("id: 1767225600000113-pending\n{data}"));
        assert_eq!(frame(&challenge, HasIds::No), data);
        for (event, expected) in [
            (StreamEvent::KeepAlive, ": keep-alive\n\n"),
            (StreamEvent::Pending(Vec::new()), "event: snapshot\ndata: {\"pending\":[]}\n\n"),
            (StreamEvent::Position(48211), "id: 48211\n\n"),
            (StreamEvent::Resync(ResyncReason::TooFar), "event: resync\ndata: {\"why\":\"too-far\"}\n\n"),
            (StreamEvent::End(EndReason::MaxAge), "event: end\ndata: {\"why\":\"max-age\"}\n\n"),
            (
                StreamEvent::End(EndReason::Overload),
                "retry: 30000\nevent: end\ndata: {\"why\":\"overload\"}\n\n",
            ),
        ] {
            assert_eq!(frame(&event, HasIds::No), expected);
        }
    }
}
