//! The user and the password in a URL, such as `smtps://user:password@host`.

use domain::{Expected, Secret};
use percent_encoding::percent_decode_str;

/// The user and the password that a URL contained.
pub(super) struct UrlUser {
    pub(super) user: String,
    pub(super) password: Option<Secret<String>>,
}

/// Splits a URL into the URL without user, and the user with the password, if there is one.
///
/// # Errors
/// Returns a description of the accepted values if the user or the password is not percent-encoded.
pub(super) fn split(url: &str) -> Result<(String, Option<UrlUser>), Expected> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok((url.to_owned(), None)) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user_info, host)) = authority.rsplit_once('@') else { return Ok((url.to_owned(), None)) };
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (user_info, None),
    };
    let user = decode(user).filter(|user| !user.is_empty()).ok_or_else(expected)?;
    let password = match password {
        None => None,
        Some(text) => Some(decode(text).filter(|password| !password.is_empty()).ok_or_else(expected)?),
    };
    Ok((format!("{scheme}://{host}{path}"), Some(UrlUser { user, password: password.map(Secret::new) })))
}

fn expected() -> Expected {
    Expected::new(
        "must have a percent-encoded user and password, such as smtps://user:pass%40word@mail.example.com",
    )
}

/// Decodes a percent-encoded text. Returns `None` if it has characters that must be encoded.
fn decode(text: &str) -> Option<String> {
    let is_plain =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b':' | b'"' | b'<' | b'>' | b'\\');
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_valid = match byte {
            b'%' => bytes.next()?.is_ascii_hexdigit() && bytes.next()?.is_ascii_hexdigit(),
            byte => is_plain(byte),
        };
        if !is_valid {
            return None;
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.chars().any(char::is_control)).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_decoded() {
        let split = |url| {
            let (url, user) = split(url).unwrap();
            let user = user.map(|found| (found.user, found.password.map(|found| found.expose().clone())));
            (url, user)
        };
        assert_eq!(split("smtps://host"), ("smtps://host".to_owned(), None));
        assert_eq!(split("host"), ("host".to_owned(), None));
        assert_eq!(split("http://host/a@b?c@d"), ("http://host/a@b?c@d".to_owned(), None));
        assert_eq!(
            split("smtp://ann%40example.com:p%3A%25%C3%A9@host:587?tls=none"),
            (
                "smtp://host:587?tls=none".to_owned(),
                Some(("ann@example.com".to_owned(), Some("p:%é".to_owned())))
            )
        );
        assert_eq!(split("http://ann@host/"), ("http://host/".to_owned(), Some(("ann".to_owned(), None))));
    }

    #[test]
    fn user_and_password_must_be_encoded() {
        for bad in [
            "smtp://@host",
            "smtp://ann:@host",
            "smtp://:secret@host",
            "smtp://ann@example.com:secret@host",
            "smtp://ann:a:b@host",
            "smtp://ann:%4@host",
            "smtp://ann:%ff@host",
            "smtp://ann:%0a@host",
            "smtp://ann:a b@host",
        ] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
