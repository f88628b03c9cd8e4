//! Notifications: a push once more.

use domain::audit::{Act, Change};
use domain::notifications::{Notification, Ttl, may_notify};
use domain::{Challenge, ChallengeSid, EntityPath, NotificationSid};
use store::Write;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Asks for a push about a challenge once more.
    ///
    /// # Errors
    /// 20404; 60322 and 60323 when the challenge can't be answered any more, 60307 when its device hears of
    /// nothing, 60309 for the fourth; when the database fails.
    pub async fn notify(
        &self,
        origin: &Origin,
        path: EntityPath,
        challenge_sid: ChallengeSid,
        ttl: Ttl,
    ) -> Result<(Notification, Challenge), Error> {
        let now = self.clock.now();
        let (outbox, audit) = (self.outbox.clone(), self.audit(origin, now));
        let sid = NotificationSid::generate(now, self.entropy.as_ref());
        let made = self
            .store
            .write(async move |tx: &mut Write| {
                let challenge = tx.challenge(&path, challenge_sid).await?.ok_or_else(Error::not_found)?;
                challenge.answerable(now)?;
                // Held, so that those who ask at once are counted one after the other.
                let factor =
                    tx.lock_factor(&path, challenge.factor_sid).await?.ok_or_else(Error::not_found)?;
                let asked = tx.count_notifications(challenge_sid).await?;
                may_notify(&challenge, &factor.notification, asked, now)?;
                let notification = Notification { sid, challenge_sid, ttl, created_at: now };
                tx.insert_notification(&notification).await?;
                let change = Change::new(Act::NotificationCreated, challenge.account_sid, sid);
                let change = change.with("service_sid", challenge.service_sid);
                audit.note(tx, change.with("challenge_sid", challenge_sid)).await?;
                let seconds = u32::try_from(ttl.get()).unwrap_or_default();
                outbox.owe_push(tx, &challenge, &factor, Some(sid), seconds, now).await?;
                Ok::<_, Error>((notification, challenge))
            })
            .await?;
        self.wake.ring();
        Ok(made)
    }
}
