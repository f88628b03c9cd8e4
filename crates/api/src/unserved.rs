//! Endpoints of the official API that this server does not serve: they say so, rather than pretend that
//! there is nothing.

use domain::{Code, Problem};

/// The first segment that tells an unserved endpoint apart, and what it is for.
const UNDER_A_SERVICE: &[(&str, &str)] = &[
    ("Verifications", "one-time codes"),
    ("VerificationCheck", "one-time codes"),
    ("RateLimits", "rate limits of one-time codes"),
    ("MessagingConfigurations", "messaging services of one-time codes"),
    ("Passkeys", "passkeys"),
];

/// The same, beside the services.
const AT_THE_TOP: &[(&str, &str)] = &[
    ("Attempts", "reports on one-time codes"),
    ("Templates", "message templates"),
    ("SafeList", "lists of safe numbers"),
    ("Forms", "forms of the console"),
];

/// The problem with this path, if it is one of these.
pub(crate) fn endpoint(path: &str) -> Option<Problem> {
    let mut segments = path.strip_prefix("/v2/")?.split('/');
    let find = |list: &[(&str, &'static str)], name: &str| {
        list.iter().find(|(segment, _)| *segment == name).map(|(_, purpose)| *purpose)
    };
    let purpose = match segments.next()? {
        "Services" => find(UNDER_A_SERVICE, segments.nth(1)?)?,
        segment => find(AT_THE_TOP, segment)?,
    };
    Some(Problem::with(Code::NotImplemented, format_args!("it does not serve {purpose}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_not_served() {
        for path in [
            "/v2/Services/VA1/Verifications",
            "/v2/Services/VA1/VerificationCheck",
            "/v2/Services/VA1/RateLimits/RK1/Buckets",
            "/v2/Services/VA1/Passkeys/Factors",
            "/v2/Attempts/Summary",
            "/v2/Forms/form-push",
        ] {
            assert!(endpoint(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/v2",
            "/v2/",
            "/v2/Services/VA1/Entities/user-0001/Nothing",
            "/v1/Attempts",
            "/v2/services",
        ] {
            assert!(endpoint(path).is_none(), "{path}");
        }
    }
}
