//! Prints the story, and keeps count of its steps.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::demo::exchange::{Exchange, Notice};
use crate::demo::text::{WIDTH, wrap};
use crate::failure::Failure;

/// The voice of the demo.
pub(super) struct Narrator {
    /// Whether headings are bold: on a terminal.
    bold: bool,
    /// Titles of the steps that were begun.
    steps: Mutex<Vec<&'static str>>,
}

impl Narrator {
    pub(super) fn new() -> Self {
        Self { bold: std::io::stdout().is_terminal(), steps: Mutex::default() }
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
    pub(super) fn step(&self, title: &'static str, why: &str) {
        let number = {
            let mut steps = self.steps();
            steps.push(title);
            steps.len()
        };
        self.heading(format_args!("{number}. {title}"));
        self.paragraph(why);
    }

    /// The number of the step that is being told.
    pub(super) fn number(&self) -> usize {
        self.steps().len()
    }

    /// One request, what the server makes of it, and its answer.
    pub(super) fn exchange(&self, exchange: &Exchange) {
        exchange.lines().iter().for_each(|line| self.line(line));
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
        if !holds {
            return Err(Failure::new(format!("this should hold, and does not: {promise}")));
        }
        for (index, line) in wrap(promise, WIDTH - 4).iter().enumerate() {
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
        // As it was typed, so that the line works when it is copied.
        let program = std::env::args().next().unwrap_or_else(|| "countersign".to_owned());
        self.heading("Try it yourself");
        self.line(
            "Start a server. The first time, it prints two lines to copy into the backend's terminal:\n",
        );
        self.line(format_args!("  {program} serve\n"));
        self.line("Be the backend, and create a service:\n");
        self.line("  curl -u \"$COUNTERSIGN_ACCOUNT_SID:$COUNTERSIGN_AUTH_TOKEN\" \\");
        self.line("    http://127.0.0.1:8080/v2/Services -d FriendlyName=Owl%20Bank\n");
        self.line("Be the phone:\n");
        self.line(format_args!("  {program} device --help"));
    }

    fn heading(&self, text: impl Display) {
        if self.bold {
            self.line(format_args!("\x1b[1m── {text}\x1b[0m\n"));
        } else {
            self.line(format_args!("── {text}\n"));
        }
    }

    fn paragraph(&self, text: &str) {
        wrap(text, WIDTH).iter().for_each(|line| self.line(line));
        self.line("");
    }

    fn line(&self, text: impl Display) {
        // That nobody reads any more, as behind `| head`, is no failure of the demo.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn steps(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
