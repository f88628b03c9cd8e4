//! A software authenticator app: it imports a secret from an `otpauth` URI and shows its codes.

use crypto::TotpKey;
use domain::factors::TotpSettings;
use domain::factors::totp::Algorithm;
use domain::parameter::Bounded;
use domain::{Secret, Timestamp};
use reqwest::Url;

/// An entry of an authenticator app. `Debug` does not show its secret.
#[derive(Debug)]
pub struct AuthenticatorApp {
    key: TotpKey,
    settings: TotpSettings,
    issuer: String,
    account_name: String,
}

impl AuthenticatorApp {
    /// Imports an `otpauth://totp/{issuer}:{account name}?…` URI. Absent parameters have the defaults of RFC 6238:
    /// SHA-1, six digits and 30 seconds. Returns `None` if the URI is malformed or a value is outside the server's
    /// bounds.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let url =
            Url::parse(uri).ok().filter(|url| url.scheme() == "otpauth" && url.host_str() == Some("totp"))?;
        let parameter = |name| url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value);
        let number = |name, default| parameter(name).map_or(Some(default), |text| text.parse().ok());
        let algorithm = match parameter("algorithm").as_deref() {
            None | Some("SHA1") => Algorithm::Sha1,
            Some("SHA256") => Algorithm::Sha256,
            Some("SHA512") => Algorithm::Sha512,
            Some(_) => return None,
        };
        let (issuer, account_name) = url.path().strip_prefix('/')?.split_once(':')?;
        let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8().ok();
        Some(Self {
            key: TotpKey::parse(&parameter("secret")?)?,
            settings: TotpSettings {
                algorithm,
                code_length: Bounded::new(number("digits", 6)?)?,
                time_step: Bounded::new(number("period", 30)?)?,
                // An app shows codes and compares none.
                skew: Bounded::new(0)?,
            },
            issuer: decode(issuer)?.into_owned(),
            account_name: decode(account_name)?.into_owned(),
        })
    }

    /// Returns the code that the app shows at `now`.
    pub fn code(&self, now: Timestamp) -> String {
        self.key.code(&self.settings, self.settings.step_at(now))
    }

    /// Returns the number of seconds for which the code of `now` stays current, at least 1.
    pub fn seconds_left(&self, now: Timestamp) -> i64 {
        let time_step = self.settings.time_step.get();
        time_step - now.seconds().rem_euclid(time_step)
    }

    /// Returns the URI from which [`from_uri`](Self::from_uri) imports the entry.
    pub fn to_uri(&self) -> Secret<String> {
        self.key.to_uri(&self.settings, &self.issuer, &self.account_name)
    }

    /// Returns the name of the issuer that the app shows.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the name of the account that the app shows.
    pub fn account_name(&self) -> &str {
        &self.account_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn app_shows_the_codes_that_the_server_computes() {
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
            let key = TotpKey::generate(algorithm, &crypto::SystemEntropy);
            let settings = TotpSettings {
                algorithm,
                code_length: Bounded::new(8).unwrap(),
                time_step: Bounded::new(20).unwrap(),
                skew: Bounded::new(0).unwrap(),
            };
            let uri = key.to_uri(&settings, "Bank: é&?", "Anna's #1 / phone");
            let app = AuthenticatorApp::from_uri(uri.expose()).unwrap();
            assert_eq!((app.issuer(), app.account_name()), ("Bank: é&?", "Anna's #1 / phone"));
            assert_eq!(app.to_uri().expose(), uri.expose());
            assert_eq!([0, 1, 19, 20].map(|second| app.seconds_left(at(second))), [20, 19, 1, 20]);
            let code = app.code(at(1_767_225_600));
            assert_eq!(key.find_step(&settings, None, at(1_767_225_619), &code), Some(88_361_280));
            assert_eq!(key.find_step(&settings, None, at(1_767_225_620), &code), None);
        }
    }

    #[test]
    fn absent_parameters_have_the_defaults_of_rfc_6238() {
        let app = AuthenticatorApp::from_uri(&format!("otpauth://totp/A:b?secret={SECRET}")).unwrap();
        assert_eq!(app.code(at(59)), "287082");
        assert!(!format!("{app:?}").contains("GEZ"));
    }

    #[test]
    fn malformed_uri_is_refused() {
        for uri in [
            String::new(),
            format!("https://totp/A:b?secret={SECRET}"),
            format!("otpauth://hotp/A:b?secret={SECRET}"),
            format!("otpauth://totp/A?secret={SECRET}"),
            "otpauth://totp/A:b".to_owned(),
            "otpauth://totp/A:b?secret=A".to_owned(),
            format!("otpauth://totp/A:b?secret={SECRET}&algorithm=MD5"),
            format!("otpauth://totp/A:b?secret={SECRET}&digits=9"),
            format!("otpauth://totp/A:b?secret={SECRET}&period=x"),
        ] {
            assert!(AuthenticatorApp::from_uri(&uri).is_none(), "{uri}");
        }
    }
}
