//! Which certificates are trusted, and what it means when one is not.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::outcome::Outcome;

/// Trusts what the system trusts, and the authorities in `extra_ca`, a PEM text. Self-signed
/// certificates are refused (protocol 05 section 3).
pub(crate) fn connector(extra_ca: Option<&[u8]>) -> Result<TlsConnector, Error> {
    let authorities = extra_ca.map(authorities).transpose()?.unwrap_or_default();
    // The one that main has installed, if it has.
    let provider =
        CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone);
    let verifier =
        Verifier::new_with_extra_roots(authorities, Arc::clone(&provider)).map_err(Error::Trust)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Trust)?
        // Not so dangerous: it is the system's own judgement.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(Error::Authorities("no certificate in the PEM text".into()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Error::Authorities(error.to_string())),
    }
}

/// What a failed handshake is called.
pub(crate) fn outcome(error: &io::Error) -> Outcome {
    use CertificateError as Certificate;
    let Some(rustls::Error::InvalidCertificate(reason)) =
        error.get_ref().and_then(|inner| inner.downcast_ref())
    else {
        return Outcome::HandshakeFailed;
    };
    match reason {
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            Outcome::CertificateMisnamed
        }
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => Outcome::CertificateExpired,
        _ => Outcome::CertificateUntrusted,
    }
}
