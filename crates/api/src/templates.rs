//! Handler for `/v2/Templates`: the message templates of an account (docs/protocol/verifications.md, section 3).

use actix_web::HttpResponse;
use app::Backend;
use domain::templates::{Template, Translation};
use domain::{AccountSid, Order};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &["FriendlyName"])?;
    let friendly_name = request.query.optional("FriendlyName")?;
    let page = request.app.templates(request.resource, friendly_name, listing.page).await?;
    Ok(listing.body("templates", &page, view))
}

fn view(template: &Template) -> Value {
    let translations = template.translations.iter();
    let translations: Map<_, _> =
        translations.map(|it| (it.locale.to_string(), translation_view(it))).collect();
    json!({
        "sid": template.sid,
        "account_sid": template.account_sid,
        "friendly_name": template.friendly_name,
        "channels": template.channels.names(),
        "translations": translations,
    })
}

fn translation_view(translation: &Translation) -> Value {
    json!({
        "is_default_translation": translation.is_default,
        "status": "approved",
        "locale": translation.locale,
        "text": translation.text.as_str(),
        "date_updated": translation.updated_at.to_nanosecond_text(),
        "date_created": translation.created_at.to_nanosecond_text(),
    })
}
