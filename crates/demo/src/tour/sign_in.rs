//! Steps 5 to 9 of the tour: the user confirms a sign-in.

use device::{Answer, Challenge, Enrollment, Status};
use terminal::CliError;

use super::Tour;

impl Tour {
    /// Runs step 5: creates the challenge for a sign-in and returns its SID.
    pub(super) async fn create_sign_in_challenge(&self, enrollment: &Enrollment) -> Result<String, CliError> {
        self.start_step(
            "The user signs in, and the backend asks the phone",
            "A challenge is one question to one phone, with the details that the user needs to decide. Without \
             an answer, it expires after five minutes.",
        )
        .await;
        let fields = [
            ("Details.Fields", r#"{"label":"Place","value":"Vienna, Austria"}"#),
            ("Details.Fields", r#"{"label":"Device","value":"Firefox on Linux"}"#),
            ("HiddenDetails", r#"{"session":"8f14e45f"}"#),
        ];
        self.create_challenge(enrollment, "Are you signing in to Owl Bank?", &fields).await
    }

    pub(super) async fn list_pending_challenges(
        &self,
        enrollment: &Enrollment,
        sid: &str,
    ) -> Result<(), CliError> {
        self.start_step(
            "The phone lists its pending challenges",
            "The app can do this whenever it is opened. A push only saves time; it comes later in this demo.",
        )
        .await;
        let list = self.phone.list_pending(enrollment).await?;
        let is_found = matches!(list.challenges.as_slice(), [only] if only.sid == sid);
        self.printer.check(is_found, "The phone finds this challenge and no other.")
    }

    pub(super) async fn fetch_challenge(
        &self,
        enrollment: &Enrollment,
        sid: &str,
    ) -> Result<Challenge, CliError> {
        self.start_step(
            "The phone fetches the challenge",
            "A header of the response lists the fields to sign. They tie the user's decision to the question \
             on the screen.",
        )
        .await;
        let challenge = self.phone.get_challenge(enrollment, sid).await?;
        self.printer.check(
            challenge.status == Status::Pending && challenge.fields.len() == 2,
            "The user sees the question and two details. The hidden details are signed, but not shown.",
        )?;
        Ok(challenge)
    }

    pub(super) async fn approve_challenge(
        &self,
        enrollment: &Enrollment,
        challenge: &Challenge,
    ) -> Result<(), CliError> {
        self.start_step(
            "The user approves, and the phone signs the answer",
            "The phone copies the listed fields, sets status to the decision, and signs the result. Neither the \
             question nor the answer can be changed on the way.",
        )
        .await;
        self.phone.send_answer(enrollment, challenge, Answer::Approved).await?;
        self.check_signatures(
            "The signature matches the phone's public key, and the server accepted the answer.",
        )
    }

    pub(super) async fn read_answer(&self, enrollment: &Enrollment, sid: &str) -> Result<(), CliError> {
        self.start_step(
            "The backend reads the answer",
            "It polls until the challenge is no longer pending, and then lets the user in. Later in this demo the \
             server calls the backend instead.",
        )
        .await;
        let challenge = self.read_challenge(enrollment, sid).await?;
        self.printer.check(challenge["status"] == "approved", "The challenge is approved.")
    }
}
