//! Every key, signature, token and sealed secret of Countersign: what an auditor reads.
//!
//! | Question | File |
//! | --- | --- |
//! | Where does randomness come from? | [`entropy`] |
//! | How is a device's key checked, and its signature? | [`signatures`] |
//! | How is a signed answer, or any compact JWS, taken apart? | [`jws`] |
//! | When is a device signed in? | [`device_token`] |
//! | What lets a phone enroll, and who can make that? | [`enrollment`] |
//! | How is a secret stored that must be readable again? | [`seal`] |
//! | How is an API key's secret stored, and compared? | [`api_keys`] |
//! | What shows that a line of the audit log was changed, or is missing? | [`audit`] |
//! | How are two secrets compared? | [`constant_time`] |
//! | How does a software phone sign? | [`signing`] |
//!
//! | Key | Kept by | What it does |
//! | --- | --- | --- |
//! | Master key ([`MasterKey`]), 256 bits | the operator, outside the database | nothing itself: HKDF-SHA256 makes of it a sealing key (AES-256-GCM), the first key for the hashes of API key secrets and an id that may be seen |
//! | Key of API key secrets ([`HashingKey`]), 256 bits | the database, sealed | hashes them (HMAC-SHA256) |
//! | Enrollment keys ([`EnrollmentKey`]), 256 bits each | the database, sealed | encrypt and authenticate the access tokens with which phones enroll (JWE, A256GCM) |
//! | Audit key ([`AuditKey`]), 256 bits | the database, sealed | chains the lines of the audit log (HMAC-SHA256) |
//! | Device keys, P-256 | each phone; the server has only [`domain::factors::PublicKey`] | sign device tokens and answers (ES256) |
//! | Account auth tokens, API key secrets | the customer's backend; here sealed, or hashed | sign a backend in, and sign webhooks |
//!
//! Three libraries do the arithmetic. `aws-lc-rs` verifies, seals, hashes and draws randomness;
//! `p256` checks the keys that devices bring and signs for software phones; `josekit` makes and opens
//! the enrollment tokens, behind a gate of our own (see [`enrollment`]).
//!
//! Nothing here does I/O or asks for the time, nothing panics on what the network sends, and no
//! secret prints.

pub mod api_keys;
pub mod audit;
mod compact;
pub mod constant_time;
pub mod device_token;
pub mod enrollment;
pub mod entropy;
mod error;
pub mod jws;
mod master_key;
pub mod seal;
pub mod signatures;
pub mod signing;
#[cfg(test)]
mod vectors;

pub use api_keys::HashingKey;
pub use audit::AuditKey;
pub use constant_time::equal;
pub use device_token::DeviceToken;
pub use enrollment::{EnrollmentKey, KeyRing};
pub use entropy::SystemEntropy;
pub use error::Error;
pub use jws::{Jws, answer_digest};
pub use master_key::{KeyId, MasterKeys};
pub use seal::{MasterKey, Sealable};
pub use signatures::{parse_public_key, verify_der, verify_fixed};
pub use signing::SigningKey;
