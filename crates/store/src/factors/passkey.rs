//! Queries for passkeys.

use domain::factors::PasskeyFactor;
use domain::factors::passkey::{
    CoseAlgorithm, CredentialId, PasskeyCredential, RelyingParty, RelyingPartyId, RelyingPartyName,
    WebAuthnChallengeDigest,
};
use domain::{AccountSid, EntityPath, EntitySid, Factor, FactorSid, ServiceSid};

use crate::error::Error;
use crate::factors::{KindTable, Lock, SERVICE_EXISTS};
use crate::read_write::{Read, Write};
use crate::values::{Row, Value, bind, to_json};

pub(super) const TABLE: KindTable<PasskeyFactor> = KindTable {
    name: "passkey_factors",
    columns: "rp_id, rp_name, origins, authenticator_attachment, discoverable_credentials, user_verification, \
              challenge_digest, credential_id, credential_key, cose_algorithm, sign_count, user_verified, \
              backup_eligible, backed_up, transports, aaguid, last_used_at",
    parse: parse_passkey,
};

fn parse_passkey(row: &Row<'_>) -> Result<PasskeyFactor, Error> {
    Ok(PasskeyFactor {
        relying_party: RelyingParty {
            id: RelyingPartyId::from_stored(row.text("rp_id")?),
            name: RelyingPartyName::from_stored(row.text("rp_name")?),
            origins: row.json("origins")?,
        },
        authenticator_attachment: row.keyword("authenticator_attachment")?,
        discoverable_credentials: row.keyword("discoverable_credentials")?,
        user_verification: row.keyword("user_verification")?,
        challenge_digest: WebAuthnChallengeDigest(row.digest("challenge_digest")?),
        credential: match row.optional_bytes("credential_id")? {
            Some(id) => Some(parse_credential(CredentialId::from_stored(id), row)?),
            None => None,
        },
    })
}

fn parse_credential(id: CredentialId, row: &Row<'_>) -> Result<PasskeyCredential, Error> {
    let algorithm = CoseAlgorithm::from_identifier(row.int("cose_algorithm")?);
    Ok(PasskeyCredential {
        id,
        public_key: row.bytes("credential_key")?,
        algorithm: algorithm.ok_or_else(|| Error::Corrupt("cose_algorithm".into()))?,
        sign_count: row.number("sign_count")?,
        user_verified: row.int("user_verified")? != 0,
        backup_eligible: row.int("backup_eligible")? != 0,
        backed_up: row.int("backed_up")? != 0,
        transports: row.json("transports")?,
        aaguid: row.id("aaguid")?,
        last_used_at: row.optional_timestamp("last_used_at")?,
    })
}

/// Returns the values of the columns that describe the credential.
fn credential_values(credential: Option<&PasskeyCredential>) -> Vec<Value> {
    bind![
        credential.map(|it| it.id.as_bytes()),
        credential.map(|it| it.public_key.as_slice()),
        credential.map(|it| it.algorithm.identifier()),
        credential.map(|it| i64::from(it.sign_count)),
        credential.map(|it| i64::from(it.user_verified)),
        credential.map(|it| i64::from(it.backup_eligible)),
        credential.map(|it| i64::from(it.backed_up)),
        credential.map(|it| to_json(&it.transports)),
        credential.map(|it| it.aaguid),
        credential.and_then(|it| it.last_used_at)
    ]
}

impl Read {
    /// Returns a service's passkey by SID, whichever entity it belongs to, or `None` if the service has no such
    /// passkey.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn passkey_factor(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: FactorSid,
    ) -> Result<Option<Factor<PasskeyFactor>>, Error> {
        let sql = TABLE.select(&format!(
            "factors.sid = $1 AND factors.service_sid = $2 AND factors.account_sid = $3 AND {SERVICE_EXISTS}"
        ));
        self.fetch_optional(sql, bind![sid, service_sid, account_sid], |row| TABLE.parse(row)).await
    }

    /// Returns all passkeys of an entity, verified or not, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn passkey_factors(
        &mut self,
        service_sid: ServiceSid,
        entity_sid: EntitySid,
    ) -> Result<Vec<Factor<PasskeyFactor>>, Error> {
        let sql = TABLE.select(
            "factors.entity_sid = $1 AND factors.service_sid = $2 AND factor_type = 'passkeys' \
             ORDER BY created_at, sid",
        );
        self.fetch_all(sql, bind![entity_sid, service_sid], |row| TABLE.parse(row)).await
    }

    /// Returns a service's passkey by the credential that a relying party's authenticator holds, or `None` if the
    /// service has no such passkey.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn passkey_by_credential(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        relying_party: &RelyingPartyId,
        credential: &CredentialId,
    ) -> Result<Option<Factor<PasskeyFactor>>, Error> {
        let sql = TABLE.select(&format!(
            "passkey_factors.account_sid = $1 AND rp_id = $2 AND credential_id = $3 \
             AND factors.service_sid = $4 AND {SERVICE_EXISTS}"
        ));
        let values = bind![account_sid, relying_party.as_str(), credential.as_bytes(), service_sid];
        self.fetch_optional(sql, values, |row| TABLE.parse(row)).await
    }
}

impl Write {
    /// Inserts a passkey.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn insert_passkey_factor(&mut self, factor: &Factor<PasskeyFactor>) -> Result<(), Error> {
        self.insert_common(factor).await?;
        let sql = "INSERT INTO passkey_factors (factor_sid, account_sid, service_sid, rp_id, rp_name, origins, \
                   authenticator_attachment, discoverable_credentials, user_verification, challenge_digest, \
                   credential_id, credential_key, cose_algorithm, sign_count, user_verified, backup_eligible, \
                   backed_up, transports, aaguid, last_used_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
        let passkey = &factor.kind;
        let mut values = bind![
            factor.sid,
            factor.account_sid,
            factor.service_sid,
            passkey.relying_party.id.as_str(),
            passkey.relying_party.name.as_str(),
            to_json(&passkey.relying_party.origins),
            passkey.authenticator_attachment.as_str(),
            passkey.discoverable_credentials.as_str(),
            passkey.user_verification.as_str(),
            &passkey.challenge_digest.0[..]
        ];
        values.extend(credential_values(passkey.credential.as_ref()));
        self.execute(sql, values).await
    }

    /// Returns an entity's passkey, locked against changes and deletion until the transaction ends. Returns `None` if
    /// the entity has no such passkey.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_passkey_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<PasskeyFactor>>, Error> {
        self.lock_factor_of_kind(&TABLE, Lock::Exclusive, path, sid).await
    }

    /// Updates a passkey's mutable fields: those of all factors, and the credential. The factor must be locked.
    ///
    /// # Errors
    /// Returns [`Conflict::PasskeyCredential`](crate::Conflict::PasskeyCredential) in an [`Error::Conflict`] if the
    /// relying party already has this credential in the account, or another error if the database operation fails.
    pub async fn update_passkey_factor(&mut self, factor: &Factor<PasskeyFactor>) -> Result<(), Error> {
        self.update_factor(factor).await?;
        let sql = "UPDATE passkey_factors SET credential_id = $2, credential_key = $3, cose_algorithm = $4, \
                   sign_count = $5, user_verified = $6, backup_eligible = $7, backed_up = $8, transports = $9, \
                   aaguid = $10, last_used_at = $11 WHERE factor_sid = $1";
        let mut values = bind![factor.sid];
        values.extend(credential_values(factor.kind.credential.as_ref()));
        self.execute(sql, values).await
    }
}
