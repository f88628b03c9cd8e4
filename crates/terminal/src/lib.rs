//! What every command of the binary shares: output to a terminal, and [`CliError`].
//!
//! `countersign` prints through this crate only, and so do `demo` and `phone-cli`, which the binary depends on. A
//! crate of its own keeps the arrows in one direction: none of them has to import the binary.
//!
//! Data from the database, from users and from other servers may contain characters that control a terminal: they
//! move the cursor, color the text or reverse its direction. All of them are printed as visible escapes, such as
//! `\u{1b}`. When the reader of standard output closes the pipe, as `head` does, the command ends without a message.
//!
//! | file | what it contains |
//! | --- | --- |
//! | `escape.rs` | makes text safe for a terminal, the log, JSON or a shell: [`plain`], [`plain_json`], [`quoted`] |
//! | `output.rs` | prints to standard output and standard error: [`say`], [`warn`](warn()), [`ask`] |
//! | `layout.rs` | wraps text and aligns columns: [`wrap`], [`fold`], [`table`] |
//! | `error.rs` | [`CliError`], the error type of all commands |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod error;
mod escape;
mod layout;
mod output;

pub use error::CliError;
pub use escape::{LogLine, acts, plain, plain_json, plain_text, quoted};
pub use layout::{fold, table, wrap};
pub use output::{ask, is_colored, program, prompt, say, say_text, warn, warn_text, width, write};
