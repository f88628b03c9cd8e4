//! Leases: what one node does for all of them.

use domain::Timestamp;

use crate::Write;
use crate::error::Error;
use crate::sql::bind;

impl Write {
    /// Takes or renews a lease until `until`; `false` while somebody else has it. A lease that runs out is
    /// anybody's, and so is one that ends more than twice as late as this one would: a clock was wrong.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_lease(
        &mut self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, Error> {
        let sql = "INSERT INTO leases (name, holder, ends_at) VALUES ($1, $2, $3) ON CONFLICT (name) \
                   DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at \
                   WHERE leases.holder = excluded.holder OR leases.ends_at <= $4 OR leases.ends_at > $5 \
                   RETURNING name";
        let length = until.micros().saturating_sub(now.micros());
        let never = Timestamp::from_micros(until.micros().saturating_add(length));
        Ok(self.one(sql, bind![name, holder, until, now, never]).await?.is_some())
    }

    /// Gives a lease back before its end, if the holder has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_lease(&mut self, name: &str, holder: &str) -> Result<(), Error> {
        let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
        self.all(sql, bind![name, holder]).await.map(drop)
    }
}
