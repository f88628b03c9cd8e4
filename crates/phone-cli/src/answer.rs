//! The commands `countersign device approve` and `deny`.

use device::{Answer, Error};
use domain::ChallengeSid;
use terminal::{CliError, say_text};

use crate::phones::Phones;
use crate::screen::question;
use crate::show::find_challenge;

/// Answers the challenge `sid` as an app would, using whichever phone it was sent to, and prints the
/// result. If `factor` is given, only the factor with this SID or SID prefix is searched.
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
                "{reason}. The server may have received the answer; \"{}\" shows the current status",
                phones.command(&format!("show {sid}"))
            ))
        } else {
            reason
        }
    })?;
    say_text(format!("{} is {}.\n{}", sid, challenge.status.as_str(), question(&challenge).trim_end()))
}
