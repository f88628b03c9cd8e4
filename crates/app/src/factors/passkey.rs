//! Use cases of passkeys: create, verify and rename.

use crypto::passkeys::{
    ExpectedRegistration, PasskeyChallenge, Registration, RegistrationResponse, creation_options,
};
use domain::audit::AuditAction;
use domain::factors::passkey::{PasskeyCredential, WebAuthnChallengeDigest};
use domain::factors::{PasskeyFactor, Status};
use domain::services::{Passkeys, Requirement};
use domain::{Code, EntityPath, Factor, FactorSid, FactorType, FriendlyName, Identity, ServiceSid};
use serde_json::Value;
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::{Backend, BackendOrDevice};
use crate::error::Error;
use crate::factors::{about, count_creation, count_verification};
use crate::outbox::Outbox;
use crate::passkey_settings::{accepted_origins, resolve};

/// The parameters of a new passkey.
#[derive(Clone, Debug)]
pub struct NewPasskey {
    /// Display name of the passkey, which the browser also shows as the name of the user.
    pub friendly_name: FriendlyName,
    /// Identity of the user.
    pub identity: Identity,
    /// Relying party and criteria. What is absent comes from the settings of the service.
    pub config: Passkeys,
}

impl App {
    /// Creates an unverified passkey, and also its entity if that does not exist yet. Returns the passkey and the
    /// options with which a browser registers it.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the service does not exist.
    /// - 60371, 60372 or 60393 if the relying party or a criterion is missing or invalid.
    /// - 60315 if the entity already has 100 passkeys; 60326 if it has created too many factors within a day; 60328 if
    ///   the service has created too many entities within a second.
    ///
    /// Also fails if the database fails.
    pub async fn create_passkey(
        &self,
        origin: &Origin,
        caller: Backend,
        service_sid: ServiceSid,
        new: NewPasskey,
    ) -> Result<(Factor<PasskeyFactor>, Value), Error> {
        let now = self.clock.now();
        let path =
            EntityPath { account_sid: caller.account_sid(), service_sid, identity: new.identity.clone() };
        let creation = self.factor_creation(FactorType::Passkeys, path, now);
        let challenge = PasskeyChallenge::generate(&creation.sid.to_string(), self.entropy.as_ref());
        let audit = self.audit(origin, now);
        let created = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let service = tx.service(creation.path.account_sid, service_sid).await?;
                let service = service.ok_or_else(Error::not_found)?;
                let config = resolve(&new.config, &service.settings.passkeys)?;
                let entity = creation.ensure_entity(tx, &audit).await?;
                creation.check_limits(tx, &entity).await?;
                let existing = tx.passkey_factors(service_sid, entity.sid).await?;
                let kind = PasskeyFactor {
                    relying_party: config.relying_party,
                    authenticator_attachment: config.authenticator_attachment,
                    discoverable_credentials: config.discoverable_credentials,
                    user_verification: config.user_verification,
                    challenge_digest: WebAuthnChallengeDigest(challenge.digest()),
                    credential: None,
                };
                let factor = creation.factor(entity, new.friendly_name.clone(), None, kind);
                tx.insert_passkey_factor(&factor).await?;
                creation.record(tx, &factor, &audit, outbox).await?;
                let relying_party_id = &factor.kind.relying_party.id;
                let existing =
                    existing.iter().filter(|other| other.kind.relying_party.id == *relying_party_id);
                let existing: Vec<_> = existing.filter_map(|other| other.kind.credential.as_ref()).collect();
                let options = creation_options(&factor, &challenge, &existing);
                Ok::<_, Error>((factor, options))
            })
            .await?;
        self.touch_factor(&created.0);
        count_creation(FactorType::Passkeys);
        Ok(created)
    }

    /// Verifies a passkey with the response of the authenticator that created its credential, and returns the passkey.
    /// `credential` is the JSON of the browser. Its challenge names the passkey.
    ///
    /// # Errors
    /// Fails with one of these codes, in the order of docs/protocol/resources.md, section 8:
    /// - 60375 to 60380, 60382 and 60385 to 60387 if the response is refused.
    /// - 60390 if the service has no such passkey, and 60383 if that is verified or was created too long ago.
    /// - 60317 if the relying party already has a passkey with this credential.
    ///
    /// Also fails if the database fails. On any error, nothing is changed.
    pub async fn verify_passkey(
        &self,
        origin: &Origin,
        caller: Backend,
        service_sid: ServiceSid,
        credential: &Value,
    ) -> Result<Factor<PasskeyFactor>, Error> {
        let now = self.clock.now();
        let response = RegistrationResponse::parse(credential)?;
        let sid = response.challenge().sid().and_then(|sid| sid.parse::<FactorSid>().ok());
        let (sid, account_sid) = (sid.ok_or(Code::PasskeyNotFound)?, caller.account_sid());
        let factor = self.store.read(async move |db: &mut Read| {
            let factor = db.passkey_factor(account_sid, service_sid, sid).await?;
            factor.ok_or_else(|| Error::from(Code::PasskeyNotFound))
        });
        let factor = factor.await?;
        factor.require_registrable(now)?;
        let passkey = &factor.kind;
        let registration = response.verify(&ExpectedRegistration {
            challenge_digest: &passkey.challenge_digest.0,
            origins: &accepted_origins(&passkey.relying_party.id, &passkey.relying_party.origins),
            relying_party_id: passkey.relying_party.id.as_str(),
            requires_user_verification: passkey.user_verification == Requirement::Required,
        })?;
        let (path, credential) = (factor.path(), new_credential(registration));
        let audit = self.audit(origin, now);
        let factor = self.store.write(async move |tx: &mut Write| {
            let factor = tx.lock_passkey_factor(&path, sid).await?;
            let mut factor = factor.ok_or_else(|| Error::from(Code::PasskeyNotFound))?;
            factor.require_registrable(now)?;
            factor.status = Status::Verified;
            factor.updated_at = now;
            factor.kind.credential = Some(credential.clone());
            tx.update_passkey_factor(&factor).await?;
            audit.record(tx, about(AuditAction::FactorVerified, &factor)).await?;
            Ok::<_, Error>(factor)
        });
        let factor = factor.await?;
        self.touch_factor(&factor);
        count_verification(FactorType::Passkeys);
        Ok(factor)
    }

    /// Renames a passkey, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it. Also fails if the database fails.
    pub async fn rename_passkey(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
        friendly_name: FriendlyName,
    ) -> Result<Factor<PasskeyFactor>, Error> {
        caller.require_entity(&path)?;
        caller.require_factor(sid)?;
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let mut factor = tx.lock_passkey_factor(&path, sid).await?.ok_or_else(Error::not_found)?;
                factor.friendly_name = friendly_name.clone();
                factor.updated_at = now;
                tx.update_factor(&factor).await?;
                let change = about(AuditAction::FactorUpdated, &factor).detail("changed", ["friendly_name"]);
                audit.record(tx, change).await?;
                Ok(factor)
            })
            .await
    }
}

/// Returns the credential to store for a checked registration.
fn new_credential(registration: Registration) -> PasskeyCredential {
    PasskeyCredential {
        id: registration.credential_id,
        public_key: registration.public_key.as_der().to_vec(),
        algorithm: registration.public_key.algorithm(),
        sign_count: registration.sign_count,
        user_verified: registration.is_user_verified,
        backup_eligible: registration.is_backup_eligible,
        backed_up: registration.is_backed_up,
        transports: registration.transports,
        aaguid: registration.aaguid,
        last_used_at: None,
    }
}
