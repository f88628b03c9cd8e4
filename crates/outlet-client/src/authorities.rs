//! The certificate authorities that mail servers and gateways are checked against.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// The system's certificate authorities and additional ones. They are loaded once, because the system has about a
/// hundred files of them.
pub(crate) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
}

impl Authorities {
    /// Loads the system's certificate authorities, and adds those in `extra_ca` (PEM).
    ///
    /// # Errors
    /// Returns [`Error::ExtraCa`] if `extra_ca` is not PEM with at least one certificate.
    pub(crate) fn load(extra_ca: Option<&[u8]>) -> Result<Self, Error> {
        let (mut certificates, mut store) = (Vec::new(), RootCertStore::empty());
        // Ignore unreadable system certificates, as browsers do.
        for certificate in rustls_native_certs::load_native_certs().certs {
            if store.add(certificate.clone()).is_ok() {
                certificates.push(certificate);
            }
        }
        if let Some(pem) = extra_ca {
            let extra = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let extra = extra.ok().filter(|extra| !extra.is_empty()).ok_or(Error::ExtraCa)?;
            for certificate in extra {
                store.add(certificate.clone()).map_err(|_| Error::ExtraCa)?;
                certificates.push(certificate);
            }
        }
        // A minimal container may have no certificate authorities. Outlets without TLS still work there.
        if certificates.is_empty() {
            tracing::warn!("no certificate authorities found; outlets with TLS will fail");
        }
        Ok(Self { certificates, store: Arc::new(store) })
    }

    /// Returns the certificates, in DER.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Returns the TLS configuration of an HTTP client.
    ///
    /// # Errors
    /// Returns [`Error::Tls`] if the TLS library rejects the configuration.
    pub(crate) fn http_tls(&self) -> Result<ClientConfig, Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(Box::new(error)))?;
        let mut config = config.with_root_certificates(self.store.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additional_authorities_must_be_certificates_in_pem() {
        for bad in ["", "pem", "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Authorities::load(Some(bad.as_bytes())), Err(Error::ExtraCa)), "{bad}");
        }
        assert!(Authorities::load(None).is_ok());
    }
}
