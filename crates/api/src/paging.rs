//! Pagination of lists (docs/protocol/paging.md, section 1).

use actix_web::HttpResponse;
use domain::paging::Cursor;
use domain::parameter::{Expected, Parameter};
use domain::{Code, Order, Page, PageRequest, Problem};
use serde_json::{Value, json};

use crate::form::Form;
use crate::request::AuthorizedRequest;

/// Items on a page if the client sends no `PageSize`.
const DEFAULT_PAGE_SIZE: usize = 50;

/// Largest `PageSize`.
const MAX_PAGE_SIZE: usize = 1000;

/// The page that a request asks for, with what is needed to build the URL of any other page.
pub(crate) struct Listing {
    pub(crate) page: PageRequest,
    url: String,
    /// The filters. They come first in the URL of every page, because Twilio's libraries do not add them again.
    filters: Vec<(&'static str, String)>,
    number: u64,
}

impl Listing {
    /// Parses `PageSize`, `Page` and `PageToken`. `filters` are the names of the parameters that select items.
    ///
    /// # Errors
    /// 60306 for an invalid value, 20007 for a page that is too large, 20001 for any `Page` but the first without
    /// `PageToken`, because a page is found by its token only.
    pub(crate) fn of<R, C>(
        request: &AuthorizedRequest<R, C>,
        order: Order,
        filters: &[&'static str],
    ) -> Result<Self, Problem> {
        let query = &request.query;
        let mut given = Vec::new();
        for name in filters {
            if let Some(value) = query.optional::<String>(name)? {
                given.push((*name, value));
            }
        }
        let page = PageRequest { size: page_size(query)?, order, cursor: query.optional("PageToken")? };
        let number = query.optional::<Number>("Page")?.map_or(0, |number| number.0);
        if number > 0 && page.cursor.is_none() {
            return Err(Problem::missing_page_token());
        }
        Ok(Self { page, url: request.url(), filters: given, number })
    }

    /// Returns the response: the items under `key`, and the URLs of the other pages. `next_page_url` is null only on
    /// the last page, because a library stops at nothing else.
    pub(crate) fn body<T>(&self, key: &str, page: &Page<T>, view: impl Fn(&T) -> Value) -> HttpResponse {
        let items: Vec<Value> = page.items.iter().map(view).collect();
        let neighbor =
            |cursor: Option<Cursor>, number: u64| cursor.map(|cursor| self.page_url(number, Some(cursor)));
        HttpResponse::Ok().json(json!({
            key: items,
            "meta": {
                "page": self.number,
                "page_size": self.page.size,
                "first_page_url": self.page_url(0, None),
                "previous_page_url": neighbor(page.previous, self.number.saturating_sub(1)),
                "url": self.page_url(self.number, self.page.cursor),
                "next_page_url": neighbor(page.next, self.number.saturating_add(1)),
                "key": key,
            },
        }))
    }

    fn page_url(&self, number: u64, cursor: Option<Cursor>) -> String {
        let mut url = format!("{}?", self.url);
        for (name, value) in &self.filters {
            url.push_str(&format!("{name}={}&", percent_encode(value)));
        }
        url.push_str(&format!("PageSize={}&Page={number}", self.page.size));
        if let Some(cursor) = cursor {
            url.push_str(&format!("&PageToken={cursor}"));
        }
        url
    }
}

/// Parses `PageSize`.
///
/// # Errors
/// 60306 if it is not a positive number, 20007 if it is too large.
fn page_size(query: &Form) -> Result<usize, Problem> {
    // Twilio's Java library sends a value of its own beside the caller's if its reader has a limit too.
    let size =
        query.last::<Number>("PageSize")?.map_or(Ok(DEFAULT_PAGE_SIZE), |size| usize::try_from(size.0));
    match size {
        Ok(0) => Err(Problem::invalid("PageSize", &Expected::new("must be a whole number from 1 to 1000"))),
        Ok(size) if size <= MAX_PAGE_SIZE => Ok(size),
        // A size over the limit has its own code (docs/protocol/paging.md, section 1).
        _ => Err(Code::PageSizeTooLarge.into()),
    }
}

/// A whole number, 0 or more.
struct Number(u64);

impl Parameter for Number {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        // A number that does not fit is larger than every limit.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            Err(_) if digits => Ok(Self(u64::MAX)),
            _ => Err(Expected::new("must be a whole number")),
        }
    }
}

/// Percent-encodes everything except the unreserved characters of RFC 3986.
fn percent_encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
