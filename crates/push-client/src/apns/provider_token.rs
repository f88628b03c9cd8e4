//! Provider tokens: JWTs that authenticate pushes to APNs, signed with the key of an Apple developer team.
//!
//! APNs accepts a provider token for one hour. Tokens must be renewed "no more than once every 20 minutes and
//! no less than once every 60 minutes" ("Establishing a token-based connection to APNs").

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::credential::ApnsToken;
use crate::jwt;

/// Age at which a provider token is replaced, in seconds: 50 minutes, within the hour for which APNs
/// accepts it.
const RENEWAL_AGE_SECONDS: i64 = 50 * 60;

/// Minimum age at which a rejected provider token is replaced, in seconds. APNs permits one renewal every 20
/// minutes.
const MIN_RENEWAL_AGE_SECONDS: i64 = 20 * 60;

/// Maximum time by which the clock may be set back, in seconds. If a token's issue time lies further in the
/// future, the token is replaced.
const MAX_CLOCK_SETBACK_SECONDS: i64 = 60;

/// The key of one credential and the current provider token signed with it.
pub(super) struct ProviderTokens {
    key: ApnsToken,
    current: Mutex<Option<IssuedToken>>,
}

/// A provider token and its issue time.
struct IssuedToken {
    /// Value of the `authorization` header: `bearer` and the token.
    header: HeaderValue,
    /// Issue time, in seconds since the Unix epoch.
    issued_at: i64,
}

/// Why no new provider token was issued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// The current token is too young to be replaced. It may be replaced after this delay.
    TooEarly(Duration),
    /// The token could not be signed.
    SigningFailed,
}

impl ProviderTokens {
    pub(super) const fn new(key: ApnsToken) -> Self {
        Self { key, current: Mutex::new(None) }
    }

    /// Returns the `authorization` header with the current token. Issues a new token first if there is none,
    /// if the current one is 50 minutes old, or if the clock was set back by more than a minute.
    ///
    /// # Errors
    /// Returns [`TokenError::SigningFailed`] if a new token cannot be signed.
    pub(super) fn current(&self, now: Timestamp) -> Result<HeaderValue, TokenError> {
        let mut current = self.lock();
        match &*current {
            Some(token) if (-MAX_CLOCK_SETBACK_SECONDS..RENEWAL_AGE_SECONDS).contains(&token.age(now)) => {
                Ok(token.header.clone())
            }
            _ => Ok(current.insert(self.issue(now)?).header.clone()),
        }
    }

    /// Returns an `authorization` header to use instead of `expired`, which APNs rejected. If another call
    /// has already replaced the token, returns that newer one.
    ///
    /// # Errors
    /// Returns [`TokenError::TooEarly`] if the current token is less than 20 minutes old, or
    /// [`TokenError::SigningFailed`] if a new token cannot be signed.
    pub(super) fn replace(&self, expired: &HeaderValue, now: Timestamp) -> Result<HeaderValue, TokenError> {
        let mut current = self.lock();
        match &*current {
            Some(token) if token.header != expired => Ok(token.header.clone()),
            Some(token) if (0..MIN_RENEWAL_AGE_SECONDS).contains(&token.age(now)) => {
                let wait = MIN_RENEWAL_AGE_SECONDS - token.age(now);
                Err(TokenError::TooEarly(Duration::from_secs(wait.unsigned_abs())))
            }
            _ => Ok(current.insert(self.issue(now)?).header.clone()),
        }
    }

    fn issue(&self, now: Timestamp) -> Result<IssuedToken, TokenError> {
        let header = json!({"alg": "ES256", "kid": self.key.key_id()});
        let claims = json!({"iss": self.key.team_id(), "iat": now.seconds()});
        let token = jwt::sign(&header, &claims, |message| self.key.sign(message));
        let token = token.map_err(|_| TokenError::SigningFailed)?;
        let mut header =
            HeaderValue::from_str(&format!("bearer {token}")).map_err(|_| TokenError::SigningFailed)?;
        // Keeps the token out of the HPACK table and out of logs.
        header.set_sensitive(true);
        Ok(IssuedToken { header, issued_at: now.seconds() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<IssuedToken>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuedToken {
    /// Returns the token's age in seconds. The age is negative if the clock was set back.
    const fn age(&self, now: Timestamp) -> i64 {
        now.seconds().saturating_sub(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;
    use crate::test_data;

    const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn tokens() -> ProviderTokens {
        match Credential::apns_token(&test_data::p256_key(), "ABC123DEFG", "TEAM123456", false) {
            Ok(Credential::ApnsToken(key)) => ProviderTokens::new(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn provider_token_is_reused_for_fifty_minutes() {
        let tokens = tokens();
        let first = tokens.current(START).unwrap();
        assert!(first.is_sensitive());
        for seconds in [0, 1200, 2999, -60] {
            assert_eq!(tokens.current(START.plus_seconds(seconds)).unwrap(), first, "{seconds}");
        }
        let second = tokens.current(START.plus_seconds(3000)).unwrap();
        assert_ne!(second, first);
        assert_eq!(tokens.current(START.plus_seconds(3001)).unwrap(), second);
    }

    #[test]
    fn provider_token_is_replaced_after_the_clock_was_set_back_over_a_minute() {
        let tokens = tokens();
        let first = tokens.current(START).unwrap();
        assert_ne!(tokens.current(START.plus_seconds(-61)).unwrap(), first);
        assert!(tokens.current(Timestamp::from_micros(i64::MIN)).is_ok());
        assert!(tokens.current(Timestamp::from_micros(i64::MAX)).is_ok());
    }

    #[test]
    fn rejected_provider_token_is_kept_for_twenty_minutes() {
        let tokens = tokens();
        let first = tokens.current(START).unwrap();
        assert_eq!(
            tokens.replace(&first, START.plus_seconds(1100)),
            Err(TokenError::TooEarly(Duration::from_secs(100)))
        );
        let second = tokens.replace(&first, START.plus_seconds(1200)).unwrap();
        assert_ne!(second, first);
        assert_eq!(tokens.replace(&first, START.plus_seconds(1200)).unwrap(), second, "already replaced");
    }
}
