//! Cryptography: keys of devices and of the database, signatures, tokens, and sealed secrets.
//!
//! | Question | File |
//! | --- | --- |
//! | Where does randomness come from? | [`entropy`] |
//! | How are a device's public key and its signatures verified? | [`signatures`] |
//! | How is a compact JWS parsed and verified? | [`jws`] |
//! | How is a device token verified? | [`device_token`] |
//! | How are access tokens, with which phones enroll, issued, checked and opened? | [`enrollment`] |
//! | How are secrets encrypted for storage? | [`seal`] |
//! | How are secrets of API keys hashed and compared? | [`api_keys`] |
//! | How are the URLs that outlets get with a message protected? | [`attempt_tokens`] |
//! | How is it detected that an audit record was changed or removed? | [`audit`] |
//! | How are secrets compared? | [`constant_time`] |
//! | How does a software phone sign? | [`signing`] |
//! | How are codes of authenticator apps computed and found? | [`totp`] |
//! | How are the values of rate limits hashed? | [`rate_limits`] |
//! | How are passkeys registered and verified? | [`passkeys`] |
//!
//! Keys that this crate holds in plaintext while it uses them:
//!
//! | Key | Stored by | Purpose |
//! | --- | --- | --- |
//! | Master key ([`MasterKey`]), 256 bits | the operator, outside the database | HKDF-SHA256 derives a sealing key (AES-256-GCM), the first hashing key, and a public ID |
//! | Hashing key ([`HashingKey`]), 256 bits | the database, sealed | hashes secrets of API keys (HMAC-SHA256) |
//! | Enrollment keys ([`EnrollmentKey`]), 256 bits each | the database, sealed | encrypt and authenticate access tokens (JWE, A256GCM) |
//! | Audit key ([`AuditKey`]), 256 bits | the database, sealed | authenticates the records of the audit log (HMAC-SHA256) |
//! | Private key of a software phone ([`SigningKey`]), P-256 | the software phone | signs device tokens and answers (ES256); the server has only [`domain::factors::PublicKey`] |
//! | Secrets of authenticator apps ([`TotpKey`]), 80 to 1024 bits | the database, sealed | compute codes (HMAC of SHA-1, SHA-256 or SHA-512) |
//!
//! Other crates read these keys:
//!
//! - `server` reads the master key from its file or the environment and writes a generated one. It also reads the TLS
//!   key of the listener.
//! - `push-client` signs with the keys of push credentials (APNs and FCM). This crate seals these keys for storage.
//! - `webhook-client` signs webhooks with the account's auth token. This crate seals the auth token for storage.
//! - `app` opens sealed values, caches the plaintext, and passes it to the clients.
//! - `device` and the commands of the terminal phone store the private key of a software phone.
//!
//! Two libraries implement the algorithms. `aws-lc-rs` verifies signatures, encrypts and decrypts sealed values,
//! hashes, and generates randomness. `p256` checks the public keys of devices and passkeys, and signs for software
//! phones. The encryption of access tokens is injected: the crate `jwe` implements [`AccessTokenCipher`] with
//! `josekit`.
//!
//! Nothing in this crate does I/O or reads the clock. No input from the network causes a panic, and no secret can be
//! printed.

pub mod api_keys;
pub mod attempt_tokens;
pub mod audit;
mod compact;
pub mod constant_time;
pub mod device_token;
pub mod enrollment;
pub mod entropy;
mod error;
pub mod jws;
mod master_key;
pub mod passkeys;
pub mod rate_limits;
pub mod seal;
pub mod signatures;
pub mod signing;
pub mod totp;
#[cfg(test)]
mod vectors;

pub use api_keys::HashingKey;
pub use audit::AuditKey;
pub use constant_time::constant_time_eq;
pub use device_token::DeviceToken;
pub use enrollment::{AccessTokenCipher, EnrollmentKey, KeyRing};
pub use entropy::SystemEntropy;
pub use error::Error;
pub use jws::{Jws, answer_digest};
pub use master_key::{MasterKey, MasterKeys};
pub use seal::{KeyId, Sealable};
pub use signatures::{parse_public_key, verify_der, verify_fixed};
pub use signing::SigningKey;
pub use totp::TotpKey;
