//! `countersign webhooks`: shows webhooks and their deliveries, and enqueues deliveries for a running server to send.

use std::time::Duration;

use app::{App, DeliveryFilter};
use clap::{Args, Subcommand, ValueEnum};
use domain::deliveries::{DeliveryId, DeliveryState, Work};
use domain::{AlertSid, FactorSid, VerificationSid, WebhookSid};
use terminal::{CliError, say};

use super::not_found::not_found;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the webhooks of all services
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Show deliveries with their attempts and results, newest first
    Attempts {
        /// Show only deliveries to this webhook (YW…), or about this factor (YF…), verification (VE…) or alert (NO…)
        #[arg(value_parser = parse_subject)]
        sid: Option<String>,
        /// Show only deliveries in this state
        #[arg(long)]
        state: Option<StateArgument>,
        /// Also show pushes, messages, verification events and debugger events
        #[arg(long)]
        all: bool,
        /// Maximum number of deliveries to show
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Send a finished delivery again, with the same idempotency token
    Redeliver {
        /// Id of the delivery, from `countersign webhooks attempts`
        id: String,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Send a test event of type webhook.test to a webhook, and wait for the result
    Test {
        /// SID of the webhook
        sid: WebhookSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

/// The state of a delivery, as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    Pending,
    Delivered,
    Skipped,
    Failed,
}

impl From<StateArgument> for DeliveryState {
    fn from(argument: StateArgument) -> Self {
        match argument {
            StateArgument::Pending => Self::Pending,
            StateArgument::Delivered => Self::Delivered,
            StateArgument::Skipped => Self::Skipped,
            StateArgument::Failed => Self::Failed,
        }
    }
}

/// Checks the SID of what deliveries are about, and returns it as the database has it.
fn parse_subject(text: &str) -> Result<String, &'static str> {
    let webhook = || text.parse::<WebhookSid>().map(|sid| sid.to_string());
    let factor = || text.parse::<FactorSid>().map(|sid| sid.to_string());
    let verification = || text.parse::<VerificationSid>().map(|sid| sid.to_string());
    let alert = || text.parse::<AlertSid>().map(|sid| sid.to_string());
    let found = webhook().or_else(|_| factor()).or_else(|_| verification()).or_else(|_| alert());
    found.map_err(|_| "expected the SID of a webhook, a factor, a verification or an alert")
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::List { storage } => storage.with_app(list).await,
        Command::Attempts { sid, state, all, limit, storage } => {
            let kind = (!all && sid.is_none()).then(|| "webhook".to_owned());
            let state = state.map(|state| DeliveryState::from(state).as_str().to_owned());
            let filter = DeliveryFilter { subject: sid, kind, state };
            storage.with_app(async |app| list_deliveries(app, filter, limit).await).await
        }
        Command::Redeliver { id, storage } => {
            let id =
                id.parse().map_err(|_| CliError::new("expected the id of a delivery, which is a UUID"))?;
            storage.with_app(async |app| redeliver(app, id).await).await
        }
        Command::Test { sid, storage } => storage.with_app(async |app| send_test_event(app, sid).await).await,
    }
}

async fn list(app: &App) -> Result<(), CliError> {
    for webhook in app.all_webhooks().await? {
        let types: Vec<&str> = webhook.event_types.iter().map(|event_type| event_type.as_str()).collect();
        let (sid, status, url) = (webhook.sid, webhook.status.as_str(), webhook.url.as_str());
        say(format_args!("{sid}  {status:8}  {url}  {}", types.join(",")))?;
    }
    Ok(())
}

async fn list_deliveries(app: &App, filter: DeliveryFilter, limit: u32) -> Result<(), CliError> {
    for status in app.deliveries(filter, i64::from(limit)).await? {
        print(app, status.delivery.id).await?;
    }
    Ok(())
}

async fn redeliver(app: &App, id: DeliveryId) -> Result<(), CliError> {
    app.redeliver(&operator(), id).await.map_err(|error| match error {
        app::Error::Problem(_) => {
            CliError::new(format!("there is no finished delivery {id} to a webhook; it may still be pending"))
        }
        fault => fault.into(),
    })?;
    say(format_args!("enqueued again: {id}"))
}

/// Enqueues a test event, waits until a running server has sent it, and prints the result. Returns an error unless the
/// webhook accepted the event.
async fn send_test_event(app: &App, sid: WebhookSid) -> Result<(), CliError> {
    let id = app.test_webhook(&operator(), sid).await.map_err(|error| not_found(sid, error))?;
    wait_for_attempt(app, id).await?;
    let printed = print(app, id).await;
    let (status, _) = app.delivery(id).await?;
    // A failed delivery is a more important error than a failure to print it.
    if status.state != DeliveryState::Delivered {
        return Err(CliError::new("the webhook did not accept the test event; the attempt above shows why"));
    }
    printed
}

/// Waits until a running server has made an attempt to send the delivery.
///
/// # Errors
/// Returns an error if there is no attempt within 20 seconds.
async fn wait_for_attempt(app: &App, id: DeliveryId) -> Result<(), CliError> {
    const MAX_POLLS: u32 = 100;
    const POLL_INTERVAL: Duration = Duration::from_millis(200);
    for _ in 0..MAX_POLLS {
        if !app.delivery(id).await?.1.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Err(CliError::new(format!(
        "{id} was not sent within 20 seconds; check that a server is running on this database"
    )))
}

/// Prints a delivery and its attempts, one per line.
async fn print(app: &App, id: DeliveryId) -> Result<(), CliError> {
    let (status, attempts) = app.delivery(id).await?;
    let delivery = &status.delivery;
    let is_pending = status.state == DeliveryState::Pending;
    // The database stores this state under an older name. Print the name that operators see everywhere else.
    let state = if is_pending { "pending" } else { status.state.as_str() };
    let created_at = delivery.created_at;
    say(format_args!(
        "{id}  {created_at}  {state}  {} to {}",
        describe(&delivery.work),
        delivery.destination
    ))?;
    for attempt in attempts {
        let detail = attempt.detail.unwrap_or_default();
        let code = attempt.error_code.map(|code| format!("  error {code}")).unwrap_or_default();
        say(format_args!(
            "  {}  attempt {}  {}{code}  {detail}",
            attempt.began_at,
            attempt.number,
            attempt.outcome.as_str()
        ))?;
    }
    if is_pending {
        say(format_args!("  {}  next attempt, unless one is running", delivery.next_attempt_at))?;
    }
    Ok(())
}

/// Returns a short description of what a delivery sends.
fn describe(work: &Work) -> String {
    match work {
        Work::Webhook { webhook_sid, parameters, .. } => {
            let parameter = |wanted: &str| {
                let found = parameters.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| format!(" {value}")).unwrap_or_default()
            };
            let subject = if parameter("challenge_sid").is_empty() { "factor_sid" } else { "challenge_sid" };
            format!("webhook {webhook_sid}{}{}", parameter("type"), parameter(subject))
        }
        Work::Push(push) => format!("push about {} to {}", push.challenge_sid, push.factor_sid),
        Work::Message(message) => format!("message about {}", message.verification_sid),
        Work::VerificationEvent { verification_sid, .. } => format!("event about {verification_sid}"),
        Work::Debugger { alert_sid, .. } => format!("debugger event {alert_sid}"),
    }
}
