//! The settings of outlets as arguments of commands.

use std::path::PathBuf;

use app::outlets::SettingsChange;
use clap::Args;
use domain::outlets::OutletKind;
use domain::{Code, Problem, Secret};
use outlet_client::{
    CaptureParameters, HttpParameters, InvalidOutlet, OutletParameters, OutletSettings, SmtpParameters,
    TwilioParameters,
};
use terminal::CliError;

use crate::input_file::read_text_or_input;

/// The settings of an outlet of any kind. On an update, an empty value removes a setting.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings of the outlet")]
pub(super) struct SettingsArguments {
    /// smtp: server, as smtps://HOST:465 or smtp://HOST:587?tls=required, opportunistic or none.
    /// twilio: server, if not `https://api.twilio.com`.
    /// http: URL whose query may contain placeholders such as {{to}}, {{body}} and {{secret}}
    #[arg(long, verbatim_doc_comment)]
    url: Option<String>,
    /// smtp, http: user. twilio: SID of an API key, if not the account
    #[arg(long)]
    user: Option<String>,
    /// File that contains the password, token or key; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// smtp: address of the sender. twilio: number or name of the sender. http: value of {{from}}
    #[arg(long)]
    from: Option<String>,
    /// smtp: name of the sender
    #[arg(long)]
    from_name: Option<String>,
    /// smtp: address to which answers go
    #[arg(long)]
    reply_to: Option<String>,
    /// twilio: SID of the account at the provider
    #[arg(long)]
    provider_account: Option<String>,
    /// twilio: SID of the messaging service that sends text messages
    #[arg(long)]
    messaging_service: Option<String>,
    /// http: GET, POST or PUT [default: POST]
    #[arg(long)]
    method: Option<String>,
    /// http: header, such as `X-Api-Key: {{secret}}`; can be repeated
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// http: authentication, which is none, basic or bearer [default: basic with --user, otherwise none]
    #[arg(long)]
    auth: Option<String>,
    /// http: json, form or none [default: json, or none for GET]
    #[arg(long)]
    content_type: Option<String>,
    /// http: template of the body, such as {"to": "{{to}}", "text": "{{body}}"} [default: all values under their names]
    #[arg(long)]
    body: Option<String>,
    /// http: text that the response must contain
    #[arg(long, value_name = "TEXT")]
    success_text: Option<String>,
    /// http: JSON pointer to the value of the response that must be --success-value, such as /data/0/status
    #[arg(long, value_name = "POINTER")]
    success_pointer: Option<String>,
    /// http: value at --success-pointer
    #[arg(long, value_name = "VALUE")]
    success_value: Option<String>,
    /// http: JSON pointer to the gateway's own ID of the message
    #[arg(long, value_name = "POINTER")]
    id_pointer: Option<String>,
    /// capture: absolute path of the file to which messages are appended
    #[arg(long, value_name = "FILE")]
    path: Option<String>,
}

impl SettingsArguments {
    /// Returns whether any setting is given.
    pub(super) fn is_given(&self) -> bool {
        self.first_given().is_some()
    }

    /// Returns the settings of a new outlet.
    ///
    /// # Errors
    /// Returns an error if a setting is missing, invalid, or of another kind, or if the file with the secret can't be
    /// read.
    pub(super) fn create(mut self, kind: OutletKind) -> Result<OutletSettings, CliError> {
        let parameters = match kind {
            OutletKind::Smtp => OutletParameters::Smtp(SmtpParameters::default()),
            OutletKind::Twilio => OutletParameters::Twilio(TwilioParameters::default()),
            OutletKind::Http => OutletParameters::Http(HttpParameters::default()),
            OutletKind::Capture => OutletParameters::Capture(CaptureParameters::default()),
        };
        let secret = self.take_secret()?;
        self.apply(parameters, secret).map_err(CliError::new)
    }

    /// Returns the change of an existing outlet's settings to the given ones.
    ///
    /// # Errors
    /// Returns an error if the file with the secret can't be read. The change returns error code 60306 if a setting is
    /// invalid or of another kind.
    pub(super) fn into_change(mut self) -> Result<SettingsChange, CliError> {
        let secret = self.take_secret()?;
        Ok(Box::new(move |settings: &OutletSettings| {
            let changed = self.clone().apply(settings.parameters(), secret.clone());
            changed.map_err(|why| Problem::with_advice(Code::InvalidRequest, why))
        }))
    }

    /// Reads the secret, if one is given.
    fn take_secret(&mut self) -> Result<Option<Secret<String>>, CliError> {
        let secret = self.secret_file.take().map(|file| read_text_or_input(&file)).transpose()?;
        Ok(secret.map(|text| Secret::new(text.trim().to_owned())))
    }

