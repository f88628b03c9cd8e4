//! The progress bar on standard error. It is shown only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Interval between two updates of the bar.
pub(crate) const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// A progress bar, removed from the terminal when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar for `total` items.
    pub(crate) fn items(label: &'static str, total: usize) -> Self {
        Self::new(label, total as u64, "{prefix:10} {wide_bar} {pos}/{len}")
    }

    /// Shows a bar for a span of time, in milliseconds. The message after it is set by [`Self::update`].
    pub(crate) fn time(label: &'static str, total: Duration) -> Self {
        Self::new(label, milliseconds(total), "{prefix:10} {wide_bar} {msg}")
    }

    fn new(label: &'static str, total: u64, template: &str) -> Self {
        let bar = ProgressBar::new(total).with_prefix(label);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Counts one finished item.
    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    /// Sets the elapsed time and the message after the bar.
    pub(crate) fn update(&self, elapsed: Duration, message: String) {
        self.0.set_message(message);
        self.0.set_position(milliseconds(elapsed));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
