//! `countersign doctor`: checks everything that `serve` uses, and reports each finding with advice.
//!
//! It changes nothing, and works whether or not a server is running.

mod database;
mod machine;
mod network;
mod outlets;

use std::fmt;

use app::SystemClock;
use clap::Args;
use domain::Clock as _;
use serde::Serialize;
use terminal::{CliError, plain_json, say};

use crate::config::Settings;
use crate::options::ServeOptions;
use crate::serve_settings::ServeSettings;
use crate::test_mode;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also read the whole SQLite file and check its integrity, which takes minutes for a large database
    #[arg(long)]
    deep: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Also connect to the host of each webhook, without sending data
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    serve: Box<ServeOptions>,
}

/// Number of days before the expiry of a certificate from which the doctor warns.
const EXPIRY_WARNING_DAYS: i64 = 30;

/// The severity of a finding.
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

/// The result of one check: what was checked, what was found, and advice unless the level is `ok`.
#[derive(Debug, Serialize)]
struct Finding {
    subject: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// The findings of all checks that have run so far.
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

    fn print(&self) -> Result<(), CliError> {
        for Finding { subject, level, found, advice } in &self.findings {
            say(format_args!("{level:8} {subject}: {found}"))?;
            if let Some(advice) = advice {
                say(format_args!("         {advice}"))?;
            }
        }
        Ok(())
    }
}

/// Runs all checks and prints the findings.
///
/// # Errors
/// Returns an error if a problem was found, or if standard output can't be written.
pub(super) async fn run(arguments: &Arguments, settings: &Settings) -> Result<(), CliError> {
    let options = arguments.serve.as_ref();
    let mut report = Report::default();
    check_configuration(&mut report, options, settings);
    let now = SystemClock.now();
    network::check_listener(&mut report, options, now);
    machine::check(&mut report, options);
    outlets::check_configured(&mut report, options);
    database::check(&mut report, arguments, now).await;
    let problems = report.problems();
    let printed = if arguments.json {
        let json = serde_json::json!({ "problems": problems, "findings": report.findings });
        say(plain_json(&json))
    } else {
        report.print()
    };
    match problems {
        0 => printed,
        1 => Err(CliError::new("1 problem found")),
        many => Err(CliError::new(format!("{many} problems found"))),
    }
}

/// Reports configuration errors that would prevent `serve` from starting, and configuration warnings.
fn check_configuration(report: &mut Report, options: &ServeOptions, settings: &Settings) {
    let checks = [
        ServeSettings::read(options).map(drop),
        options.storage.check_given_secrets(),
        test_mode::require_off(options, settings),
    ];
    let mut is_valid = true;
    for error in checks.into_iter().filter_map(Result::err) {
        is_valid = false;
        report.problem(
            "configuration",
            error.to_string(),
            "correct it; `countersign config show` prints where each option is set",
        );
    }
    for warning in settings.warnings() {
        report.warning("configuration", warning, "`countersign config show` prints where each option is set");
    }
    if is_valid {
        let file = settings.file.as_ref().map(|file| file.display().to_string());
        report.ok(
            "configuration",
            file.unwrap_or_else(|| "no configuration file; environment and flags only".to_owned()),
        );
    }
}
