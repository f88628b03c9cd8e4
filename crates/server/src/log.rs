//! The log on standard error, as text or JSON. Its levels can be changed while the server runs.
//!
//! Events logged during a request carry its `request_id`, taken from the span that the API's middleware opens. Events
//! logged during a delivery carry its `delivery` id, taken from the delivery worker's span.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use app::SystemClock;
use domain::Clock as _;
use serde::Serialize;
use serde_json::{Map, Value};
use terminal::{CliError, LogLine, is_colored, plain_json};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, error, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Settings;
use crate::log_levels::parse_levels;
use crate::options::LogFormat;

/// Targets of the spans whose fields are added to each event. These spans are enabled at every log level, so that
/// warnings carry a request id too.
const CONTEXT_SPANS: [&str; 2] = ["request", "delivery"];

/// Targets of Countersign's own crates, whose debug messages SIGUSR1 turns on.
const DEBUG_TARGETS: [&str; 10] = [
    "web",
    "api",
    "webphone",
    "testmode",
    "app",
    "store",
    "push_client",
    "webhook_client",
    "telemetry",
    "countersign",
];

/// The log of this process. Its levels can be changed while it runs.
pub(crate) struct Log {
    filter: Filter,
    state: Mutex<State>,
}

struct State {
    /// The configured log levels, from `--log`.
    levels: String,
    /// Whether [`DEBUG_TARGETS`] apply in addition to `levels`.
    is_debug: bool,
}

impl State {
    fn targets(&self) -> Result<Targets, CliError> {
        let with_level = |targets: Targets, names: &[&str], level| {
            targets.with_targets(names.iter().map(|name| (*name, level)))
        };
        let configured =
            parse_levels(&self.levels).map_err(|error| CliError::new(format!("--log: {error}")))?;
        let debug = if self.is_debug { &DEBUG_TARGETS[..] } else { &[] };
        let targets = with_level(configured, debug, LevelFilter::DEBUG);
        Ok(with_level(targets, &CONTEXT_SPANS, LevelFilter::ERROR))
    }
}

/// A layer that enables spans and events by their target and level. Clones share the levels.
///
/// tracing asks it once for each place in the code that logs, and remembers the answer. The reloadable layer of
/// `tracing_subscriber` would take a lock shared by all threads whenever a span begins, is entered, left or ends.
#[derive(Clone, Debug)]
struct Filter(Arc<RwLock<Targets>>);

impl Filter {
    fn new(targets: Targets) -> Self {
        Self(Arc::new(RwLock::new(targets)))
    }

    /// Replaces the levels, and lets tracing ask again for each place in the code.
    fn set(&self, targets: Targets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets;
        tracing_core::callsite::rebuild_interest_cache();
    }

    fn read<T>(&self, read: impl FnOnce(&Targets) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.read(|targets| Layer::<S>::register_callsite(targets, metadata))
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.read(|targets| Layer::<S>::enabled(targets, metadata, context))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.read(|targets| Layer::<S>::max_level_hint(targets))
    }
}

impl Log {
    /// Starts logging to standard error, with the log levels `levels` and in the format `format`.
    ///
    /// # Errors
    /// Returns an error if `levels` is invalid, or if logging was already started in this process.
    pub(crate) fn start(levels: &str, format: LogFormat) -> Result<Self, CliError> {
        let state = State { levels: levels.to_owned(), is_debug: false };
        let filter = Filter::new(state.targets()?);
        // If standard error is broken, the failure can't be reported anywhere, and `eprintln!` would panic.
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(|| LogLine(std::io::stderr()))
            .log_internal_errors(false);
        let registry = tracing_subscriber::registry().with(filter.clone());
        match format {
            LogFormat::Human => registry.with(layer.with_ansi(is_colored(&std::io::stderr()))).try_init()?,
            LogFormat::Json => {
                registry.with(layer.fmt_fields(JsonFields::new()).event_format(JsonLines)).try_init()?
            }
        }
        Ok(Self { filter, state: Mutex::new(state) })
    }

    /// Returns a task that never ends and changes the log levels on signals. SIGHUP reloads `log` from the
    /// configuration file; SIGUSR1 turns [`DEBUG_TARGETS`] on or off.
    ///
    /// # Errors
    /// Returns an error if the signal handlers can't be installed.
    pub(crate) fn follow_signals(self, settings: Settings) -> Result<impl Future<Output = ()>, CliError> {
        let (mut hangup, mut toggle) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
        Ok(async move {
            loop {
                let outcome = tokio::select! {
                    _ = hangup.recv() => self.reload(&settings),
                    _ = toggle.recv() => self.toggle_debug(),
                };
                if let Err(error) = outcome {
                    error!("could not change the log levels, the previous ones stay in use: {error}");
                }
            }
        })
    }

    fn reload(&self, settings: &Settings) -> Result<(), CliError> {
        let Some(levels) = settings.reload_log()? else { return Ok(()) };
        let is_new = self.change(|state| {
            let is_new = state.levels != levels;
            state.levels = levels;
            is_new
        })?;
        if is_new {
            warn!("log levels reloaded from the configuration file");
        }
        Ok(())
    }

    fn toggle_debug(&self) -> Result<(), CliError> {
        let is_debug = self.change(|state| {
            state.is_debug = !state.is_debug;
            state.is_debug
        })?;
        if is_debug {
            warn!("log level raised to debug; send SIGUSR1 again to restore it");
        } else {
            warn!("log level restored");
        }
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, CliError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = State { levels: state.levels.clone(), is_debug: state.is_debug };
        let outcome = change(&mut next);
        self.filter.set(next.targets()?);
        *state = next;
        Ok(outcome)
    }
}

/// A log formatter that writes each event as one line of JSON.
struct JsonLines;

/// A log event in the form in which it is serialized to JSON.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: String,
    /// Fields of the spans in [`CONTEXT_SPANS`]: `request_id` or `delivery`.
    #[serde(flatten)]
    spans: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
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
        // Events from the crate `log` carry their target in this field.
        let target = text("log.target");
        fields.retain(|name, _| !name.starts_with("log."));
        let mut spans = Map::new();
        // Skip spans from libraries, because their fields could have the same names as the fields of `CONTEXT_SPANS`.
        let scope = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        for span in scope.filter(|span| CONTEXT_SPANS.contains(&span.metadata().target())) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<JsonFields>>();
            let parsed = formatted.map(|fields| serde_json::from_str::<Map<_, _>>(&fields.fields));
            if let Some(Ok(fields)) = parsed {
                spans.extend(fields);
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

/// The fields of a log event, collected as JSON values.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }
}
