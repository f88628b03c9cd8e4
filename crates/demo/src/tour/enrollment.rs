//! Steps 1 to 4 of the tour: a service, an access token, and a phone that enrolls.

use device::{Enrollment, NewFactor, Platform};
use domain::Secret;
use domain::factors::Status;
use terminal::CliError;

use super::{IDENTITY, Tour};
use crate::backend::{Explanation, string_member};

impl Tour {
    /// Runs step 1: creates a service and returns its SID.
    pub(super) async fn create_service(&self) -> Result<String, CliError> {
        self.start_step(
            "The backend creates a service",
            "A service contains the users of one application and their challenges, separate from those of any other \
             service.",
        )
        .await;
        let form = [("FriendlyName", "Owl Bank")];
        let explanation = Explanation {
            checks: "the auth token: it must be the account's",
            shown_members: &["sid", "friendly_name", "date_created", "url"],
        };
        let service = self.backend.create("/v2/Services", &form, explanation).await?;
        let sid = string_member(&service, "sid")?;
        self.printer
            .check(sid.starts_with("VA"), "The service exists. Its SID is part of every path below.")?;
        Ok(sid)
    }

    /// Runs step 2: creates an access token and returns it.
    pub(super) async fn create_access_token(&self, service_sid: &str) -> Result<String, CliError> {
        self.start_step(
            "The backend creates an access token",
            "An access token lets one phone enroll, for this user only and within 60 seconds. The backend gives \
             it to the app after it has verified by other means who the user is.",
        )
        .await;
        let form = [("Identity", IDENTITY), ("FactorType", "push")];
        let explanation = Explanation {
            checks: "the auth token; that the service belongs to this account",
            shown_members: &["sid", "entity_identity", "factor_type", "ttl", "token"],
        };
        let path = format!("/v2/Services/{service_sid}/AccessTokens");
        let token = self.backend.create(&path, &form, explanation).await?;
        self.printer.check(token["entity_identity"] == IDENTITY, "The app has a token for its user.")?;
        string_member(&token, "token")
    }

    /// Runs step 3: creates an unverified factor with a new key, and returns the enrollment.
    pub(super) async fn register_public_key(
        &self,
        service_sid: &str,
        access_token: String,
    ) -> Result<Enrollment, CliError> {
        self.start_step(
            "The phone creates a key pair and registers the public key",
            "The private key never leaves the phone. The server stores the public key in a factor, which stands for \
             this phone of this user.",
        )
        .await;
        let new = NewFactor {
            service_sid: service_sid.to_owned(),
            identity: IDENTITY.to_owned(),
            access_token: Secret::new(access_token),
            friendly_name: "Ada's phone".to_owned(),
            notification: Some((Platform::Fcm, "registration-token-of-Ada's-phone-with-Google".to_owned())),
            metadata: None,
            app_id: "com.example.owlbank".to_owned(),
        };
        let enrollment = self.phone.create_factor(&new).await?;
        self.printer.check(
            enrollment.status == Status::Unverified,
            "The factor is unverified: the phone has not yet proved that it holds the private key.",
        )?;
        Ok(enrollment)
    }

    /// Runs step 4: verifies the factor and updates `enrollment`.
    pub(super) async fn prove_possession(&self, enrollment: &mut Enrollment) -> Result<(), CliError> {
        self.start_step(
            "The phone proves that it holds the private key",
            "It signs the SID of its new factor. From now on it authenticates with tokens that it creates and signs \
             itself, a new one for each request.",
        )
        .await;
        self.phone.verify_factor(enrollment).await?;
        self.check_signatures(
            "Both signatures match the public key. The demo verified them without knowing any secret.",
        )?;
        self.printer.check(
            enrollment.status == Status::Verified,
            "The factor is verified: the backend can create challenges for it.",
        )
    }
}
