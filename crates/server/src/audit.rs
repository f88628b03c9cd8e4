//! `countersign audit`: works on the database, also while the server runs. And who the operator is.

use app::audit::AuditFilter;
use app::{ChainedLine, Origin};
use clap::{Args, Subcommand};
use domain::audit::{Line, Mark};
use domain::{Parameter as _, Timestamp};
use serde_json::{Value, json};

use crate::cli::{Checkpoints, Storage};
use crate::failure::Failure;
use crate::terminal::{plain_json, say, write};

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show who changed what, newest first
    List {
        /// Only from this instant on, such as 2026-01-01 or 2026-01-01T12:00:00Z
        #[arg(long, value_parser = instant)]
        since: Option<Timestamp>,
        /// Only what this actor did: a SID, or an operator's name
        #[arg(long)]
        actor: Option<String>,
        /// Only what was done to this SID
        #[arg(long)]
        resource: Option<String>,
        /// How many lines
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        storage: Storage,
    },
    /// Check that no line was changed, taken out or added; prints the number and MAC of the newest
    Verify {
        /// NUMBER:MAC, as an earlier check or the server's log printed it: shows whether the end was cut off
        #[arg(long)]
        since: Option<Mark>,
        #[command(flatten)]
        checkpoints: Checkpoints,
        #[command(flatten)]
        storage: Storage,
    },
    /// Accept the audit log as it is: lines without a valid MAC, and an end behind the checkpoint file, as after the
    /// restore of a backup. Leaves a line that says so; stop the servers before
    Accept {
        #[command(flatten)]
        checkpoints: Checkpoints,
        #[command(flatten)]
        storage: Storage,
    },
    /// Write all chained lines as JSON, one on a line, oldest first
    Export {
        /// Only those behind this number
        #[arg(long, default_value_t = 0)]
        after: i64,
        #[command(flatten)]
        storage: Storage,
    },
}

/// The operator who runs this command.
pub(crate) fn operator() -> Origin {
    let names = ["USER", "LOGNAME"].map(std::env::var);
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    Origin::operator(&name.unwrap_or_default())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let midnight = || Timestamp::from_parameter(&format!("{text}T00:00:00Z"));
    Timestamp::from_parameter(text).or_else(|_| midnight()).map_err(|expected| expected.to_string())
}

pub(crate) async fn run(audit: Audit) -> Result<(), Failure> {
    match audit.command {
        Command::List { since, actor, resource, limit, storage } => {
            let app = storage.open_existing().await?;
            let filter = AuditFilter { from: since, actor, resource_sid: resource, ..AuditFilter::default() };
            for found in app.audit_lines(filter, i64::from(limit)).await? {
                let number = found.mark.map_or_else(|| "-".to_owned(), |mark| mark.number.to_string());
                say(format_args!("{number:>8}  {}", words(&found.line)))?;
            }
            app.stop().await;
        }
        Command::Verify { since, checkpoints, storage } => {
            let app = storage.open_existing().await?;
            let file = checkpoints.audit_checkpoint_file.as_deref();
            let checkpoints = file.map(|file| app.checkpoints_in(file)).transpose()?.unwrap_or_default();
            let noted: Vec<_> = checkpoints.iter().map(|checkpoint| checkpoint.mark).chain(since).collect();
            let holds = app.verify_audit(&noted).await?;
            app.stop().await;
            let holds = holds?;
            say(format_args!("lines         {}, all as they were written", holds.checked))?;
            if !checkpoints.is_empty() {
                say(format_args!("checkpoints   {}, none contradicts them", checkpoints.len()))?;
            }
            if holds.removed.number > 0 {
                say(format_args!(
                    "begins after  {}, up to which they went after their time",
                    holds.removed.number
                ))?;
            }
            if holds.waiting > 0 {
                say(format_args!("not chained   {} yet", holds.waiting))?;
            }
            say(format_args!("head          {}", holds.head))?;
        }
        Command::Accept { checkpoints, storage } => {
            let app = storage.open_existing().await?;
            let accepted = app.accept_audit_lines(&operator()).await?;
            say(format_args!("accepted      {accepted} lines"))?;
            if let Some(file) = &checkpoints.audit_checkpoint_file {
                say(format_args!("accepted      head {}", app.accept_audit_chain(&operator(), file).await?))?;
            }
            app.stop().await;
        }
        Command::Export { after, storage } => {
            let app = storage.open_existing().await?;
            let mut number = after;
            loop {
                let lines = app.audit_after(number).await?;
                let Some(last) = lines.last() else { break };
                number = last.number;
                let mut page = String::new();
                for line in &lines {
                    page.push_str(&plain_json(&json(line)?));
                    page.push('\n');
                }
                write(page.as_bytes())?;
            }
            app.stop().await;
        }
    }
    Ok(())
}

/// A line for people.
fn words(line: &Line) -> String {
    let about = line.resource_sid.as_deref().unwrap_or("-");
    let mut words = format!("{}  {}  {about}  by {}", line.created_at, line.event_type, line.actor_type);
    for (before, said) in [(" ", &line.actor), ("  from ", &line.address), ("  request ", &line.request_sid)]
    {
        if let Some(said) = said {
            words.push_str(before);
            words.push_str(said);
        }
    }
    if line.data != "{}" {
        words.push_str("  ");
        words.push_str(&line.data);
    }
    words
}

/// A line for programs; the time with all its digits.
fn json(found: &ChainedLine) -> Result<Value, Failure> {
    let unreadable = || Failure::new(format!("line {} can't be read; see `audit verify`", found.number));
    let (mac, line) = found.contents.as_ref().ok_or_else(unreadable)?;
    Ok(json!({
        "number": found.number,
        "mac": mac.to_string(),
        "sid": line.sid,
        "date": format!("{:?}", line.created_at),
        "actor_type": line.actor_type,
        "actor": line.actor,
        "event_type": line.event_type,
        "account_sid": line.account_sid,
        "resource_sid": line.resource_sid,
        "data": line.data(),
        "address": line.address,
        "request_sid": line.request_sid,
    }))
}
