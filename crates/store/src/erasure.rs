//! Erasure of everything that tests created, in a database that only a test server uses.

use domain::AccountSid;

use crate::error::Error;
use crate::read_write::Write;
use crate::values::bind;

impl Write {
    /// Deletes all data of all accounts, and all accounts except `kept_account`. Keys of the server and the audit log
    /// stay. With `keeps_accounts`, the accounts and their API keys stay, with `keeps_credentials` the push credentials
    /// and the outlets.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn erase(
        &mut self,
        kept_account: AccountSid,
        keeps_accounts: bool,
        keeps_credentials: bool,
    ) -> Result<(), Error> {
        // The other tables refer to these, and their rows are deleted with them.
        self.execute("DELETE FROM services", bind![]).await?;
        // Passkey challenges for any user belong to no entity.
        self.execute("DELETE FROM challenges WHERE entity_sid IS NULL", bind![]).await?;
        self.execute("DELETE FROM deliveries WHERE true", bind![]).await?;
        self.execute("DELETE FROM alerts WHERE true", bind![]).await?;
        self.execute("DELETE FROM bucket_hits WHERE true", bind![]).await?;
        self.execute("DELETE FROM safe_numbers WHERE true", bind![]).await?;
        self.execute("DELETE FROM clock_record", bind![]).await?;
        self.execute("DELETE FROM templates", bind![]).await?;
        if !keeps_credentials {
            self.execute("DELETE FROM credentials", bind![]).await?;
            self.execute("DELETE FROM outlets", bind![]).await?;
        }
        if !keeps_accounts {
            self.execute("DELETE FROM api_keys", bind![]).await?;
            self.execute("DELETE FROM accounts WHERE sid <> $1", bind![kept_account]).await?;
            let sql =
                "UPDATE accounts SET debugger_webhook = NULL, verification_events_url = NULL WHERE sid = $1";
            self.execute(sql, bind![kept_account]).await?;
        }
        Ok(())
    }
}
