//! The account that exists when the server starts.

use app::App;
use domain::accounts::AuthToken;
use domain::{AccountSid, FriendlyName, Parameter as _};
use terminal::{CliError, warn_text};

use crate::input_file::read_secret;
use crate::operator::operator;
use crate::options::ServeOptions;

/// The SID and the auth token of the first account, as far as the options give them.
pub(crate) struct FirstAccount {
    sid: Option<AccountSid>,
    auth_token: Option<AuthToken>,
}

impl FirstAccount {
    /// Reads the options.
    ///
    /// # Errors
    /// Returns an error if the SID or the auth token is invalid, or the file with the token can't be read.
    pub(crate) fn read(options: &ServeOptions) -> Result<Self, CliError> {
        let sid = options.account_sid.as_deref().map(str::parse::<AccountSid>).transpose();
        let sid = sid.map_err(|expected| {
            CliError::new(format!("COUNTERSIGN_ACCOUNT_SID: {expected}, the letters AC"))
        })?;
        let given = read_secret(options.auth_token.as_ref(), options.auth_token_file.as_ref())?;
        let expected = "COUNTERSIGN_AUTH_TOKEN: expected 16 to 128 letters and digits";
        let auth_token = given
            .map(|text| AuthToken::parse(text.expose()).ok_or_else(|| CliError::new(expected)))
            .transpose()?;
        Ok(Self { sid, auth_token })
    }

    /// Creates the account with the given SID unless it exists; without a SID, creates one only if there is no account
    /// at all. Prints what was generated.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub(crate) async fn ensure_exists(self, app: &App) -> Result<(), CliError> {
        let is_fully_given = self.sid.is_some() && self.auth_token.is_some();
        let name = FriendlyName::from_parameter("First account")
            .map_err(|expected| CliError::new(expected.to_string()))?;
        let auth_token = self.auth_token.clone();
        let created = match self.sid {
            Some(sid) => app.create_account(&operator(), Some(sid), auth_token, name).await?,
            None => app.create_first_account(&operator(), auth_token, name).await?,
        };
        match created {
            Some(created) if !is_fully_given => {
                warn_text(format_args!(
                    "\nAn account was created. Its auth token is shown only once:\n\n  \
                     export COUNTERSIGN_ACCOUNT_SID={}\n  export COUNTERSIGN_AUTH_TOKEN={}\n",
                    created.account.sid,
                    created.auth_token.expose()
                ));
            }
            Some(_) => {}
            None => self.warn_of_other_token(app).await?,
        }
        Ok(())
    }

    /// Logs a warning if the given auth token is not that of the existing account. The one in the database is valid,
    /// because it may have been rotated.
    async fn warn_of_other_token(self, app: &App) -> Result<(), CliError> {
        if let (Some(sid), Some(given)) = (self.sid, self.auth_token) {
            let stored = app.account(sid).await?.auth_token;
            if !crypto::constant_time_eq(stored.expose().as_bytes(), given.expose().as_bytes()) {
                tracing::warn!(
                    account_sid = %sid,
                    "COUNTERSIGN_AUTH_TOKEN differs from the account's auth token in the database and is ignored; \
                     configure the current token, or remove the option"
                );
            }
        }
        Ok(())
    }
}
