//! Leader leases: each lets one node at a time perform a task for all nodes.

use domain::Timestamp;

use crate::error::Error;
use crate::read_write::Write;
use crate::values::bind;

impl Write {
    /// Acquires or renews the lease `name` for `holder` until the instant `until`. Returns `false` if another holder
    /// has the lease.
    ///
    /// An expired lease can be taken over. So can a lease that ends more than twice as far in the future as this one
    /// would, because its holder's clock must have been wrong.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn acquire_lease(
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
        let latest_plausible = Timestamp::from_micros(until.micros().saturating_add(length));
        Ok(self.count_rows(sql, bind![name, holder, until, now, latest_plausible]).await? > 0)
    }

    /// Releases the lease `name` before it expires, if `holder` has it.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn release_lease(&mut self, name: &str, holder: &str) -> Result<(), Error> {
        let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
        self.execute(sql, bind![name, holder]).await
    }
}
