//! The log, on standard error: for people or as JSON, with levels that can be changed while the server runs.
//!
//! Whatever belongs to a request stands in a span of it, opened in `api/src/envelope.rs`, and has its
//! `request_id`; likewise `delivery`, opened in `app/src/deliver.rs`.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use app::SystemClock;
use clap::ValueEnum;
use domain::Clock as _;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, error, warn};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::Settings;
use crate::failure::Failure;
use crate::terminal::{LogLine, is_colored, plain_json};

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text.
    Human,
    /// One JSON object.
    Json,
}

/// The spans that say what a line belongs to, by target. They are opened whatever the levels are, so that a
/// warning has its request id too.
const SPANS: [&str; 2] = ["request", "delivery"];

/// Our own crates, whose every word SIGUSR1 asks for.
const OURS: [&str; 7] = [
    "api=debug",
    "app=debug",
    "store=debug",
    "push_client=debug",
    "webhook_client=debug",
    "telemetry=debug",
    "countersign=debug",
];

/// The log of this process.
pub(crate) struct Log {
    handle: reload::Handle<EnvFilter, Registry>,
    state: Mutex<State>,
}

struct State {
    /// What was asked for.
    levels: String,
    /// Whether our own crates tell more than that.
    is_detailed: bool,
}

impl State {
    fn filter(&self) -> Result<EnvFilter, Failure> {
        let wrong = |error: &dyn fmt::Display| Failure::new(format!("--log: {error}"));
        let mut filter = EnvFilter::try_new(&self.levels).map_err(|error| wrong(&error))?;
        let ours = if self.is_detailed { &OURS[..] } else { &[] };
        let spans = SPANS.map(|target| format!("{target}=error"));
        for directive in ours.iter().copied().chain(spans.iter().map(String::as_str)) {
            filter = filter.add_directive(directive.parse().map_err(|error| wrong(&error))?);
        }
        Ok(filter)
    }
}

impl Log {
    /// Begins to log.
    ///
    /// # Errors
    /// For levels that can't be understood, and when something logs already.
    pub(crate) fn start(levels: &str, format: Format) -> Result<Self, Failure> {
        let state = State { levels: levels.to_owned(), is_detailed: false };
        let (filter, handle) = reload::Layer::new(state.filter()?);
        // Nobody is told that standard error is broken: there is nowhere to tell it, and to try would end a
        // thread.
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(|| LogLine(std::io::stderr()))
            .log_internal_errors(false);
        let registry = tracing_subscriber::registry().with(filter);
        match format {
            Format::Human => registry.with(layer.with_ansi(is_colored(&std::io::stderr()))).try_init()?,
            Format::Json => {
                registry.with(layer.fmt_fields(JsonFields::new()).event_format(Json)).try_init()?
            }
        }
        Ok(Self { handle, state: Mutex::new(state) })
    }

    /// Changes the levels as signals ask for, for ever: SIGHUP reads what the file of options says of `log`,
    /// SIGUSR1 has our own crates tell everything, and the next SIGUSR1 no more than before.
    ///
    /// # Errors
    /// When signals can't be heard.
    pub(crate) fn follow_signals(self, settings: Settings) -> Result<impl Future<Output = ()>, Failure> {
        let (mut hangup, mut toggle) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
        Ok(async move {
            loop {
                let outcome = tokio::select! {
                    _ = hangup.recv() => self.read_again(&settings),
                    _ = toggle.recv() => self.toggle(),
                };
                if let Err(failure) = outcome {
                    error!("the levels of the log stay as they were: {failure}");
                }
            }
        })
    }

    fn read_again(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(levels) = settings.log_in_file()? else { return Ok(()) };
        let is_new = self.change(|state| {
            let is_new = state.levels != levels;
            state.levels = levels;
            is_new
        })?;
        if is_new {
            warn!("the levels of the log were read again");
        }
        Ok(())
    }

    fn toggle(&self) -> Result<(), Failure> {
        let is_detailed = self.change(|state| {
            state.is_detailed = !state.is_detailed;
            state.is_detailed
        })?;
        if is_detailed {
            warn!("the log tells more; SIGUSR1 ends that");
        } else {
            warn!("the log tells as much as before");
        }
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = State { levels: state.levels.clone(), is_detailed: state.is_detailed };
        let outcome = change(&mut next);
        self.handle.reload(next.filter()?)?;
        *state = next;
        Ok(outcome)
    }
}

/// One JSON object a line.
struct Json;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: String,
    /// `request_id`, or `delivery`.
    #[serde(flatten)]
    spans: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let message = text("message").unwrap_or_default();
        // What comes through the older `log` says here where it comes from.
        let target = text("log.target");
        fields.retain(|name, _| !name.starts_with("log."));
        let mut spans = Map::new();
        // Those of libraries say things of their own.
        let scope = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        for span in scope.filter(|span| SPANS.contains(&span.metadata().target())) {
            let extensions = span.extensions();
            let said = extensions.get::<FormattedFields<JsonFields>>();
            if let Some(Ok(said)) = said.map(|said| serde_json::from_str::<Map<_, _>>(&said.fields)) {
                spans.extend(said);
            }
        }
        let line = Line {
            timestamp: format!("{:?}", SystemClock.now()),
            level: event.metadata().level().as_str(),
            target: target.as_deref().unwrap_or(event.metadata().target()),
            message,
            spans,
            fields,
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{}", plain_json(&line))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
