//! Builds a phone's seven requests, byte for byte as each SDK writes them (docs/protocol/device.md, sections
//! 1 to 3 and 6). This module does no I/O.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::factors::Platform;
use domain::paging::Order;
use domain::{Secret, Timestamp};
use reqwest::Method;
use serde_json::json;

use crate::challenge::ListRequest;
use crate::encoding;
use crate::enrollment::{Enrollment, NewFactor};
use crate::signing;
use crate::style::Style;

/// The operation that a phone's request performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Creates a factor; authenticated by an access token.
    CreateFactor,
    /// Verifies a factor by proving that the phone holds the private key.
    VerifyFactor,
    /// Updates the factor's name and push registration.
    UpdateFactor,
    /// Deletes a factor.
    DeleteFactor,
    /// Fetches a challenge, along with the list of fields to sign.
    GetChallenge,
    /// Lists a factor's challenges.
    ListChallenges,
    /// Approves or denies a challenge.
    AnswerChallenge,
}

impl Operation {
    /// Returns the HTTP method of the operation's request.
    pub const fn method(self) -> Method {
        match self {
            Self::CreateFactor | Self::VerifyFactor | Self::UpdateFactor | Self::AnswerChallenge => {
                Method::POST
            }
            Self::DeleteFactor => Method::DELETE,
            Self::GetChallenge | Self::ListChallenges => Method::GET,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateFactor => "create factor",
            Self::VerifyFactor => "verify factor",
            Self::UpdateFactor => "update factor",
            Self::DeleteFactor => "delete factor",
            Self::GetChallenge => "get challenge",
            Self::ListChallenges => "list challenges",
            Self::AnswerChallenge => "answer challenge",
        })
    }
}

/// A complete HTTP request, which can be sent to any server.
#[derive(Clone)]
pub struct WireRequest {
    /// Operation that the request performs.
    pub operation: Operation,
    /// HTTP method of the request.
    pub method: Method,
    /// Path, starting with `/v2/`, and query.
    pub path_and_query: String,
    /// Value of the `Authorization` header, kept apart from the other headers because it is a credential.
    pub authorization: Secret<String>,
    /// Names and values of all other headers.
    pub headers: Vec<(&'static str, String)>,
    /// The encoded form; `None` for a request without a body.
    pub body: Option<String>,
}

impl fmt::Debug for WireRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path and the body contain personal data, so they are omitted.
        f.debug_struct("WireRequest").field("operation", &self.operation).finish_non_exhaustive()
    }
}

/// Builds the request that creates a factor with `public_key` (base64). Only this request contains the access
/// token.
pub fn create_factor(style: Style, new: &NewFactor, public_key: &str) -> WireRequest {
    let mut form = vec![
        ("FriendlyName", new.friendly_name.clone()),
        ("FactorType", "push".to_owned()),
        ("Binding.PublicKey", public_key.to_owned()),
        ("Binding.Alg", "ES256".to_owned()),
    ];
    form.extend(config_fields(style, &new.app_id, new.notification.as_ref()));
    if let Some(metadata) = &new.metadata {
        form.push(("Metadata", signing::json_text(style, json!(metadata))));
    }
    let path = format!("{}/Factors", entity_path(&new.service_sid, &new.identity));
    request(style, Operation::CreateFactor, path, new.access_token.expose(), Some(&form))
}

/// Builds the request that verifies the factor: it proves that the phone holds the private key.
pub fn verify_factor(style: Style, enrollment: &Enrollment, now: Timestamp) -> WireRequest {
    let form = [("AuthPayload", signing::sign_factor_sid(enrollment))];
    device_request(style, Operation::VerifyFactor, factor_path(enrollment), Some(&form), enrollment, now)
}

/// Builds the request that updates the factor's push registration and sets its name to that of the
/// enrollment.
pub fn update_factor(
    style: Style,
    enrollment: &Enrollment,
    notification: Option<&(Platform, String)>,
    now: Timestamp,
) -> WireRequest {
    let mut form = vec![("FriendlyName", enrollment.friendly_name.clone())];
    form.extend(config_fields(style, &enrollment.app_id, notification));
    device_request(style, Operation::UpdateFactor, factor_path(enrollment), Some(&form), enrollment, now)
}

