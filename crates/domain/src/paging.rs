//! Paged lists (docs/protocol/paging.md). They use keyset paging by creation time and SID, so that page boundaries do
//! not move when items are added.

use std::fmt;

use crate::parameter::{Expected, Parameter};
use crate::sids::Sid;
use crate::time::Timestamp;

/// The order of a list by creation time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest item comes first.
    #[default]
    Ascending,
    /// The newest item comes first.
    Descending,
}

impl Parameter for Order {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "asc" => Ok(Self::Ascending),
            "desc" => Ok(Self::Descending),
            _ => Err(Expected::new("must be asc or desc")),
        }
    }
}

/// A position in a list: the creation time and the SID of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Creation time of the item.
    pub created_at: Timestamp,
    /// Bytes of the item's SID.
    pub sid: [u8; 16],
}

impl Position {
    /// The position before every item, in the order of creation.
    const OLDEST: Self = Self { created_at: Timestamp::from_micros(i64::MIN), sid: [0; 16] };

    /// The position after every item, in the order of creation.
    const NEWEST: Self = Self { created_at: Timestamp::from_micros(i64::MAX), sid: [0xff; 16] };
}

/// A cursor: the position at which a page starts, and the direction of the page. Its text form is the opaque
/// `PageToken`: `PA` or `PB` and 48 hexadecimal digits, none of which the iOS SDK would have to escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// The page that follows this position in the list's order.
    After(Position),
    /// The page that precedes this position in the list's order.
    Before(Position),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, position) = match self {
            Self::After(position) => ("PA", position),
            Self::Before(position) => ("PB", position),
        };
        write!(
            f,
            "{direction}{:016x}{:032x}",
            position.created_at.micros() as u64,
            u128::from_be_bytes(position.sid)
        )
    }
}

impl Parameter for Cursor {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be taken from a page's next_page_url or previous_page_url");
        let (direction, digits) = text.split_at_checked(2).ok_or_else(expected)?;
        if digits.len() != 48 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(expected());
        }
        let created_at = u64::from_str_radix(&digits[..16], 16).map_err(|_| expected())?;
        let sid = u128::from_str_radix(&digits[16..], 16).map_err(|_| expected())?;
        let position =
            Position { created_at: Timestamp::from_micros(created_at as i64), sid: sid.to_be_bytes() };
        match direction {
            "PA" => Ok(Self::After(position)),
            "PB" => Ok(Self::Before(position)),
            _ => Err(expected()),
        }
    }
}

/// A request for one page of a list.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Maximum number of items on the page, 1 to 1000.
    pub size: usize,
    /// Order of the whole list.
    pub order: Order,
    /// Position at which the page starts, and its direction; `None` for the first page.
    pub cursor: Option<Cursor>,
}

/// A page of a list. Its items are in the order of the list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Items on the page.
    pub items: Vec<T>,
    /// Cursor of the next page; `None` if there is no next page.
    pub next: Option<Cursor>,
    /// Cursor of the previous page; `None` if there is no previous page.
    pub previous: Option<Cursor>,
}

/// An item of a paged list.
pub trait Listed {
    /// Returns the item's position in the order of creation.
    fn position(&self) -> Position;
}

/// Returns the position of the item with this SID and creation time, in the order of creation.
pub fn position(sid: impl Sid, created_at: Timestamp) -> Position {
    Position { created_at, sid: sid.to_bytes() }
}

impl PageRequest {
    /// Returns whether rows must be read from newest to oldest. That is the case if the list is descending or the page
    /// precedes its cursor, but not both.
    pub const fn reads_backward(&self) -> bool {
        matches!(
            (self.order, self.cursor),
            (Order::Ascending, Some(Cursor::Before(_))) | (Order::Descending, None | Some(Cursor::After(_)))
        )
    }

    /// Returns the position from which rows are read, exclusive; `None` to read from the start of the list.
    pub const fn position(&self) -> Option<Position> {
        match self.cursor {
            Some(Cursor::After(position) | Cursor::Before(position)) => Some(position),
            None => None,
        }
    }

