//! `countersign audit`: shows, verifies and exports the audit log, even while servers are running.

use std::path::PathBuf;

use app::audit::{AuditFilter, VerificationProgress};
use app::{App, ChainedRecord};
use clap::{Args, Subcommand};
use domain::audit::{AuditRecord, ChainPosition};
use domain::{Parameter as _, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use terminal::{CliError, plain_json, say, write};

use crate::operator::operator;
use crate::options::{CheckpointOptions, StorageOptions};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show audit records, newest first
    List {
        /// Show only records since this time, such as 2026-01-01 or 2026-01-01T12:00:00Z
        #[arg(long, value_parser = parse_time)]
        since: Option<Timestamp>,
        /// Show only records of this actor: a SID, or the name of an operator
        #[arg(long)]
        actor: Option<String>,
        /// Show only records about the resource with this SID
        #[arg(long)]
        resource: Option<String>,
        /// Maximum number of records to show
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Verify that no audit record was changed, removed or added, and print the number and MAC of the newest record
    Verify {
        /// Checkpoint (NUMBER:MAC) from an earlier `countersign audit verify` or the server's log; detects whether the
        /// log has been truncated since
        #[arg(long, value_name = "NUMBER:MAC")]
        checkpoint: Option<ChainPosition>,
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Accept the audit log in its current state, for example after restoring a backup. This accepts records without a
    /// valid MAC, and a log that ends before the last checkpoint in the file. Stop the servers first; a new record
    /// documents the acceptance
    Accept {
        #[command(flatten)]
        checkpoints: CheckpointOptions,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Print all chained audit records as JSON, one per line, oldest first
    Export {
        /// Print only records with a number higher than this
        #[arg(long, default_value_t = 0)]
        after: i64,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

/// Parses a timestamp, or a date, which means midnight UTC at the beginning of that day. Returns a description of the
/// expected form if `text` is neither.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let midnight = || Timestamp::from_parameter(&format!("{text}T00:00:00Z"));
    Timestamp::from_parameter(text).or_else(|_| midnight()).map_err(|expected| expected.to_string())
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::List { since, actor, resource, limit, storage } => {
            let filter = AuditFilter { from: since, actor, resource_sid: resource, ..AuditFilter::default() };
            storage.with_app(async |app| list(app, filter, limit).await).await
        }
        Command::Verify { checkpoint, checkpoints, storage } => {
            let file = checkpoints.audit_checkpoint_file;
            storage.with_app(async |app| verify(app, checkpoint, file).await).await
        }
        Command::Accept { checkpoints, storage } => {
            let file = checkpoints.audit_checkpoint_file;
            storage.with_app(async |app| accept(app, file).await).await
        }
        Command::Export { after, storage } => storage.with_app(async |app| export(app, after).await).await,
    }
}

async fn list(app: &App, filter: AuditFilter, limit: u32) -> Result<(), CliError> {
    for found in app.audit_records(filter, i64::from(limit)).await? {
        let number = found.position.map_or_else(|| "-".to_owned(), |position| position.number.to_string());
        say(format_args!("{number:>8}  {}", format_record(&found.record)))?;
    }
    Ok(())
}

async fn verify(app: &App, checkpoint: Option<ChainPosition>, file: Option<PathBuf>) -> Result<(), CliError> {
    let published = file.map(|file| app.checkpoints_in(&file)).transpose()?.unwrap_or_default();
    let expected: Vec<_> = published.iter().map(|published| published.position).chain(checkpoint).collect();
    let bar = progress_bar();
    let verification = app.verify_audit(&expected, |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let verified = verification?.into_result()?;
    say(format_args!("records       {}, all unchanged", verified.checked))?;
    if !published.is_empty() {
        say(format_args!("checkpoints   {}, all consistent with the records", published.len()))?;
    }
    if verified.removed.number > 0 {
        say(format_args!(
            "begins after  {}, earlier records were removed by audit retention",
            verified.removed.number
        ))?;
    }
    if verified.unchained > 0 {
        say(format_args!("not chained   {} yet", verified.unchained))?;
    }
    say(format_args!("head          {}", verified.head))
}

/// Returns a progress bar for records on standard error. It is shown only on a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} records") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: VerificationProgress) {
    bar.set_length(progress.total.unsigned_abs());
    bar.set_position(progress.checked.unsigned_abs());
}

async fn accept(app: &App, file: Option<PathBuf>) -> Result<(), CliError> {
    let accepted = app.accept_audit_records(&operator()).await?;
    say(format_args!("accepted      {accepted} records"))?;
    if let Some(file) = &file {
        let head = app.accept_audit_chain(&operator(), file).await?;
        say(format_args!("accepted      head {head}"))?;
    }
    Ok(())
}

async fn export(app: &App, after: i64) -> Result<(), CliError> {
    let mut number = after;
    loop {
        let records = app.chained_records_after(number).await?;
        let Some(last) = records.last() else { return Ok(()) };
        number = last.number;
        let mut page = String::new();
        for record in &records {
            page.push_str(&plain_json(&to_json(record)?));
            page.push('\n');
        }
        write(page.as_bytes())?;
    }
}

/// Formats an audit record as a line of text.
fn format_record(record: &AuditRecord) -> String {
    let resource = record.resource_sid.as_deref().unwrap_or("-");
    let mut text =
        format!("{}  {}  {resource}  by {}", record.created_at, record.event_type, record.actor_type);
    let request_sid = record.request_sid.map(|sid| sid.to_string());
    for (label, value) in [(" ", &record.actor), ("  from ", &record.address), ("  request ", &request_sid)] {
        if let Some(value) = value {
            text.push_str(label);
            text.push_str(value);
        }
    }
    if record.data != "{}" {
        text.push_str("  ");
        text.push_str(&record.data);
    }
    text
}

/// Converts a chained record to JSON, with its timestamp in full precision. Returns an error if the record can't be
/// read.
fn to_json(record: &ChainedRecord) -> Result<Value, CliError> {
    let unreadable = || {
        CliError::new(format!(
            "record {} can't be read; `countersign audit verify` reports what is wrong with it",
            record.number
        ))
    };
    let (mac, contents) = record.contents.as_ref().ok_or_else(unreadable)?;
    Ok(json!({
        "number": record.number,
        "mac": mac.to_string(),
        "sid": contents.sid,
        "date": format!("{:?}", contents.created_at),
        "actor_type": contents.actor_type,
        "actor": contents.actor,
        "event_type": contents.event_type,
        "account_sid": contents.account_sid,
        "resource_sid": contents.resource_sid,
        "data": contents.data(),
        "address": contents.address,
        "request_sid": contents.request_sid,
    }))
}
