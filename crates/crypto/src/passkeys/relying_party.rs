//! The domain of a relying party, and the origins that may use its passkeys.

use super::sha256;

/// Maximum length of a domain name, in bytes (RFC 1035 section 2.3.4, without the dot at the end).
const MAX_DOMAIN_BYTES: usize = 253;

/// Maximum length of a label of a domain name, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Maximum length of an origin, in bytes.
const MAX_ORIGIN_BYTES: usize = 512;

/// Parses the ID of a relying party: a domain name without scheme, port or path, or `localhost`. Returns it in lower
/// case, or `None` if it is not a domain name. IP addresses are refused, as browsers do.
pub fn parse_relying_party_id(text: &str) -> Option<String> {
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_valid = text.len() <= MAX_DOMAIN_BYTES
        && text.split('.').all(is_label)
        && !text.rsplit('.').next().is_some_and(is_number);
    is_valid.then(|| text.to_ascii_lowercase())
}

/// Returns whether `text` is a label of a domain name. Labels beyond ASCII are accepted as they are.
fn is_label(text: &str) -> bool {
    let is_valid = |character: char| {
        character.is_ascii_alphanumeric()
            || character == '-'
            || !character.is_ascii() && is_visible(character)
    };
    (1..=MAX_LABEL_BYTES).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(is_valid)
}

fn is_visible(character: char) -> bool {
    !character.is_control() && !character.is_whitespace()
}

/// Parses an origin that may use the passkeys of the relying party `id`, and returns the form with which the origin in
/// the client data is compared. Returns `None` if the origin is malformed or belongs to another domain.
///
/// - A web origin is returned as browsers write it: in lower case, without the default port or a slash at the end. Its
///   host must be `id` or a subdomain of `id`. Its scheme is `https`, or `http` for `localhost`.
/// - A host without a scheme means `https`.
/// - Other origins are app IDs, such as `android:apk-key-hash:…`. They are returned as they are.
pub fn parse_origin(text: &str, id: &str) -> Option<String> {
    if text.len() > MAX_ORIGIN_BYTES || !text.chars().all(is_visible) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    if let Some(authority) = lower.strip_prefix("https://") {
        return web_origin("https", authority, "443", id);
    }
    if let Some(authority) = lower.strip_prefix("http://") {
        return web_origin("http", authority, "80", id).filter(|_| is_localhost(authority));
    }
    let is_host = split_authority(&lower).is_some();
    if is_host { web_origin("https", &lower, "443", id) } else { is_app_id(text).then(|| text.to_owned()) }
}

/// Returns the origin of a relying party that has no list of origins: `https://` and its ID.
pub fn default_origin(id: &str) -> String {
    format!("https://{id}")
}

fn web_origin(scheme: &str, authority: &str, default_port: &str, id: &str) -> Option<String> {
    let (host, port) = split_authority(authority)?;
    let is_below = host.strip_suffix(id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let port = port.filter(|port| *port != default_port).map(|port| format!(":{port}")).unwrap_or_default();
    is_below.then(|| format!("{scheme}://{host}{port}"))
}

/// Splits `authority`, whose end may be a slash, into a host and a port. Returns `None` if one of them is malformed.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    (parse_relying_party_id(host).is_some() && port.is_none_or(is_port)).then_some((host, port))
}

fn is_localhost(authority: &str) -> bool {
    split_authority(authority).is_some_and(|(host, _)| host == "localhost")
}

/// Returns whether `text` has a scheme (RFC 3986 section 3.1) other than that of web pages, and something after it.
fn is_app_id(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    };
    text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
}

/// Returns the hash of a relying party ID, which authenticators record in their data.
pub(super) fn hash_id(id: &str) -> [u8; 32] {
    sha256(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relying_party_id_is_a_domain_name() {
        for (text, id) in [
            ("example.com", "example.com"),
            ("Login.EXAMPLE.com", "login.example.com"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("bücher.example", "bücher.example"),
            ("1.example", "1.example"),
            (&format!("{}.example", "a".repeat(63)), &format!("{}.example", "a".repeat(63))),
        ] {
            assert_eq!(parse_relying_party_id(text).as_deref(), Some(id), "{text}");
        }
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        for bad in [
            "",
            ".",
            "example.com.",
            ".example.com",
            "a..b",
            "https://example.com",
            "example.com:443",
            "example.com/",
            "user@example.com",
            "exa mple.com",
            "exa\u{a0}mple.com",
            "-a.example",
            "a-.example",
            "a_b.example",
            "*.example.com",
            "192.0.2.1",
            "[::1]",
            &format!("{}.example", "a".repeat(64)),
            &long,
        ] {
            assert_eq!(parse_relying_party_id(bad), None, "{bad}");
        }
        assert!(parse_relying_party_id(&long[1..]).is_some(), "253 bytes");
    }

    #[test]
    fn web_origin_is_returned_as_browsers_write_it() {
        for (text, origin) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com/", "https://example.com"),
            ("HTTPS://Login.Example.com", "https://login.example.com"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com:8443/", "https://example.com:8443"),
            ("login.example.com", "https://login.example.com"),
            ("login.example.com:8443", "https://login.example.com:8443"),
        ] {
            assert_eq!(parse_origin(text, "example.com").as_deref(), Some(origin), "{text}");
        }
        assert_eq!(default_origin("example.com"), "https://example.com");
    }

    #[test]
    fn http_is_accepted_only_for_localhost() {
        for origin in ["http://localhost", "http://localhost:3000", "https://localhost:3000"] {
            assert_eq!(parse_origin(origin, "localhost").as_deref(), Some(origin));
        }
        assert_eq!(parse_origin("http://localhost:80/", "localhost").as_deref(), Some("http://localhost"));
        assert_eq!(parse_origin("localhost:3000", "localhost").as_deref(), Some("https://localhost:3000"));
        assert_eq!(parse_origin("http://example.com", "example.com"), None);
        assert_eq!(parse_origin("http://a.localhost", "localhost"), None);
    }

    #[test]
    fn app_id_is_returned_unchanged() {
        for origin in [
            "android:apk-key-hash:7d1043473d55bfa90e8530d35801d4e381bc69f0_-",
            "android:apk-key-hash-sha256:Ab_-",
            "ios:bundle-id:com.Example.App",
            "chrome-extension://Abc/",
        ] {
            assert_eq!(parse_origin(origin, "example.com").as_deref(), Some(origin));
        }
    }

    #[test]
    fn malformed_or_foreign_origin_is_refused() {
        for bad in [
            "",
            "https://",
            "https:///",
            "https://example.org",
            "https://badexample.com",
            "https://example.com.evil.example",
            "https://com",
            "https://example.com//",
            "https://example.com/login",
            "https://example.com?x",
            "https://example.com#x",
            "https://user@example.com",
            "https://example.com:",
            "https://example.com:0",
            "https://example.com:0443",
            "https://example.com:+443",
            "https://example.com:65536",
            "https://example.com:1:2",
            "https:// example.com",
            "https://example.com\n",
            "badexample.com",
            "example.com/login",
            "https:example.com",
            "Http:/example.com",
            "1:x",
            ":x",
            "x:",
            "*",
            &format!("android:{}", "x".repeat(505)),
        ] {
            assert_eq!(parse_origin(bad, "example.com"), None, "{bad}");
        }
        assert!(parse_origin(&format!("android:{}", "x".repeat(504)), "example.com").is_some());
    }
}
