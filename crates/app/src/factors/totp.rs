//! Use cases of TOTP factors: create, verify and update.

use std::sync::{Arc, Once};

use crypto::TotpKey;
use domain::audit::AuditAction;
use domain::factors::totp::TotpSecret;
use domain::factors::{Status, TotpChanges, TotpChoices, TotpCode, TotpFactor, TotpSettings};
use domain::text::StringMap;
use domain::{
    Code, Entity, EntityPath, Factor, FactorSid, FactorType, FriendlyName, Sealed, Secret, Timestamp,
};
use store::Write;
use telemetry::metrics::METRICS;
use tracing::warn;

use crate::App;
use crate::audit::Origin;
use crate::caller::{BackendOrDevice, BackendOrEnrollee};
use crate::error::Error;
use crate::factors::{about, count_creation, count_verification};
use crate::master_keys::MasterKeySource;
use crate::outbox::Outbox;

/// Minimum number of digits at which codes are hard to guess within the limits on attempts (docs/totp.md).
const SAFE_CODE_LENGTH: i64 = 6;

/// The parameters of a new TOTP factor.
#[derive(Debug)]
pub struct NewTotpFactor {
    /// Display name of the factor, which authenticator apps show as the name of the account.
    pub friendly_name: FriendlyName,
    /// Secret from another system, or `None` to generate one.
    pub secret: Option<TotpKey>,
    /// Settings that precede those of the service.
    pub settings: TotpChoices,
    /// Custom key-value data of the backend, stored without interpretation.
    pub metadata: Option<StringMap>,
}

/// A new TOTP factor, with the secret that only the response to its creation contains.
#[derive(Debug)]
pub struct CreatedTotpFactor {
    /// The factor.
    pub factor: Factor<TotpFactor>,
    /// The secret in base32.
    pub secret: Secret<String>,
    /// The URI from which an authenticator app imports the factor.
    pub uri: Secret<String>,
}

/// An update of a TOTP factor: a code that verifies it, changes to its fields, or both.
#[derive(Clone, Debug, Default)]
pub struct TotpFactorUpdate {
    /// Code that proves that the user's app has the secret.
    pub code: Option<TotpCode>,
    /// New values for the factor's fields. They apply before the code is checked.
    pub changes: TotpChanges,
}

impl App {
    /// Creates a TOTP factor, and also its entity if that does not exist yet. Returns the factor with its secret.
    ///
    /// Settings that the request does not contain are copied from the service. Later changes of the service do not
    /// change the factor, because the user's app does not learn of them.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 20404 if the service does not exist.
    /// - 60313 if the caller is an enrollee, because access tokens are only for push factors.
    /// - 60315 if the entity already has 100 TOTP factors; 60326 if it has created too many factors within a day; 60328
    ///   if the service has created too many entities within a second.
    /// - 60317 if the caller sent a secret that a factor of the entity has already.
    ///
    /// Also fails if the database fails.
    pub async fn create_totp_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrEnrollee,
        path: EntityPath,
        new: NewTotpFactor,
    ) -> Result<CreatedTotpFactor, Error> {
        caller.require_enrollment(&path, FactorType::Totp)?;
        let now = self.clock.now();
        let creation = self.factor_creation(FactorType::Totp, path, now);
        let is_imported = new.secret.is_some();
        let algorithm = new.settings.algorithm.unwrap_or(TotpSettings::DEFAULT.algorithm);
        let key = new.secret.unwrap_or_else(|| TotpKey::generate(algorithm, self.entropy.as_ref()));
        let owner = creation.sid.to_string();
        let sealed = self.master_keys.seal(&key.to_secret(), &owner, self.entropy.as_ref());
        let (friendly_name, metadata, choices) = (new.friendly_name, new.metadata, new.settings);
        let (audit, master_keys) = (self.audit(origin, now), Arc::clone(&self.master_keys));
        let created = self
            .write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
                let (account_sid, service_sid) = (creation.path.account_sid, creation.path.service_sid);
                let service = tx.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                let entity = creation.ensure_entity(tx, &audit).await?;
                creation.check_limits(tx, &entity).await?;
                if is_imported {
                    require_new_secret(tx, &master_keys, &entity, &key).await?;
                }
                let settings = TotpSettings::of_new_factor(choices, &service.settings.totp);
                let kind = new_totp_factor(sealed.clone(), settings);
                let factor = creation.factor(entity, friendly_name.clone(), metadata.clone(), kind);
                tx.insert_totp_factor(&factor).await?;
                creation.record(tx, &factor, &audit, outbox).await?;
                let issuer = service.settings.totp.issuer.as_ref().map(|issuer| issuer.as_str());
                let issuer = issuer.unwrap_or(service.settings.friendly_name.as_str());
                let uri = key.to_uri(&settings, issuer, friendly_name.as_str());
                Ok::<_, Error>(CreatedTotpFactor { factor, secret: key.to_base32(), uri })
            })
            .await?;
        self.touch_factor(&created.factor);
        count_creation(FactorType::Totp);
        warn_about_short_codes(&created.factor);
        Ok(created)
    }

    /// Changes the fields of a TOTP factor, verifies it with a code, or both. Returns the factor, which is still
    /// unverified if the code was wrong. The code for a factor that is already verified is ignored.
    ///
    /// # Errors
    /// Fails with 20404 if the factor does not exist or the caller may not access it, and with 60310 if the factor is
    /// unverified and five codes were wrong. Also fails if the database fails. On any error, nothing is changed.
    pub async fn update_totp_factor(
        &self,
        origin: &Origin,
        caller: &BackendOrDevice,
        path: EntityPath,
        sid: FactorSid,
        update: TotpFactorUpdate,
    ) -> Result<Factor<TotpFactor>, Error> {
        caller.require_entity(&path)?;
        caller.require_factor(sid)?;
        let now = self.clock.now();
        let (audit, master_keys) = (self.audit(origin, now), Arc::clone(&self.master_keys));
        let (factor, outcome) = self
            .store
            .write(async move |tx: &mut Write| {
                let mut factor = tx.lock_totp_factor(&path, sid).await?.ok_or_else(Error::not_found)?;
                let has_changes = !update.changes.is_empty();
                if has_changes {
                    update.changes.clone().apply(&mut factor, now);
                    let change = about(AuditAction::FactorUpdated, &factor);
                    audit.record(tx, change.detail("changed", update.changes.names())).await?;
                }
                let outcome = match &update.code {
                    Some(code) if factor.status == Status::Unverified => {
                        factor.require_verification_attempt()?;
                        let step = find_step(&master_keys, &factor, code, now)?;
                        factor.record_verification(step, now);
                        if step.is_some() { Outcome::Verified } else { Outcome::Refused }
                    }
                    _ => Outcome::NotTried,
                };
                match outcome {
                    Outcome::NotTried if !has_changes => {}
                    Outcome::Refused if !has_changes => tx.record_totp_code(&factor).await?,
                    _ => tx.update_totp_factor(&factor).await?,
                }
                if outcome == Outcome::Verified {
                    audit.record(tx, about(AuditAction::FactorVerified, &factor)).await?;
                }
                Ok::<_, Error>((factor, outcome))
            })
            .await?;
        self.touch_factor(&factor);
        match outcome {
            Outcome::Verified => count_verification(FactorType::Totp),
            Outcome::Refused => count_refused_code(),
            Outcome::NotTried => {}
        }
        warn_about_short_codes(&factor);
        Ok(factor)
    }
}

