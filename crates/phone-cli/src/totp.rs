//! The commands `countersign device totp`: an authenticator app.

use clap::Subcommand;
use device::AuthenticatorApp;
use domain::{Secret, Timestamp};
use terminal::{CliError, plain, say};

use crate::parameters::{parse_secret, read_secret};
use crate::phones::Phones;

#[derive(Debug, Subcommand)]
pub(crate) enum TotpCommand {
    /// Add a secret to the authenticator app, and print its current code
    Add {
        /// URI of the secret (otpauth://totp/…), which the response to the factor's creation contains as binding.uri;
        /// or - to read it from standard input. On a shared machine, use -, because other users can see command
        /// arguments
        #[arg(value_parser = parse_secret)]
        uri: Secret<String>,
    },
    /// Print the current code of each secret, or of one account
    Code {
        /// Name of the account: the friendly name of the factor
        account: Option<String>,
    },
    /// Delete the secrets of an account from the keyring; the factor stays on the server
    Forget {
        /// Name of the account: the friendly name of the factor
        account: String,
    },
}

/// Runs a command of the authenticator app.
pub(crate) fn run(phones: &mut Phones, command: TotpCommand) -> Result<(), CliError> {
    match command {
        TotpCommand::Add { uri } => add(phones, uri),
        TotpCommand::Code { account } => print_codes(phones, account.as_deref()),
        TotpCommand::Forget { account } => forget(phones, &account),
    }
}

fn add(phones: &mut Phones, uri: Secret<String>) -> Result<(), CliError> {
    let uri = read_secret(uri, "URI")?;
    let app = AuthenticatorApp::from_uri(uri.expose()).ok_or_else(|| {
        CliError::new(
            "this is not the URI of a TOTP secret; it has the form otpauth://totp/ISSUER:ACCOUNT?secret=SECRET, with a \
             secret of 10 to 128 bytes in base32",
        )
    })?;
    let line = code_line(&app, phones.now());
    phones.update(|keyring| {
        keyring.put_app(app);
        Ok(())
    })?;
    say(line)
}

fn print_codes(phones: &Phones, account: Option<&str>) -> Result<(), CliError> {
    let apps = phones.authenticator_apps().iter();
    let apps: Vec<_> = apps.filter(|app| account.is_none_or(|name| app.account_name() == name)).collect();
    if apps.is_empty() {
        return Err(no_secret(phones, account));
    }
    apps.into_iter().try_for_each(|app| say(code_line(app, phones.now())))
}

fn forget(phones: &mut Phones, account: &str) -> Result<(), CliError> {
    let mut number = 0;
    phones.update(|keyring| {
        number = keyring.remove_apps(account);
        Ok(())
    })?;
    if number == 0 {
        return Err(no_secret(phones, Some(account)));
    }
    say(format_args!("Deleted the secret of {}. The factor still exists on the server.", plain(account)))
}

fn no_secret(phones: &Phones, account: Option<&str>) -> CliError {
    let whose = account.map_or_else(String::new, |account| format!(" of the account {}", plain(account)));
    CliError::new(format!(
        "there is no TOTP secret{whose} in {}; \"{}\" adds one",
        phones.path().display(),
        phones.command("totp add URI")
    ))
}

fn code_line(app: &AuthenticatorApp, now: Timestamp) -> String {
    let (issuer, account) = (plain(app.issuer()), plain(app.account_name()));
    format!("{}  {issuer}: {account}, {} s left", app.code(now), app.seconds_left(now))
}
