//! What the person types.

use std::io::{BufRead as _, IsTerminal as _};

use tokio::sync::mpsc;

/// The lines of standard input.
pub(super) struct Input {
    lines: mpsc::Receiver<String>,
    /// A line that was received before anybody wanted it.
    ahead: Option<String>,
    is_terminal: bool,
}

impl Input {
    /// Begins to read. On a thread of its own and not the runtime's, which would not end before the
    /// person presses Enter.
    pub(super) fn standard() -> Self {
        let (sender, lines) = mpsc::channel(16);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Self { lines, ahead: None, is_terminal: std::io::stdin().is_terminal() }
    }

    /// Whether a person types, who sees what they type.
    pub(super) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The answer to a question that is now on the screen; `None` at the end of input.
    pub(super) async fn line(&mut self) -> Option<String> {
        match self.ahead.take() {
            Some(line) => Some(line),
            None => self.lines.recv().await,
        }
    }

    /// Drops what a person typed before there was a question: it can't be the answer to one that they had
    /// not seen. What comes through a pipe was written beforehand and is meant.
    pub(super) fn forget_what_was_typed(&mut self) {
        if self.is_terminal {
            self.ahead = None;
            while self.lines.try_recv().is_ok() {}
        }
    }

    /// Returns at the end of input, when nothing is left to be read. Can be dropped while it waits.
    pub(super) async fn ended(&mut self) {
        while self.ahead.is_none() {
            match self.lines.recv().await {
                None => return,
                Some(_) if self.is_terminal => {}
                Some(line) => self.ahead = Some(line),
            }
        }
        std::future::pending().await
    }
}
