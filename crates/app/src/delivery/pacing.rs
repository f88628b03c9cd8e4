//! Turns at outlets that accept only so many messages per second.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use domain::outlets::OutletSid;
use tokio::time::Instant;

/// Spaces out the messages of each outlet that has a rate. Counts the messages of this process only.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    /// When each outlet may send its next message.
    next: RefCell<HashMap<OutletSid, Instant>>,
}

impl Pacing {
    /// Waits until an outlet with this rate, in messages per second, may send its next message.
    pub(crate) async fn turn(&self, outlet: OutletSid, rate: NonZeroU32) {
        let now = Instant::now();
        let turn = {
            let mut next = self.next.borrow_mut();
            // Outlets whose turn has come need not be remembered.
            next.retain(|_, turn| *turn > now);
            let turn = next.get(&outlet).copied().unwrap_or(now);
            next.insert(outlet, turn + Duration::from_secs(1) / rate.get());
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_of_an_outlet_are_spaced_out() {
        let (pacing, began) = (Pacing::default(), Instant::now());
        let outlet = |digit: &str| format!("MG{}", digit.repeat(32)).parse::<OutletSid>().unwrap();
        let rate = NonZeroU32::new(100).unwrap();
        for _ in 0..6 {
            pacing.turn(outlet("1"), rate).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(50), "the first one need not wait");
        let slow = NonZeroU32::new(1).unwrap();
        let others = Instant::now();
        pacing.turn(outlet("2"), slow).await;
        assert!(others.elapsed() < Duration::from_millis(900), "outlets do not wait for each other");
    }
}
