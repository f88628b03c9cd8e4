//! Use cases of push factors: enroll, verify and update.

use domain::access_tokens::Grant;
use domain::audit::AuditAction;
use domain::factors::{AppId, Notification, PublicKey, PushChanges, PushFactor, SdkVersion, Status};
use domain::text::StringMap;
use domain::webhooks::EventType;
use domain::{Code, CredentialSid, Entity, EntityPath, Factor, FactorSid, FactorType, FriendlyName};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::{BackendOrDevice, BackendOrEnrollee};
use crate::error::Error;
use crate::factors::{FactorCreation, about, count_creation, count_verification};
use crate::outbox::Outbox;

/// The parameters of a new push factor.
#[derive(Clone, Debug)]
pub struct NewPushFactor {
    /// Display name of the factor: the user's name for the device.
    pub friendly_name: FriendlyName,
    /// Public key of the device, with which its signatures are verified.
    pub public_key: PublicKey,
    /// Identifier of the app on the device.
    pub app_id: AppId,
    /// Push platform and push token of the device, or none.
    pub notification: Notification,
    /// Version of the client SDK in the app.
    pub sdk_version: Option<SdkVersion>,
    /// Custom key-value data of the app, stored without interpretation.
    pub metadata: Option<StringMap>,
}

/// An update of a push factor: a proof that verifies it, changes to its fields, or both.
#[derive(Clone, Debug, Default)]
pub struct PushFactorUpdate {
    /// DER-encoded signature of the factor's SID, which proves that the device holds the private key. It verifies the
    /// factor.
    pub proof: Option<Vec<u8>>,
    /// New values for the factor's fields.
    pub changes: PushChanges,
}

impl App {
    /// Creates a push factor, and also its entity if that does not exist yet. Returns the factor.
    ///
    /// An enrollee spends its access token on the factor. If it lost the response and repeats the request, it gets the
    /// same factor again as long as that factor is unverified (docs/protocol/decisions.md, No. 8).
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the service does not exist.
    /// - 60313 if the access token is for another service, identity or factor type; 20003 if it is spent or its service
    ///   was deleted.
    /// - 60315 if the entity already has 20 push factors; 60326 if it has created too many within a day; 60328 if the
    ///   service has created too many entities within a second.
    /// - 60317 if the entity already has a factor with this public key.
    ///
    /// Also fails if the database fails.
    pub async fn create_push_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrEnrollee,
        path: EntityPath,
        new: NewPushFactor,
    ) -> Result<Factor<PushFactor>, Error> {
        caller.require_enrollment(&path, FactorType::Push)?;
        let now = self.clock.now();
        let creation = self.factor_creation(FactorType::Push, path, now);
        let sid = creation.sid;
        let enrollment = Enrollment {
            creation,
            new,
            grant: caller.grant().cloned(),
            credential_sid: CredentialSid::generate(now, self.entropy.as_ref()),
        };
        let audit = self.audit(origin, now);
        let factor = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                enrollment.require_service(tx).await?;
                let entity = enrollment.creation.ensure_entity(tx, &audit).await?;
                if let Some(factor) = enrollment.factor_of_spent_token(tx).await? {
                    return Ok(factor);
                }
                enrollment.creation.check_limits(tx, &entity).await?;
                let factor = enrollment.factor(entity);
                tx.insert_push_factor(&factor).await?;
                enrollment.spend_access_token(tx).await?;
                enrollment.creation.record(tx, &factor, &audit, outbox).await?;
                Ok::<_, Error>(factor)
            })
            .await?;
        self.touch_factor(&factor);
        let is_repetition = factor.sid != sid;
        if !is_repetition {
            count_creation(FactorType::Push);
        }
        Ok(factor)
    }

    /// Returns the push factor `sid` of the entity at `path`.
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it. Also fails if the database fails.
    async fn push_factor(
        &self,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
    ) -> Result<Factor<PushFactor>, Error> {
        caller.require_entity(&path)?;
        caller.require_factor(sid)?;
        self.store
            .read(async move |db: &mut Read| db.push_factor(&path, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Verifies a push factor, changes its fields, or both. Returns the updated factor. A proof for a factor that is
    /// already verified has no effect.
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it, with 60311 if the proof is not a
    /// valid signature, or with an error of [`PushChanges::apply`]. Also fails if the database fails. On any error,
    /// nothing is changed.
    pub async fn update_push_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
        update: PushFactorUpdate,
    ) -> Result<Factor<PushFactor>, Error> {
        let now = self.clock.now();
        let current = self.push_factor(caller, path.clone(), sid).await?;
        let is_proven = match &update.proof {
            // A factor's key never changes, so the expensive signature check can run before the transaction begins.
            Some(proof)
                if crypto::verify_der(&current.kind.public_key, sid.to_string().as_bytes(), proof) =>
            {
                true
            }
            Some(_) => return Err(Code::FactorVerificationFailed.into()),
            None => false,
        };
        let audit = self.audit(origin, now);
        let (factor, becomes_verified) = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let mut factor = tx.lock_push_factor(&path, sid).await?.ok_or_else(Error::not_found)?;
                let becomes_verified = is_proven && factor.status == Status::Unverified;
                let has_changes = !update.changes.is_empty();
                if becomes_verified {
                    factor.status = Status::Verified;
                    factor.updated_at = now;
                }
                if has_changes {
                    update.changes.clone().apply(&mut factor, now)?;
                    let change = about(AuditAction::FactorUpdated, &factor);
                    audit.record(tx, change.detail("changed", update.changes.names())).await?;
                }
                if update.changes.has_push_fields() {
                    tx.update_push_factor(&factor).await?;
                } else if becomes_verified || has_changes {
                    tx.update_factor(&factor).await?;
                }
                if becomes_verified {
                    audit.record(tx, about(AuditAction::FactorVerified, &factor)).await?;
                    outbox.enqueue_webhooks(tx, EventType::FactorVerified, &factor, None, now).await?;
                }
                Ok::<_, Error>((factor, becomes_verified))
            })
            .await?;
        self.touch_factor(&factor);
        if becomes_verified {
            count_verification(FactorType::Push);
        }
        Ok(factor)
    }
}

