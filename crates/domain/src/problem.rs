//! What a caller did wrong, in the API's own numbers and words.

use std::borrow::Cow;
use std::fmt;

use crate::parameter::Expected;
use crate::time::Timestamp;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal;)*) => {
        /// The error codes that this server answers (docs/protocol/errors.md). Their HTTP status is in `api::error`,
        /// their causes and remedies in `docs/errors.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code there is, in the order of the list above.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number that clients see.
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $code,)* }
            }

            /// The message when there is nothing more particular to say.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A required parameter is not there.
    MissingParameter = 20001, "Missing required parameter";
    /// A service's friendly name is missing its length or has control characters.
    InvalidFriendlyName = 20002, "Invalid FriendlyName";
    /// No credentials, or bad ones.
    Authenticate = 20003, "Authenticate";
    /// The path exists, the method does not.
    MethodNotAllowed = 20004, "Method not allowed";
    /// `PageSize` over 1000.
    PageSizeTooLarge = 20007, "Page size too large: PageSize must be at most 1000";
    /// Good credentials of a kind that may not do this.
    Forbidden = 20403, "These credentials do not permit this request; use the account's or an API key's";
    /// Nothing of this name that the caller may see.
    NotFound = 20404, "The requested resource was not found";
    /// The request did not arrive in time.
    RequestTimeout = 20408, "The request took too long to arrive";
    /// The body is larger than 64 KiB.
    PayloadTooLarge = 20413, "The request body is larger than 64 KiB";
    /// The request line is too long.
    UriTooLong = 20414, "The request's address is too long";
    /// The body is not a form.
    UnsupportedMediaType = 20415, "Send parameters as application/x-www-form-urlencoded";
    /// The headers are too long.
    HeadersTooLarge = 20431, "The request's headers are larger than 32 KiB";
    /// The method, or the endpoint, is not served here.
    NotImplemented = 20501, "Not implemented by this server";
    /// Too many requests.
    TooManyRequests = 20429, "Too many requests";
    /// A bug or a broken disk: the cause is in the log, under the request id.
    Internal = 20500, "Internal server error";
    /// The database is out of reach or the server is stopping.
    Unavailable = 20503, "Service unavailable: try again shortly";
    /// An entity of that identity exists in the service.
    EntityExists = 60301, "Entity already exists";
    /// `Identity` or `FactorType` of an access token is missing.
    AccessTokenParameters = 60305, "Access Token parameters are invalid";
    /// A parameter has a value that it can't have.
    InvalidRequest = 60306, "Invalid Request";
    /// A notification to a device that hears of nothing.
    NothingToNotify = 60307, "Cannot resend push notifications to 'none' notification platform";
    /// The fourth notification.
    TooManyNotifications = 60309, "Push notifications limit reached for a Challenge";
    /// The signature of the factor's own sid does not hold.
    FactorVerificationFailed = 60311, "Factor verification failed";
    /// More challenges to a factor than its limits allow.
    TooManyChallenges = 60312, "Challenge creation limit reached";
    /// An access token that was made for another identity, service or factor type.
    UnauthorizedFactorCreation = 60313, "Unauthorized factor creation";
    /// `Binding.PublicKey` or `Binding.Alg` can't be used.
    InvalidBinding = 60314, "Factors binding format is invalid";
    /// The twenty-first push factor.
    TooManyFactors = 60315, "Reached max limit of 20 push Factors associated per Entity";
    /// The entity already has a factor with that public key.
    FactorExists = 60317, "Factor already exists";
    /// Only verified factors can be challenged.
    FactorUnverified = 60318, "Factor is unverified";
    /// Somebody was faster.
    ChallengeResponded = 60322, "Challenge already responded";
    /// Too late.
    ChallengeExpired = 60323, "Challenge expired";
    /// The signed answer does not hold.
    ChallengeVerificationFailed = 60324, "Challenge verification failed";
    /// More factors of an entity in a day than its limit allows.
    TooManyFactorCreations = 60326, "Too many requests to create factors for the entity";
    /// More entities of a service in a second than its limit allows.
    TooManyEntityCreations = 60328, "Too many requests to create entities in the service";
    /// A factor type that this server does not serve.
    FactorTypeNotServed = 60369, "Factor type invalid or not provided";
}

