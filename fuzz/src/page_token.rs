//! Page tokens, and the pages that start at their positions.

use domain::paging::{Cursor, Listed, Position};
use domain::parameter::Parameter;
use domain::{Order, PageRequest, Timestamp};

/// Interprets the input as a page token, as a position, and as a list of items.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        foreign(text);
    }
    if let Some((place, list)) = data.split_first_chunk::<24>() {
        let created_at = Timestamp::from_micros(i64::from_be_bytes(place[..8].try_into().unwrap()));
        let position = Position { created_at, sid: place[8..].try_into().unwrap() };
        for cursor in [Cursor::After(position), Cursor::Before(position)] {
            own(cursor);
            walk_from(cursor, list);
        }
    }
    whole_list(data);
}

fn foreign(text: &str) {
    if let Ok(cursor) = Cursor::from_parameter(text) {
        own(cursor);
        let written = cursor.to_string();
        // Hexadecimal digits may be upper or lower case; everything else has only one valid spelling.
        assert_eq!(text[..2], written[..2]);
        assert_eq!(text[2..].to_ascii_lowercase(), written[2..]);
    }
}

fn own(cursor: Cursor) {
    let text = cursor.to_string();
    assert_eq!(Cursor::from_parameter(&text), Ok(cursor));
    assert_eq!(text.len(), 50);
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "nothing that a URL would escape");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item(Position);

impl Listed for Item {
    fn position(&self) -> Position {
        self.0
    }
}

fn key(position: Position) -> (Timestamp, [u8; 16]) {
    (position.created_at, position.sid)
}

/// Returns the rows that a database query would return: those after the position in the requested direction,
/// one more than the page size.
fn rows(request: &PageRequest, all: &[Item]) -> Vec<Item> {
    let mut rows = all.to_vec();
    rows.sort_by_key(|item| key(item.0));
    if request.reads_backward() {
        rows.reverse();
    }
    if let Some(place) = request.position() {
        rows.retain(|item| match request.reads_backward() {
            true => key(item.0) < key(place),
            false => key(item.0) > key(place),
        });
    }
    rows.truncate(request.size + 1);
    rows
}

/// Returns items with distinct SIDs whose creation times are taken from `list`.
fn items(list: &[u8]) -> Vec<Item> {
    let mut sid = [0; 16];
    let list = list.iter().take(64).enumerate().map(|(number, time)| {
        sid[15] = number as u8;
        Item(Position { created_at: Timestamp::from_micros(i64::from(*time)), sid })
    });
    list.collect()
}

/// Checks that paging from `cursor` works even if the server never issued that position.
fn walk_from(cursor: Cursor, list: &[u8]) {
    let all = items(list);
    for order in [Order::Ascending, Order::Descending] {
        let request = PageRequest { size: 1 + list.len() % 7, order, cursor: Some(cursor) };
        let page = request.page(rows(&request, &all));
        assert!(page.items.len() <= request.size);
        for cursor in page.next.into_iter().chain(page.previous) {
            own(cursor);
        }
    }
}

/// Checks that following the pages forward, and backward from the last page, returns the complete list.
fn whole_list(list: &[u8]) {
    let all = items(list);
    for order in [Order::Ascending, Order::Descending] {
        let mut expected = all.clone();
        expected.sort_by_key(|item| key(item.0));
        if order == Order::Descending {
            expected.reverse();
        }
        let mut request = PageRequest { size: 1 + list.len() % 7, order, cursor: None };
        let mut pages = Vec::new();
        loop {
            let page = request.page(rows(&request, &all));
            request.cursor = page.next;
            pages.push(page);
            if request.cursor.is_none() {
                break;
            }
        }
        let seen: Vec<Item> = pages.iter().flat_map(|page| page.items.iter().copied()).collect();
        assert_eq!(seen, expected);
        assert!(pages[0].previous.is_none());
        for pair in pages.windows(2) {
            request.cursor = pair[1].previous;
            assert_eq!(request.page(rows(&request, &all)).items, pair[0].items);
        }
    }
}
