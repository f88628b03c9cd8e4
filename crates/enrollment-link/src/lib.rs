//! Links that enroll a browser as a phone (docs/browser-phone.md), and their QR codes.
//!
//! A link contains an access token, so it is a secret until the token is spent or expires. The token is in the
//! fragment, which browsers do not send to any server.

mod qr_code;

use domain::{Identity, Secret, ServiceSid};

pub use crate::qr_code::{QrCode, TooLong};

/// The link that enrolls a browser for a user, such as `https://verify.example.com/phone/#t=TOKEN&s=VA…&i=user-0001`.
#[derive(Debug)]
pub struct EnrollmentLink(Secret<String>);

impl EnrollmentLink {
    /// Creates the link for an access token. `base_url` is the URL at which the browser reaches the server, such as
    /// `https://verify.example.com`, with or without a slash at its end.
    pub fn new(base_url: &str, access_token: &str, service_sid: ServiceSid, identity: &Identity) -> Self {
        let base_url = base_url.trim_end_matches('/');
        // An access token is a compact JWE and an identity has no special characters, so nothing needs an escape.
        Self(Secret::new(format!("{base_url}/phone/#t={access_token}&s={service_sid}&i={identity}")))
    }

    /// Returns the link.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Returns the link as a QR code.
    ///
    /// # Errors
    /// Returns an error if the link has more than 2953 characters. A link to a server's own access token is far
    /// shorter.
    pub fn qr_code(&self) -> Result<QrCode, TooLong> {
        QrCode::new(self.expose())
    }
}

#[cfg(test)]
mod tests {
    use domain::Parameter as _;

    use super::*;

    fn link(base_url: &str) -> EnrollmentLink {
        let service_sid = "VA22222222222222222222222222222222".parse().unwrap();
        let identity = Identity::from_parameter("user-0001").unwrap();
        EnrollmentLink::new(base_url, "a.b.c", service_sid, &identity)
    }

    #[test]
    fn link_has_the_token_in_its_fragment() {
        let expected =
            "https://verify.example.com/phone/#t=a.b.c&s=VA22222222222222222222222222222222&i=user-0001";
        assert_eq!(link("https://verify.example.com").expose(), expected);
        assert_eq!(link("https://verify.example.com/").expose(), expected);
    }

    #[test]
    fn link_does_not_appear_in_debug_output() {
        assert!(!format!("{:?}", link("https://verify.example.com")).contains("a.b.c"));
    }
}
