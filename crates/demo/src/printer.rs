//! Prints the demo to standard output and counts its steps.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terminal::{CliError, ask, fold, is_colored, plain, program, warn, wrap, write};

use crate::clock::PausableClock;
use crate::exchange::{DeliveryView, ExchangeView};

/// Minimum width at which lines are wrapped, in columns.
const MIN_COLUMNS: usize = 40;

/// Maximum width of a line, in columns, even if the terminal is wider.
const MAX_COLUMNS: usize = 100;

/// The printer of the demo's output. It wraps lines to the width of the terminal and counts the steps.
pub(crate) struct Printer {
    /// Whether headings are printed in bold, which requires a terminal with colors.
    is_bold: bool,
    /// Width at which lines are wrapped, in columns.
    columns: usize,
    /// The clock to pause while the demo waits for Enter before each step; `None` without `--step`.
    step_clock: Option<Arc<PausableClock>>,
    /// Whether the reader of standard output has closed it.
    is_closed: AtomicBool,
    /// Titles of the steps that have started, in order.
    titles: Mutex<Vec<&'static str>>,
}

impl Printer {
    /// Creates a printer. If `step_clock` is given, the printer waits for Enter before each step, and pauses
    /// the clock meanwhile.
    pub(crate) fn new(step_clock: Option<Arc<PausableClock>>) -> Self {
        let stdout = std::io::stdout();
        Self {
            is_bold: is_colored(&stdout),
            columns: terminal::width(&stdout).unwrap_or(MAX_COLUMNS).clamp(MIN_COLUMNS, MAX_COLUMNS),
            step_clock,
            is_closed: AtomicBool::new(false),
            titles: Mutex::default(),
        }
    }

    /// Prints who takes part in the demo and how to read its output. `parties` are the names and roles of the three
    /// participants.
    pub(crate) fn print_introduction(&self, title: &str, parties: &[(&str, &str); 3]) {
        self.heading(title);
        self.paragraph(
            "Three parties communicate over HTTP. In this demo all of them run in one process; nothing leaves this \
             machine, and nothing is stored.",
        );
        for (name, role) in parties {
            self.line(format_args!("  {name:<7}  {role}"));
        }
        self.line("");
        self.paragraph(
            "The demo prints every request, with its form and its signed parts decoded. … marks an omission; secrets \
             are shortened to their first characters.",
        );
    }

    /// Starts a step: waits for Enter if `--step` was given, then prints the step's title and explanation.
    pub(crate) async fn start_step(&self, title: &'static str, explanation: &str) {
        self.wait_for_enter().await;
        let number = {
            let mut titles = self.titles();
            titles.push(title);
            titles.len()
        };
        self.heading(format_args!("{number}. {title}"));
        self.paragraph(explanation);
    }

    async fn wait_for_enter(&self) {
        let Some(clock) = &self.step_clock else { return };
        clock.pause();
        ask("Press Enter for the next step:");
        // Reads on a blocking thread, because the receiver of pushes and webhooks runs on this one.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
        if !std::io::stdin().is_terminal() {
            // Ends the line, as Enter does at a terminal.
            warn("");
        }
        clock.resume();
    }

    /// Returns the number of the current step, counted from 1. Returns 0 before the first step.
    pub(crate) fn step_number(&self) -> usize {
        self.titles().len()
    }

    /// Prints a request to the server, what the server checks, and the response.
    pub(crate) fn print_exchange(&self, exchange: &ExchangeView) {
        self.lines(exchange.lines(self.columns));
    }

    /// Prints a push or webhook that the server sent, and the response.
    pub(crate) fn print_delivery(&self, delivery: &DeliveryView) {
        self.lines(delivery.lines());
    }

    /// Prints a remark about requests that are not printed in detail.
    pub(crate) fn print_remark(&self, text: &str) {
        self.paragraph(text);
    }

    /// Prints `statement` with a check mark if it is true.
    ///
    /// # Errors
    /// Returns an error if `is_true` is `false`, or if the reader of standard output has closed it.
    pub(crate) fn check(&self, is_true: bool, statement: &str) -> Result<(), CliError> {
        self.require_open()?;
        if !is_true {
            return Err(CliError::new(format!("this should be true but is not: {statement}")));
        }
        for (index, line) in wrap(statement, self.columns - 4).iter().enumerate() {
            self.line(format_args!("{} {line}", if index == 0 { "  ✓" } else { "   " }));
        }
        self.line("");
        Ok(())
    }

