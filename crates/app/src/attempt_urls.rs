//! The URLs that an outlet gets with the message of an attempt. The token in a URL permits one use of this attempt, and
//! nothing else.

use crypto::attempt_tokens::AttemptTokenUse;
use domain::verifications::{Attempt, AttemptReference};

use crate::App;
use crate::error::Error;

/// Returns the path of the URLs for a use, without the token.
const fn path(token_use: AttemptTokenUse) -> &'static str {
    match token_use {
        AttemptTokenUse::DeliveryReport => "/countersign/v1/DeliveryReports",
        AttemptTokenUse::SpokenCode => "/countersign/v1/SpokenCodes",
    }
}

impl App {
    /// Returns the URL for a use of an attempt, or `None` if the server has no public URL.
    pub(crate) fn attempt_url(&self, token_use: AttemptTokenUse, attempt: &Attempt) -> Option<String> {
        let public_url = self.public_url.as_ref()?;
        let token = self.hashing.attempt_token(token_use, attempt.reference());
        Some(format!("{public_url}{}/{token}", path(token_use)))
    }

    /// Returns the attempt that the token of a URL names.
    ///
    /// # Errors
    /// Fails with 20404 if this server did not issue the token for this use.
    pub(crate) fn attempt_of_token(
        &self,
        token_use: AttemptTokenUse,
        token: &str,
    ) -> Result<AttemptReference, Error> {
        self.hashing.verify_attempt_token(token_use, token).ok_or_else(Error::not_found)
    }
}