impl Code {
    /// The page that explains this code, as every error body carries it.
    pub fn more_info(self) -> String {
        format!("https://www.twilio.com/docs/errors/{}", self.number())
    }
}

/// A refusal that is the caller's to mend: a code, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    message: Cow<'static, str>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem that its title explains.
    pub const fn new(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.title()), retry_after: None }
    }

    /// A problem whose title is followed by what to do about it.
    pub fn with(code: Code, advice: impl fmt::Display) -> Self {
        Self { code, message: format!("{}: {advice}", code.title()).into(), retry_after: None }
    }

    /// `parameter` was not sent.
    pub fn missing(parameter: &str) -> Self {
        let message = format!("Missing required parameter {parameter} in the post body").into();
        Self { code: Code::MissingParameter, message, retry_after: None }
    }

    /// A page other than the first was asked for without the token that leads there.
    pub const fn missing_page_token() -> Self {
        let message = Cow::Borrowed("PageToken is required for paging.");
        Self { code: Code::MissingParameter, message, retry_after: None }
    }

    /// `parameter` was sent with a value that it can't have.
    pub fn invalid(parameter: &str, expected: &Expected) -> Self {
        Self::with(Code::InvalidRequest, format_args!("{parameter} {expected}"))
    }

    /// There is nothing here that the caller may see. The HTTP layer puts the path into the message.
    pub const fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    /// The same problem, which passes at that instant.
    #[must_use]
    pub fn until(self, end: Timestamp, now: Timestamp) -> Self {
        let seconds = (end.micros().saturating_sub(now.micros()).max(1) - 1) / 1_000_000 + 1;
        Self { retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)), ..self }
    }

    /// Seconds after which the same request may succeed, if that is known; at least 1.
    pub const fn retry_after(&self) -> Option<u32> {
        match self.code {
            Code::Unavailable if self.retry_after.is_none() => Some(1),
            _ => self.retry_after,
        }
    }

    /// Which problem it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What to tell the caller.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.number(), self.message)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn the_time_to_wait_is_rounded_up_to_whole_seconds_and_at_least_one() {
        let wait = |micros: i64| {
            let end = Timestamp::from_micros(NOW.micros() + micros);
            Problem::new(Code::TooManyRequests).until(end, NOW).retry_after()
        };
        let second = 1_000_000;
        for (micros, seconds) in [
            (-second, 1),
            (0, 1),
            (1, 1),
            (second, 1),
            (second + 1, 2),
            (60 * second, 60),
            (60 * second + 1, 61),
        ] {
            assert_eq!(wait(micros), Some(seconds), "{micros}");
        }
        let never = Timestamp::from_micros(i64::MAX);
        assert_eq!(
            Problem::new(Code::TooManyRequests).until(never, Timestamp::from_seconds(0)).retry_after(),
            Some(u32::MAX)
        );
    }

    #[test]
    fn only_an_unavailable_server_is_asked_again_without_a_known_time() {
        assert_eq!(Problem::new(Code::Unavailable).retry_after(), Some(1));
        assert_eq!(Problem::new(Code::Unavailable).until(NOW.plus_seconds(9), NOW).retry_after(), Some(9));
        for code in [Code::Internal, Code::TooManyNotifications, Code::NotFound] {
            assert_eq!(Problem::new(code).retry_after(), None, "{code:?}");
        }
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let expected = Expected::new("must be true or false");
        let problem = Problem::invalid("Sandbox", &expected);
        assert_eq!(problem.code(), Code::InvalidRequest);
        assert_eq!(problem.message(), "Invalid Request: Sandbox must be true or false");
        assert_eq!(problem.to_string(), "60306 Invalid Request: Sandbox must be true or false");
        let missing = Problem::missing("Identity");
        assert_eq!(missing.message(), "Missing required parameter Identity in the post body");
        assert_eq!(Problem::from(Code::NotFound), Problem::not_found());
        assert_eq!(Code::NotFound.more_info(), "https://www.twilio.com/docs/errors/20404");
    }
}
