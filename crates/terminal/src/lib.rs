//! Terminal output and the error type [`CliError`], shared by all commands of the binary.
//!
//! The binary `countersign` prints only through this crate. So do the crates `demo`, `load` and `phone-cli`, on which
//! the binary depends; only the progress bars of `load` are drawn by `indicatif`. A separate crate keeps the
//! dependencies acyclic: these crates need not import the binary.
//!
//! Data from the database, users and other servers may contain characters that control a terminal: they move the
//! cursor, color the text or reverse its direction. All such characters are printed as visible escapes, such as
//! `\u{1b}`. If the reader of standard output closes the pipe, as `head` does, the command ends without a message.
//!
//! | File | Contents |
//! | --- | --- |
//! | `escape.rs` | Escapes text for a terminal, the log, JSON or a shell: [`plain`], [`plain_json`], [`quoted`] |
//! | `output.rs` | Prints to standard output and standard error: [`say`], [`warn`](warn()), [`ask`] |
//! | `layout.rs` | Wraps text and aligns columns: [`wrap`], [`fold`], [`table`] |
//! | `error.rs` | Defines [`CliError`], the error type of all commands |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod error;
mod escape;
mod layout;
mod output;

pub use error::CliError;
pub use escape::{LogLine, acts, plain, plain_json, plain_text, quoted};
pub use layout::{fold, table, wrap};
pub use output::{ask, is_colored, program, prompt, say, say_text, warn, warn_text, width, write};