    /// Builds the page from at most `size + 1` rows, which must be read in the direction of
    /// [`reads_backward`](Self::reads_backward). One row more than the page size shows
    /// that the list continues after this page.
    pub fn page<T: Listed>(&self, mut rows: Vec<T>) -> Page<T> {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let backward = matches!(self.cursor, Some(Cursor::Before(_)));
        if backward {
            rows.reverse();
        }
        let has_next = more || backward;
        let has_previous = if backward { more } else { self.cursor.is_some() };
        // An empty page lies at an end of the list. Its link leads back from that end, so that no item is skipped.
        let oldest = backward == (self.order == Order::Ascending);
        let end = if oldest { Position::OLDEST } else { Position::NEWEST };
        let edge = |item: Option<&T>| item.map_or(end, Listed::position);
        let next = has_next.then(|| Cursor::After(edge(rows.last())));
        let previous = has_previous.then(|| Cursor::Before(edge(rows.first())));
        Page { items: rows, next, previous }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Item(i64);

    impl Listed for Item {
        fn position(&self) -> Position {
            Position { created_at: Timestamp::from_micros(self.0), sid: [0; 16] }
        }
    }

    /// Returns the requested page of `all`, with rows selected as the database selects them.
    fn read(request: &PageRequest, all: &[Item]) -> Page<Item> {
        let mut rows: Vec<Item> = all.to_vec();
        rows.sort_by_key(|item| item.0);
        if request.reads_backward() {
            rows.reverse();
        }
        if let Some(position) = request.position() {
            let at = position.created_at.micros();
            rows.retain(|item| if request.reads_backward() { item.0 < at } else { item.0 > at });
        }
        rows.truncate(request.size + 1);
        request.page(rows)
    }

    proptest! {
        #[test]
        fn pages_cover_the_list_forward_and_back(count in 0_i64..40, size in 1_usize..9, descending: bool) {
            let all: Vec<Item> = (0..count).map(Item).collect();
            let order = if descending { Order::Descending } else { Order::Ascending };
            let mut expected = all.clone();
            if descending {
                expected.reverse();
            }

            let mut request = PageRequest { size, order, cursor: None };
            let mut pages = vec![read(&request, &all)];
            prop_assert!(pages[0].previous.is_none());
            while let Some(next) = pages[pages.len() - 1].next {
                request.cursor = Some(next);
                pages.push(read(&request, &all));
            }
            let seen: Vec<Item> = pages.iter().flat_map(|page| page.items.clone()).collect();
            prop_assert_eq!(&seen, &expected);

            for index in (1..pages.len()).rev() {
                request.cursor = pages[index].previous;
                let back = read(&request, &all);
                prop_assert_eq!(&back.items, &pages[index - 1].items);
                prop_assert_eq!(back.next, pages[index - 1].next);
                prop_assert_eq!(back.previous.is_none(), index == 1);
            }
        }

        #[test]
        fn formatted_page_token_parses_back_to_the_same_cursor(micros: i64, sid: [u8; 16], after: bool) {
            let position = Position { created_at: Timestamp::from_micros(micros), sid };
            let cursor = if after { Cursor::After(position) } else { Cursor::Before(position) };
            prop_assert_eq!(Cursor::from_parameter(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn parsing_a_page_token_never_panics(text in ".*") {
            let _ = Cursor::from_parameter(&text);
        }
    }

    #[test]
    fn list_order_must_be_asc_or_desc() {
        assert_eq!(Order::from_parameter("asc"), Ok(Order::Ascending));
        assert_eq!(Order::from_parameter("desc"), Ok(Order::Descending));
        assert!(Order::from_parameter("ASC").is_err());
    }

    #[test]
    fn page_token_must_be_pa_or_pb_and_48_hexadecimal_digits() {
        let place = Position { created_at: Timestamp::from_micros(1), sid: [2; 16] };
        let digits = format!("{:016x}{}", 1, "02".repeat(16));
        let read = |text: String| Cursor::from_parameter(&text);
        assert_eq!(read(format!("PA{digits}")), Ok(Cursor::After(place)));
        assert_eq!(read(format!("PB{digits}")), Ok(Cursor::Before(place)));
        for bad in [
            String::new(),
            "P".to_owned(),
            "PA".to_owned(),
            format!("PC{digits}"),
            format!("pa{digits}"),
            format!("PA{}", &digits[1..]),
            format!("PA{digits}0"),
            format!("PA+{}", &digits[1..]),
            format!("PA{}+{}", &digits[..16], &digits[17..]),
            format!("PA{}g", &digits[1..]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn next_page_exists_only_if_more_rows_than_the_page_size_were_fetched() {
        let request = PageRequest { size: 2, order: Order::Ascending, cursor: None };
        let items = |count: i64| (0..count).map(Item).collect::<Vec<_>>();
        for (rows, has_next) in [(1, false), (2, false), (3, true)] {
            let page = request.page(items(rows));
            assert_eq!((page.items, page.next.is_some()), (items(rows.min(2)), has_next), "{rows}");
        }
    }

    #[test]
    fn empty_page_links_back_into_the_list() {
        let place = Position { created_at: Timestamp::from_micros(20), sid: [0; 16] };
        let all: Vec<_> = (0..5).map(Item).collect();
        for order in [Order::Ascending, Order::Descending] {
            // A position beyond the end of the list in the direction of the page.
            let micros = if order == Order::Ascending { 20 } else { -20 };
            let after = Cursor::After(Position { created_at: Timestamp::from_micros(micros), ..place });
            let mut request = PageRequest { size: 9, order, cursor: Some(after) };
            let page = read(&request, &all);
            assert_eq!((page.items.len(), page.next), (0, None), "{order:?}");
            request.cursor = page.previous;
            assert_eq!(read(&request, &all).items.len(), 5, "{order:?}");

            let before = Cursor::Before(Position { created_at: Timestamp::from_micros(-micros), ..place });
            request.cursor = Some(before);
            let page = read(&request, &all);
            assert_eq!((page.items.len(), page.previous), (0, None), "{order:?}");
            request.cursor = page.next;
            assert_eq!(read(&request, &all).items.len(), 5, "{order:?}");
        }
    }
}