    /// Returns the settings with these changes, or a message that says what is wrong with them.
    fn apply(
        mut self,
        parameters: OutletParameters,
        secret: Option<Secret<String>>,
    ) -> Result<OutletSettings, String> {
        let parameters = match parameters {
            OutletParameters::Smtp(parameters) => {
                OutletParameters::Smtp(self.apply_to_smtp(parameters, secret))
            }
            OutletParameters::Twilio(parameters) => {
                OutletParameters::Twilio(self.apply_to_twilio(parameters, secret))
            }
            OutletParameters::Http(parameters) => {
                OutletParameters::Http(self.apply_to_http(parameters, secret))
            }
            OutletParameters::Capture(mut parameters) => {
                if secret.is_some() {
                    return Err("--secret-file is not a setting of outlets of this kind".to_owned());
                }
                set(&mut parameters.path, self.path.take());
                OutletParameters::Capture(parameters)
            }
        };
        if let Some(other) = self.first_given() {
            return Err(format!("{other} is not a setting of outlets of this kind"));
        }
        OutletSettings::new(parameters).map_err(|invalid: InvalidOutlet| invalid.to_string())
    }

    fn apply_to_smtp(
        &mut self,
        mut parameters: SmtpParameters,
        secret: Option<Secret<String>>,
    ) -> SmtpParameters {
        if self.replaces_user() {
            (parameters.user, parameters.secret) = (None, None);
        }
        set(&mut parameters.url, self.url.take());
        set_optional(&mut parameters.user, self.user.take());
        set_secret(&mut parameters.secret, secret);
        set(&mut parameters.from, self.from.take());
        set_optional(&mut parameters.from_name, self.from_name.take());
        set_optional(&mut parameters.reply_to, self.reply_to.take());
        parameters
    }

    fn apply_to_twilio(
        &mut self,
        mut parameters: TwilioParameters,
        secret: Option<Secret<String>>,
    ) -> TwilioParameters {
        set_optional(&mut parameters.url, self.url.take());
        set(&mut parameters.account_sid, self.provider_account.take());
        set_optional(&mut parameters.user, self.user.take());
        set_secret(&mut parameters.secret, secret);
        set_optional(&mut parameters.from, self.from.take());
        set_optional(&mut parameters.messaging_service_sid, self.messaging_service.take());
        parameters
    }

    fn apply_to_http(
        &mut self,
        mut parameters: HttpParameters,
        secret: Option<Secret<String>>,
    ) -> HttpParameters {
        if self.replaces_user() {
            (parameters.user, parameters.secret) = (None, None);
        }
        set(&mut parameters.url, self.url.take());
        set_optional(&mut parameters.method, self.method.take());
        let headers = std::mem::take(&mut self.headers);
        if !headers.is_empty() {
            parameters.headers = headers.into_iter().filter(|header| !header.is_empty()).collect();
        }
        set_optional(&mut parameters.auth, self.auth.take());
        set_optional(&mut parameters.user, self.user.take());
        set_secret(&mut parameters.secret, secret);
        set_optional(&mut parameters.content_type, self.content_type.take());
        set_optional(&mut parameters.body, self.body.take());
        set_optional(&mut parameters.from, self.from.take());
        set_optional(&mut parameters.success_text, self.success_text.take());
        set_optional(&mut parameters.success_pointer, self.success_pointer.take());
        set_optional(&mut parameters.success_value, self.success_value.take());
        set_optional(&mut parameters.id_pointer, self.id_pointer.take());
        parameters
    }

    /// Returns whether the given URL contains a user, who replaces the present one.
    fn replaces_user(&self) -> bool {
        let authority = self.url.as_deref().and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
        let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
        authority.is_some_and(|authority| authority.contains('@'))
    }

    /// Returns the name of the first given setting.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--url", self.url.is_some()),
            ("--user", self.user.is_some()),
            ("--secret-file", self.secret_file.is_some()),
            ("--from", self.from.is_some()),
            ("--from-name", self.from_name.is_some()),
            ("--reply-to", self.reply_to.is_some()),
            ("--provider-account", self.provider_account.is_some()),
            ("--messaging-service", self.messaging_service.is_some()),
            ("--method", self.method.is_some()),
            ("--header", !self.headers.is_empty()),
            ("--auth", self.auth.is_some()),
            ("--content-type", self.content_type.is_some()),
            ("--body", self.body.is_some()),
            ("--success-text", self.success_text.is_some()),
            ("--success-pointer", self.success_pointer.is_some()),
            ("--success-value", self.success_value.is_some()),
            ("--id-pointer", self.id_pointer.is_some()),
            ("--path", self.path.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

fn set(setting: &mut String, given: Option<String>) {
    if let Some(value) = given {
        *setting = value;
    }
}

/// Replaces a setting. An empty value removes it.
fn set_optional(setting: &mut Option<String>, given: Option<String>) {
    if let Some(value) = given {
        *setting = (!value.is_empty()).then_some(value);
    }
}

/// Replaces a secret. An empty one removes it.
fn set_secret(setting: &mut Option<Secret<String>>, given: Option<Secret<String>>) {
    if let Some(value) = given {
        *setting = (!value.expose().is_empty()).then_some(value);
    }
}
