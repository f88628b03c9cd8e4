//! Pagination of lists (docs/protocol/paging.md, sections 1 and 3).

use actix_web::HttpResponse;
use domain::paging::Cursor;
use domain::parameter::{Expected, Parameter};
use domain::{Code, Order, Page, PageRequest, Problem};
use serde_json::{Value, json};
use web::Form;

use crate::request::AuthorizedRequest;

/// Number of items per page if the client sends no `PageSize`.
const DEFAULT_PAGE_SIZE: usize = 50;

/// Maximum value of `PageSize`.
const MAX_PAGE_SIZE: usize = 1000;

/// The page that a request asks for, with the data needed to build the URLs of other pages.
pub(crate) struct Listing {
    pub(crate) page: PageRequest,
    /// The server's public URL, without a trailing slash.
    public_url: String,
    path: String,
    /// The names and values of the filter parameters in the request. They come first in the URL of every page, because
    /// Twilio's libraries do not add them again.
    filters: Vec<(&'static str, String)>,
    number: u64,
}

impl Listing {
    /// Parses `PageSize`, `Page` and `PageToken`. `filters` lists the names of the parameters that filter the items.
    ///
    /// # Errors
    /// Returns error code 60306 for an invalid value, and 20007 if `PageSize` exceeds the maximum. Returns 20001 for
    /// any `Page` other than the first without a `PageToken`, because only the token locates a page.
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
        Ok(Self {
            page,
            public_url: request.public_url.clone(),
            path: request.http().path().to_owned(),
            filters: given,
            number,
        })
    }

    /// Builds the list response: the items under `key`, rendered with `view`, and the page URLs. `next_page_url` is
    /// null only on the last page; some client libraries keep paging until it is null.
    pub(crate) fn body<T>(&self, key: &str, page: &Page<T>, view: impl Fn(&T) -> Value) -> HttpResponse {
        let items: Vec<Value> = page.items.iter().map(view).collect();
        let base = format!("{}{}", self.public_url, self.path);
        let [first, previous, this, next] = self.links(&base, page);
        HttpResponse::Ok().json(json!({
            key: items,
            "meta": {
                "page": self.number,
                "page_size": self.page.size,
                "first_page_url": first,
                "previous_page_url": previous,
                "url": this,
                "next_page_url": next,
                "key": key,
            },
        }))
    }

    /// Builds the list response in the format of the API version 2010-04-01, whose links are relative. `start` and
    /// `end` count the items as if each page before this one were full.
    pub(crate) fn v2010_body<T>(
        &self,
        key: &str,
        page: &Page<T>,
        view: impl Fn(&T) -> Value,
    ) -> HttpResponse {
        let items: Vec<Value> = page.items.iter().map(view).collect();
        let [first, previous, this, next] = self.links(&format!("{}.json", self.path), page);
        let start = self.number.saturating_mul(self.page.size as u64);
        let end = start.saturating_add(items.len().saturating_sub(1) as u64);
        HttpResponse::Ok().json(json!({
            key: items,
            "page": self.number,
            "page_size": self.page.size,
            "start": start,
            "end": end,
            "first_page_uri": first,
            "previous_page_uri": previous,
            "uri": this,
            "next_page_uri": next,
        }))
    }

    /// Returns the links to the first page, the previous one, this one and the next one, below `base`. `None` stands
    /// for a page that does not exist.
    fn links<T>(&self, base: &str, page: &Page<T>) -> [Option<String>; 4] {
        let link = |number, cursor| self.link(base, number, cursor);
        [
            Some(link(0, None)),
            page.previous.map(|cursor| link(self.number.saturating_sub(1), Some(cursor))),
            Some(link(self.number, self.page.cursor)),
            page.next.map(|cursor| link(self.number.saturating_add(1), Some(cursor))),
        ]
    }

    fn link(&self, base: &str, number: u64, cursor: Option<Cursor>) -> String {
        let mut link = format!("{base}?");
        for (name, value) in &self.filters {
            link.push_str(&format!("{name}={}&", percent_encode(value)));
        }
        link.push_str(&format!("PageSize={}&Page={number}", self.page.size));
        if let Some(cursor) = cursor {
            link.push_str(&format!("&PageToken={cursor}"));
        }
        link
    }
}

/// Returns the value of `PageSize`, or the default if it is absent.
///
/// # Errors
/// Returns error code 60306 if the value is not a positive whole number, or 20007 if it exceeds [`MAX_PAGE_SIZE`].
fn page_size(query: &Form) -> Result<usize, Problem> {
    // Twilio's Java library sends a second `PageSize` in addition to the caller's if its reader has a limit too. The
    // last one counts.
    let size =
        query.last::<Number>("PageSize")?.map_or(Ok(DEFAULT_PAGE_SIZE), |size| usize::try_from(size.0));
    match size {
        Ok(0) => Err(Problem::invalid("PageSize", &Expected::new("must be a whole number from 1 to 1000"))),
        Ok(size) if size <= MAX_PAGE_SIZE => Ok(size),
        // A size above the maximum has its own error code (docs/protocol/paging.md, section 1).
        _ => Err(Code::PageSizeTooLarge.into()),
    }
}

/// A non-negative whole number.
struct Number(u64);

impl Parameter for Number {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        // A number too large for `u64` exceeds every limit, so it is replaced by the maximum.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            Err(_) if digits => Ok(Self(u64::MAX)),
            _ => Err(Expected::new("must be a whole number")),
        }
    }
}

/// Percent-encodes every byte of `value` except the unreserved characters of RFC 3986 (section 2.3).
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
