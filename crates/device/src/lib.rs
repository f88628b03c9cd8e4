//! A software phone: the device side of Verify Push, as Twilio's Android SDK or iOS SDK implements it.
//!
//! # What a phone does
//!
//! A phone creates its own key pair. The private key never leaves the phone.
//!
//! 1. **Enrollment.** The app receives an access token from its backend and sends it with the public key:
//!    `POST …/Factors`. The response contains the SID of the *factor*, which stands for this phone of this user, and
//!    the SID of the *credential*, which identifies the key. To prove that it holds the private key, the phone signs
//!    the factor SID and sends the signature: `POST …/Factors/{sid}`. The factor is now verified.
//! 2. **Challenge.** The backend creates a *challenge*. The phone receives a push or lists its pending challenges, and
//!    fetches the challenge: `GET …/Challenges/{sid}`. A response header lists the fields to sign.
//! 3. **Answer.** The phone copies these fields, sets `status` to `approved` or `denied`, signs the result as a JWT,
//!    and sends it: `POST …/Challenges/{sid}`. Then it fetches the challenge again, and reports success to the app only
//!    if the challenge's status equals the answer.
//!
//! All requests except the first are authenticated by a short-lived JWT, signed by the same key and created
//! for each request. If the phone's clock is wrong, the server responds with 401. The phone then adopts the
//! time in that response and repeats the request once.
//!
//! ```no_run
//! # async fn example(clock: std::sync::Arc<dyn domain::Clock>, token: String) -> Result<(), device::Error> {
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
//! for challenge in phone.list_pending(&enrollment).await?.challenges {
//!     println!("{}", challenge.message);
//!     phone.answer(&enrollment, &challenge.sid, Answer::Approved).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! The software phone replaces a real phone in demos and tests, so it guarantees two things. First, its
//! requests equal those of the published SDK of its [`Style`] byte for byte, including percent-encoding and
//! escaped slashes. Second, it parses responses more strictly than either SDK: anything that one of them
//! cannot parse is an [`Error::Unreadable`] with the name of the field. A server that satisfies this phone
//! therefore satisfies both SDKs.
//!
//! | item | purpose |
//! | --- | --- |
//! | [`wire`] | builds the requests; no I/O |
//! | [`signing`] | creates the signatures in them |
//! | [`responses`] | parses the responses; no I/O |
//! | [`Phone`] | sends requests, corrects the clock, parses responses |
//! | [`Enrollment`], [`Keyring`] | what a phone stores, and the file in which a terminal phone stores it |
//! | [`Exchange`] | a request and its response, for observers |
//! | [`Passkey`] | a passkey, as a browser creates and uses it; no I/O |
//! | [`AuthenticatorApp`] | an entry of an authenticator app, which shows TOTP codes; no I/O |
//!
//! Like a real phone, this crate treats SIDs, identities, and tokens as opaque text, so that a test can also
//! send invalid ones.

mod challenge;
mod clock;
mod encoding;
mod enrollment;
mod error;
mod exchange;
mod factor;
mod json;
mod keyring;
mod passkey;
mod phone;
pub mod responses;
pub mod signing;
mod style;
mod totp;
pub mod wire;

pub use challenge::{Challenge, ChallengeList, ListRequest};
pub use crypto::SigningKey;
pub use domain::challenges::{Answer, Status};
pub use domain::factors::Platform;
pub use domain::paging::Order;
pub use enrollment::{Enrollment, NewFactor};
pub use error::Error;
pub use exchange::{Exchange, Observer, Response};
pub use keyring::Keyring;
pub use passkey::Passkey;
pub use phone::Phone;
pub use style::Style;
pub use totp::AuthenticatorApp;
