//! Provider tokens: short statements, signed with a team's key, that Apple wants to see with every push.
//!
//! Apple takes one for an hour, and wants a new one "no more than once every 20 minutes and no less than
//! once every 60 minutes" ("Establishing a token-based connection to APNs").

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Timestamp;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::credential::ApnsToken;
use crate::jwt;

/// Seconds after which a token is replaced.
const RENEW_AFTER: i64 = 50 * 60;

/// Seconds within which a token is not replaced, whatever Apple says of it.
const KEEP_FOR: i64 = 20 * 60;

/// A token from the future, so old in seconds, comes of a clock that was set back, and is replaced.
const FROM_THE_FUTURE: i64 = -60;

/// The tokens of one credential, one at a time.
pub(super) struct ProviderTokens {
    key: ApnsToken,
    current: Mutex<Option<Made>>,
}

struct Made {
    header: HeaderValue,
    at: i64,
}

/// No other token can be had yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    /// Apple would not like it before this much time has passed.
    TooEarly(Duration),
    /// The key does not sign.
    Unsigned,
}

impl ProviderTokens {
    pub(super) const fn new(key: ApnsToken) -> Self {
        Self { key, current: Mutex::new(None) }
    }

    /// The value of `authorization` at `now`.
    pub(super) fn current(&self, now: Timestamp) -> Result<HeaderValue, NoToken> {
        let mut current = self.lock();
        match &*current {
            Some(made) if (FROM_THE_FUTURE..RENEW_AFTER).contains(&made.age(now)) => Ok(made.header.clone()),
            _ => Ok(current.insert(self.make(now)?).header.clone()),
        }
    }

    /// Replaces `expired`, which APNs refused, by a newly signed provider token.
    pub(super) fn instead_of(&self, expired: &HeaderValue, now: Timestamp) -> Result<HeaderValue, NoToken> {
        let mut current = self.lock();
        match &*current {
            Some(made) if made.header != expired => Ok(made.header.clone()),
            Some(made) if (0..KEEP_FOR).contains(&made.age(now)) => {
                Err(NoToken::TooEarly(Duration::from_secs((KEEP_FOR - made.age(now)).unsigned_abs())))
            }
            _ => Ok(current.insert(self.make(now)?).header.clone()),
        }
    }

    fn make(&self, now: Timestamp) -> Result<Made, NoToken> {
        let header = json!({"alg": "ES256", "kid": self.key.key_id()});
        let claims = json!({"iss": self.key.team_id(), "iat": now.seconds()});
        let token = jwt::signed(&header, &claims, |message| self.key.sign(message));
        let token = token.map_err(|_| NoToken::Unsigned)?;
        let mut header = HeaderValue::from_str(&format!("bearer {token}")).map_err(|_| NoToken::Unsigned)?;
        // Kept out of the connection's table of headers, and out of logs.
        header.set_sensitive(true);
        Ok(Made { header, at: now.seconds() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    const fn age(&self, now: Timestamp) -> i64 {
        now.seconds().saturating_sub(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;
    use crate::samples;

    const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn tokens() -> ProviderTokens {
        match Credential::apns_token(&samples::p256_key(), "ABC123DEFG", "TEAM123456", false) {
            Ok(Credential::ApnsToken(key)) => ProviderTokens::new(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_serves_for_fifty_minutes() {
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
    fn a_clock_that_was_set_back_makes_a_new_one() {
        let tokens = tokens();
        let first = tokens.current(START).unwrap();
        assert_ne!(tokens.current(START.plus_seconds(-61)).unwrap(), first);
        assert!(tokens.current(Timestamp::from_micros(i64::MIN)).is_ok());
        assert!(tokens.current(Timestamp::from_micros(i64::MAX)).is_ok());
    }

    #[test]
    fn nothing_makes_a_second_one_within_twenty_minutes() {
        let tokens = tokens();
        let first = tokens.current(START).unwrap();
        assert_eq!(
            tokens.instead_of(&first, START.plus_seconds(1100)),
            Err(NoToken::TooEarly(Duration::from_secs(100)))
        );
        let second = tokens.instead_of(&first, START.plus_seconds(1200)).unwrap();
        assert_ne!(second, first);
        assert_eq!(tokens.instead_of(&first, START.plus_seconds(1200)).unwrap(), second, "the others wait");
    }
}
