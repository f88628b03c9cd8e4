//! The certificate authorities that the clients of webhooks, push providers and outlets trust: those of the system, and
//! additional ones from a file of the operator.
//!
//! The system has about a hundred files of them. Each process loads them once, when the first client needs them.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// The authorities of the system, without those that can't be used, as in browsers.
static SYSTEM: LazyLock<Authorities> = LazyLock::new(|| {
    let mut authorities = Authorities::default();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // An unusable one is left out.
        let _ = authorities.add(certificate);
    }
    authorities
});

/// Why additional certificate authorities can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text contains no certificate in PEM.
    #[error("there is no certificate in PEM among the additional certificate authorities")]
    Empty,
    /// A certificate is not valid PEM.
    #[error("the additional certificate authorities are not valid PEM")]
    NotPem(#[source] pem::Error),
    /// A certificate can't be used as a certificate authority.
    #[error("an additional certificate authority is not a valid CA certificate")]
    NotAuthority(#[source] rustls::Error),
}

/// A set of certificate authorities. Copies share the certificates.
#[derive(Clone, Debug)]
pub struct Authorities {
    store: Arc<RootCertStore>,
    certificates: Arc<Vec<CertificateDer<'static>>>,
}

impl Default for Authorities {
    /// Returns a set without any.
    fn default() -> Self {
        Self { store: Arc::new(RootCertStore::empty()), certificates: Arc::default() }
    }
}

impl Authorities {
    /// Returns the authorities of the system. The environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` replace
    /// them. A minimal container may have none.
    pub fn of_system() -> Self {
        SYSTEM.clone()
    }

    /// Returns the authorities of the system, together with the certificates in `extra` (PEM).
    ///
    /// # Errors
    /// Returns an error if `extra` is not PEM with at least one certificate, or if a certificate can't be used.
    pub fn with_extra(extra: Option<&[u8]>) -> Result<Self, Error> {
        let mut authorities = Self::of_system();
        if let Some(pem) = extra {
            let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let certificates = certificates.map_err(Error::NotPem)?;
            if certificates.is_empty() {
                return Err(Error::Empty);
            }
            for certificate in certificates {
                authorities.add(certificate).map_err(Error::NotAuthority)?;
            }
        }
        Ok(authorities)
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), rustls::Error> {
        Arc::make_mut(&mut self.store).add(certificate.clone())?;
        Arc::make_mut(&mut self.certificates).push(certificate);
        Ok(())
    }

    /// Returns whether there are none, so that no peer can be authenticated.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Returns the authorities in the form that rustls takes.
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }

    /// Returns the certificates, in DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additional_authorities_must_be_certificates_in_pem() {
        let refused = |pem: &str| Authorities::with_extra(Some(pem.as_bytes())).unwrap_err();
        assert!(matches!(refused(""), Error::Empty) && matches!(refused("pem"), Error::Empty));
        let framed = |content| {
            refused(&format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"))
        };
        assert!(matches!(framed("!"), Error::NotPem(_)));
        assert!(matches!(framed("MAAA"), Error::NotAuthority(_)));
        assert!(Authorities::with_extra(None).is_ok());
    }
}
