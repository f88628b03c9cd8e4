//! Errors that are returned to a caller, with the codes and messages of Twilio's API.

use std::borrow::Cow;
use std::fmt;

use crate::parameter::Expected;
use crate::text::UniqueName;
use crate::time::Timestamp;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal;)*) => {
        /// The error codes that this server returns (docs/protocol/errors.md). `web::status` maps them to HTTP
        /// statuses; `docs/errors.md` lists causes and remedies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the code as the number that the response body contains.
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the message for this code. If advice follows, the message begins with this text.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A required parameter is missing.
    MissingParameter = 20001, "Missing required parameter";
    /// The friendly name of a service has an invalid length or contains control characters.
    InvalidFriendlyName = 20002, "Invalid FriendlyName";
    /// Credentials are missing or invalid.
    Unauthenticated = 20003, "Authenticate";
    /// The path exists, but does not support this HTTP method.
    MethodNotAllowed = 20004, "Method not allowed";
    /// The parameter `PageSize` is above 1000.
    PageSizeTooLarge = 20007, "Page size too large: PageSize must be at most 1000";
    /// The credentials are valid, but callers of this kind may not make this request.
    Forbidden = 20403, "These credentials do not permit this request; use the account's or an API key's";
    /// The resource does not exist, or the caller may not see it.
    NotFound = 20404, "The requested resource was not found";
    /// The request body did not arrive in time.
    RequestTimeout = 20408, "The request took too long to arrive";
    /// The request body is larger than 64 KiB.
    PayloadTooLarge = 20413, "The request body is larger than 64 KiB";
    /// The request line is too long.
    UriTooLong = 20414, "The request URL is too long";
    /// The request body is not a form, or on the routes of passkeys not JSON.
    UnsupportedMediaType = 20415, "Send parameters as application/x-www-form-urlencoded";
    /// The request headers are larger than 32 KiB.
    HeadersTooLarge = 20431, "The request's headers are larger than 32 KiB";
    /// This server does not support the method or the endpoint.
    NotImplemented = 20501, "Not implemented by this server";
    /// The caller exceeds a rate limit.
    TooManyRequests = 20429, "Too many requests";
    /// An internal server error, such as a bug or a broken disk. The log contains the cause, with the request ID.
    Internal = 20500, "Internal server error";
    /// The database is unavailable, or the server is overloaded or stopping.
    Unavailable = 20503, "Service unavailable: try again shortly";
    /// A parameter of a verification is invalid.
    InvalidParameter = 60200, "Invalid parameter";
    /// Five checks of the code were wrong.
    TooManyChecks = 60202, "Max check attempts reached";
    /// The code was already sent five times.
    TooManySends = 60203, "Max send attempts reached";
    /// The service does not permit custom codes.
    FeatureDisabled = 60204, "Feature is not enabled for the service: turn CustomCodeEnabled on";
    /// The phone number is a landline, to which no text messages are sent.
    Landline = 60205, "SMS is not supported by landline phone number";
    /// The amount or the payee of a payment is missing or invalid.
    PaymentParameters = 60206, "Amount and Payee are required";
    /// The service has the maximum number of rate limits.
    TooManyRateLimits = 60207, "Max rate limits per service reached";
    /// The service already has a rate limit with this unique name.
    RateLimitExists = 60208, "Unique name already exists";
    /// The unique name of a rate limit has an invalid length or invalid characters.
    InvalidUniqueName = 60209, "Invalid unique name";
    /// The rate limit has the maximum number of buckets.
    TooManyBuckets = 60210, "Max buckets per rate limit reached";
    /// The rate limit already has a bucket with this interval.
    BucketExists = 60211, "A bucket with this interval already exists";
    /// The service already has a messaging configuration for this country.
    MessagingConfigurationExists = 60213, "Country already has a messaging configuration";
    /// Payments are not confirmed by calls.
    PaymentByCall = 60214, "Channel call is not supported for payments";
    /// No outlet sends mail.
    NoMailOutlet = 60217, "No outlet for the channel email: add one with `countersign outlet create`";
    /// A check names neither a recipient nor a verification.
    NoCheckTarget = 60221, "Either To or VerificationSid is required";
    /// No outlet sends text messages or calls.
    NoOutlet = 60223, "Delivery channel disabled: no outlet serves it; add one with `countersign outlet create`";
    /// A template has a variable for which no value is given.
    MissingSubstitution = 60224, "A variable of the template has no substitution";
    /// The account has no template with this SID.
    TemplateNotFound = 60228, "Template was not found";
    /// The locale is unknown.
    LocaleNotFound = 60229, "Translation was not found";
    /// The text of the message has more than 500 characters.
    MessageTooLong = 60247, "The message is longer than 500 characters";
    /// The parameter `Templates` is malformed.
    InvalidTemplates = 60251, "Invalid parameter Templates";
    /// The account has none of the templates in `Templates`.
    NoUsableTemplate = 60252, "None of the templates can be used";
    /// The service already has an entity with this identity.
    EntityExists = 60301, "Entity already exists";
    /// The parameter `Identity` or `FactorType` of an access token is missing.
    AccessTokenParameters = 60305, "Access Token parameters are invalid";
    /// A parameter has an invalid value.
    InvalidRequest = 60306, "Invalid Request";
    /// A notification is requested for a device that receives no pushes.
    NoNotificationPlatform = 60307, "Cannot resend push notifications to 'none' notification platform";
    /// Too many codes for the challenge were wrong.
    TooManyChallengeAttempts = 60308, "Challenge verification attempts limit reached";
    /// The challenge already has the maximum number of notifications.
    TooManyNotifications = 60309, "Push notifications limit reached for a Challenge";
    /// Too many codes for the verification of the factor were wrong.
    TooManyFactorAttempts = 60310, "Factor verification attempts reached";
    /// The signature over the factor's SID is invalid.
    FactorVerificationFailed = 60311, "Factor verification failed";
    /// A limit on challenges to the factor is exceeded.
    TooManyChallenges = 60312, "Challenge creation limit reached";
    /// The access token was issued for another identity, service or factor type.
    UnauthorizedFactorCreation = 60313, "Unauthorized factor creation";
    /// `Binding.PublicKey`, `Binding.Alg` or `Binding.Secret` is invalid.
    InvalidBinding = 60314, "Factors binding format is invalid";
    /// The entity already has 20 push factors. [`FactorType::too_many`] has the
    /// message for each type.
    ///
    /// [`FactorType::too_many`]: crate::FactorType::too_many
    TooManyFactors = 60315, "Reached max limit of 20 push Factors associated per Entity";
    /// The entity already has a factor with this public key or secret, or the relying party a passkey with this
    /// credential.
    FactorExists = 60317, "Factor already exists";
    /// The factor is unverified and therefore cannot be challenged.
    FactorUnverified = 60318, "Factor is unverified";
    /// The challenge was already answered.
    ChallengeResponded = 60322, "Challenge already responded";
    /// The challenge has expired and can no longer be answered.
    ChallengeExpired = 60323, "Challenge expired";
    /// The signed answer to the challenge is invalid.
    ChallengeVerificationFailed = 60324, "Challenge verification failed";
    /// The limit on factors created for the entity within a day is exceeded.
    TooManyFactorCreations = 60326, "Too many requests to create factors for the entity";
    /// The limit on entities created in the service within a second is exceeded.
    TooManyEntityCreations = 60328, "Too many requests to create entities in the service";
    /// The SID of a factor is malformed.
    InvalidFactorSid = 60362, "Factor SID invalid or not provided";
    /// The identity of a passkey's user is missing or malformed.
    InvalidIdentity = 60367, "Entity identity invalid or not provided";
    /// This server does not support factors of this type, or not on this route.
    FactorTypeNotServed = 60369, "Factor type invalid or not provided";
    /// The relying party of a passkey is missing, or its name or one of its origins is invalid.
    InvalidRelyingParty = 60371, "Relying party invalid or not provided";
    /// The ID of a relying party is missing or no domain name.
    InvalidRelyingPartyId = 60372, "Relying party id invalid or not provided";
    /// `id` is not the ID of the credential.
    InvalidCredentialId = 60375, "Id invalid or not provided";
    /// `rawId` is not the ID of the credential.
    InvalidRawId = 60376, "Raw id invalid or not provided";
    /// `authenticatorAttachment` has an unknown value.
    InvalidAttachment = 60377, "Authenticator attachment invalid or not provided";
    /// The response of an authenticator is missing or incomplete, or the body is not JSON.
    InvalidAuthenticatorResponse = 60378, "Authenticator response invalid or not provided";
    /// The authenticator data are malformed, or lack what is required.
    InvalidAuthenticatorData = 60379, "Authenticator data invalid or not provided";
    /// The client data are malformed, or of another ceremony, challenge or origin.
    InvalidClientData = 60380, "Client data invalid or not provided";
    /// The signature is not by the key of the passkey.
    InvalidPasskeySignature = 60381, "Signature invalid or not provided";
    /// The passkey belongs to another relying party.
    OtherRelyingParty = 60382, "Factor does not belong to the relying party";
    /// The state of the passkey does not permit the request.
    IllegalFactorStatus = 60383, "Illegal factor status";
    /// The public key of the credential is malformed, weak, or for an algorithm that was not offered.
    InvalidPublicKey = 60385, "Public key invalid or not provided";
    /// The attestation object is malformed.
    InvalidAttestation = 60386, "Attestation invalid or not provided";
    /// The attestation object contains no credential.
    InvalidAttestedCredential = 60387, "Attested credential data invalid or not provided";
    /// The friendly name of a passkey is missing or invalid.
    InvalidDisplayName = 60388, "Display name invalid or not provided";
    /// No matching passkey exists.
    PasskeyNotFound = 60390, "Factor not found";
    /// The service has no passkey challenge with this SID.
    PasskeyChallengeNotFound = 60391, "Challenge not found";
    /// The service has no entity with this identity.
    EntityNotFound = 60392, "Entity not found";
    /// Criteria for authenticators are missing or invalid.
    MissingAuthenticatorCriteria = 60393, "Authenticator criteria missing";
    /// Too many messages were sent to numbers like this one, or by this service.
    SendingBlocked = 60410, "Verification delivery attempt blocked";
    /// The phone number is already on the safe list.
    SafeNumberExists = 60411, "The phone number is already on the safe list";
    /// An app hash is given for a channel other than `sms`.
    AppHashChannel = 60602, "AppHash is only supported for the channel sms";
    /// No messages are sent to the country of the phone number.
    CountryBlocked = 60605, "Verification delivery to this country is not permitted";
    /// No outlet sends WhatsApp messages.
    NoWhatsappOutlet = 68008, "WhatsApp is not configured: no outlet serves it; add one with `countersign outlet create`";
}

