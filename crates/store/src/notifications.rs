//! Notifications of a challenge.

use domain::ChallengeSid;
use domain::notifications::Notification;

use crate::Write;
use crate::error::Error;
use crate::sql::bind;

impl Write {
    /// Adds a notification.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such challenge.
    pub async fn insert_notification(&mut self, notification: &Notification) -> Result<(), Error> {
        let sql = "INSERT INTO notifications (sid, challenge_sid, ttl, created_at) VALUES ($1, $2, $3, $4)";
        let values = bind![
            notification.sid,
            notification.challenge_sid,
            notification.ttl.get(),
            notification.created_at
        ];
        self.all(sql, values).await.map(drop)
    }

    /// How many notifications a challenge has had.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_notifications(&mut self, challenge_sid: ChallengeSid) -> Result<i64, Error> {
        let sql = "SELECT COUNT(*) AS number FROM notifications WHERE challenge_sid = $1";
        self.one(sql, bind![challenge_sid]).await?.map_or(Ok(0), |row| row.int("number"))
    }
}