/// What became of the code in an update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// There was none, or the factor was verified before.
    NotTried,
    /// The code was wrong or had been used.
    Refused,
    /// The code verified the factor.
    Verified,
}

/// Counts a code that was wrong or had been used. Call this after the commit.
pub(crate) fn count_refused_code() {
    METRICS.totp_codes_refused.inc();
}

/// Logs a warning if the codes of `factor` are easy to guess, once in the life of the process.
fn warn_about_short_codes(factor: &Factor<TotpFactor>) {
    static WARNING: Once = Once::new();
    let code_length = factor.kind.code_length.get();
    if code_length < SAFE_CODE_LENGTH {
        WARNING.call_once(|| {
            let (factor, service) = (factor.sid, factor.service_sid);
            warn!(%factor, %service, code_length, "TOTP codes of fewer than six digits are easy to guess; see docs/totp.md");
        });
    }
}

fn new_totp_factor(secret: Sealed<TotpSecret>, settings: TotpSettings) -> TotpFactor {
    TotpFactor {
        secret,
        algorithm: settings.algorithm,
        time_step: settings.time_step,
        code_length: settings.code_length,
        skew: settings.skew,
        last_step: None,
        failed_verifications: 0,
    }
}

/// Checks that no factor of the entity has this secret. The entity is locked, so no other request adds one meanwhile.
///
/// # Errors
/// Fails with 60317 if a factor has it. Also fails if the database fails, or if a secret cannot be decrypted.
async fn require_new_secret(
    tx: &mut Write,
    master_keys: &MasterKeySource,
    entity: &Entity,
    key: &TotpKey,
) -> Result<(), Error> {
    for factor in tx.totp_factors(entity.service_sid, entity.sid).await? {
        if open_key(master_keys, &factor)?.is_equal(key) {
            return Err(Code::FactorExists.into());
        }
    }
    Ok(())
}

fn open_key(master_keys: &MasterKeySource, factor: &Factor<TotpFactor>) -> Result<TotpKey, Error> {
    let secret = master_keys.open(&factor.kind.secret, &factor.sid.to_string())?;
    Ok(TotpKey::from_bytes(secret.expose()).ok_or(crypto::Error::Altered)?)
}

/// Returns the time step to which a code of `factor` belongs, or `None` if the code is wrong or was used. Lock
/// the factor before, because otherwise two concurrent requests could both use one code.
///
/// # Errors
/// Fails if the factor's secret cannot be decrypted.
pub(crate) fn find_step(
    master_keys: &MasterKeySource,
    factor: &Factor<TotpFactor>,
    code: &TotpCode,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    let (key, totp) = (open_key(master_keys, factor)?, &factor.kind);
    Ok(key.find_step(&totp.settings(), totp.last_step, now, code.as_str()))
}
