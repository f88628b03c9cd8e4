//! Endpoints of the official API that this server does not support. They return 501 with an explanation instead of 404.

use domain::{Code, Problem};

/// Unsupported endpoints below a service: pairs of the first path segment after `/v2/Services/{ServiceSid}/` and the
/// endpoint's purpose.
const BELOW_A_SERVICE: &[(&str, &str)] = &[
    ("Verifications", "one-time codes"),
    ("VerificationCheck", "one-time codes"),
    ("RateLimits", "rate limits of one-time codes"),
    ("MessagingConfigurations", "messaging services of one-time codes"),
];

/// Unsupported endpoints outside of services: pairs of the first path segment after `/v2/` and the endpoint's purpose.
const TOP_LEVEL: &[(&str, &str)] = &[
    ("Attempts", "reports on one-time codes"),
    ("Templates", "message templates"),
    ("SafeList", "lists of safe numbers"),
    ("Forms", "forms of the console"),
];

/// Returns the problem to report if `path` belongs to an unsupported endpoint, or `None` otherwise.
pub(crate) fn problem_with(path: &str) -> Option<Problem> {
    let mut segments = path.strip_prefix("/v2/")?.split('/');
    let find = |list: &[(&str, &'static str)], name: &str| {
        list.iter().find(|(segment, _)| *segment == name).map(|(_, purpose)| *purpose)
    };
    let purpose = match segments.next()? {
        "Services" => find(BELOW_A_SERVICE, segments.nth(1)?)?,
        segment => find(TOP_LEVEL, segment)?,
    };
    Some(Problem::with_advice(Code::NotImplemented, format_args!("it does not support {purpose}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unsupported_endpoints_are_reported_as_not_implemented() {
        for path in [
            "/v2/Services/VA1/Verifications",
            "/v2/Services/VA1/VerificationCheck",
            "/v2/Services/VA1/RateLimits/RK1/Buckets",
            "/v2/Attempts/Summary",
            "/v2/Forms/form-push",
        ] {
            assert!(problem_with(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/v2",
            "/v2/",
            "/v2/Services/VA1/Entities/user-0001/Nothing",
            "/v1/Attempts",
            "/v2/Services/VA1/Passkeys/Factors",
            "/v2/services",
        ] {
            assert!(problem_with(path).is_none(), "{path}");
        }
    }
}
