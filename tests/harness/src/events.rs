//! Reads a response of Server-Sent Events while it arrives.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// The media type of Server-Sent Events.
const MEDIA_TYPE: &str = "text/event-stream";

/// An event, or the comment that keeps the connection open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The field `id`.
    pub id: Option<String>,
    /// The field `event`.
    pub name: Option<String>,
    /// The field `data`.
    pub data: Option<String>,
    /// The field `retry`.
    pub retry: Option<String>,
    /// The text of a comment.
    pub comment: Option<String>,
}

impl Event {
    /// Returns the data as JSON.
    ///
    /// # Panics
    ///
    /// If the event has no data, or the data are not JSON.
    pub fn json(&self) -> serde_json::Value {
        let data = self.data.as_deref().unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    fn parse(frame: &str) -> Self {
        let mut event = Self::default();
        for line in frame.lines() {
            let (field, value) = line.split_once(':').expect("a field");
            let value = Some(value.strip_prefix(' ').unwrap_or(value).to_owned());
            match field {
                "" => event.comment = value,
                "id" => event.id = value,
                "event" => event.name = value,
                "data" => event.data = value,
                "retry" => event.retry = value,
                _ => panic!("unknown field: {line}"),
            }
        }
        event
    }
}

/// A response whose body is read event by event.
#[derive(Debug)]
pub struct Events {
    /// The headers of the response.
    pub headers: HeaderMap,
    response: Response,
    unread: String,
    timeout: Duration,
}

impl Events {
    /// Wraps a response that has this media type.
    pub(crate) fn new(response: Response, timeout: Duration) -> Self {
        Self { headers: response.headers().clone(), response, unread: String::new(), timeout }
    }

    /// Returns the next event or comment, or `None` at the end of the response. The frame that only sets the time of
    /// reconnecting is skipped.
    ///
    /// # Panics
    ///
    /// If nothing arrives in time, or the connection breaks.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((frame, rest)) = self.unread.split_once("\n\n") {
                let (event, rest) = (Event::parse(frame), rest.to_owned());
                self.unread = rest;
                if event == (Event { retry: event.retry.clone(), ..Event::default() }) {
                    continue;
                }
                return Some(event);
            }
            let chunk = tokio::time::timeout(self.timeout, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no event within {:?}", self.timeout));
            match chunk.expect("the connection stays open") {
                Some(bytes) => self.unread.push_str(std::str::from_utf8(&bytes).expect("UTF-8")),
                None => return None,
            }
        }
    }

    /// Returns the next event that is no comment, or `None` at the end of the response.
    ///
    /// # Panics
    ///
    /// As [`next`](Self::next) does.
    pub async fn next_event(&mut self) -> Option<Event> {
        let timeout = self.timeout;
        let event = async {
            loop {
                match self.next().await? {
                    Event { comment: Some(_), .. } => {}
                    event => return Some(event),
                }
            }
        };
        let event = tokio::time::timeout(timeout, event).await;
        event.unwrap_or_else(|_| panic!("nothing but comments within {timeout:?}"))
    }
}

/// Returns whether a response consists of Server-Sent Events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value == MEDIA_TYPE)
}
