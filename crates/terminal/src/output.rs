//! Prints to standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use crate::error::CliError;
use crate::escape::{plain, plain_text, quoted};

/// Prints one line to standard output. Every character that controls a terminal, including line breaks, is printed as a
/// visible escape.
///
/// # Errors
/// Returns an error if standard output cannot be written to. If its reader has closed the pipe,
/// [`CliError::is_output_closed`] returns `true` for the error.
pub fn say(line: impl Display) -> Result<(), CliError> {
    write(format!("{}\n", plain(&line.to_string())).as_bytes())
}

/// Prints text to standard output, keeping its line breaks. Every other character that controls a terminal is printed
/// as a visible escape. Callers must pass untrusted data in the text through [`plain`] first, so that it cannot add
/// lines.
///
/// # Errors
/// Returns the same errors as [`say`].
pub fn say_text(text: impl Display) -> Result<(), CliError> {
    write(format!("{}\n", plain_text(&text.to_string())).as_bytes())
}

/// Prints a question and a space to standard output, without a line break.
///
/// # Errors
/// Returns the same errors as [`say`].
pub fn prompt(question: &str) -> Result<(), CliError> {
    write(format!("{} ", plain(question)).as_bytes())
}

/// Writes bytes to standard output unchanged, for output that other programs read, such as a script.
///
/// # Errors
/// Returns the same errors as [`say`].
pub fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::output_closed(),
        _ => CliError::new(format!("cannot write to standard output: {error}")),
    })
}

/// Prints one line to standard error. Every character that controls a terminal, including line breaks, is printed as a
/// visible escape. Failures to write are ignored.
pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain(&line.to_string()));
}

/// Prints text to standard error, keeping its line breaks. Every other character that controls a terminal is printed as
/// a visible escape, as by [`say_text`]. Failures to write are ignored.
pub fn warn_text(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", plain_text(&text.to_string()));
}

/// Prints a question and a space to standard error, so that standard output contains only the result. Failures to write
/// are ignored.
pub fn ask(question: &str) {
    let _ = write!(io::stderr(), "{} ", plain(question));
}

/// Returns whether output to `stream` may be colored: `stream` is a terminal, and `NO_COLOR` (<https://no-color.org>)
/// is unset or empty.
pub fn is_colored(stream: &impl IsTerminal) -> bool {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && stream.is_terminal()
}

/// Returns the width in columns of the terminal behind `stream`, or `None` if `stream` is not a terminal or its width
/// is unknown.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Returns the path with which this program was started, quoted for a shell, so that users can copy printed commands
/// that contain the path.
pub fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "countersign".into());
    quoted(&called.to_string_lossy())
}
