//! `countersign device approve` and `deny`.

use device::{Answer, Error};
use domain::ChallengeSid;
use terminal::{CliError, say_text};

use crate::phones::Phones;
use crate::screen::question;
use crate::show::find_challenge;

/// Finds the phone that the challenge is for, and answers it as an app does.
pub(crate) async fn run(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
    answer: Answer,
) -> Result<(), CliError> {
    let (enrolled, _) = find_challenge(phones, factor, sid).await?;
    let answered = enrolled.phone.answer(&enrolled.enrollment, &sid.to_string(), answer).await;
    let challenge = answered.map_err(|error| {
        let is_unknown = matches!(error, Error::Transport(_));
        let reason = enrolled.explain(error);
        if is_unknown {
            CliError::new(format!(
                "{reason}. The answer may have arrived; \"{}\" shows the current status",
                phones.command(&format!("show {sid}"))
            ))
        } else {
            reason
        }
    })?;
    say_text(format!("{} is {}.\n{}", sid, challenge.status.as_str(), question(&challenge).trim_end()))
}
