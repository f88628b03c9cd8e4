//! Handlers for `/v2/Services/{ServiceSid}/Webhooks` (docs/protocol/resources.md, section 7).

use actix_web::HttpResponse;
use app::Backend;
use app::webhooks::NewWebhook;
use domain::webhooks::{Subscription, Webhook};
use domain::{Order, Problem, Service};
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let new = NewWebhook {
        friendly_name: request.form.required("FriendlyName")?,
        event_types: event_types(&request.form)?.ok_or_else(|| Problem::missing("EventTypes"))?,
        url: request.form.required("WebhookUrl")?,
        status: request.form.optional("Status")?.unwrap_or_default(),
        version: request.form.optional("Version")?.unwrap_or_default(),
    };
    let service = &request.resource;
    let webhook = request.app.create_webhook(&request.origin, service.account_sid, service.sid, new).await?;
    Ok(HttpResponse::Created().json(view(&webhook, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<Webhook, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let service = &request.resource;
    let page = request.app.webhooks(service.account_sid, service.sid, listing.page).await?;
    Ok(listing.body("webhooks", &page, |webhook| view(webhook, &request.public_url)))
}

pub(crate) async fn update(request: AuthorizedRequest<Webhook, Backend>) -> Result<HttpResponse, Error> {
    let Webhook { account_sid, service_sid, sid, .. } = request.resource;
    let form = request.form;
    let change = move |webhook: &mut Webhook| {
        form.set("FriendlyName", &mut webhook.friendly_name)?;
        form.set("WebhookUrl", &mut webhook.url)?;
        form.set("Status", &mut webhook.status)?;
        form.set("Version", &mut webhook.version)?;
        if let Some(event_types) = event_types(&form)? {
            webhook.event_types = event_types;
        }
        Ok(())
    };
    let webhook = request.app.update_webhook(&request.origin, account_sid, service_sid, sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&webhook, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<Webhook, Backend>) -> Result<HttpResponse, Error> {
    let webhook = &request.resource;
    request
        .app
        .delete_webhook(&request.origin, webhook.account_sid, webhook.service_sid, webhook.sid)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the values of `EventTypes` without duplicates, or `None` if the form contains none.
fn event_types(form: &Form) -> Result<Option<Vec<Subscription>>, Problem> {
    let mut event_types: Vec<Subscription> = Vec::new();
    for subscription in form.all("EventTypes")? {
        if !event_types.contains(&subscription) {
            event_types.push(subscription);
        }
    }
    Ok((!event_types.is_empty()).then_some(event_types))
}

fn view(webhook: &Webhook, public_url: &str) -> Value {
    json!({
        "sid": webhook.sid,
        "service_sid": webhook.service_sid,
        "account_sid": webhook.account_sid,
        "friendly_name": webhook.friendly_name,
        "event_types": webhook.event_types,
        "status": webhook.status.as_str(),
        "version": webhook.version.as_str(),
        "webhook_url": webhook.url.as_str(),
        "webhook_method": "POST",
        "date_created": webhook.created_at,
        "date_updated": webhook.updated_at,
        "url": format!("{public_url}/v2/Services/{}/Webhooks/{}", webhook.service_sid, webhook.sid),
    })
}
