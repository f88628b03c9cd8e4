//! Whose turn it is: so many attempts at one time in all, and to each place.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Deliveries that this process has taken, under way or waiting.
const ROOM: usize = 4096;

/// Hands out tickets, and takes them in their turn.
///
/// For each place, as many may wait as may be under way: enough that its turns don't stay empty, few
/// enough that a place that hangs does not fill the room. Those who wait hold no turn of other places.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    room: Arc<Semaphore>,
    places: HashMap<String, Rc<Place>>,
}

/// Where deliveries go to.
struct Place {
    limit: usize,
    turns: Semaphore,
}

/// A right to wait for a turn.
pub(crate) struct Ticket {
    place: Rc<Place>,
    all: Arc<Semaphore>,
    _room: OwnedSemaphorePermit,
}

/// A turn, until it is dropped.
pub(crate) struct Turn<'t> {
    _of_place: SemaphorePermit<'t>,
    _of_all: SemaphorePermit<'t>,
}

impl Turns {
    /// At most `limit` at one time in all.
    pub(crate) fn new(limit: usize) -> Self {
        let all = Arc::new(Semaphore::new(limit));
        Self { all, room: Arc::new(Semaphore::new(ROOM)), places: HashMap::new() }
    }

    /// How many tickets are left.
    pub(crate) fn tickets(&self) -> usize {
        self.room.available_permits()
    }

    /// The places for which no ticket is left. Forgets those that nobody is interested in.
    pub(crate) fn full(&mut self) -> Vec<String> {
        self.places.retain(|_, place| Rc::strong_count(place) > 1);
        self.places.iter().filter(|(_, place)| place.is_full()).map(|(name, _)| name.clone()).collect()
    }

    /// A ticket for a place that takes at most `limit` at one time; `None` when there is none left.
    pub(crate) fn ticket(&mut self, place: &str, limit: usize) -> Option<Ticket> {
        let new = || Rc::new(Place { limit, turns: Semaphore::new(limit) });
        let place = self.places.entry(place.to_owned()).or_insert_with(new);
        if place.is_full() {
            return None;
        }
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Ticket { place: Rc::clone(place), all: Arc::clone(&self.all), _room: room })
    }

    /// Nobody gets a turn any more; returns when all have ended and all tickets are back.
    pub(crate) async fn close(&self) {
        self.all.close();
        for place in self.places.values() {
            place.turns.close();
        }
        // Fails only when the room is closed, which it never is.
        let _ = self.room.acquire_many(ROOM as u32).await;
    }
}

impl Place {
    /// The map owns one reference of its own, which is not a ticket.
    fn is_full(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 2 * self.limit
    }
}

impl Ticket {
    /// Waits for its turn; `None` when there will be no more.
    pub(crate) async fn turn(&self) -> Option<Turn<'_>> {
        // Acquire the permit of the destination first, so that waiting for one that hangs does not hold a global permit.
        let of_place = self.place.turns.acquire().await.ok()?;
        let of_all = self.all.acquire().await.ok()?;
        Some(Turn { _of_place: of_place, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_that_hangs_is_full_and_the_others_are_not() {
        let mut turns = Turns::new(8);
        let tickets: Vec<_> = (0..10).filter_map(|_| turns.ticket("hanging", 2)).collect();
        assert_eq!(tickets.len(), 4, "two under way and two that wait");
        assert_eq!(turns.full(), ["hanging"]);
        let under_way = (tickets[0].turn().await.unwrap(), tickets[1].turn().await.unwrap());
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), tickets[2].turn()).await;
        assert!(waiting.is_err());
        let other = turns.ticket("other", 2).unwrap();
        assert!(other.turn().await.is_some());
        drop(under_way);
        assert!(tickets[2].turn().await.is_some());
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_it_is_closed_and_whoever_goes_is_waited_for() {
        let mut turns = Turns::new(8);
        let (first, second) = (turns.ticket("place", 1).unwrap(), turns.ticket("place", 1).unwrap());
        let turn = first.turn().await.unwrap();
        let mut closing = std::pin::pin!(turns.close());
        assert!(futures_are_pending(closing.as_mut()).await);
        assert!(second.turn().await.is_none());
        drop(second);
        assert!(futures_are_pending(closing.as_mut()).await);
        drop(turn);
        drop(first);
        closing.await;
    }

    async fn futures_are_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(10), future).await.is_err()
    }
}
