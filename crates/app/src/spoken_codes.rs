//! Calls that wait for a key: what they say after one was pressed.
//!
//! The outlet gets a URL with the call, and requests it when the key was pressed. The token in it gives access to the
//! code of this call, and nothing else.

use crypto::attempt_tokens::AttemptTokenUse;
use domain::Channel;
use domain::messages;
use domain::services::Settings;
use domain::verifications::{Attempt, AttemptReference};
use store::Read;
use tracing::warn;

use crate::App;
use crate::error::Error;
use crate::verifications::stored_message::StoredMessage;

impl App {
    /// Returns the URL with which the call of an attempt continues after a key was pressed. Returns `None` for other
    /// messages, if the service does not ask for a key, or if the server has no public URL.
    pub(crate) fn key_press_url(&self, settings: &Settings, attempt: &Attempt) -> Option<String> {
        let asks_for_key = attempt.channel == Channel::Call && settings.dtmf_input_required;
        asks_for_key.then(|| self.attempt_url(AttemptTokenUse::SpokenCode, attempt)).flatten()
    }

    /// Returns the attempt that the token of a URL names.
    ///
    /// # Errors
    /// Fails with 20404 if this server did not issue the token.
    pub fn spoken_attempt(&self, token: &str) -> Result<AttemptReference, Error> {
        self.attempt_of_token(AttemptTokenUse::SpokenCode, token)
    }

    /// Returns the instructions in TwiML for a call after a key was pressed: to say the code, or to hang up if the
    /// verification is no longer pending.
    ///
    /// # Errors
    /// Fails with 20404 if the attempt does not exist. Also fails if the database fails.
    pub async fn spoken_code(&self, reference: AttemptReference) -> Result<String, Error> {
        let stored = self
            .store
            .read(async move |db: &mut Read| {
                let found = db.attempt_of_service(reference.service_sid, reference.attempt_sid).await?;
                StoredMessage::read(db, found.ok_or_else(Error::not_found)?).await
            })
            .await?;
        let now = self.clock.now();
        let Some(stored) = stored.filter(|stored| stored.verification.is_pending(now)) else {
            return Ok(messages::hang_up());
        };
        let code = self.master_keys.open(&stored.code, &stored.verification.sid.to_string())?;
        match stored.wording(now).compose(code.expose(), None) {
            Ok(composed) => Ok(composed.twiml),
            // The text was written once before it was stored, so a template or a name has changed since.
            Err(problem) => {
                warn!(attempt = %reference.attempt_sid, "a call was ended, because its text cannot be written: {}", problem.message());
                Ok(messages::hang_up())
            }
        }
    }
}
