//! The server's own TLS: a certificate and its key from files, read again on SIGHUP.
//!
//! HTTP/1.1 only: whoever wants HTTP/2 puts a proxy in front.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use domain::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use telemetry::metrics::METRICS;
use x509_cert::der::Decode as _;

use crate::failure::Failure;
use crate::file;

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The certificate that is shown at this moment.
pub(crate) struct Certificate {
    files: Files,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.files.certificate.display())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When one can't be read, or the key is not the certificate's; which one, and why.
    pub(crate) fn read(files: Files) -> Result<Arc<Self>, Failure> {
        let current = load(&files)?;
        tell_end(&current);
        let current = RwLock::new(current);
        Ok(Arc::new(Self { files, current }))
    }

    /// The instant from which on nobody trusts it; `None` if it can't be read.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        end_of(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. Connections that are open keep what they were shown.
    ///
    /// # Errors
    /// As [`read`](Self::read); what was shown before goes on being shown then.
    pub(crate) fn read_again(&self) -> Result<(), Failure> {
        let new = load(&self.files)?;
        tell_end(&new);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What the server needs in order to speak TLS.
    ///
    /// # Errors
    /// When the provider can't do TLS 1.2 and 1.3.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ServerConfig, Failure> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(format!("TLS: {error}")))?;
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn end_of(certified: &CertifiedKey) -> Option<Timestamp> {
    let leaf = x509_cert::Certificate::from_der(certified.cert.first()?).ok()?;
    let end = leaf.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    i64::try_from(end).ok().map(Timestamp::from_seconds)
}

/// Tells whoever reads the metrics when the certificate ends.
fn tell_end(certified: &CertifiedKey) {
    let end = end_of(certified).map_or(0, Timestamp::seconds);
    METRICS.tls_certificate_expiry_timestamp.set(end);
}

/// The one that `main` has installed.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone)
}

fn load(files: &Files) -> Result<Arc<CertifiedKey>, Failure> {
    let unusable = |path: &Path, why: &dyn fmt::Display| Failure::new(format!("{}: {why}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file::read(&files.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable(&files.certificate, &"expected certificates in PEM, the server's own first"));
    }
    let key = PrivateKeyDer::from_pem_slice(&file::read(&files.key)?)
        .map_err(|_| unusable(&files.key, &"expected a private key in PEM"))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|_| unusable(&files.key, &"expected an RSA, ECDSA or Ed25519 key"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(error) => Err(unusable(&files.key, &format!("not the certificate's key: {error}"))),
    }
}
