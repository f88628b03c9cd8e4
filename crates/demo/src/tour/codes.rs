//! The last two steps of the tour: a user signs in with codes of an authenticator app.

use device::AuthenticatorApp;
use domain::Clock as _;
use terminal::CliError;

use super::Tour;
use crate::backend::{Explanation, string_member};

/// Identity of a user who has an authenticator app instead of the bank's app.
const IDENTITY: &str = "user-0002";

/// Length of a time step of the factor, in seconds.
const TIME_STEP_SECONDS: i64 = 30;

/// A TOTP factor, and the authenticator app that has its secret.
pub(super) struct TotpFactor {
    sid: String,
    app: AuthenticatorApp,
}

impl Tour {
    /// Creates and verifies a TOTP factor.
    pub(super) async fn share_secret(&self, service_sid: &str) -> Result<TotpFactor, CliError> {
        self.start_step(
            "Another user scans a secret with an authenticator app",
            "Users without your app can sign in with codes. The backend shows the URI as a QR code. The first code \
             proves that the app has the secret; the server shows it only once.",
        )
        .await;
        let path = format!("/v2/Services/{service_sid}/Entities/{IDENTITY}/Factors");
        let form = [("FactorType", "totp"), ("FriendlyName", "Bob")];
        let explanation = Explanation {
            checks: "the auth token; that the user has fewer than 100 such factors",
            shown_members: &["sid", "status", "binding", "config"],
        };
        let factor = self.backend.create(&path, &form, explanation).await?;
        let app = AuthenticatorApp::from_uri(&string_member(&factor["binding"], "uri")?)
            .ok_or_else(|| CliError::new("the response has no otpauth URI"))?;
        let sid = string_member(&factor, "sid")?;
        let code = app.code(self.clock.now());
        let explanation = Explanation {
            checks: "the auth token; the code, by the server's clock",
            shown_members: &["sid", "status"],
        };
        let path = format!("{path}/{sid}");
        let verified = self.backend.update(&path, &[("AuthPayload", &code)], explanation).await?;
        self.printer
            .check(verified["status"] == "verified", "The code is right, so the factor is verified.")?;
        Ok(TotpFactor { sid, app })
    }

    /// Signs the user in with a code, and tries the code again.
    pub(super) async fn sign_in_with_code(
        &self,
        service_sid: &str,
        factor: &TotpFactor,
    ) -> Result<(), CliError> {
        self.start_step(
            "The user signs in with a code",
            "One request creates the challenge and answers it. The server also accepts the codes of the time steps \
             before and after the current one.",
        )
        .await;
        let path = format!("/v2/Services/{service_sid}/Entities/{IDENTITY}/Challenges");
        // The code of the current step may be the one that verified the factor, and each code counts once.
        let code = factor.app.code(self.clock.now().plus_seconds(TIME_STEP_SECONDS));
        let form = [("FactorSid", factor.sid.as_str()), ("AuthPayload", code.as_str())];
        let explanation = Explanation {
            checks: "the auth token; the limits on challenges; the code, and that it is new",
            shown_members: &["sid", "status", "date_responded"],
        };
        let challenge = self.backend.create(&path, &form, explanation).await?;
        self.printer.check(challenge["status"] == "approved", "The challenge is approved.")?;
        let replay = self.backend.create(&path, &form, explanation).await?;
        self.printer.check(
            replay["status"] == "pending",
            "The same code again leaves its challenge pending: a code that was observed is worth nothing.",
        )
    }
}
