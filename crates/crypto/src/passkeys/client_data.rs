//! The client data: what the browser records about a ceremony, and the authenticator signs.

use serde_json::{Map, Value};

use super::{PasskeyChallenge, Rejection, decode_base64url, sha256};

/// Maximum length of the client data, in bytes. Browsers write about 200.
const MAX_BYTES: usize = 4096;

/// The byte order mark, which the specification permits before the JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A ceremony of Web Authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ceremony {
    Registration,
    Assertion,
}

impl Ceremony {
    const fn type_name(self) -> &'static str {
        match self {
            Self::Registration => "webauthn.create",
            Self::Assertion => "webauthn.get",
        }
    }
}

/// The parsed client data.
#[derive(Clone, Debug)]
pub(super) struct ClientData {
    pub(super) challenge: PasskeyChallenge,
    /// SHA-256 digest of the bytes as they were sent, which the authenticator signs.
    pub(super) digest: [u8; 32],
    origin: String,
    is_cross_origin: bool,
    top_origin: Option<String>,
}

impl ClientData {
    /// Parses the member `clientDataJSON` and checks that it is of this ceremony.
    pub(super) fn parse(base64url: &str, ceremony: Ceremony) -> Result<Self, Rejection> {
        let bytes = decode_base64url(base64url, MAX_BYTES).ok_or(Rejection::ClientData)?;
        let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let object: Map<String, Value> = serde_json::from_slice(json).map_err(|_| Rejection::ClientData)?;
        let text = |name| object.get(name).and_then(Value::as_str).ok_or(Rejection::ClientData);
        if text("type")? != ceremony.type_name() {
            return Err(Rejection::Ceremony);
        }
        let challenge = PasskeyChallenge::from_base64url(text("challenge")?).ok_or(Rejection::ClientData)?;
        let is_cross_origin = match object.get("crossOrigin") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or(Rejection::ClientData)?,
        };
        let top_origin = match object.get("topOrigin") {
            None | Some(Value::Null) => None,
            Some(_) => Some(text("topOrigin")?.to_owned()),
        };
        let origin = text("origin")?.to_owned();
        Ok(Self { challenge, digest: sha256(&bytes), origin, is_cross_origin, top_origin })
    }

    /// Checks the challenge, the origin, and that the page was not in a frame of another origin.
    pub(super) fn check(
        &self,
        challenge_digest: &[u8; 32],
        origins: &[impl AsRef<str>],
    ) -> Result<(), Rejection> {
        if !self.challenge.has_digest(challenge_digest) {
            return Err(Rejection::Challenge);
        }
        if !origins.iter().any(|origin| origin.as_ref() == self.origin) {
            return Err(Rejection::Origin);
        }
        if self.is_cross_origin {
            return Err(Rejection::CrossOrigin);
        }
        if self.top_origin.as_ref().is_some_and(|top_origin| *top_origin != self.origin) {
            return Err(Rejection::TopOrigin);
        }
        Ok(())
    }
}
