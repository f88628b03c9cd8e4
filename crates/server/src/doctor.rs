//! `countersign doctor`: looks at everything that `serve` would use, and says what to do about what it finds.
//!
//! It changes nothing, and works beside a server as well as without one.

mod database;
mod machine;
mod outside;

use std::fmt;

use app::SystemClock;
use clap::Args;
use domain::Clock as _;
use serde::Serialize;

use crate::cli::Serve;
use crate::config::Settings;
use crate::failure::Failure;
use crate::serve;
use crate::terminal::{plain_json, say};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Connect to the hosts of webhooks; sends nothing
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    serve: Box<Serve>,
}

/// Days before a certificate ends from which on that is a warning.
const DAYS: i64 = 30;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Problem => "PROBLEM",
        })
    }
}

/// What was looked at, what was found, and what to do about it.
#[derive(Debug, Serialize)]
struct Finding {
    subject: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn ok(&mut self, subject: &'static str, found: impl Into<String>) {
        self.findings.push(Finding { subject, level: Level::Ok, found: found.into(), advice: None });
    }

    fn warning(&mut self, subject: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.findings.push(Finding { subject, level: Level::Warning, found: found.into(), advice });
    }

    fn problem(&mut self, subject: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.findings.push(Finding { subject, level: Level::Problem, found: found.into(), advice });
    }

    fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Problem).count()
    }

    fn print(&self) -> Result<(), Failure> {
        for Finding { subject, level, found, advice } in &self.findings {
            say(format_args!("{level:8} {subject}: {found}"))?;
            if let Some(advice) = advice {
                say(format_args!("         {advice}"))?;
            }
        }
        Ok(())
    }
}

pub(crate) async fn run(doctor: &Doctor, settings: &Settings) -> Result<(), Failure> {
    let options = doctor.serve.as_ref();
    let mut report = Report::default();
    configuration(&mut report, options, settings);
    let now = SystemClock.now();
    outside::way_in(&mut report, options, now);
    machine::look(&mut report, options);
    database::look(&mut report, options, now, doctor.online).await;
    let problems = report.problems();
    let printed = if doctor.json {
        let json = serde_json::json!({ "problems": problems, "findings": report.findings });
        say(plain_json(&json))
    } else {
        report.print()
    };
    match problems {
        0 => printed,
        1 => Err(Failure::new("there is a problem")),
        many => Err(Failure::new(format!("there are {many} problems"))),
    }
}

/// What `serve` would refuse to start with.
fn configuration(report: &mut Report, options: &Serve, settings: &Settings) {
    let checks = [serve::prepare(options).map(drop), options.storage.given_secrets()];
    let mut is_right = true;
    for failure in checks.into_iter().filter_map(Result::err) {
        is_right = false;
        report.problem(
            "configuration",
            failure.to_string(),
            "mend it; `countersign config show` tells where it is set",
        );
    }
    for warning in settings.warnings() {
        report.warning("configuration", warning, "see `countersign config show`");
    }
    if is_right {
        let file = settings.file.as_ref().map(|file| file.display().to_string());
        report.ok("configuration", file.unwrap_or_else(|| "no file; the environment and flags".to_owned()));
    }
}
