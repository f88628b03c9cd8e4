//! Use case of notifications: sending a further push for a challenge.

use domain::audit::{AuditAction, Change};
use domain::challenges::PushChallenge;
use domain::notifications::{Notification, Ttl, require_notifiable};
use domain::{Challenge, ChallengeSid, EntityPath, NotificationSid};
use store::Write;

use crate::App;
use crate::audit::Origin;
use crate::caller::Backend;
use crate::error::Error;
use crate::outbox::Outbox;

impl App {
    /// Enqueues a further push for a push challenge, which is valid for `ttl`. Returns the notification and the
    /// challenge.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the challenge or its factor does not exist.
    /// - 60322 if the challenge has already been answered; 60323 if it has expired.
    /// - 60307 if the factor has no notification platform; 60309 if the challenge already has three notifications.
    ///
    /// Also fails if the database fails.
    pub async fn notify(
        &self,
        origin: &Origin,
        caller: Backend,
        path: EntityPath,
        challenge_sid: ChallengeSid,
        ttl: Ttl,
    ) -> Result<(Notification, Challenge<PushChallenge>), Error> {
        caller.require_entity(&path)?;
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let sid = NotificationSid::generate(now, self.entropy.as_ref());
        let created = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let challenge =
                    tx.push_challenge(&path, challenge_sid).await?.ok_or_else(Error::not_found)?;
                challenge.require_pending(now)?;
                // Lock the factor so that concurrent requests are counted one after another.
                let factor_sid = challenge.kind.target.factor_sid;
                let factor = tx.lock_push_factor(&path, factor_sid).await?.ok_or_else(Error::not_found)?;
                let earlier = tx.count_notifications(challenge_sid).await?;
                require_notifiable(&challenge, &factor.kind.notification, earlier, now)?;
                let notification = Notification { sid, challenge_sid, ttl, created_at: now };
                tx.insert_notification(&notification).await?;
                let change = Change::new(AuditAction::NotificationCreated, challenge.account_sid, sid);
                let change = change.detail("service_sid", challenge.service_sid);
                audit.record(tx, change.detail("challenge_sid", challenge_sid)).await?;
                let seconds = u32::try_from(ttl.get()).unwrap_or_default();
                outbox.enqueue_push(tx, &challenge, &factor, Some(sid), seconds, now).await?;
                Ok::<_, Error>((notification, challenge))
            })
            .await?;
        Ok(created)
    }
}
