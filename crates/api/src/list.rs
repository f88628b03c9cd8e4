//! Lists in pages, as clients see them (docs/protocol/paging.md, section 1).

use actix_web::HttpResponse;
use domain::paging::Cursor;
use domain::parameter::{Expected, Parameter};
use domain::{Code, Order, Page, PageRequest, Problem};
use serde_json::{Value, json};

use crate::call::Call;
use crate::form::Form;

const DEFAULT_SIZE: usize = 50;
const MAX_SIZE: usize = 1000;

/// What a list was asked for: enough to build the address of any of its pages.
pub(crate) struct Listing {
    pub(crate) page: PageRequest,
    address: String,
    /// The filters, which come first in every address; the libraries don't add them again.
    filters: Vec<(&'static str, String)>,
    number: u64,
}

impl Listing {
    /// Reads `PageSize`, `Page` and `PageToken`; `filters` are the parameters that choose the items.
    ///
    /// # Errors
    /// 60306 for a value that can't be, 20007 for a page that is too large, 20001 for a `Page` but the first without
    /// `PageToken`: the number alone leads nowhere.
    pub(crate) fn of<R>(call: &Call<R>, order: Order, filters: &[&'static str]) -> Result<Self, Problem> {
        let mut given = Vec::new();
        for name in filters {
            if let Some(value) = call.query.optional::<String>(name)? {
                given.push((*name, value));
            }
        }
        let page = PageRequest { size: size(&call.query)?, order, cursor: call.query.optional("PageToken")? };
        let number = call.query.optional::<Number>("Page")?.map_or(0, |number| number.0);
        if number > 0 && page.cursor.is_none() {
            return Err(Problem::missing_page_token());
        }
        Ok(Self { page, address: call.address(), filters: given, number })
    }

    /// The body: the items under `key`, and where the other pages are. `next_page_url` is null exactly
    /// when nothing follows, since a library stops at nothing else.
    pub(crate) fn body<T>(&self, key: &str, page: &Page<T>, view: impl Fn(&T) -> Value) -> HttpResponse {
        let items: Vec<Value> = page.items.iter().map(view).collect();
        let elsewhere =
            |cursor: Option<Cursor>, number: u64| cursor.map(|cursor| self.url(number, Some(cursor)));
        HttpResponse::Ok().json(json!({
            key: items,
            "meta": {
                "page": self.number,
                "page_size": self.page.size,
                "first_page_url": self.url(0, None),
                "previous_page_url": elsewhere(page.previous, self.number.saturating_sub(1)),
                "url": self.url(self.number, self.page.cursor),
                "next_page_url": elsewhere(page.next, self.number.saturating_add(1)),
                "key": key,
            },
        }))
    }

    fn url(&self, number: u64, cursor: Option<Cursor>) -> String {
        let mut url = format!("{}?", self.address);
        for (name, value) in &self.filters {
            url.push_str(&format!("{name}={}&", encoded(value)));
        }
        url.push_str(&format!("PageSize={}&Page={number}", self.page.size));
        if let Some(cursor) = cursor {
            url.push_str(&format!("&PageToken={cursor}"));
        }
        url
    }
}

fn size(query: &Form) -> Result<usize, Problem> {
    // Twilio's Java library sends one of its own beside the caller's when a reader has a limit too.
    let size = query.last::<Number>("PageSize")?.map_or(Ok(DEFAULT_SIZE), |size| usize::try_from(size.0));
    match size {
        Ok(0) => Err(Problem::invalid("PageSize", &Expected::new("must be a whole number from 1 to 1000"))),
        Ok(size) if size <= MAX_SIZE => Ok(size),
        // Over the limit has a code of its own (docs/protocol/paging.md, section 1).
        _ => Err(Code::PageSizeTooLarge.into()),
    }
}

/// A whole number from 0.
struct Number(u64);

impl Parameter for Number {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        // More digits than fit are still a number, and too large for anything.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            Err(_) if digits => Ok(Self(u64::MAX)),
            _ => Err(Expected::new("must be a whole number")),
        }
    }
}

/// Percent-encodes everything but what RFC 3986 leaves unreserved.
fn encoded(value: &str) -> String {
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
