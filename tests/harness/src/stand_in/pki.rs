//! Authorities, certificates and keys, generated for each run so that the repository holds none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SignatureAlgorithm,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// The OID of Apple's sandbox extension.
pub const SANDBOX: &[u64] = &[1, 2, 840, 113635, 100, 6, 3, 1];
/// The OID of Apple's production extension.
pub const PRODUCTION: &[u64] = &[1, 2, 840, 113635, 100, 6, 3, 2];
/// The OID of Apple's extension with a list of topics.
pub const TOPICS: &[u64] = &[1, 2, 840, 113635, 100, 6, 3, 6];

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates an authority with a unique name.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("Stand-in Authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Returns the certificate for clients to trust, in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Returns a certificate for a server on this machine and its key, both in PEM.
    pub fn server_pem(&self) -> (String, String) {
        let (certificate, key) = self.identity();
        (certificate.pem(), key.serialize_pem())
    }

    /// Returns a server certificate that expires on this year, month and day, and its key, both in PEM.
    pub fn server_pem_until(&self, (year, month, day): (i32, u8, u8)) -> (String, String) {
        let (mut params, key) = Self::for_this_machine();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn identity(&self) -> (rcgen::Certificate, KeyPair) {
        let (params, key) = Self::for_this_machine();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn for_this_machine() -> (CertificateParams, KeyPair) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        (CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap())
    }

    /// Returns a TLS configuration for a server on this machine. It accepts client certificates of `clients`,
    /// and connections without one.
    pub fn server(
        &self,
        clients: &Self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ServerConfig {
        let (certificate, key) = self.identity();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(clients.certificate.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// Creates a certificate as Apple issues it for an app.
    pub fn push_certificate(&self, wanted: PushCertificate<'_>) -> Pushing {
        let mut params = CertificateParams::default();
        let user_id = DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 1]);
        if let Some(user_id_value) = wanted.user_id {
            params.distinguished_name.push(user_id, user_id_value);
        }
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, "TEAM123456");
        let (year, month, day) = wanted.not_after;
        params.not_after = rcgen::date_time_ymd(year, month, day);
        for (oid, content) in wanted.extensions {
            params.custom_extensions.push(CustomExtension::from_oid_content(oid, content.clone()));
        }
        let certificate = params.signed_by(&wanted.key.0, &self.issuer).unwrap();
        Pushing { certificate, key: wanted.key }
    }
}

/// The properties of a push certificate.
pub struct PushCertificate<'w> {
    /// The bundle id in the `UID` attribute, where Apple puts it today.
    pub user_id: Option<&'w str>,
    /// The common name, which also ends with the bundle id.
    pub common_name: &'w str,
    /// The last day: year, month, day.
    pub not_after: (i32, u8, u8),
    /// Apple's extensions: OID and value.
    pub extensions: &'w [(&'w [u64], Vec<u8>)],
    /// The key that the certificate certifies.
    pub key: Key,
}

impl Default for PushCertificate<'_> {
    fn default() -> Self {
        Self {
            user_id: Some("com.example.app"),
            common_name: "Apple Push Services: com.example.app",
            not_after: (2045, 12, 31),
            extensions: &[],
            key: Key::p256(),
        }
    }
}

/// A push certificate and its key.
pub struct Pushing {
    certificate: rcgen::Certificate,
    /// The private key.
    pub key: Key,
}

impl Pushing {
    /// Returns the certificate in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }
}

/// A private key.
pub struct Key(KeyPair);

/// An RSA key that tests share unless they need a new one, because generating one is slow.
static SHARED_RSA: LazyLock<Vec<u8>> = LazyLock::new(|| Key::new_rsa().0.serialize_der());

impl Key {
    /// Generates a key for this algorithm.
    pub fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        Self(KeyPair::generate_for(algorithm).unwrap())
    }

    /// Generates a key on P-256.
    pub fn p256() -> Self {
        Self::of(&PKCS_ECDSA_P256_SHA256)
    }

    /// Generates an RSA key.
    pub fn new_rsa() -> Self {
        Self(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
    }

    /// Returns the shared RSA key.
    pub fn rsa() -> Self {
        let der = PrivateKeyDer::try_from(SHARED_RSA.clone()).unwrap();
        Self(KeyPair::from_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap())
    }

    /// Returns the public key: an uncompressed point for EC, PKCS#1 for RSA.
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key_raw().to_vec()
    }

    /// Returns the key in PEM as `BEGIN PRIVATE KEY`.
    pub fn pkcs8(&self) -> String {
        self.0.serialize_pem()
    }

    /// Returns the base64 text of [`Key::pkcs8`], without the `BEGIN` and `END` lines.
    pub fn bare(&self) -> String {
        STANDARD.encode(self.0.serialize_der())
    }

    /// Returns the key in PEM as `BEGIN RSA PRIVATE KEY`, which PKCS#8 wraps after a version and an algorithm
    /// (RFC 5208).
    pub fn pkcs1(&self) -> String {
        use x509_cert::der::asn1::{Any, OctetString};
        use x509_cert::der::{Decode, Encode};
        let parts = Vec::<Any>::from_der(&self.0.serialize_der()).unwrap();
        let inner = OctetString::from_der(&parts[2].to_der().unwrap()).unwrap();
        pem("RSA PRIVATE KEY", inner.as_bytes())
    }

    /// Returns the key in PEM as `BEGIN EC PRIVATE KEY`, after the section with its curve that OpenSSL writes.
    pub fn sec1(&self) -> String {
        use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.0.serialize_der()).unwrap();
        let der = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&pair.private_key()).unwrap();
        let curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        format!("{curve}{}", pem("EC PRIVATE KEY", der.as_ref()))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
