//! TLS for the API's listener: a certificate and its private key, which are read from files and reloaded on SIGHUP.
//!
//! Only HTTP/1.1 is negotiated. For HTTP/2, put a reverse proxy in front of the server.

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
use terminal::CliError;
use x509_cert::der::Decode as _;

use crate::input_file;

/// The paths of the PEM files that contain a certificate chain and its private key.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The TLS certificate that new connections receive. It can be reloaded from its files.
pub(crate) struct Certificate {
    files: CertificateFiles,
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
    /// Reads a certificate chain and its private key, and sets the metric of the certificate's expiry.
    ///
    /// # Errors
    /// Returns an error that contains the path if a file can't be read or parsed, or if the certificate and the key do
    /// not match.
    pub(crate) fn read(files: CertificateFiles) -> Result<Arc<Self>, CliError> {
        let current = load(&files)?;
        set_expiry_gauge(&current);
        let current = RwLock::new(current);
        Ok(Arc::new(Self { files, current }))
    }

    /// Returns the time at which the certificate expires, or `None` if the certificate can't be parsed.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        expiry(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. New connections receive the new certificate; open connections are not affected.
    ///
    /// # Errors
    /// Returns the same errors as [`read`](Self::read). After an error, the previous certificate stays in use.
    pub(crate) fn reload(&self) -> Result<(), CliError> {
        let new = load(&self.files)?;
        set_expiry_gauge(&new);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Returns a TLS server configuration that uses the current certificate for each new connection, even after a
    /// reload.
    ///
    /// # Errors
    /// Returns an error if the crypto provider does not support TLS 1.2 and 1.3.
    pub(crate) fn tls_config(self: &Arc<Self>) -> Result<ServerConfig, CliError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| CliError::new(format!("TLS: {error}")))?;
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn expiry(certified: &CertifiedKey) -> Option<Timestamp> {
    let leaf = x509_cert::Certificate::from_der(certified.cert.first()?).ok()?;
    let end = leaf.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    i64::try_from(end).ok().map(Timestamp::from_seconds)
}

/// Updates the metric of the certificate's expiry time; sets it to 0 if the certificate can't be parsed.
fn set_expiry_gauge(certified: &CertifiedKey) {
    let expires_at = expiry(certified).map_or(0, Timestamp::seconds);
    METRICS.tls_certificate_expiry_timestamp.set(expires_at);
}

/// Returns the crypto provider that `main` installed, or AWS-LC if none is installed.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone)
}

fn load(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, CliError> {
    let unusable = |path: &Path, why: &dyn fmt::Display| CliError::new(format!("{}: {why}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&input_file::read(&files.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable(
            &files.certificate,
            &"expected a certificate chain in PEM, with the server's own certificate first",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&input_file::read(&files.key)?)
        .map_err(|_| unusable(&files.key, &"expected a private key in PEM"))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|_| unusable(&files.key, &"expected an RSA, ECDSA or Ed25519 key"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(error) => {
            Err(unusable(&files.key, &format!("private key does not belong to the certificate: {error}")))
        }
    }
}