impl Code {
    /// Returns the URL of Twilio's page about the code. Every error body contains this URL.
    pub fn more_info(self) -> String {
        format!("https://www.twilio.com/docs/errors/{}", self.number())
    }
}

/// An error that is returned to the caller: a code, and a message that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    message: Cow<'static, str>,
    retry_after: Option<u32>,
    reached_limit: Option<UniqueName>,
}

impl Problem {
    /// Creates a problem whose message is the title of `code`.
    pub const fn new(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.title()), retry_after: None, reached_limit: None }
    }

    /// Creates a problem whose message is the title of `code`, followed by a colon and `advice`.
    pub fn with_advice(code: Code, advice: impl fmt::Display) -> Self {
        Self {
            code,
            message: format!("{}: {advice}", code.title()).into(),
            retry_after: None,
            reached_limit: None,
        }
    }

    /// Creates the problem for a request without the required `parameter`.
    pub fn missing(parameter: &str) -> Self {
        let message = format!("Missing required parameter {parameter} in the post body").into();
        Self { code: Code::MissingParameter, message, retry_after: None, reached_limit: None }
    }

    /// Creates the problem for a request that has no page token, for a page other than the first.
    pub const fn missing_page_token() -> Self {
        let message = Cow::Borrowed("PageToken is required for paging.");
        Self { code: Code::MissingParameter, message, retry_after: None, reached_limit: None }
    }

    /// Creates the problem for an invalid value of `parameter`. `expected` describes the accepted values.
    pub fn invalid(parameter: &str, expected: &Expected) -> Self {
        Self::with_advice(Code::InvalidRequest, format_args!("{parameter} {expected}"))
    }

    /// Creates the problem for an invalid value of a verification's `parameter`. Its message is that of the managed
    /// service, which clients may compare, without the accepted values.
    pub fn invalid_parameter(parameter: &str) -> Self {
        Self::with_advice(Code::InvalidParameter, parameter)
    }

    /// Creates the problem for a query without the required `parameter`.
    pub fn missing_in_query(parameter: &str) -> Self {
        let message = format!("Missing required parameter {parameter} in the query").into();
        Self { code: Code::MissingParameter, message, retry_after: None, reached_limit: None }
    }

    /// Creates the problem for a request with an API key that only the account's auth token permits.
    pub const fn auth_token_required() -> Self {
        let message = Cow::Borrowed(
            "An API key does not permit this request; use the account's SID and its auth token",
        );
        Self { code: Code::Forbidden, message, retry_after: None, reached_limit: None }
    }

    /// Creates a problem with a message that replaces the title of `code`.
    pub(crate) fn with_message(code: Code, message: String) -> Self {
        Self { code, message: message.into(), retry_after: None, reached_limit: None }
    }

    /// Creates the problem for a body that is not JSON, on a route that takes JSON.
    pub const fn json_required() -> Self {
        let message = Cow::Borrowed("Send a JSON object as application/json");
        Self { code: Code::UnsupportedMediaType, message, retry_after: None, reached_limit: None }
    }

    /// Creates the problem for a resource that does not exist or that the caller may not see. The HTTP layer adds the
    /// path to the message.
    pub const fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    /// Sets the time after which the request may succeed: from `now` to `end`, rounded up to whole seconds, at least 1.
    #[must_use]
    pub fn retry_at(self, end: Timestamp, now: Timestamp) -> Self {
        let seconds = (end.micros().saturating_sub(now.micros()).max(1) - 1) / 1_000_000 + 1;
        Self { retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)), ..self }
    }

    /// Returns the number of seconds after which the same request may succeed, at least 1; `None` if unknown.
    pub const fn retry_after(&self) -> Option<u32> {
        match self.code {
            Code::Unavailable if self.retry_after.is_none() => Some(1),
            _ => self.retry_after,
        }
    }

    /// Names the rate limit that refused the request.
    #[must_use]
    pub fn reached(self, limit: &UniqueName) -> Self {
        Self { reached_limit: Some(limit.clone()), ..self }
    }

    /// Returns the name of the rate limit that refused the request; `None` if none did.
    pub const fn reached_limit(&self) -> Option<&UniqueName> {
        self.reached_limit.as_ref()
    }

    /// Returns the error code of the problem.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Returns the message for the caller, without the code.
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
    fn retry_after_is_rounded_up_to_at_least_one_second() {
        let wait = |micros: i64| {
            let end = Timestamp::from_micros(NOW.micros() + micros);
            Problem::new(Code::TooManyRequests).retry_at(end, NOW).retry_after()
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
            Problem::new(Code::TooManyRequests).retry_at(never, Timestamp::from_seconds(0)).retry_after(),
            Some(u32::MAX)
        );
    }

    #[test]
    fn only_the_problem_unavailable_has_a_default_retry_after() {
        assert_eq!(Problem::new(Code::Unavailable).retry_after(), Some(1));
        assert_eq!(Problem::new(Code::Unavailable).retry_at(NOW.plus_seconds(9), NOW).retry_after(), Some(9));
        for code in [Code::Internal, Code::TooManyNotifications, Code::NotFound] {
            assert_eq!(Problem::new(code).retry_after(), None, "{code:?}");
        }
    }

    #[test]
    fn problem_names_the_rate_limit_that_was_reached() {
        let limit = UniqueName::from_stored("end_user_ip".to_owned());
        let problem = Problem::new(Code::TooManyRequests);
        assert_eq!(problem.reached_limit(), None);
        let problem = problem.reached(&limit).retry_at(NOW.plus_seconds(9), NOW);
        assert_eq!((problem.reached_limit(), problem.retry_after()), (Some(&limit), Some(9)));
    }

    #[test]
    fn problem_message_consists_of_title_parameter_and_expected_values() {
        let expected = Expected::new("must be true or false");
        let problem = Problem::invalid("Sandbox", &expected);
        assert_eq!(problem.code(), Code::InvalidRequest);
        assert_eq!(problem.message(), "Invalid Request: Sandbox must be true or false");
        assert_eq!(problem.to_string(), "60306 Invalid Request: Sandbox must be true or false");
        let missing = Problem::missing("Identity");
        assert_eq!(missing.message(), "Missing required parameter Identity in the post body");
        let missing = Problem::missing_in_query("AccountSid");
        assert_eq!(missing.message(), "Missing required parameter AccountSid in the query");
        assert_eq!(missing.code(), Code::MissingParameter);
        assert_eq!(Problem::auth_token_required().code(), Code::Forbidden);
        assert_eq!(Problem::from(Code::NotFound), Problem::not_found());
        assert_eq!(Code::NotFound.more_info(), "https://www.twilio.com/docs/errors/20404");
    }
}