    /// Prints the list of steps with their results. `took` is the duration of the demo.
    ///
    /// # Errors
    /// Returns the error in `result`, with the number of the step that failed, or an error if the reader of
    /// standard output has closed it.
    pub(crate) fn print_summary(&self, result: Result<(), CliError>, took: Duration) -> Result<(), CliError> {
        self.require_open()?;
        let titles = self.titles().clone();
        let passed = titles.len() - usize::from(result.is_err() && !titles.is_empty());
        self.heading("What you saw");
        for (index, title) in titles.iter().enumerate() {
            let mark = if index < passed { '✓' } else { '✗' };
            self.line(format_args!("  {mark} {:>2}. {title}", index + 1));
        }
        self.line("");
        result
            .map_err(|error| CliError::new(format!("the demo failed in step {}: {error}", titles.len())))?;
        self.line(format_args!("All {passed} steps passed, in {:.1} seconds.\n", took.as_secs_f32()));
        Ok(())
    }

    /// Prints how `--stay` continues.
    pub(crate) fn print_browser_introduction(&self) {
        self.heading("Your browser as the phone");
        self.paragraph(
            "The server keeps running. Open the link in a browser on this machine and press Enroll. Then press Enter \
             here: the backend asks, and your browser shows the request. Ctrl-C stops the demo.",
        );
    }

    /// Prints a link on a line of its own, unbroken, so that it can be copied.
    ///
    /// # Errors
    /// Returns an error if the reader of standard output has closed it.
    pub(crate) fn print_link(&self, link: &str) -> Result<(), CliError> {
        self.print(&format!("{}\n\n", plain(link)));
        self.require_open()
    }

    /// Prints the browser's answer to a challenge.
    ///
    /// # Errors
    /// Returns an error if the reader of standard output has closed it.
    pub(crate) fn print_answer(&self, status: &str) -> Result<(), CliError> {
        let mark = if status == "approved" { '✓' } else { '✗' };
        self.line(format_args!("  {mark} {status}\n"));
        self.paragraph("Press Enter to ask again.");
        self.require_open()
    }

    /// Prints what to try after the demo.
    pub(crate) fn print_next_steps(&self) {
        let program = program();
        self.heading("Try it yourself");
        self.line(
            "Start a server. The first time, it prints two lines to copy into the backend's terminal:\n",
        );
        self.line(format_args!("  {program} serve\n"));
        self.line("As the backend, create a service:\n");
        self.line("  curl --fail-with-body -sSu \"$COUNTERSIGN_ACCOUNT_SID:$COUNTERSIGN_AUTH_TOKEN\" \\");
        self.line("    http://127.0.0.1:8080/v2/Services -d FriendlyName=Owl%20Bank\n");
        self.line("As the phone, enroll and answer challenges:\n");
        self.line(format_args!("  {program} device --help"));
    }

    /// Prints what to try after the demo of one-time codes.
    pub(crate) fn print_next_steps_with_codes(&self) {
        let program = program();
        self.heading("Try it yourself");
        self.line("Start a server that sends mail, or text messages through a gateway:\n");
        self.line(format_args!(
            "  {program} serve --smtp-url smtps://USER:PASSWORD@mail.example.com --mail-from codes@example.com\n"
        ));
        self.line("Or let one account send through an outlet of its own:\n");
        self.line(format_args!("  {program} outlet create --help"));
    }

    fn heading(&self, text: impl Display) {
        let (start, end) = if self.is_bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        for line in fold(&format!("── {text}"), self.columns) {
            self.print(&format!("{start}{}{end}\n", plain(&line)));
        }
        self.line("");
    }

    fn paragraph(&self, text: &str) {
        self.lines(wrap(text, self.columns));
    }

    /// Prints the lines, followed by an empty line.
    fn lines(&self, lines: Vec<String>) {
        lines.iter().for_each(|line| self.line(line));
        self.line("");
    }

    /// Prints one or more lines, breaking those that are wider than the terminal.
    fn line(&self, text: impl Display) {
        for line in text.to_string().split('\n') {
            for part in fold(line, self.columns) {
                self.print(&format!("{}\n", plain(&part)));
            }
        }
    }

    /// Prints `text`. A write failure is recorded; the next check then ends the demo.
    fn print(&self, text: &str) {
        if write(text.as_bytes()).is_err() {
            self.is_closed.store(true, Ordering::Relaxed);
        }
    }

    fn require_open(&self) -> Result<(), CliError> {
        if self.is_closed.load(Ordering::Relaxed) { Err(CliError::output_closed()) } else { Ok(()) }
    }

    fn titles(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.titles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
