//! Assertions about paged lists, and rows to test them with.

use domain::paging::{Listed, Position};
use domain::{Order, Page, PageRequest, Sid, Timestamp};

use crate::fixtures::{MAX_TIME, MIN_TIME, NOW};

/// Calls `row` with several SIDs and creation times, and returns the rows unsorted. The times include the minimum, the
/// maximum, and equal times, for which only the SIDs determine the order.
pub(crate) fn scattered<S: Sid, R>(row: impl Fn(S, Timestamp) -> R) -> Vec<R> {
    let just_after = Timestamp::from_micros(NOW.micros() + 1);
    let before_epoch = Timestamp::from_micros(-1);
    let times = [
        NOW,
        MAX_TIME,
        NOW,
        before_epoch,
        MIN_TIME,
        NOW,
        just_after,
        before_epoch,
        NOW,
        MAX_TIME,
        Timestamp::from_micros(0),
    ];
    // 97 is odd, so its multiples modulo 256 are distinct. They are not in ascending order.
    let sids = (0_u8..).map(|number| S::from_bytes([number.wrapping_mul(97); 16]));
    sids.zip(times).map(|(sid, time)| row(sid, time)).collect()
}

/// A request for the first page with at most 1000 items, oldest first.
pub(crate) const ALL: PageRequest = PageRequest { size: 1000, order: Order::Ascending, cursor: None };

/// Asserts that the paged list that `fetch` reads contains exactly `rows`, in both orders and with every page size.
/// Reads all pages forward to the end and then backward to the first page.
pub(crate) async fn assert_paged_list<R: Listed, I: Listed>(
    rows: &[&R],
    fetch: impl AsyncFn(PageRequest) -> Page<I>,
) {
    for order in [Order::Ascending, Order::Descending] {
        let expected = in_order(rows, order);
        for size in 1..=rows.len() + 1 {
            let mut request = PageRequest { size, order, cursor: None };
            let mut pages = vec![fetch(request).await];
            while let Some(next) = pages[pages.len() - 1].next {
                request.cursor = Some(next);
                pages.push(fetch(request).await);
                assert!(pages.len() <= rows.len(), "{order:?}, {size} per page: the list does not end");
            }
            let found: Vec<_> = pages.iter().map(positions).collect();
            assert_eq!(found, expected.chunks(size).collect::<Vec<_>>(), "{order:?}, {size} per page");

            let mut previous = pages.pop().and_then(|last| last.previous);
            for page in pages.iter().rev() {
                request.cursor = previous;
                let again = fetch(request).await;
                assert_eq!(positions(&again), positions(page), "{order:?}, {size} per page, read backward");
                assert_eq!(again.next, page.next);
                previous = again.previous;
            }
            assert_eq!(previous, None, "the first page must have no previous page");
        }
    }
}

/// Returns the positions of the rows of `page`, in the order of the page.
pub(crate) fn positions<R: Listed>(page: &Page<R>) -> Vec<Position> {
    page.items.iter().map(Listed::position).collect()
}

/// Returns the positions of `rows`, sorted by creation time and SID in the given order.
pub(crate) fn in_order<R: Listed>(rows: &[&R], order: Order) -> Vec<Position> {
    let mut positions: Vec<_> = rows.iter().map(|row| row.position()).collect();
    positions.sort_by_key(|position| (position.created_at, position.sid));
    if order == Order::Descending {
        positions.reverse();
    }
    positions
}
