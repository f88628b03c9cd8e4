//! Retrying database operations that failed for a temporary reason.

use std::time::{Duration, Instant};

use crate::error::Error;

/// The retries of one operation, limited in number or in time.
pub(crate) struct Retries {
    limit: u32,
    used: u32,
    deadline: Option<Instant>,
    delay: Duration,
}

impl Retries {
    /// Allows up to `limit` retries, without a delay before each.
    pub(crate) const fn at_most(limit: u32) -> Self {
        Self { limit, used: 0, deadline: None, delay: Duration::ZERO }
    }

    /// Allows retries for the duration `limit`, starting now, with `delay` before each retry.
    pub(crate) fn within(limit: Duration, delay: Duration) -> Self {
        Self { limit: u32::MAX, used: 0, deadline: Some(Instant::now() + limit), delay }
    }

    /// Returns whether to retry an operation that failed with `error`. If so, counts the retry and waits for the delay
    /// first.
    pub(crate) async fn allow(&mut self, error: &Error) -> bool {
        let is_in_time = self.deadline.is_none_or(|deadline| Instant::now() < deadline);
        let is_allowed = error.is_retryable() && self.used < self.limit && is_in_time;
        if is_allowed {
            self.used += 1;
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
        }
        is_allowed
    }

    /// Resets the number of used retries to 0.
    pub(crate) const fn reset(&mut self) {
        self.used = 0;
    }
}

/// Runs an operation until it succeeds, fails permanently or has no retries left. Returns its last result.
pub(crate) async fn retry<T, F>(mut retries: Retries, mut operation: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match operation().await {
            Err(error) if retries.allow(&error).await => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::*;

    fn temporary() -> Error {
        sqlx::Error::Io(ErrorKind::ConnectionReset.into()).into()
    }

    #[tokio::test]
    async fn retries_stop_at_the_attempt_limit_until_the_count_is_reset() {
        let mut retries = Retries::at_most(2);
        let mut allowed = Vec::new();
        for _ in 0..3 {
            allowed.push(retries.allow(&temporary()).await);
        }
        retries.reset();
        allowed.push(retries.allow(&temporary()).await);
        assert_eq!(allowed, [true, true, false, true]);
    }

    #[tokio::test]
    async fn retries_stop_at_their_deadline() {
        assert!(Retries::within(Duration::from_secs(60), Duration::ZERO).allow(&temporary()).await);
        assert!(!Retries::within(Duration::ZERO, Duration::ZERO).allow(&temporary()).await);
    }

    #[tokio::test]
    async fn permanent_errors_are_not_retried() {
        let mut attempts = 0;
        let result: Result<(), Error> = retry(Retries::at_most(9), || {
            attempts += 1;
            let error = if attempts < 3 { temporary() } else { Error::OldSchema(Vec::new()) };
            async { Err(error) }
        })
        .await;
        assert!(matches!(result, Err(Error::OldSchema(_))) && attempts == 3, "{result:?}, {attempts}");
        let permanent = Error::Database(Arc::new(sqlx::Error::RowNotFound));
        assert!(!Retries::at_most(9).allow(&permanent).await);
    }
}
