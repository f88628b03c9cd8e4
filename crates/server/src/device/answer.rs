//! `countersign device approve` and `deny`.

use device::{Answer, Error};
use domain::ChallengeSid;

use crate::device::look::find;
use crate::device::phones::Handset;
use crate::device::screen::{question, say};
use crate::failure::Failure;

/// Finds the phone that is asked, and answers as an app does.
pub(super) async fn run(handsets: Vec<Handset>, sid: ChallengeSid, answer: Answer) -> Result<(), Failure> {
    let (handset, _) = find(handsets, sid).await?;
    let answered = handset.phone.answer(&handset.enrolment, &sid.to_string(), answer).await;
    let challenge = answered.map_err(|error| {
        let lost = matches!(error, Error::Transport(_));
        match (handset.explain(error), lost) {
            (why, true) => Failure::new(format!(
                "{why}. The answer may have arrived; \"countersign device show {sid}\" tells"
            )),
            (why, false) => why,
        }
    })?;
    // What the server shows now, which is what was signed.
    say(format!("{} is {}.\n{}", sid, challenge.status.as_str(), question(&challenge).trim_end()))
}
