//! `countersign device list` and `show`: what there is, without changing it.

use device::{ChallengeList, Enrollment, Error, ShownChallenge};
use domain::ChallengeSid;

use crate::device::phones::{Handset, Phones};
use crate::device::screen::{question, time_left, waiting};
use crate::failure::Failure;
use crate::terminal::{plain, say, say_text, table};

/// The enrollments, as the keyring has them.
pub(super) fn list_offline(phones: &Phones) -> Result<(), Failure> {
    for enrollment in phones.enrollments()? {
        entry(enrollment, None)?;
    }
    Ok(())
}

/// The enrollments, and what waits at the server. A server that does not answer is no failure here.
pub(super) async fn list(phones: &mut Phones) -> Result<(), Failure> {
    for handset in phones.take(None).await? {
        let pending = match handset.pending().await {
            Ok(list) => count(&list),
            Err(error) => format!("unknown: {}", handset.explain(error)),
        };
        entry(&handset.enrollment, Some(pending))?;
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

fn entry(enrollment: &Enrollment, pending: Option<String>) -> Result<(), Failure> {
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

/// The challenges that wait for an answer.
pub(super) async fn pending(phones: &mut Phones, factor: Option<String>) -> Result<(), Failure> {
    let handsets = phones.take(factor).await?;
    let mut first_failure = None;
    let mut waits = false;
    for handset in &handsets {
        let list = match handset.pending().await {
            Ok(list) => list,
            // The other phones may have something to show.
            Err(error) => {
                first_failure.get_or_insert(handset.explain(error));
                continue;
            }
        };
        for challenge in &list.challenges {
            if handsets.len() > 1 {
                say(handset.title())?;
            }
            say_text(waiting(challenge, handset.now()))?;
            waits = true;
        }
    }
    match first_failure {
        Some(failure) => Err(failure),
        None if waits => say(format_args!(
            "Answer with \"{}\" or \"{}\".",
            phones.command("approve CHALLENGE"),
            phones.command("deny CHALLENGE")
        )),
        None => say("Nothing waits for an answer."),
    }
}

/// One challenge with everything that the server says of it.
pub(super) async fn challenge(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
) -> Result<(), Failure> {
    let (handset, challenge) = find(phones, factor, sid).await?;
    say_text(format!("{}\n{}", plain(&challenge.sid), question(&challenge)))?;
    say_text(table(&facts(&handset, &challenge)))
}

fn facts(handset: &Handset, challenge: &ShownChallenge) -> Vec<(&'static str, String)> {
    let mut facts = vec![("asked", handset.title()), ("status", challenge.status.as_str().to_owned())];
    let expires = challenge.expires_at;
    facts.push(("expires", format!("{expires}, {}", time_left(expires, handset.now()))));
    facts.push(("created", challenge.created_at.to_string()));
    facts.push(("changed", challenge.updated_at.to_string()));
    facts.extend(challenge.date.map(|date| ("date", date.to_string())));
    // Signed along with the rest, and not meant for the person who is asked.
    for (name, value) in challenge.hidden_details.iter().flatten() {
        facts.push(("hidden", format!("{name}: {value}")));
    }
    facts
}

/// The phone that is asked, and the challenge as the server shows it.
pub(super) async fn find(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
) -> Result<(Handset, ShownChallenge), Failure> {
    let mut first_failure = None;
    for handset in phones.take(factor).await? {
        match handset.phone.challenge(&handset.enrollment, &sid.to_string()).await {
            Ok(challenge) => return Ok((handset, challenge)),
            // Another phone's, or nobody's.
            Err(Error::Api { status: 404, .. }) => {}
            Err(error) => {
                first_failure.get_or_insert(handset.explain(error));
            }
        }
    }
    Err(first_failure.unwrap_or_else(|| {
        Failure::new(format!(
            "there is no challenge {sid} for this phone; see what waits with \"{}\"",
            phones.command("show")
        ))
    }))
}
