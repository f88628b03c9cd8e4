//! Waits for a condition instead of a fixed time.

use std::thread;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// Checks `condition` every 15 ms until it returns a value, and returns that.
///
/// # Panics
///
/// Once `bound` has passed, also while `condition` itself blocks; the message contains `what`.
pub async fn wait_until<T>(what: &str, bound: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = condition().await {
                return answer;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    match tokio::time::timeout(bound, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("timed out after {bound:?}: this did not happen: {what}"),
    }
}

/// Checks `condition` every 15 ms until it returns a value, and returns it, blocking the thread. Returns
/// `None` once `bound` has passed.
pub(crate) fn poll<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        let answer = condition();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(POLL_INTERVAL);
    }
}
