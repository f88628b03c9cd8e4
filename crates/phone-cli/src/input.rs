//! Reads the lines that the user types.

use std::io::{BufRead as _, IsTerminal as _};

use tokio::sync::mpsc;

/// Maximum number of input lines that are read ahead.
const MAX_BUFFERED_LINES: usize = 16;

/// The lines of standard input, read in the background.
pub(crate) struct Input {
    lines: mpsc::Receiver<String>,
    /// A line that was read before it was needed.
    buffered: Option<String>,
    is_terminal: bool,
}

impl Input {
    /// Starts reading standard input on a separate thread. A thread of the async runtime would delay the
    /// program's exit until the user presses Enter.
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

    /// Returns whether standard input is a terminal, which echoes what the user types.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Waits for the next line, which answers the question on the screen. Returns `None` at the end of input.
    pub(crate) async fn next_line(&mut self) -> Option<String> {
        match self.buffered.take() {
            Some(line) => Some(line),
            None => self.lines.recv().await,
        }
    }

    /// Discards lines that were typed at a terminal before a question was shown, because they cannot answer
    /// it. Input from a pipe was written in advance and is kept.
    pub(crate) fn discard_typed_ahead(&mut self) {
        if self.is_terminal {
            self.buffered = None;
            while self.lines.try_recv().is_ok() {}
        }
    }

    /// Waits until standard input has ended and all its lines were taken. Discards lines typed at a terminal.
    /// Cancel-safe: lines from a pipe are not lost if the future is dropped.
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
