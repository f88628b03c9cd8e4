//! A software phone: the device side of Verify Push, as Twilio's Android SDK or its iOS SDK does it.
//!
//! # What a phone does
//!
//! A phone takes part with a key of its own, which it makes itself and which never leaves it.
//!
//! 1. **Enroll.** The app gets an access token from its backend and sends, with it, the public half
//!    of a new key: `POST …/Factors`. The answer names the *factor*, which is what the server calls
//!    this phone for this user, and the *credential*, the name of the key from now on. To show that
//!    it holds the private half the phone signs the factor's SID and sends that: `POST
//!    …/Factors/{sid}`. The factor is now verified.
//! 2. **Be asked.** The backend makes a *challenge*. The phone hears of it by push, or lists what is
//!    pending, and fetches it: `GET …/Challenges/{sid}`. A header of that answer lists the fields
//!    that have to be signed.
//! 3. **Answer.** The phone copies those fields, says `approved` or `denied`, signs the whole as a
//!    JWT and sends it: `POST …/Challenges/{sid}`. Then it fetches the challenge again, and only if
//!    that shows the answer does the app hear of success.
//!
//! All requests but the first are authenticated by a short JWT, signed by the same key and made anew
//! each time. A phone whose clock is wrong learns the time from the server's `401` and tries once more.
//!
//! ```no_run
//! # async fn story(clock: std::sync::Arc<dyn domain::Clock>, token: String) -> Result<(), device::Error> {
//! use device::{Answer, NewFactor, Phone, Style};
//!
//! let phone = Phone::new(Style::Android, "http://127.0.0.1:8080", clock)?;
//! let enrollment = phone
//!     .enroll(&NewFactor {
//!         service_sid: "VA00000000000000000000000000000000".into(),
//!         identity: "user-0001-abcd".into(),
//!         access_token: domain::Secret::new(token),
//!         friendly_name: "My phone".into(),
//!         notification: None,
//!         metadata: None,
//!         app_id: "com.example.app".into(),
//!     })
//!     .await?;
//! for challenge in phone.pending(&enrollment).await?.challenges {
//!     println!("{}", challenge.message);
//!     phone.answer(&enrollment, &challenge.sid, Answer::Approved).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What this one is for
//!
//! It stands in for a real phone in demonstrations and tests, so it holds two promises. What it
//! sends is what a shipped SDK sends, byte for byte, down to the percent-encoding and the escaped
//! slashes of the [`Style`] that it was given. And it reads answers more strictly than either SDK:
//! what one of them could not parse is an [`Error::Unreadable`] that names the field, so a server
//! that satisfies this phone satisfies both.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`wire`] | the requests, as bytes; no I/O |
//! | [`signing`] | the signatures in them |
//! | [`Phone`] | sends them, keeps the clock right, reads the answers |
//! | [`Enrollment`], [`Keyring`] | what a phone keeps, and the file in which a terminal keeps it |
//! | [`Exchange`] | one request and its answer, for who wants to watch |
//!
//! A phone takes SIDs, identities and tokens as opaque text and echoes them; so does this crate,
//! which also lets a test send wrong ones.

mod challenge;
mod clock;
mod encoding;
mod enrollment;
mod error;
mod exchange;
mod factor;
mod keyring;
mod phone;
mod reading;
pub mod signing;
mod style;
pub mod wire;

pub use challenge::{ChallengeList, ListRequest, ShownChallenge};
pub use crypto::SigningKey;
pub use domain::challenges::{Answer, Status};
pub use domain::factors::Platform;
pub use domain::paging::Order;
pub use enrollment::{Enrollment, NewFactor};
pub use error::Error;
pub use exchange::{Exchange, Observer, Response};
pub use keyring::Keyring;
pub use phone::Phone;
pub use style::Style;
