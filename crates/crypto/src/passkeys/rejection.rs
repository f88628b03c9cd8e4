//! The reasons why a response of an authenticator is rejected.

/// The first check that a registration or an assertion did not pass. The text of the error contains nothing from the
/// response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// A member of the response is missing or has the wrong type.
    #[error("response must be an object with all members that this kind of response has")]
    Response,
    /// The credential's type is not `public-key`.
    #[error("type must be public-key")]
    Type,
    /// `id` is not base64url or is not the ID of the credential.
    #[error("id must be the ID of the credential in base64url")]
    Id,
    /// `rawId` is neither base64url nor hexadecimal, or is not the ID of the credential.
    #[error("rawId must be the ID of the credential in base64url or hexadecimal")]
    RawId,
    /// `authenticatorAttachment` has an unknown value.
    #[error("authenticatorAttachment must be platform or cross-platform")]
    Attachment,
    /// The client data is too long, or is not a JSON object with the required members.
    #[error("clientDataJSON must be a JSON object of at most 4096 bytes in base64url")]
    ClientData,
    /// The client data belongs to another ceremony.
    #[error("clientDataJSON belongs to another ceremony")]
    Ceremony,
    /// The client data contains another challenge.
    #[error("clientDataJSON contains another challenge")]
    Challenge,
    /// The origin is not one of the relying party's origins.
    #[error("the origin is not one of the relying party's origins")]
    Origin,
    /// The page was in a frame of another origin.
    #[error("the page was in a frame of another origin")]
    CrossOrigin,
    /// The top-level page had another origin.
    #[error("the top-level page has another origin")]
    TopOrigin,
    /// The attestation object is too long or is not a valid CBOR map with the required members.
    #[error("attestationObject must be a CBOR map with fmt, attStmt and authData in base64url")]
    AttestationObject,
    /// The authenticator data are too short, too long or malformed.
    #[error("the authenticator data are malformed")]
    AuthenticatorData,
    /// The authenticator data are for another relying party.
    #[error("the authenticator data are for another relying party")]
    RelyingParty,
    /// The authenticator did not confirm that a user was present.
    #[error("the authenticator did not confirm that the user was present")]
    UserPresence,
    /// The authenticator did not verify the user, which is required.
    #[error("the authenticator did not verify the user, which is required")]
    UserVerification,
    /// The credential is backed up although it is not eligible for backup.
    #[error("the credential is backed up, but is not eligible for backup")]
    BackupState,
    /// The credential's eligibility for backup differs from its registration.
    #[error("the credential's eligibility for backup has changed")]
    BackupEligibility,
    /// The authenticator data contain no attested credential.
    #[error("the authenticator data contain no credential")]
    AttestedCredential,
    /// The attested credential is incomplete, or its ID does not have 1 to 1023 bytes.
    #[error("the ID of the credential must have 1 to 1023 bytes")]
    CredentialIdLength,
    /// The public key is for an algorithm that was not offered.
    #[error("the public key is for an algorithm that was not offered")]
    Algorithm,
    /// The public key is incomplete, malformed or weak.
    #[error("the public key is malformed")]
    PublicKey,
    /// The authenticator data continue after the public key or after the extensions.
    #[error("the authenticator data contain extra bytes at the end")]
    TrailingData,
    /// The user handle is missing, although the user was not known before.
    #[error("userHandle is missing")]
    MissingUserHandle,
    /// The user handle is that of another user.
    #[error("userHandle is that of another user")]
    UserHandle,
    /// The signature is malformed or not by the credential's key.
    #[error("the signature is not by the key of the credential")]
    Signature,
    /// The signature counter did not grow, so the authenticator may have been cloned.
    #[error("the signature counter did not grow")]
    Counter,
}
