//! Alerts about push certificates that expire soon.

use std::sync::Arc;

use domain::alerts::{Alert, Level};
use domain::credentials::Credential;
use domain::{AlertSid, Entropy, Timestamp};
use serde_json::json;
use store::Write;

use crate::error::Error;
use crate::housekeeping::{Housekeeper, Interrupted};
use crate::outbox::Outbox;

/// Error code for alerts about push certificates that expire soon.
const CERTIFICATE_EXPIRES_CODE: u32 = 52131;

/// How many days before its expiration a certificate triggers an alert. The order is ascending: if several thresholds
/// match at once, as for a certificate that is uploaded shortly before its expiration, only the first one triggers an
/// alert.
const WARNING_DAYS: [i64; 2] = [7, 30];

impl Housekeeper {
    /// Raises an alert for each push certificate that expires within one of [`WARNING_DAYS`]. Each certificate triggers
    /// each of these alerts at most once.
    pub(super) async fn warn_about_certificates(&self) -> Result<(), Interrupted> {
        let (now, entropy, lease) = (self.app.now(), Arc::clone(&self.app.entropy), self.lease()?);
        let warn = async move |tx: &mut Write, outbox: &Outbox| {
            if !lease.renew(tx).await? {
                return Ok(None);
            }
            for days in WARNING_DAYS {
                for credential in tx.claim_expiring_credentials(days, now).await? {
                    outbox.raise_alert(tx, &warning(&credential, now, entropy.as_ref()), now).await?;
                }
            }
            Ok::<_, Error>(Some(()))
        };
        self.app.write_with_outbox(warn).await?.ok_or(Interrupted::OtherNode)
    }
}

/// Builds the alert about a push certificate that expires soon.
fn warning(credential: &Credential, now: Timestamp, entropy: &dyn Entropy) -> Alert {
    let end = credential.expires_at.unwrap_or(now);
    let text = format!("the certificate of push credential {} expires at {end}", credential.sid);
    Alert {
        sid: AlertSid::generate(now, entropy),
        account_sid: credential.account_sid,
        service_sid: None,
        resource_sid: credential.sid.to_string(),
        error_code: CERTIFICATE_EXPIRES_CODE,
        level: Level::Warning,
        more_info: json!({ "description": text, "fromReference": credential.sid }),
        text,
        call: None,
        created_at: now,
    }
}