/// The creation of a push factor. Its methods are the steps that only this type has.
struct Enrollment {
    creation: FactorCreation,
    new: NewPushFactor,
    /// What the caller's access token permits, or `None` if a backend creates the factor.
    grant: Option<Grant>,
    credential_sid: CredentialSid,
}

impl Enrollment {
    /// Checks that the service exists. Otherwise a backend gets 20404. An enrollee gets 20003, because deleting a
    /// service also deletes its access tokens, so the enrollee's token is no longer valid.
    async fn require_service(&self, tx: &mut Write) -> Result<(), Error> {
        let service = tx.service(self.creation.path.account_sid, self.creation.path.service_sid).await?;
        match (service, &self.grant) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(Error::unauthenticated()),
            (None, None) => Err(Error::not_found()),
        }
    }

    /// Returns the factor on which the access token was spent if this request repeats its creation, or `None` if the
    /// token is unspent or the caller is a backend. Fails with 20003 if the token was spent on another factor or is
    /// unknown. The entity is locked at this point, so concurrent requests with the same token see each other's factor.
    async fn factor_of_spent_token(&self, tx: &mut Write) -> Result<Option<Factor<PushFactor>>, Error> {
        let Some(grant) = &self.grant else { return Ok(None) };
        let token = tx.access_token(grant.account_sid, grant.service_sid, grant.sid).await?;
        let token = token.ok_or_else(Error::unauthenticated)?;
        let Some(spent_on) = token.spent_on else { return Ok(None) };
        let factor =
            tx.push_factor(&self.creation.path, spent_on).await?.ok_or_else(Error::unauthenticated)?;
        let is_repetition =
            factor.status == Status::Unverified && factor.kind.public_key == self.new.public_key;
        if is_repetition { Ok(Some(factor)) } else { Err(Error::unauthenticated()) }
    }

    /// Returns the new factor, without storing it.
    fn factor(&self, entity: Entity) -> Factor<PushFactor> {
        let new = self.new.clone();
        let push = PushFactor {
            public_key: new.public_key,
            credential_sid: self.credential_sid,
            app_id: new.app_id,
            sdk_version: new.sdk_version,
            notification: new.notification,
            unreachable: false,
            token_registered_at: self.creation.now,
        };
        self.creation.factor(entity, new.friendly_name, new.metadata, push)
    }

    /// Marks the access token, if any, as spent on the new factor. Fails with 20003 if a concurrent request has spent
    /// it.
    async fn spend_access_token(&self, tx: &mut Write) -> Result<(), Error> {
        let Some(grant) = &self.grant else { return Ok(()) };
        let is_spent_now = tx.spend_access_token(grant.sid, self.creation.sid).await?;
        if is_spent_now { Ok(()) } else { Err(Error::unauthenticated()) }
    }
}
