//! `countersign webhooks`: works on the database, also while the server runs, which does the sending.

use std::time::Duration;

use app::{App, DeliveryFilter};
use clap::{Args, Subcommand};
use domain::WebhookSid;
use domain::deliveries::{DeliveryId, Work};

use crate::account::missing;
use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Webhooks {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the webhooks of all services
    List {
        #[command(flatten)]
        storage: Storage,
    },
    /// Show what was sent and what came back, newest first
    Attempts {
        /// Only what a webhook was sent
        sid: Option<WebhookSid>,
        /// Only deliveries that are owed, delivered, skipped or failed
        #[arg(long, value_parser = ["owed", "delivered", "skipped", "failed"])]
        state: Option<String>,
        /// Pushes and debugger events too
        #[arg(long)]
        all: bool,
        /// How many deliveries
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        storage: Storage,
    },
    /// Send a delivery that has ended once more, under the same idempotency token
    Redeliver {
        /// Its id, as `attempts` shows it
        id: String,
        #[command(flatten)]
        storage: Storage,
    },
    /// Send a webhook a test event, of type webhook.test, once, and wait for what comes of it
    Test {
        /// SID of the webhook
        sid: WebhookSid,
        #[command(flatten)]
        storage: Storage,
    },
}

pub(crate) async fn run(webhooks: Webhooks) -> Result<(), Failure> {
    match webhooks.command {
        Command::List { storage } => {
            let app = storage.open_existing().await?;
            for webhook in app.all_webhooks().await? {
                let types: Vec<&str> =
                    webhook.event_types.iter().map(|subscription| subscription.as_str()).collect();
                let (sid, status, url) = (webhook.sid, webhook.status.as_str(), webhook.url.as_str());
                say(format_args!("{sid}  {status:8}  {url}  {}", types.join(",")))?;
            }
            app.stop().await;
        }
        Command::Attempts { sid, state, all, limit, storage } => {
            let app = storage.open_existing().await?;
            let kind = (!all && sid.is_none()).then(|| "webhook".to_owned());
            let filter = DeliveryFilter { subject: sid.map(|sid| sid.to_string()), kind, state };
            for status in app.deliveries(filter, i64::from(limit)).await? {
                print(&app, status.delivery.id).await?;
            }
            app.stop().await;
        }
        Command::Redeliver { id, storage } => {
            let parsed: DeliveryId =
                id.parse().map_err(|_| Failure::new("expected the id of a delivery, a UUID"))?;
            let app = storage.open_existing().await?;
            let refused = |error| match error {
                app::Error::Problem(_) => {
                    Failure::new(format!("there is no delivery {id} to a webhook that has ended"))
                }
                fault => fault.into(),
            };
            app.redeliver(&operator(), parsed).await.map_err(refused)?;
            say(format_args!("owed again: {id}"))?;
            app.stop().await;
        }
        Command::Test { sid, storage } => {
            let app = storage.open_existing().await?;
            let id = app.test_webhook(&operator(), sid).await.map_err(|error| missing(sid, error))?;
            wait_for_attempt(&app, id).await?;
            let printed = print(&app, id).await;
            let delivered = app.delivery(id).await?.0.state == "delivered";
            app.stop().await;
            if !delivered {
                return Err(Failure::new("the webhook did not take it"));
            }
            printed?;
        }
    }
    Ok(())
}

/// Waits until a running server has made an attempt.
async fn wait_for_attempt(app: &App, id: DeliveryId) -> Result<(), Failure> {
    const LOOKS: u32 = 100;
    for _ in 0..LOOKS {
        if !app.delivery(id).await?.1.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(Failure::new(format!("nobody has sent {id} yet: is a server running on this database?")))
}

async fn print(app: &App, id: DeliveryId) -> Result<(), Failure> {
    let (status, attempts) = app.delivery(id).await?;
    let delivery = &status.delivery;
    let (created_at, state) = (delivery.created_at, &status.state);
    say(format_args!("{id}  {created_at}  {state}  {} to {}", about(&delivery.work), delivery.destination))?;
    for attempt in attempts {
        let detail = attempt.detail.unwrap_or_default();
        let code = attempt.error_code.map(|code| format!("  error {code}")).unwrap_or_default();
        say(format_args!(
            "  {}  attempt {}  {}{code}  {detail}",
            attempt.began_at, attempt.number, attempt.ending
        ))?;
    }
    if state == "owed" {
        say(format_args!("  {}  next, if nobody is at it", delivery.due_at))?;
    }
    Ok(())
}

/// What a delivery is about, in a few words.
fn about(work: &Work) -> String {
    match work {
        Work::Webhook { webhook_sid, parameters, .. } => {
            let said = |wanted: &str| {
                let found = parameters.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| format!(" {value}")).unwrap_or_default()
            };
            let subject = if said("challenge_sid").is_empty() { "factor_sid" } else { "challenge_sid" };
            format!("webhook {webhook_sid}{}{}", said("type"), said(subject))
        }
        Work::Push(asked) => format!("push about {} to {}", asked.challenge_sid, asked.factor_sid),
        Work::Debugger { alert_sid, .. } => format!("debugger event {alert_sid}"),
    }
}
