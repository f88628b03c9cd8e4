//! The form in which a credential is sealed and stored. What is written here stays readable for ever.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::private_key::PrivateKey;
use super::{ApnsCertificate, ApnsToken, Credential, Environment, ServiceAccount};

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Stored {
    ApnsCertificate {
        certificates: Vec<Base64>,
        private_key: Base64,
        sandbox: bool,
    },
    ApnsToken {
        private_key: Base64,
        key_id: String,
        team_id: String,
        sandbox: bool,
    },
    Fcm {
        private_key: Base64,
        key_id: Option<String>,
        project_id: String,
        client_email: String,
        token_uri: String,
    },
}

/// DER as base64.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Base64(String);

impl Drop for Base64 {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Base64 {
    fn of(der: &[u8]) -> Self {
        Self(STANDARD.encode(der))
    }

    fn der(&self) -> Option<Zeroizing<Vec<u8>>> {
        STANDARD.decode(&self.0).ok().map(Zeroizing::new)
    }

    fn key(&self) -> Option<PrivateKey> {
        PrivateKey::from_der(&self.der()?)
    }
}

impl Credential {
    /// All of it, its secrets in the open: to be sealed at once.
    #[expect(clippy::expect_used, reason = "texts and flags have a JSON form")]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Stored::of(self)).expect("a credential is serialisable")
    }

    /// What [`Credential::to_bytes`] wrote. A certificate that has expired since then is still one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Stored>(bytes).ok()?.credential()
    }
}

impl Stored {
    fn of(credential: &Credential) -> Self {
        match credential {
            Credential::ApnsCertificate(certificate) => Self::ApnsCertificate {
                certificates: certificate.chain().iter().map(|der| Base64::of(der)).collect(),
                private_key: Base64::of(certificate.key().der()),
                sandbox: certificate.environment() == Environment::Sandbox,
            },
            Credential::ApnsToken(token) => Self::ApnsToken {
                private_key: Base64::of(token.key().der()),
                key_id: token.key_id().to_owned(),
                team_id: token.team_id().to_owned(),
                sandbox: token.environment() == Environment::Sandbox,
            },
            Credential::Fcm(account) => Self::Fcm {
                private_key: Base64::of(account.key().der()),
                key_id: account.key_id().map(str::to_owned),
                project_id: account.project_id().to_owned(),
                client_email: account.client_email().to_owned(),
                token_uri: account.token_uri().to_string(),
            },
        }
    }

    fn credential(self) -> Option<Credential> {
        match self {
            Self::ApnsCertificate { certificates, private_key, sandbox } => {
                let chain = certificates.iter().map(|base64| base64.der().map(|der| der.to_vec()));
                let chain = chain.collect::<Option<_>>()?;
                let certificate = ApnsCertificate::new(chain, private_key.key()?, Environment::of(sandbox));
                certificate.ok().map(Credential::ApnsCertificate)
            }
            Self::ApnsToken { private_key, key_id, team_id, sandbox } => {
                let token = ApnsToken::new(private_key.key()?, &key_id, &team_id, Environment::of(sandbox));
                token.ok().map(Credential::ApnsToken)
            }
            Self::Fcm { private_key, key_id, project_id, client_email, token_uri } => {
                let key = private_key.key()?;
                let account =
                    ServiceAccount::new(key, key_id.as_deref(), &project_id, &client_email, &token_uri);
                account.ok().map(Credential::Fcm)
            }
        }
    }
}
