//! Captured pushes, messages and webhooks.

use actix_web::HttpResponse;
use serde_json::Value;

use crate::capture_filter::{DELETING, Filter, Query, READING};
use crate::captures::Kind;
use crate::error::Error;
use crate::request::{ControlRequest, array};

async fn list(request: &ControlRequest, kind: Kind) -> Result<Vec<Value>, Error> {
    let query = Query::from_parameters(request.query(&READING)?)?;
    request.state.captures.read_or_wait(kind, &query, request.state.stopped()).await
}

async fn latest(request: &ControlRequest, kind: Kind) -> Result<HttpResponse, Error> {
    let newest = list(request, kind).await?.pop();
    let newest = newest.ok_or_else(|| Error::missing("nothing was captured that fits the query"))?;
    Ok(HttpResponse::Ok().json(newest))
}

fn delete(request: &ControlRequest, kind: Kind) -> Result<HttpResponse, Error> {
    let filter = Filter::from_parameters(request.query(&DELETING)?)?;
    request.state.captures.delete(kind, &filter)?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /pushes`: returns captured pushes, newest last.
pub(crate) async fn list_pushes(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(array(list(&request, Kind::Push).await?)))
}

/// `GET /pushes/latest`: returns the newest captured push.
pub(crate) async fn latest_push(request: ControlRequest) -> Result<HttpResponse, Error> {
    latest(&request, Kind::Push).await
}

/// `DELETE /pushes`: forgets captured pushes.
pub(crate) async fn delete_pushes(request: ControlRequest) -> Result<HttpResponse, Error> {
    delete(&request, Kind::Push)
}

/// `GET /messages`: returns captured messages with one-time codes, newest last.
pub(crate) async fn list_messages(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(array(list(&request, Kind::Message).await?)))
}

/// `GET /messages/latest`: returns the newest captured message.
pub(crate) async fn latest_message(request: ControlRequest) -> Result<HttpResponse, Error> {
    latest(&request, Kind::Message).await
}

/// `DELETE /messages`: forgets captured messages.
pub(crate) async fn delete_messages(request: ControlRequest) -> Result<HttpResponse, Error> {
    delete(&request, Kind::Message)
}

/// `GET /webhooks`: returns captured webhooks with their attempts, newest last.
pub(crate) async fn list_webhooks(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(array(list(&request, Kind::Webhook).await?)))
}

/// `GET /webhooks/latest`: returns the newest captured webhook.
pub(crate) async fn latest_webhook(request: ControlRequest) -> Result<HttpResponse, Error> {
    latest(&request, Kind::Webhook).await
}

/// `DELETE /webhooks`: forgets captured webhooks.
pub(crate) async fn delete_webhooks(request: ControlRequest) -> Result<HttpResponse, Error> {
    delete(&request, Kind::Webhook)
}
