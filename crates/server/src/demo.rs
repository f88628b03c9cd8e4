//! `countersign demo`: the whole story once, over real HTTP, with every exchange explained.
//!
//! [`story`] tells it, step by step. A [`backend`] and a phone of the crate `device` act in it, against a
//! server that keeps everything in memory; [`outside`] is whom that server calls. What they say to each
//! other becomes an [`exchange`], and the [`narrator`] prints that.

mod backend;
mod clock;
mod exchange;
mod listener;
mod narrator;
mod outside;
mod story;
mod text;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ConnectionLimits, Settings};
use app::{App, Courier, Couriers, DeliverySettings};
use clap::Args;
use crypto::SystemEntropy;
use domain::{FriendlyName, Parameter as _};
use store::{Location, OldSchema, Store};

use crate::audit::operator;
use crate::demo::backend::Backend;
use crate::demo::clock::StoryClock;
use crate::demo::narrator::Narrator;
use crate::demo::outside::Outside;
use crate::demo::story::Stage;
use crate::failure::Failure;
use crate::serve::{Door, Running, bind};
use crate::storage::passing_master_key;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Wait for Enter before each step; the time of the demo stands still meanwhile
    #[arg(long)]
    step: bool,
}

/// How long the last deliveries may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Sets the stage, tells the story, and clears the stage whatever came of it.
pub(crate) async fn run(options: &Demo) -> Result<(), Failure> {
    let began = Instant::now();
    let clock = Arc::new(StoryClock::default());
    let narrator = Arc::new(Narrator::new(options.step.then(|| Arc::clone(&clock))));
    let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await?;
    let app = App::start(store, Arc::clone(&clock) as _, Arc::new(SystemEntropy), passing_master_key());
    let app = Arc::new(app.await?);
    let outcome = with_server(&app, &clock, &narrator).await;
    app.stop().await;
    narrator.end(outcome, began.elapsed())
}

async fn with_server(
    app: &Arc<App>,
    clock: &Arc<StoryClock>,
    narrator: &Arc<Narrator>,
) -> Result<(), Failure> {
    let name = FriendlyName::from_parameter("Demo").map_err(|expected| Failure::new(expected.to_string()))?;
    let account = app.create_account(&operator(), None, None, name).await?;
    let account = account.ok_or_else(|| Failure::new("the new account exists already"))?;
    let outside = Outside::open().await?;
    let deliveries = deliveries(&outside);
    let couriers = Couriers::new(&deliveries, Arc::clone(clock) as _)?;
    let courier = Courier::start(Arc::clone(app), deliveries, couriers)?;
    let limits = ConnectionLimits { total: 64, per_address: None };
    let door = Door { socket: bind(([127, 0, 0, 1], 0).into())?, limits, certificate: None };
    let server = Running::start(Arc::clone(app), Settings::default(), door)?;
    let url = format!("http://{}", server.address);
    let outcome = async {
        let backend = Backend::new(&url, account, Arc::clone(narrator))?;
        // Backend and phone are gone when this returns: a server that stops waits for their connections.
        story::tell(Stage::new(&url, backend, outside, Arc::clone(clock), Arc::clone(narrator))?).await
    };
    let outcome = outcome.await;
    server.stop().await;
    courier.stop(FAREWELL).await;
    outcome
}

/// Everything goes to this machine.
fn deliveries(outside: &Outside) -> DeliverySettings {
    let mut settings = DeliverySettings::default();
    settings.webhooks.allow = vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()];
    settings.push.fcm_endpoint = Some(outside.url());
    settings
}
