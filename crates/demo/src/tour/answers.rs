//! Steps 10 to 13 of the tour: answers that the server refuses, a denial, and an expired challenge.

use std::time::{Duration, Instant};

use device::{Answer, Challenge, Enrollment};
use domain::Clock as _;
use terminal::CliError;

use super::{Tour, challenge_path};

/// Maximum time to wait until a challenge with a lifetime of five to six seconds has expired.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval between the backend's requests while it waits for the challenge to expire.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl Tour {
    pub(super) async fn answer_twice(
        &self,
        enrollment: &Enrollment,
        challenge: &Challenge,
    ) -> Result<(), CliError> {
        self.start_step(
            "A second answer is refused",
            "The phone now signs a denial of the challenge that it has just approved. But an answer is final.",
        )
        .await;
        let result = self.phone.send_answer(enrollment, challenge, Answer::Denied).await;
        self.check_refused(
            result,
            60322,
            "The signature is valid, but the server refuses with code 60322: the challenge was already answered.",
        )
    }

    pub(super) async fn deny_challenge(&self, enrollment: &Enrollment) -> Result<(), CliError> {
        self.start_step(
            "Another challenge is denied",
            "This time another person tries to sign in. The denial tells the backend that the password is in the \
             wrong hands.",
        )
        .await;
        let sid = self.create_challenge(enrollment, "Are you signing in to Owl Bank?", &[]).await?;
        let challenge = self.phone.get_challenge(enrollment, &sid).await?;
        self.phone.send_answer(enrollment, &challenge, Answer::Denied).await?;
        let challenge = self.read_challenge(enrollment, &sid).await?;
        self.printer.check(challenge["status"] == "denied", "The challenge is denied.")
    }

    /// Runs step 12: creates a challenge with a short lifetime, fetches it, and returns it after it has
    /// expired.
    pub(super) async fn let_challenge_expire(&self, enrollment: &Enrollment) -> Result<Challenge, CliError> {
        self.start_step(
            "A third challenge expires",
            "The backend allows only five to six seconds. The phone fetches the challenge in time, but the user does \
             not answer.",
        )
        .await;
        // Expiration dates are in whole seconds, so this one is five to six seconds from now.
        let expires_at = self.clock.now().plus_seconds(6).truncate_to_second().to_string();
        let fields = [("ExpirationDate", expires_at.as_str())];
        let sid = self.create_challenge(enrollment, "Is it still you?", &fields).await?;
        let challenge = self.phone.get_challenge(enrollment, &sid).await?;
        let polls = self.wait_until_expired(&challenge_path(enrollment, &sid)).await?;
        self.printer.print_remark(&format!(
            "Meanwhile the backend reads the challenge {polls} times and finds it pending. Then:"
        ));
        let expired = self.read_challenge(enrollment, &sid).await?;
        self.printer.check(expired["status"] == "expired", "The challenge is expired.")?;
        Ok(challenge)
    }

    pub(super) async fn answer_too_late(
        &self,
        enrollment: &Enrollment,
        challenge: &Challenge,
    ) -> Result<(), CliError> {
        self.start_step(
            "An answer that comes too late is refused",
            "The phone still has the challenge and signs an approval as before. But the challenge has expired.",
        )
        .await;
        let result = self.phone.send_answer(enrollment, challenge, Answer::Approved).await;
        self.check_refused(
            result,
            60323,
            "The signature is valid, but the server refuses with code 60323: the challenge has expired.",
        )
    }

    /// Polls until the challenge at `path` is no longer pending. Returns the number of polls in which it was
    /// still pending.
    async fn wait_until_expired(&self, path: &str) -> Result<usize, CliError> {
        let started = Instant::now();
        let mut polls = 0;
        while self.backend.get_silently(path).await?["status"] == "pending" {
            if started.elapsed() > EXPIRY_TIMEOUT {
                return Err(CliError::new("the challenge is still pending, but should have expired"));
            }
            polls += 1;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(polls)
    }
}
