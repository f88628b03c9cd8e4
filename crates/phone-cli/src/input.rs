//! Lines that the user types.

use std::io::{BufRead as _, IsTerminal as _};

use tokio::sync::mpsc;

/// Maximum number of lines that are read ahead.
const MAX_BUFFERED_LINES: usize = 16;

/// The lines of standard input.
pub(crate) struct Input {
    lines: mpsc::Receiver<String>,
    /// A line that arrived before it was asked for.
    buffered: Option<String>,
    is_terminal: bool,
}

impl Input {
    /// Starts to read standard input, on a thread of its own: a thread of the runtime would delay the end of the
    /// process until the user presses Enter.
    pub(crate) fn standard() -> Self {
        let (sender, lines) = mpsc::channel(MAX_BUFFERED_LINES);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Self { lines, buffered: None, is_terminal: std::io::stdin().is_terminal() }
    }

    /// Returns whether input comes from a terminal, which echoes it.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Waits for the answer to the question on the screen. Returns `None` at the end of input.
    pub(crate) async fn next_line(&mut self) -> Option<String> {
        match self.buffered.take() {
            Some(line) => Some(line),
            None => self.lines.recv().await,
        }
    }

    /// Discards what was typed at a terminal before a question was shown, because it cannot be the answer to it.
    /// Input from a pipe was written in advance and is kept.
    pub(crate) fn discard_typed_ahead(&mut self) {
        if self.is_terminal {
            self.buffered = None;
            while self.lines.try_recv().is_ok() {}
        }
    }

    /// Waits until input has ended and every line was read. Cancel-safe: no line is lost if the future is dropped.
    pub(crate) async fn wait_for_end(&mut self) {
        while self.buffered.is_none() {
            match self.lines.recv().await {
                None => return,
                Some(_) if self.is_terminal => {}
                Some(line) => self.buffered = Some(line),
            }
        }
        std::future::pending().await
    }
}
