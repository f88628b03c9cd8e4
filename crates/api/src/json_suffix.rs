//! Removes the `.json` suffix from request paths. Like Twilio's API, this server accepts paths with or without it.

use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;

/// The suffix that any path of Twilio's APIs may have.
const SUFFIX: &str = ".json";

/// The prefixes of the paths that may have the suffix, one for each API version.
const VERSIONS: [&str; 3] = ["/v1/", "/v2/", "/2010-04-01/"];

/// Removes `.json` from the end of the path before the request is routed. No URL in a response contains it, except
/// those of the API version 2010-04-01, whose clients expect it (docs/protocol/decisions.md, No. 33).
pub(crate) fn strip_json_suffix(request: &mut ServiceRequest) {
    if let Some(uri) = without_suffix(request.uri()) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// Returns the URI with `.json` removed from its path, or `None` if the path has no such suffix or begins with none of
/// [`VERSIONS`]. No SID, identity or phone number contains a dot, and no mail address has the top-level domain `json`.
/// The unique name of a rate limit may end with the suffix; a path with such a name needs the suffix once more, or the
/// SID.
fn without_suffix(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix(SUFFIX)?;
    if !VERSIONS.iter().any(|version| path.starts_with(version)) {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_suffix_is_removed_only_from_paths_of_twilio_apis() {
        let shortened = |uri: &str| without_suffix(&uri.parse().unwrap()).map(|uri| uri.to_string());
        for (uri, expected) in [
            ("/v2/Services.json", Some("/v2/Services")),
            ("/v2/Services.json?PageSize=5&A=%2F.json", Some("/v2/Services?PageSize=5&A=%2F.json")),
            ("http://example.com/v1/Credentials/CR1.json", Some("http://example.com/v1/Credentials/CR1")),
            ("/2010-04-01/Accounts/AC1/Keys.json?Page=0", Some("/2010-04-01/Accounts/AC1/Keys?Page=0")),
            ("/v2/Services.json.json", Some("/v2/Services.json")),
            ("/openapi.json", None),
            ("/healthz.json", None),
            ("/v2/Services", None),
            ("/v2/Services?A=.json", None),
            ("/v2/Services.json/", None),
        ] {
            assert_eq!(shortened(uri).as_deref(), expected, "{uri}");
        }
    }
}
