//! The serialized form of a credential, which is sealed before it is stored. Every format ever written must
//! remain readable.

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

/// DER bytes in base64. The memory is wiped on drop.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Base64(String);

impl Drop for Base64 {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Base64 {
    fn encode(der: &[u8]) -> Self {
        Self(STANDARD.encode(der))
    }

    fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        STANDARD.decode(&self.0).ok().map(Zeroizing::new)
    }

    fn key(&self) -> Option<PrivateKey> {
        PrivateKey::from_der(&self.decode()?)
    }
}

impl Credential {
    /// Serializes the credential, including its secrets in plaintext. The caller must seal the result
    /// immediately.
    #[expect(clippy::expect_used, reason = "strings and booleans always serialize")]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Stored::from_credential(self)).expect("a credential is serializable")
    }

    /// Parses the output of [`Credential::to_bytes`]. Returns `None` if `bytes` are malformed. Expired
    /// certificates are accepted.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Stored>(bytes).ok()?.into_credential()
    }
}

impl Stored {
    fn from_credential(credential: &Credential) -> Self {
        match credential {
            Credential::ApnsCertificate(certificate) => Self::ApnsCertificate {
                certificates: certificate.chain().iter().map(|der| Base64::encode(der)).collect(),
                private_key: Base64::encode(certificate.key().der()),
                sandbox: certificate.environment() == Environment::Sandbox,
            },
            Credential::ApnsToken(token) => Self::ApnsToken {
                private_key: Base64::encode(token.key().der()),
                key_id: token.key_id().to_owned(),
                team_id: token.team_id().to_owned(),
                sandbox: token.environment() == Environment::Sandbox,
            },
            Credential::Fcm(account) => Self::Fcm {
                private_key: Base64::encode(account.key().der()),
                key_id: account.key_id().map(str::to_owned),
                project_id: account.project_id().to_owned(),
                client_email: account.client_email().to_owned(),
                token_uri: account.token_uri().to_string(),
            },
        }
    }

    fn into_credential(self) -> Option<Credential> {
        match self {
            Self::ApnsCertificate { certificates, private_key, sandbox } => {
                let chain = certificates.iter().map(|base64| base64.decode().map(|der| der.to_vec()));
                let chain = chain.collect::<Option<_>>()?;
                let certificate =
                    ApnsCertificate::new(chain, private_key.key()?, Environment::from_sandbox(sandbox));
                certificate.ok().map(Credential::ApnsCertificate)
            }
            Self::ApnsToken { private_key, key_id, team_id, sandbox } => {
                let token =
                    ApnsToken::new(private_key.key()?, &key_id, &team_id, Environment::from_sandbox(sandbox));
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
