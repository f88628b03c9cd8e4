//! Devices that enroll by themselves, with access tokens that rules select.

use std::sync::Arc;

use app::App;

use crate::enrollment::{NewDevice, enroll};
use crate::fleet::{Fleet, OfferedToken};

/// Lets a new device spend each access token that a rule selects. This background task ends only with the runtime.
pub(crate) async fn run(app: Arc<App>, fleet: Arc<Fleet>) {
    let Some(mut offered) = fleet.take_offered() else { return };
    while let Some(token) = offered.recv().await {
        tokio::spawn(spend(Arc::clone(&app), Arc::clone(&fleet), token));
    }
}

async fn spend(app: Arc<App>, fleet: Arc<Fleet>, offered: OfferedToken) {
    let OfferedToken { grant, token, rule } = offered;
    let spent = match NewDevice::from_template(&rule.device, Some((&grant, &token))) {
        Ok(new) => enroll(app, fleet, grant.account_sid, new).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = spent {
        tracing::warn!(service_sid = %grant.service_sid, "virtual device could not enroll by a rule: {error}");
    }
}
