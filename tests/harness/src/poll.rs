//! Waiting for a condition, never for a guess at how long it takes.

use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(15);

/// Asks for `condition` every 15 ms until it answers.
///
/// # Panics
///
/// Once `bound` has passed, naming `what` did not come about; a condition that itself hangs counts too.
pub async fn wait_until<T>(what: &str, bound: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = condition().await {
                return answer;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    match tokio::time::timeout(bound, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited {bound:?} in vain until {what}"),
    }
}

/// The same where nothing is async; `None` once `bound` has passed.
pub(crate) fn poll<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        let answer = condition();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(INTERVAL);
    }
}
