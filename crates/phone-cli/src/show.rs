//! The commands `countersign device list` and `show`. They change nothing on the server.

use device::{Challenge, ChallengeList, Enrollment, Error};
use domain::ChallengeSid;
use terminal::{CliError, plain, say, say_text, table};

use crate::phones::{EnrolledPhone, Phones};
use crate::screen::{pending_challenge, question, time_left};

/// Prints the enrollments in the keyring, without contacting a server.
pub(crate) fn list_offline(phones: &Phones) -> Result<(), CliError> {
    for enrollment in phones.enrollments()? {
        print_enrollment(enrollment, None)?;
    }
    Ok(())
}

/// Prints the enrollments, each with its number of pending challenges. If a server is unreachable, the output
/// says so and the command still succeeds.
pub(crate) async fn list(phones: &mut Phones) -> Result<(), CliError> {
    for enrolled in phones.enrolled(None).await? {
        let pending = match enrolled.list_pending().await {
            Ok(list) => count(&list),
            Err(error) => format!("unknown: {}", enrolled.explain(error)),
        };
        print_enrollment(&enrolled.enrollment, Some(pending))?;
    }
    Ok(())
}

fn count(list: &ChallengeList) -> String {
    match (list.challenges.len(), &list.next_page_token) {
        (0, _) => "none".to_owned(),
        (count, None) => count.to_string(),
        (count, Some(_)) => format!("more than {count}"),
    }
}

fn print_enrollment(enrollment: &Enrollment, pending: Option<String>) -> Result<(), CliError> {
    say(format_args!("{}  {}", enrollment.factor_sid, enrollment.friendly_name))?;
    let mut rows = vec![
        ("user", enrollment.identity.clone()),
        ("service", enrollment.service_sid.clone()),
        ("server", enrollment.base_url.clone()),
        ("style", enrollment.style.to_string()),
        ("enrolled", format!("{}, {}", enrollment.created_at, enrollment.status.as_str())),
    ];
    rows.extend(pending.map(|pending| ("pending", pending)));
    say_text(table(&rows) + "\n")
}

/// Prints the pending challenges of all factors in the keyring. If `factor` is given, prints only those of
/// the factor with this SID or SID prefix.
pub(crate) async fn pending(phones: &mut Phones, factor: Option<String>) -> Result<(), CliError> {
    let all = phones.enrolled(factor).await?;
    let mut first_error = None;
    let mut is_any_pending = false;
    for enrolled in &all {
        let list = match enrolled.list_pending().await {
            Ok(list) => list,
            // Show the other phones' challenges before this error is reported.
            Err(error) => {
                first_error.get_or_insert(enrolled.explain(error));
                continue;
            }
        };
        for challenge in &list.challenges {
            if all.len() > 1 {
                say(enrolled.title())?;
            }
            say_text(pending_challenge(challenge, enrolled.now()))?;
            is_any_pending = true;
        }
    }
    match first_error {
        Some(error) => Err(error),
        None if is_any_pending => say(format_args!(
            "Answer with \"{}\" or \"{}\".",
            phones.command("approve CHALLENGE"),
            phones.command("deny CHALLENGE")
        )),
        None => say("No pending challenges."),
    }
}

/// Prints the challenge `sid` with all its properties. If `factor` is given, only the factor with this SID
/// or SID prefix is searched.
pub(crate) async fn challenge(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
) -> Result<(), CliError> {
    let (enrolled, challenge) = find_challenge(phones, factor, sid).await?;
    say_text(format!("{}\n{}", plain(&challenge.sid), question(&challenge)))?;
    say_text(table(&properties(&enrolled, &challenge)))
}

fn properties(enrolled: &EnrolledPhone, challenge: &Challenge) -> Vec<(&'static str, String)> {
    let expires = challenge.expires_at;
    let mut properties = vec![
        ("phone", enrolled.title()),
        ("status", challenge.status.as_str().to_owned()),
        ("expires", format!("{expires}, {}", time_left(expires, enrolled.now()))),
        ("created", challenge.created_at.to_string()),
        ("changed", challenge.updated_at.to_string()),
    ];
    properties.extend(challenge.date.map(|date| ("date", date.to_string())));
    // An app does not show hidden details to its user, but the phone signs them.
    for (name, value) in challenge.hidden_details.iter().flatten() {
        properties.push(("hidden", format!("{name}: {value}")));
    }
    properties
}

/// Finds the challenge `sid`. Returns it and the phone it was sent to.
///
/// # Errors
/// Returns an error if no phone has this challenge. If a request failed, returns the first such error
/// instead.
pub(crate) async fn find_challenge(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
) -> Result<(EnrolledPhone, Challenge), CliError> {
    let mut first_error = None;
    for enrolled in phones.enrolled(factor).await? {
        match enrolled.phone.get_challenge(&enrolled.enrollment, &sid.to_string()).await {
            Ok(challenge) => return Ok((enrolled, challenge)),
            // The challenge is for another phone or does not exist.
            Err(Error::Api { status: 404, .. }) => {}
            Err(error) => {
                first_error.get_or_insert(enrolled.explain(error));
            }
        }
    }
    Err(first_error.unwrap_or_else(|| {
        CliError::new(format!(
            "there is no challenge {sid} for this phone; \"{}\" lists the pending challenges",
            phones.command("show")
        ))
    }))
}