/// Builds the request that deletes the factor of `enrollment`.
pub fn delete_factor(style: Style, enrollment: &Enrollment, now: Timestamp) -> WireRequest {
    device_request(style, Operation::DeleteFactor, factor_path(enrollment), None, enrollment, now)
}

/// Builds the request that fetches the challenge with the SID `sid`.
pub fn get_challenge(style: Style, enrollment: &Enrollment, sid: &str, now: Timestamp) -> WireRequest {
    device_request(style, Operation::GetChallenge, challenge_path(enrollment, sid), None, enrollment, now)
}

/// Builds the request that lists a page of the factor's challenges.
pub fn list_challenges(
    style: Style,
    enrollment: &Enrollment,
    list: &ListRequest,
    now: Timestamp,
) -> WireRequest {
    let size = ("PageSize", list.page_size.to_string());
    let factor = ("FactorSid", enrollment.factor_sid.clone());
    let mut query = match style {
        Style::Android => vec![size, factor],
        Style::Ios => vec![factor, size],
    };
    let order = match list.order {
        Order::Ascending => "asc",
        Order::Descending => "desc",
    };
    query.push(("Order", order.to_owned()));
    query.extend(list.status.map(|status| ("Status", status.as_str().to_owned())));
    query.extend(list.page_token.clone().map(|token| (style.page_token_parameter(), token)));
    let entity = entity_path(&enrollment.service_sid, &enrollment.identity);
    let path = format!("{entity}/Challenges?{}", encoding::encode_pairs(style, &query));
    device_request(style, Operation::ListChallenges, path, None, enrollment, now)
}

/// Builds the request that answers a challenge. `auth_payload` is a result of [`signing::sign_answer`].
pub fn answer_challenge(
    style: Style,
    enrollment: &Enrollment,
    sid: &str,
    auth_payload: &str,
    now: Timestamp,
) -> WireRequest {
    let form = [("AuthPayload", auth_payload.to_owned())];
    device_request(
        style,
        Operation::AnswerChallenge,
        challenge_path(enrollment, sid),
        Some(&form),
        enrollment,
        now,
    )
}

/// Returns the URL path of an entity. Like both SDKs, it does not escape the identity.
fn entity_path(service_sid: &str, identity: &str) -> String {
    format!("/v2/Services/{service_sid}/Entities/{identity}")
}

fn factor_path(enrollment: &Enrollment) -> String {
    format!(
        "{}/Factors/{}",
        entity_path(&enrollment.service_sid, &enrollment.identity),
        enrollment.factor_sid
    )
}

fn challenge_path(enrollment: &Enrollment, sid: &str) -> String {
    format!("{}/Challenges/{sid}", entity_path(&enrollment.service_sid, &enrollment.identity))
}

