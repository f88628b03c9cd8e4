//! `countersign device approve` and `deny`.

use device::{Answer, Error};
use domain::ChallengeSid;

use crate::device::look::find;
use crate::device::phones::Phones;
use crate::device::screen::question;
use crate::failure::Failure;
use crate::terminal::say_text;

/// Finds the phone that is asked, and answers as an app does.
pub(super) async fn run(
    phones: &mut Phones,
    factor: Option<String>,
    sid: ChallengeSid,
    answer: Answer,
) -> Result<(), Failure> {
    let (handset, _) = find(phones, factor, sid).await?;
    let answered = handset.phone.answer(&handset.enrollment, &sid.to_string(), answer).await;
    let challenge = answered.map_err(|error| {
        let lost = matches!(error, Error::Transport(_));
        match (handset.explain(error), lost) {
            (why, true) => Failure::new(format!(
                "{why}. The answer may have arrived; \"{}\" shows whether it has",
                phones.command(&format!("show {sid}"))
            )),
            (why, false) => why,
        }
    })?;
    // What the server shows now, which is what was signed.
    say_text(format!("{} is {}.\n{}", sid, challenge.status.as_str(), question(&challenge).trim_end()))
}
