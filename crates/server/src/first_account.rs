//! The first account, which `serve` creates at startup if it does not exist.

use app::App;
use domain::accounts::AuthToken;
use domain::{AccountSid, FriendlyName, Parameter as _};
use terminal::{CliError, warn_text};

use crate::input_file::read_secret;
use crate::operator::operator;
use crate::options::ServeOptions;

/// SID of the account that every server in test mode has. No other server accepts it.
pub(crate) const TEST_ACCOUNT_SID: &str = "AC7e577e577e577e577e577e577e577e57";

/// Auth token of the account that every server in test mode has.
pub(crate) const TEST_AUTH_TOKEN: &str = "7e577e577e577e577e577e577e577e57";

/// The SID and the auth token of the first account, as given in the options; each is `None` if not given. In test mode,
/// those of the well-known test account take the place of missing ones.
#[derive(Clone)]
pub(crate) struct FirstAccount {
    pub(crate) sid: Option<AccountSid>,
    pub(crate) auth_token: Option<AuthToken>,
    is_test_mode: bool,
}

/// Returns whether this is the account of test mode.
fn is_test_account(sid: AccountSid) -> bool {
    sid.to_string() == TEST_ACCOUNT_SID
}

impl FirstAccount {
    /// Returns whether the auth token is the public one of test mode.
    pub(crate) fn has_test_token(&self) -> bool {
        self.auth_token.as_ref().is_some_and(|token| token.expose() == TEST_AUTH_TOKEN)
    }

    /// Reads the SID and the auth token from the options.
    ///
    /// # Errors
    /// Returns an error if the SID or the auth token is invalid, if the file with the auth token can't be read, or if
    /// one of the two is that of the test account although the server is not in test mode.
    pub(crate) fn read(options: &ServeOptions) -> Result<Self, CliError> {
        let is_test_mode = options.test_mode.is_on();
        let default_sid = is_test_mode.then_some(TEST_ACCOUNT_SID);
        let sid = options.account_sid.as_deref().or(default_sid).map(str::parse::<AccountSid>).transpose();
        let sid = sid.map_err(|expected| {
            CliError::new(format!("COUNTERSIGN_ACCOUNT_SID: {expected}; the letters must be AC"))
        })?;
        let given = read_secret(options.auth_token.as_ref(), options.auth_token_file.as_ref())?;
        let expected = "COUNTERSIGN_AUTH_TOKEN: expected 16 to 128 letters and digits";
        let given = given.as_ref().map(|text| text.expose().as_str());
        let is_test_account = sid.is_some_and(is_test_account) || given == Some(TEST_AUTH_TOKEN);
        if is_test_account && !is_test_mode {
            return Err(CliError::new(format!(
                "COUNTERSIGN_ACCOUNT_SID, COUNTERSIGN_AUTH_TOKEN: {TEST_ACCOUNT_SID} and its auth token are public, \
                 and only for --test-mode; set others"
            )));
        }
        let default_token = is_test_mode.then_some(TEST_AUTH_TOKEN);
        let auth_token = given
            .or(default_token)
            .map(|text| AuthToken::parse(text).ok_or_else(|| CliError::new(expected)))
            .transpose()?;
        Ok(Self { sid, auth_token, is_test_mode })
    }

    /// Creates the account with the given SID if it does not exist. Without a given SID, creates an account only if the
    /// database contains none. Prints the SID and the auth token of a new account unless the options give both.
    ///
    /// # Errors
    /// Returns an error if the database fails, or contains the test account although the server is not in test mode.
    pub(crate) async fn ensure_exists(self, app: &App) -> Result<(), CliError> {
        if !self.is_test_mode && app.accounts().await?.iter().any(|account| is_test_account(account.sid)) {
            return Err(CliError::new(format!(
                "the database contains the account {TEST_ACCOUNT_SID}, whose auth token is public; use another \
                 database, or start with --test-mode"
            )));
        }
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

    /// Logs a warning if the given auth token differs from the existing account's. The token in the database remains
    /// the valid one, because it may have been rotated.
    async fn warn_of_other_token(self, app: &App) -> Result<(), CliError> {
        if let (Some(sid), Some(given)) = (self.sid, self.auth_token) {
            let stored = app.account_with_token(sid).await?.auth_token;
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
