//! Prints to standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use crate::error::CliError;
use crate::escape::{plain, plain_text, quoted};

/// Prints one line to standard output and escapes everything that controls a terminal, line breaks included.
///
/// # Errors
/// Returns an error if standard output cannot be written to; [`CliError::is_output_closed`] if its reader closed the
/// pipe.
pub fn say(line: impl Display) -> Result<(), CliError> {
    write(format!("{}\n", plain(&line.to_string())).as_bytes())
}

/// Prints a text of several lines to standard output and escapes everything else that controls a terminal. Data in
/// the text must have passed through [`plain`].
///
/// # Errors
/// Returns the errors of [`say`].
pub fn say_text(text: impl Display) -> Result<(), CliError> {
    write(format!("{}\n", plain_text(&text.to_string())).as_bytes())
}

/// Prints a question to standard output without a line break.
///
/// # Errors
/// Returns the errors of [`say`].
pub fn prompt(question: &str) -> Result<(), CliError> {
    write(format!("{} ", plain(question)).as_bytes())
}

/// Writes bytes to standard output unchanged, for output that programs read, such as a script.
///
/// # Errors
/// Returns the errors of [`say`].
pub fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::output_closed(),
        _ => CliError::new(format!("standard output: {error}")),
    })
}

/// Prints one line to standard error and escapes everything that controls a terminal. Ignores a closed standard
/// error.
pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Prints a text of several lines to standard error, as [`say_text`] does to standard output. Ignores a closed
/// standard error.
pub fn warn_text(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain_text(&text.to_string()));
}

/// Prints a question to standard error, so that standard output contains only the result.
pub fn ask(question: &str) {
    let _ = write!(io::stderr(), "{} ", plain(question));
}

/// Returns whether output to `stream` may be colored: it is a terminal, and `NO_COLOR` (<https://no-color.org>) is
/// not set.
pub fn is_colored(stream: &impl IsTerminal) -> bool {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && stream.is_terminal()
}

/// Returns the columns of the terminal behind `stream`, or `None` if it is not a terminal.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Returns the path by which this program was called, quoted for a shell, so that printed commands can be copied.
pub fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "countersign".into());
    quoted(&called.to_string_lossy())
}
