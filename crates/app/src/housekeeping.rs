//! Housekeeping: what is done with goes after its retention, and whoever has a certificate that ends soon
//! is told.

use std::sync::Arc;
use std::time::Duration;

use domain::alerts::{Alert, Level};
use domain::{AlertSid, Timestamp};
use serde_json::json;
use store::Write;
use tracing::error;

use crate::App;
use crate::error::Error;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// Rows that go in one transaction: few, so that nobody waits long for the writer.
const BATCH: i64 = 200;

/// Days before its end at which a certificate is warned of; the nearest first, so that one that is
/// uploaded late is warned of once.
const WARN_AT: [i64; 2] = [7, 30];

/// Keeps house, for ever.
pub(crate) async fn keep(app: Arc<App>, retention: i64) {
    loop {
        if let Err(fault) = round(&app, retention).await {
            error!("housekeeping failed: {}", fault.chain());
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn round(app: &App, retention: i64) -> Result<(), Error> {
    let now = app.now();
    let before = now.plus_seconds(-retention);
    in_batches(app, async move |tx: &mut Write| tx.delete_old_deliveries(before, BATCH).await).await?;
    in_batches(app, async move |tx: &mut Write| tx.delete_old_alerts(before, BATCH).await).await?;
    warn_of_ending_credentials(app, now).await
}

/// Deletes until there is nothing left, a transaction for each batch.
async fn in_batches<F>(app: &App, delete: F) -> Result<(), Error>
where
    F: AsyncFn(&mut Write) -> Result<usize, store::Error> + Clone + Send + 'static,
{
    loop {
        let delete = delete.clone();
        let batch = async move |tx: &mut Write| Ok::<_, Error>(delete(tx).await?);
        if app.store.write(batch).await? == 0 {
            return Ok(());
        }
    }
}

async fn warn_of_ending_credentials(app: &App, now: Timestamp) -> Result<(), Error> {
    let (outbox, entropy) = (app.outbox.clone(), Arc::clone(&app.entropy));
    let warned = app
        .store
        .write(async move |tx: &mut Write| {
            let mut warned = false;
            for days in WARN_AT {
                for credential in tx.ending_credentials(days, now).await? {
                    let end = credential.expires_at.unwrap_or(now);
                    let text = format!("the certificate of push credential {} ends at {end}", credential.sid);
                    let alert = Alert {
                        sid: AlertSid::generate(now, entropy.as_ref()),
                        account_sid: credential.account_sid,
                        service_sid: None,
                        resource_sid: credential.sid.to_string(),
                        error_code: 52131,
                        level: Level::Warning,
                        more_info: json!({ "description": text, "fromReference": credential.sid }),
                        text,
                        call: None,
                        created_at: now,
                    };
                    outbox.raise(tx, &alert, now).await?;
                    warned = true;
                }
            }
            Ok::<_, Error>(warned)
        })
        .await?;
    if warned {
        app.wake.ring();
    }
    Ok(())
}
