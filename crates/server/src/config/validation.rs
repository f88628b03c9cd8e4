//! Checks the value of each option on its own.

use std::error::Error as _;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use domain::AccountSid;
use domain::accounts::AuthToken;
use terminal::CliError;
use web::PublicUrl;

use super::{EMPTY, is_secret, must_not_be_empty, option_name};
use crate::configured_outlets;
use crate::database_url::check_database_url;
use crate::log_levels::parse_levels;
use crate::master_key_file::{INVALID_MASTER_KEY, parse_master_keys};

/// Checks the values of the environment variables that set these options.
///
/// # Errors
/// Returns an error that contains the variable's name if its value is invalid or not UTF-8, or if it is empty although
/// it must not be.
pub(super) fn check_environment<'a>(options: impl IntoIterator<Item = &'a Arg>) -> Result<(), CliError> {
    for option in options {
        let Some(variable) = option.get_env() else { continue };
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => check_values(option, &[value])
                .map_err(|why| CliError::new(format!("{}: {why}", variable.display())))?,
            Ok(_) if must_not_be_empty(&option_name(option)) => {
                return Err(CliError::new(format!("{}: {EMPTY}", variable.display())));
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(CliError::new(format!("{}: expected UTF-8", variable.display())));
            }
        }
    }
    Ok(())
}

/// Checks with the command-line parser whether an option accepts these values. Secrets are not checked here, because
/// clap's errors repeat the value; [`check_text`] checks them instead.
///
/// # Errors
/// Returns the reason why the values are refused, followed by the option's help.
pub(super) fn check_values(option: &Arg, values: &[String]) -> Result<(), String> {
    if is_secret(&option_name(option)) {
        return Ok(());
    }
    let option_alone = option.clone().env(Resettable::Reset).conflicts_with(Resettable::Reset);
    let command = Command::new("option").no_binary_name(true).arg(option_alone);
    let flag = format!("--{}={}", option.get_long().unwrap_or_default(), values.join(","));
    command.try_get_matches_from([flag]).map(drop).map_err(|error| {
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        format!("{}; expected: {help}", describe(&error))
    })
}

/// Describes why clap refused a value. Omits the name of the flag, because the value may come from a file or a
/// variable.
fn describe(error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    match (error.kind(), error.get(ContextKind::ValidValue), error.source()) {
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid)), _) => {
            format!("invalid value '{value}', possible values are {}", valid.join(", "))
        }
        (ErrorKind::ValueValidation, _, Some(reason)) => format!("invalid value '{value}': {reason}"),
        (kind, ..) => format!("invalid value '{value}': {kind}"),
    }
}

/// Checks the value of an option that clap accepts as any string. `name` is the option's key in the configuration file.
///
/// # Errors
/// Returns a description of what is expected. The description never repeats a secret.
pub(super) fn check_text(name: &str, value: &str) -> Result<(), String> {
    match name {
        "public_url" => PublicUrl::new(Some(value)).map(drop),
        "log" => parse_levels(value).map(drop),
        "account_sid" => {
            let sid = value.parse::<AccountSid>();
            sid.map(drop).map_err(|expected| format!("{expected}; the letters must be AC"))
        }
        "auth_token" => {
            let expected = "expected 16 to 128 letters and digits";
            AuthToken::parse(value).map(drop).ok_or_else(|| expected.to_owned())
        }
        "master_key" | "master_key_old" => {
            parse_master_keys(value).map(drop).ok_or_else(|| INVALID_MASTER_KEY.to_owned())
        }
        "database_url" | "database_direct_url" => check_database_url(value),
        "smtp_url" => configured_outlets::check_smtp_url(value),
        "mail_from" => configured_outlets::check_sender(value),
        "sms_url" => configured_outlets::text_outlet(value).map(drop),
        // clap's error would repeat the value, and a URL may contain a password.
        "otlp_endpoint" => {
            value.parse::<telemetry::traces::Endpoint>().map(drop).map_err(|error| error.to_string())
        }
        "otlp_headers" => {
            telemetry::traces::Headers::parse(value).map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}
