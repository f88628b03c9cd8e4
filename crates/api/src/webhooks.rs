//! `/v2/Services/{ServiceSid}/Webhooks` (docs/protocol/resources.md, section 7).

use actix_web::HttpResponse;
use app::webhooks::NewWebhook;
use domain::webhooks::{Subscription, Webhook};
use domain::{Order, Problem, Service};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::form::Form;
use crate::list::Listing;

pub(crate) async fn create(call: Call<Service>) -> Result<HttpResponse, Error> {
    let new = NewWebhook {
        friendly_name: call.form.required("FriendlyName")?,
        event_types: event_types(&call.form)?.ok_or_else(|| Problem::missing("EventTypes"))?,
        url: call.form.required("WebhookUrl")?,
        status: call.form.optional("Status")?.unwrap_or_default(),
        version: call.form.optional("Version")?.unwrap_or_default(),
    };
    let service = &call.resource;
    let webhook = call.app.create_webhook(&call.origin, service.account_sid, service.sid, new).await?;
    Ok(HttpResponse::Created().json(view(&webhook, &call.base)))
}

pub(crate) async fn fetch(call: Call<Webhook>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.base)))
}

pub(crate) async fn list(call: Call<Service>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let service = &call.resource;
    let page = call.app.webhooks(service.account_sid, service.sid, listing.page).await?;
    Ok(listing.body("webhooks", &page, |webhook| view(webhook, &call.base)))
}

pub(crate) async fn update(call: Call<Webhook>) -> Result<HttpResponse, Error> {
    let Webhook { account_sid, service_sid, sid, .. } = call.resource;
    let form = call.form;
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
    let webhook = call.app.update_webhook(&call.origin, account_sid, service_sid, sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&webhook, &call.base)))
}

pub(crate) async fn delete(call: Call<Webhook>) -> Result<HttpResponse, Error> {
    let webhook = &call.resource;
    call.app.delete_webhook(&call.origin, webhook.account_sid, webhook.service_sid, webhook.sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `EventTypes`, each once; `None` when none was sent.
fn event_types(form: &Form) -> Result<Option<Vec<Subscription>>, Problem> {
    let mut event_types: Vec<Subscription> = Vec::new();
    for subscription in form.all("EventTypes")? {
        if !event_types.contains(&subscription) {
            event_types.push(subscription);
        }
    }
    Ok((!event_types.is_empty()).then_some(event_types))
}

fn view(webhook: &Webhook, base: &str) -> Value {
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
        "url": format!("{base}/Services/{}/Webhooks/{}", webhook.service_sid, webhook.sid),
    })
}