type Field = (&'static str, String);

/// Returns the `Config.*` form fields. In the iOS SDK they come from a dictionary, so their order here is
/// only one of several possible.
fn config_fields(style: Style, app_id: &str, notification: Option<&(Platform, String)>) -> Vec<Field> {
    let sdk = ("Config.SdkVersion", style.sdk_version().to_owned());
    let app = ("Config.AppId", app_id.to_owned());
    let mut config = match style {
        Style::Android => vec![sdk, app],
        Style::Ios => vec![app, sdk],
    };
    // An empty registration token means that the phone has no push (docs/protocol/device.md, section 3).
    let address = notification.filter(|(_, token)| !token.is_empty());
    let platform = address.map_or(Platform::None, |(platform, _)| *platform);
    config.push(("Config.NotificationPlatform", platform.as_str().to_owned()));
    config.extend(address.map(|(_, token)| ("Config.NotificationToken", token.clone())));
    config
}

fn device_request(
    style: Style,
    operation: Operation,
    path: String,
    form: Option<&[Field]>,
    enrollment: &Enrollment,
    now: Timestamp,
) -> WireRequest {
    request(style, operation, path, &signing::sign_device_token(style, enrollment, now), form)
}

fn request(
    style: Style,
    operation: Operation,
    path_and_query: String,
    token: &str,
    form: Option<&[Field]>,
) -> WireRequest {
    const FORM: &str = "application/x-www-form-urlencoded";
    let method = operation.method();
    // The SDKs send a form content type in the `Accept` header of a GET, although the response is JSON.
    let accept = if method == Method::GET { FORM } else { "application/json" };
    WireRequest {
        operation,
        method,
        path_and_query,
        authorization: Secret::new(format!("Basic {}", STANDARD.encode(format!("token:{token}")))),
        headers: vec![
            ("User-Agent", style.user_agent()),
            ("Accept", accept.to_owned()),
            ("Content-Type", FORM.to_owned()),
        ],
        body: form.map(|form| encoding::encode_pairs(style, form)),
    }
}

#[cfg(test)]
mod tests {
    use domain::challenges::Status;

    use super::*;
    use crate::enrollment::sample;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
    const STYLES: [Style; 2] = [Style::Android, Style::Ios];

    /// The public key from docs/protocol/device.md, section 10.
    const PUBLIC_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGrFny9YPM/iRZzoukU8sWZbj/3KHjMMVSqQGpb8xpBKavf37cNWfrURpmblSIEjq8juJAekll1MundswaFrQ8w==";

    fn new_factor(friendly_name: &str, os: &str) -> NewFactor {
        let enrollment = sample(Style::Android);
        NewFactor {
            service_sid: enrollment.service_sid,
            identity: enrollment.identity,
            access_token: Secret::new("eyJ.a-token".into()),
            friendly_name: friendly_name.into(),
            notification: None,
            metadata: Some([("os".to_owned(), os.to_owned())].into()),
            app_id: enrollment.app_id,
        }
    }

    fn header(request: &WireRequest, name: &str) -> String {
        request.headers.iter().find(|(key, _)| *key == name).unwrap().1.clone()
    }

    #[test]
    fn android_create_factor_body_matches_the_test_vector() {
        let key = PUBLIC_KEY.replace('/', "%2F").replace('=', "%3D");
        let request = create_factor(Style::Android, &new_factor("My phone & co", "Android"), PUBLIC_KEY);
        assert_eq!(
            request.body.unwrap(),
            format!(
                "FriendlyName=My%20phone%20%26%20co&FactorType=push&Binding.PublicKey={key}&Binding.Alg=ES256\
                 &Config.SdkVersion=0.9.0&Config.AppId=com.example.app&Config.NotificationPlatform=none\
                 &Metadata=%7B%22os%22%3A%22Android%22%7D"
            )
        );
    }

    #[test]
    fn ios_create_factor_body_matches_the_test_vector() {
        let request = create_factor(Style::Ios, &new_factor("My phone", "iOS"), PUBLIC_KEY);
        assert_eq!(
            request.body.unwrap(),
            format!(
                "FriendlyName=My%20phone&FactorType=push&Binding.PublicKey={PUBLIC_KEY}&Binding.Alg=ES256\
                 &Config.AppId=com.example.app&Config.SdkVersion=3.0.2&Config.NotificationPlatform=none\
                 &Metadata=%7B%22os%22:%22iOS%22%7D"
            )
        );
    }

    #[test]
    fn create_factor_is_authenticated_by_the_access_token() {
        for style in STYLES {
            let request = create_factor(style, &new_factor("x", "y"), PUBLIC_KEY);
            let path = "/v2/Services/VA22222222222222222222222222222222/Entities/user-0001-abcd/Factors";
            assert_eq!((request.method, request.path_and_query.as_str()), (Method::POST, path));
            assert_eq!(request.authorization.expose(), "Basic dG9rZW46ZXlKLmEtdG9rZW4=");
        }
    }

    #[test]
    fn registration_token_is_sent_with_its_platform_unless_it_is_empty() {
        for style in STYLES {
            let body = |notification: Option<(Platform, String)>| {
                let new = NewFactor { notification, metadata: None, ..new_factor("x", "y") };
                create_factor(style, &new, PUBLIC_KEY).body.unwrap()
            };
            let with = body(Some((Platform::Apn, "ab:c".into())));
            assert!(with.contains("Config.NotificationPlatform=apn&Config.NotificationToken=ab"), "{with}");
            for without in [body(None), body(Some((Platform::Fcm, String::new())))] {
                assert!(without.ends_with("Config.NotificationPlatform=none"), "{without}");
            }
        }
    }

    #[test]
    fn slashes_in_metadata_are_escaped_before_percent_encoding() {
        let body = |style| create_factor(style, &new_factor("x", "a/b"), PUBLIC_KEY).body.unwrap();
        assert!(body(Style::Android).ends_with("Metadata=%7B%22os%22%3A%22a%5C%2Fb%22%7D"));
        assert!(body(Style::Ios).ends_with("Metadata=%7B%22os%22:%22a%5C/b%22%7D"));
    }

    #[test]
    fn request_headers_match_those_of_the_mobile_sdks() {
        let form = "application/x-www-form-urlencoded";
        for style in STYLES {
            let enrollment = sample(style);
            let list = ListRequest::default();
            for request in [
                create_factor(style, &new_factor("x", "y"), PUBLIC_KEY),
                verify_factor(style, &enrollment, NOW),
                update_factor(style, &enrollment, None, NOW),
                delete_factor(style, &enrollment, NOW),
                get_challenge(style, &enrollment, "YC", NOW),
                list_challenges(style, &enrollment, &list, NOW),
                answer_challenge(style, &enrollment, "YC", "a.b.c", NOW),
            ] {
                let accept = if request.method == Method::GET { form } else { "application/json" };
                assert_eq!(header(&request, "Accept"), accept, "{}", request.operation);
                assert_eq!(header(&request, "Content-Type"), form);
                assert_eq!(header(&request, "User-Agent"), style.user_agent());
                assert_eq!(request.body.is_some(), request.method == Method::POST);
                assert!(!format!("{request:?}").contains("Basic"));
            }
        }
    }

    #[test]
    fn every_request_has_a_new_device_token() {
        let enrollment = sample(Style::Android);
        let token = |now| {
            let request = get_challenge(Style::Android, &enrollment, "YC", now);
            let basic = request.authorization.expose().strip_prefix("Basic ").unwrap().to_owned();
            String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap()
        };
        assert!(token(NOW).starts_with("token:eyJjdHkiOiJ0d2lsaW8tcGJhO3Y9MSIs"));
        assert_ne!(token(NOW), token(NOW.plus_seconds(1)));
    }

    #[test]
    fn request_paths_and_queries_match_those_of_the_mobile_sdks() {
        let entity = "/v2/Services/VA22222222222222222222222222222222/Entities/user-0001-abcd";
        let factor = format!("{entity}/Factors/YF03333333333333333333333333333333");
        let list = ListRequest {
            status: Some(Status::Pending),
            order: Order::Descending,
            page_size: 2,
            page_token: Some("PA/1".into()),
        };
        for (style, query) in [
            (
                Style::Android,
                "PageSize=2&FactorSid=YF03333333333333333333333333333333&Order=desc&Status=pending&PageToken=PA%2F1",
            ),
            (
                Style::Ios,
                "FactorSid=YF03333333333333333333333333333333&PageSize=2&Order=desc&Status=pending&pageToken=PA/1",
            ),
        ] {
            let enrollment = sample(style);
            assert_eq!(verify_factor(style, &enrollment, NOW).path_and_query, factor);
            assert_eq!(update_factor(style, &enrollment, None, NOW).path_and_query, factor);
            assert_eq!(delete_factor(style, &enrollment, NOW).path_and_query, factor);
            let challenge = format!("{entity}/Challenges/YC1");
            assert_eq!(get_challenge(style, &enrollment, "YC1", NOW).path_and_query, challenge);
            assert_eq!(answer_challenge(style, &enrollment, "YC1", "a.b.c", NOW).path_and_query, challenge);
            let listed = list_challenges(style, &enrollment, &list, NOW).path_and_query;
            assert_eq!(listed, format!("{entity}/Challenges?{query}"));
            let all = list_challenges(style, &enrollment, &ListRequest::default(), NOW).path_and_query;
            assert!(all.ends_with("&Order=asc") && all.contains("PageSize=20"), "{all}");
        }
    }

    #[test]
    fn bodies_of_factor_and_challenge_updates_match_those_of_the_ios_sdk() {
        let enrollment = sample(Style::Ios);
        let verify = verify_factor(Style::Ios, &enrollment, NOW).body.unwrap();
        assert!(verify.starts_with("AuthPayload=ME"), "{verify}");
        let update = update_factor(Style::Ios, &enrollment, Some(&(Platform::Apn, "ff".into())), NOW);
        assert_eq!(
            update.body.unwrap(),
            "FriendlyName=My%20phone&Config.AppId=com.example.app&Config.SdkVersion=3.0.2\
             &Config.NotificationPlatform=apn&Config.NotificationToken=ff"
        );
        let answer = answer_challenge(Style::Ios, &enrollment, "YC", "a.b-_.c", NOW);
        assert_eq!(answer.body.unwrap(), "AuthPayload=a.b-_.c");
    }
}
