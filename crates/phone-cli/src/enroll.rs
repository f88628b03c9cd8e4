//! The command `countersign device enroll`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use device::{Enrollment, Error, NewFactor, Platform, Style};
use domain::factors::{AppId, RegistrationToken};
use domain::{FriendlyName, Identity, Secret, ServiceSid};
use terminal::{CliError, plain, quoted, say_text, table};

use crate::parameters::{parameter, parse_secret, read_secret};
use crate::phones::{Phones, explain};

/// Options of `countersign device enroll`.
#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// Base URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,

    /// SID of the service to enroll with (VA…)
    #[arg(long, value_name = "SID", value_parser = parameter::<ServiceSid>)]
    service: ServiceSid,

    /// Identity of the user, exactly as your backend sent it to the server
    #[arg(long, value_parser = parameter::<Identity>)]
    identity: Identity,

    /// Access token that your backend created for this user, or - to read it from standard input. On a shared
    /// machine, use - or the environment variable, because other users can see command arguments
    #[arg(long, env = "COUNTERSIGN_ACCESS_TOKEN", hide_env_values = true, value_parser = parse_secret)]
    token: Secret<String>,

    /// Display name of the phone
    #[arg(long, default_value = "My phone", value_parser = parameter::<FriendlyName>)]
    name: FriendlyName,

    /// Twilio SDK whose requests the phone imitates
    #[arg(long, default_value = "android", value_parser = PossibleValuesParser::new(["android", "ios"])
        .try_map(|text| parameter::<Style>(&text)))]
    style: Style,

    /// Id of the app: the Android package or the iOS bundle id
    #[arg(long, default_value = "com.example.app", value_name = "ID", value_parser = parameter::<AppId>)]
    app_id: AppId,

    /// Push provider of the phone. Without one, use show or watch to see challenges
    #[arg(long, requires = "push_token", value_parser = PossibleValuesParser::new(["apn", "fcm"])
        .try_map(|text| parameter::<Platform>(&text)))]
    platform: Option<Platform>,

    /// Registration token that the push provider assigned to the phone
    #[arg(long, requires = "platform", value_name = "TOKEN", value_parser = parameter::<RegistrationToken>)]
    push_token: Option<RegistrationToken>,
}

/// Enrolls a phone, stores the enrollment in the keyring, and prints what to do next.
pub(crate) async fn run(phones: &mut Phones, options: Enroll) -> Result<(), CliError> {
    let phone = phones.phone(options.style, &options.url)?;
    phones.require_writable()?;
    let new = NewFactor {
        service_sid: options.service.to_string(),
        identity: options.identity.to_string(),
        access_token: read_secret(options.token, "access token")?,
        friendly_name: options.name.to_string(),
        notification: options.platform.zip(options.push_token.map(|token| token.to_string())),
        metadata: None,
        app_id: options.app_id.to_string(),
    };
    let created = phone.create_factor(&new).await;
    let mut enrollment = created.map_err(|error| explain_refusal(error, &options.url))?;
    // Store the key before the second request, so that it is not lost if that request fails.
    phones.store(&enrollment)?;
    phone.verify_factor(&mut enrollment).await.map_err(|error| {
        let reason = explain(error, &options.url);
        let sid = plain(&enrollment.factor_sid);
        CliError::new(format!(
            "{reason}. The factor {sid} was created but is not verified yet; \"{}\" tries again",
            phones.command("list")
        ))
    })?;
    phones.store(&enrollment)?;
    print_next_steps(phones, &enrollment)
}

/// Converts an error of the enrollment request into a message for the terminal.
fn explain_refusal(error: Error, url: &str) -> CliError {
    match error {
        Error::Api { status: 401, .. } => CliError::new(
            "the server refused the access token: it was already used, has expired or was created by another \
             server; get a new one from your backend",
        ),
        Error::Api { code: 60313, .. } => CliError::new(
            "the access token was made for another service or user; check that --service and --identity are \
             exactly what your backend used, or get a new token",
        ),
        error => explain(error, url),
    }
}

fn print_next_steps(phones: &Phones, enrollment: &Enrollment) -> Result<(), CliError> {
    let sid = plain(&enrollment.factor_sid);
    say_text("The phone is enrolled.\n")?;
    say_text(table(&[
        ("factor", sid.clone()),
        ("user", enrollment.identity.clone()),
        ("service", enrollment.service_sid.clone()),
        ("keyring", format!("{}, which contains the private key: keep it secret", phones.path().display())),
    ]))?;
    // Quote the SID: the server chose it, and the user will paste it into a shell.
    let factor = quoted(&format!("FactorSid={sid}"));
    say_text(format!(
        "\nNext, create a challenge as your backend:\n\n  \
         curl --fail-with-body -sSu \"$COUNTERSIGN_ACCOUNT_SID:$COUNTERSIGN_AUTH_TOKEN\" \\\n    \
         {}/v2/Services/{}/Entities/{}/Challenges \\\n    \
         -d {factor} -d 'Details.Message=Are you signing in?'\n\n\
         and answer it:\n\n  {}",
        plain(&enrollment.base_url),
        enrollment.service_sid,
        enrollment.identity,
        phones.command("watch")
    ))
}
