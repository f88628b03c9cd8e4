//! `countersign device enroll`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use app::SystemClock;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use device::{Enrollment, Error, NewFactor, Phone, Platform, Style};
use domain::factors::{AppId, RegistrationToken};
use domain::{FriendlyName, Identity, Secret, ServiceSid};

use crate::device::parameter;
use crate::device::phones::{Phones, explain};
use crate::failure::Failure;
use crate::terminal::{ask, plain, quoted, say_text, table};

/// What the phone needs in order to enroll.
#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// Address of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,

    /// SID of the service, VA…
    #[arg(long, value_name = "SID", value_parser = parameter::<ServiceSid>)]
    service: ServiceSid,

    /// The user, by the name that your backend gave to the server
    #[arg(long, value_parser = parameter::<Identity>)]
    identity: Identity,

    /// Access token that your backend made for this user, or - to read it from standard input. Prefer that,
    /// or the environment variable, on a machine that you share: others see the arguments of your commands
    /// in the list of processes
    #[arg(long, env = "COUNTERSIGN_ACCESS_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Secret<String>,

    /// What to call the phone
    #[arg(long, default_value = "My phone", value_parser = parameter::<FriendlyName>)]
    name: FriendlyName,

    /// Which of Twilio's SDKs to behave like
    #[arg(long, default_value = "android", value_parser = PossibleValuesParser::new(["android", "ios"])
        .try_map(|text| parameter::<Style>(&text)))]
    style: Style,

    /// Android package or iOS bundle id to enroll as
    #[arg(long, default_value = "com.example.app", value_name = "ID", value_parser = parameter::<AppId>)]
    app_id: AppId,

    /// Push provider; without one, look for challenges with show or watch
    #[arg(long, requires = "push_token", value_parser = PossibleValuesParser::new(["apn", "fcm"])
        .try_map(|text| parameter::<Platform>(&text)))]
    platform: Option<Platform>,

    /// The phone's address with the push provider
    #[arg(long, requires = "platform", value_name = "TOKEN", value_parser = parameter::<RegistrationToken>)]
    push_token: Option<RegistrationToken>,
}

fn secret(text: &str) -> Result<Secret<String>, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        text => Ok(Secret::new(text.to_owned())),
    }
}

pub(super) async fn run(phones: &mut Phones, options: Enroll) -> Result<(), Failure> {
    let phone = Phone::new(options.style, &options.url, Arc::new(SystemClock))
        .map_err(|error| explain(error, &options.url))?;
    phones.prepare()?;
    let new = NewFactor {
        service_sid: options.service.to_string(),
        identity: options.identity.to_string(),
        access_token: given(options.token)?,
        friendly_name: options.name.to_string(),
        notification: options.platform.zip(options.push_token.map(|token| token.to_string())),
        metadata: None,
        app_id: options.app_id.to_string(),
    };
    let created = phone.create_factor(&new).await;
    let mut enrollment = created.map_err(|error| refused(error, &options.url))?;
    // Kept before the second call: whatever becomes of that one, the key is not lost.
    phones.keep(&enrollment)?;
    phone.verify_factor(&mut enrollment).await.map_err(|error| {
        let why = explain(error, &options.url);
        let sid = plain(&enrollment.factor_sid);
        Failure::new(format!(
            "{why}. The factor {sid} is made, but not verified yet; \"{}\" tries that again",
            phones.command("list")
        ))
    })?;
    phones.keep(&enrollment)?;
    report(phones, &enrollment)
}

/// The token itself, or what standard input says.
fn given(token: Secret<String>) -> Result<Secret<String>, Failure> {
    if token.expose() != "-" {
        return Ok(token);
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        ask("Access token:");
    }
    let mut line = String::new();
    stdin.read_line(&mut line)?;
    match line.trim() {
        "" => Err(Failure::new("there is no access token on standard input")),
        token => Ok(Secret::new(token.to_owned())),
    }
}

/// Why there is no factor.
fn refused(error: Error, url: &str) -> Failure {
    match error {
        Error::Api { status: 401, .. } => Failure::new(
            "the server refused the access token: it was used before, is too old or is not one of this \
             server's; get a new one from your backend",
        ),
        Error::Api { code: 60313, .. } => Failure::new(
            "the access token was made for another service or user; check --service and --identity, which \
             must be as your backend wrote them, or get a new token",
        ),
        error => explain(error, url),
    }
}

fn report(phones: &Phones, enrollment: &Enrollment) -> Result<(), Failure> {
    let sid = plain(&enrollment.factor_sid);
    say_text("The phone is enrolled.\n")?;
    say_text(table(&[
        ("factor", sid.clone()),
        ("user", enrollment.identity.clone()),
        ("service", enrollment.service_sid.clone()),
        ("keyring", format!("{}, with the private key: keep it to yourself", phones.path().display())),
    ]))?;
    // Quoted, since the server has chosen it and a shell will read it.
    let factor = quoted(&format!("FactorSid={sid}"));
    say_text(format!(
        "\nNext, let your backend ask:\n\n  \
         curl --fail-with-body -sSu \"$COUNTERSIGN_ACCOUNT_SID:$COUNTERSIGN_AUTH_TOKEN\" \\\n    \
         {}/v2/Services/{}/Entities/{}/Challenges \\\n    \
         -d {factor} -d 'Details.Message=Is it you who signs in?'\n\n\
         and answer:\n\n  {}",
        plain(&enrollment.base_url),
        enrollment.service_sid,
        enrollment.identity,
        phones.command("watch")
    ))
}
