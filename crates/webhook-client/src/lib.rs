//! Signed, address-guarded HTTP out: a request in, an outcome out.
//!
//! | Question | File |
//! | --- | --- |
//! | What is sent, and in what order do things happen? | [`sender`] |
//! | How is a request signed? | [`signature`] |
//! | Which addresses may be called, and why not the others? | [`guard`] |
//! | How does a name become a connection? | `dial.rs`, the only file that connects |
//! | Which certificates are trusted? | `tls.rs` |
//! | When is a connection used again? | `pool.rs` |
//! | How long does anything take, at most? | `limits.rs` |
//! | How much of an answer is read? | [`response`] |
//! | What may become of an attempt, and which Twilio error is that? | [`outcome`] |
//!
//! One call of [`Sender::send`] is one attempt. Whether and when there is another one is the caller's
//! decision, for which an [`Outcome`] has two words: [`Outcome::is_transient`] for the server's own
//! schedule, and [`Outcome::condition`] for the conditions of connection overrides.
//!
//! This sits on `hyper` rather than on a client library, because what has to be known here is what a
//! client library hides: which address a connection goes to before it is made, which of the stages of an
//! attempt ran out of time, and whether the connection that failed was a new one. It reads no proxy from
//! the environment, follows no redirect, keeps no cookie and decompresses nothing.
//!
//! Nothing here panics on what the network sends, nothing from there is kept beyond a fixed size, and no
//! secret prints.

mod connection;
mod dial;
mod error;
pub mod guard;
mod limits;
pub mod outcome;
mod pool;
pub mod response;
pub mod sender;
pub mod signature;
mod tls;

pub use error::Error;
pub use guard::Guard;
pub use outcome::{Attempt, Outcome};
pub use response::Response;
pub use sender::{Request, Sender, Settings};
pub use signature::sign;
