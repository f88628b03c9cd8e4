//! The HTTP status of each error code (docs/protocol/errors.md, section 1).

use actix_web::http::StatusCode;
use domain::Code;

/// Returns the HTTP status that belongs to an error code.
pub const fn status(code: Code) -> StatusCode {
    match code {
        Code::MissingParameter
        | Code::InvalidFriendlyName
        | Code::PageSizeTooLarge
        | Code::AccessTokenParameters
        | Code::InvalidRequest
        | Code::InvalidBinding
        | Code::NoNotificationPlatform
        | Code::TooManyFactors
        | Code::FactorTypeNotServed
        | Code::InvalidFactorSid
        | Code::InvalidIdentity
        | Code::InvalidRelyingParty
        | Code::InvalidRelyingPartyId
        | Code::InvalidCredentialId
        | Code::InvalidRawId
        | Code::InvalidAttachment
        | Code::InvalidAuthenticatorResponse
        | Code::InvalidAuthenticatorData
        | Code::InvalidClientData
        | Code::InvalidPasskeySignature
        | Code::OtherRelyingParty
        | Code::IllegalFactorStatus
        | Code::InvalidPublicKey
        | Code::InvalidAttestation
        | Code::InvalidAttestedCredential
        | Code::InvalidDisplayName
        | Code::MissingAuthenticatorCriteria
        | Code::InvalidParameter
        | Code::PaymentParameters
        | Code::TooManyRateLimits
        | Code::RateLimitExists
        | Code::InvalidUniqueName
        | Code::TooManyBuckets
        | Code::BucketExists
        | Code::MessagingConfigurationExists
        | Code::PaymentByCall
        | Code::NoMailOutlet
        | Code::NoCheckTarget
        | Code::NoOutlet
        | Code::MissingSubstitution
        | Code::TemplateNotFound
        | Code::MessageTooLong
        | Code::InvalidTemplates
        | Code::NoUsableTemplate
        | Code::AppHashChannel
        | Code::NoWhatsappOutlet => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden
        | Code::FactorVerificationFailed
        | Code::UnauthorizedFactorCreation
        | Code::FactorUnverified
        | Code::ChallengeResponded
        | Code::ChallengeExpired
        | Code::ChallengeVerificationFailed
        | Code::FeatureDisabled
        | Code::Landline
        | Code::SendingBlocked
        | Code::CountryBlocked => StatusCode::FORBIDDEN,
        Code::NotFound
        | Code::PasskeyNotFound
        | Code::PasskeyChallengeNotFound
        | Code::EntityNotFound
        | Code::LocaleNotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::EntityExists | Code::FactorExists | Code::SafeNumberExists => StatusCode::CONFLICT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UriTooLong => StatusCode::URI_TOO_LONG,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::TooManyRequests
        | Code::TooManyChallengeAttempts
        | Code::TooManyChecks
        | Code::TooManySends
        | Code::TooManyNotifications
        | Code::TooManyFactorAttempts
        | Code::TooManyChallenges
        | Code::TooManyFactorCreations
        | Code::TooManyEntityCreations => StatusCode::TOO_MANY_REQUESTS,
        Code::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_error_code_is_20000_plus_the_http_status() {
        for code in [
            Code::RequestTimeout,
            Code::PayloadTooLarge,
            Code::UriTooLong,
            Code::UnsupportedMediaType,
            Code::HeadersTooLarge,
            Code::TooManyRequests,
            Code::Internal,
            Code::NotImplemented,
            Code::Unavailable,
            Code::Forbidden,
            Code::NotFound,
        ] {
            assert_eq!(code.number(), 20_000 + u32::from(status(code).as_u16()));
        }
    }

    #[test]
    fn every_error_code_has_a_status_of_at_least_400() {
        for code in Code::ALL {
            assert!(status(*code).as_u16() >= 400, "{code:?}");
        }
    }
}
