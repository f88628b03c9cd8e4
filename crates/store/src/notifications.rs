//! Queries for the notifications of challenges.

use domain::ChallengeSid;
use domain::notifications::Notification;

use crate::error::Error;
use crate::read_write::Write;
use crate::values::bind;

impl Write {
    /// Inserts a notification of a challenge.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the challenge does not exist, or another error if the database operation fails.
    pub async fn insert_notification(&mut self, notification: &Notification) -> Result<(), Error> {
        let sql = "INSERT INTO notifications (sid, challenge_sid, ttl, created_at) VALUES ($1, $2, $3, $4)";
        let values = bind![
            notification.sid,
            notification.challenge_sid,
            notification.ttl.get(),
            notification.created_at
        ];
        self.execute(sql, values).await
    }

    /// Counts a challenge's notifications.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_notifications(&mut self, challenge_sid: ChallengeSid) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) AS number FROM notifications WHERE challenge_sid = $1";
        Ok(self.fetch_optional(sql, bind![challenge_sid], |row| row.int("number")).await?.unwrap_or(0))
    }
}
