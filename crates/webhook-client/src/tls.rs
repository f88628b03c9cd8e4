//! Creates the TLS configuration and classifies handshake failures.

use std::io;
use std::sync::Arc;

use authorities::Authorities;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CertificateError, ClientConfig};
use tokio_rustls::TlsConnector;
use tracing::warn;

use crate::error::Error;
use crate::outcome::Outcome;

/// Creates a TLS connector that trusts the system's certificate authorities and those in `extra_ca` (PEM).
/// Self-signed certificates are refused (docs/protocol/webhooks.md, section 3).
///
/// If there are no certificate authorities, as in a minimal container, only HTTPS webhooks fail, so this is
/// not an error.
///
/// # Errors
/// Returns an error if `extra_ca` is not PEM, or if it contains no certificate or an invalid one.
pub(crate) fn tls_connector(extra_ca: Option<&[u8]>) -> Result<TlsConnector, Error> {
    let authorities = Authorities::with_extra(extra_ca)?;
    if authorities.is_empty() {
        warn!("no certificate authorities found; webhooks over HTTPS will fail");
    }
    // Use the process-wide crypto provider if the program has installed one.
    let provider =
        CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(authorities.store())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Returns the outcome for the error of a failed TLS handshake.
pub(crate) fn outcome(error: &io::Error) -> Outcome {
    use CertificateError as Certificate;
    let Some(rustls::Error::InvalidCertificate(reason)) =
        error.get_ref().and_then(|inner| inner.downcast_ref())
    else {
        return Outcome::HandshakeFailed;
    };
    match reason {
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            Outcome::CertificateNameMismatch
        }
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => Outcome::CertificateExpired,
        _ => Outcome::CertificateUntrusted,
    }
}
