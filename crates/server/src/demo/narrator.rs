//! Prints the story, and keeps count of its steps.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::demo::clock::StoryClock;
use crate::demo::exchange::{Exchange, Notice};
use crate::demo::text::{WIDTH, fold, wrap};
use crate::failure::Failure;
use crate::terminal::{ask, is_colored, plain, program, warn, width, write};

/// Narrowest terminal that lines are broken for.
const MIN_WIDTH: usize = 40;

/// The printer of the demo.
pub(super) struct Narrator {
    /// Whether headings are bold.
    bold: bool,
    /// Most columns of a line.
    width: usize,
    /// The clock that stands still before each step until the reader presses Enter; `None` where nothing waits.
    pausing: Option<Arc<StoryClock>>,
    /// Whether the reader has closed the pipe.
    is_unread: AtomicBool,
    /// Titles of the steps that were begun.
    steps: Mutex<Vec<&'static str>>,
}

impl Narrator {
    pub(super) fn new(pausing: Option<Arc<StoryClock>>) -> Self {
        let stdout = std::io::stdout();
        Self {
            bold: is_colored(&stdout),
            width: width(&stdout).unwrap_or(WIDTH).clamp(MIN_WIDTH, WIDTH),
            pausing,
            is_unread: AtomicBool::new(false),
            steps: Mutex::default(),
        }
    }

    /// The curtain: who is who.
    pub(super) fn introduce(&self, url: &str) {
        self.heading("Countersign: a phone confirms a sign-in");
        self.paragraph(
            "Three parties talk over HTTP. For this demo all three are in one process; nothing leaves this \
             machine, and nothing is kept.",
        );
        self.line(format_args!(
            "  server   Countersign, here at {url}: knows the phones and checks their answers"
        ));
        self.line("  backend  your application's server: asks whether it is really the user who signs in");
        self.line(
            "  phone    your app on the user's phone: answers, and signs with a key that never leaves it\n",
        );
        self.paragraph(
            "You see every request as it goes over the wire, its form and its signed parts decoded. Where … \
             stands, something was left out; of secrets you see only the beginning.",
        );
    }

    /// Begins a step: what happens, and why.
    pub(super) async fn step(&self, title: &'static str, why: &str) {
        self.pause().await;
        let number = {
            let mut steps = self.steps();
            steps.push(title);
            steps.len()
        };
        self.heading(format_args!("{number}. {title}"));
        self.paragraph(why);
    }

    /// Waits for Enter if the reader wants that; at the end of input not any more.
    async fn pause(&self) {
        let Some(clock) = &self.pausing else { return };
        clock.pause();
        ask("Press Enter for the next step:");
        // On a thread of its own, since the receivers of pushes and webhooks run on this one.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
        if !std::io::stdin().is_terminal() {
            // Ends the line, as Enter at a terminal does.
            warn("");
        }
        clock.go_on();
    }

    /// The number of the step that is being told.
    pub(super) fn number(&self) -> usize {
        self.steps().len()
    }

    /// One request, what the server makes of it, and its answer.
    pub(super) fn exchange(&self, exchange: &Exchange) {
        exchange.lines(self.width).iter().for_each(|line| self.line(line));
        self.line("");
    }

    /// What the server says to somebody outside.
    pub(super) fn notice(&self, notice: &Notice) {
        notice.lines().iter().for_each(|line| self.line(line));
        self.line("");
    }

    /// Something that happens out of hearing.
    pub(super) fn aside(&self, text: &str) {
        self.paragraph(text);
    }

    /// What the step promised.
    ///
    /// # Errors
    /// When it does not hold, which ends the story.
    pub(super) fn check(&self, holds: bool, promise: &str) -> Result<(), Failure> {
        if self.is_unread.load(Ordering::Relaxed) {
            return Err(Failure::unread());
        }
        if !holds {
            return Err(Failure::new(format!("this should hold, and does not: {promise}")));
        }
        for (index, line) in wrap(promise, self.width - 4).iter().enumerate() {
            self.line(format_args!("{} {line}", if index == 0 { "  ✓" } else { "   " }));
        }
        self.line("");
        Ok(())
    }

    /// The end: what held, and what to try next; or where the story broke off.
    ///
    /// # Errors
    /// The story's own failure, with the number of the step.
    pub(super) fn end(&self, outcome: Result<(), Failure>, took: Duration) -> Result<(), Failure> {
        if self.is_unread.load(Ordering::Relaxed) {
            return Err(Failure::unread());
        }
        let steps = self.steps().clone();
        let held = steps.len() - usize::from(outcome.is_err() && !steps.is_empty());
        self.heading("What you saw");
        for (index, title) in steps.iter().enumerate() {
            let mark = if index < held { '✓' } else { '✗' };
            self.line(format_args!("  {mark} {:>2}. {title}", index + 1));
        }
        self.line("");
        match outcome {
            Ok(()) => {
                self.line(format_args!("All {held} steps held, in {:.1} seconds.\n", took.as_secs_f32()));
                self.say_what_next();
                Ok(())
            }
            Err(failure) => {
                Err(Failure::new(format!("the demo broke off in step {}: {failure}", steps.len())))
            }
        }
    }

    fn say_what_next(&self) {
        let program = program();
        self.heading("Try it yourself");
        self.line(
            "Start a server. The first time, it prints two lines to copy into the backend's terminal:\n",
        );
        self.line(format_args!("  {program} serve\n"));
        self.line("Be the backend, and create a service:\n");
        self.line("  curl --fail-with-body -sSu \"$COUNTERSIGN_ACCOUNT_SID:$COUNTERSIGN_AUTH_TOKEN\" \\");
        self.line("    http://127.0.0.1:8080/v2/Services -d FriendlyName=Owl%20Bank\n");
        self.line("Be the phone:\n");
        self.line(format_args!("  {program} device --help"));
    }

    fn heading(&self, text: impl Display) {
        let (begin, end) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        for line in fold(&format!("── {text}"), self.width) {
            self.print(&format!("{begin}{}{end}\n", plain(&line)));
        }
        self.line("");
    }

    fn paragraph(&self, text: &str) {
        wrap(text, self.width).iter().for_each(|line| self.line(line));
        self.line("");
    }

    /// Prints lines, broken where they are wider than the terminal.
    fn line(&self, text: impl Display) {
        for line in text.to_string().split('\n') {
            for part in fold(line, self.width) {
                self.print(&format!("{}\n", plain(&part)));
            }
        }
    }

    /// Prints a text. The first check after the reader has closed the pipe ends the story.
    fn print(&self, text: &str) {
        if write(text.as_bytes()).is_err() {
            self.is_unread.store(true, Ordering::Relaxed);
        }
    }

    fn steps(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
