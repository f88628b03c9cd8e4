//! Settings of gateways that take one HTTP request for each message.

use domain::text::Text;
use domain::{Expected, Parameter as _, Secret};
use reqwest::header::HeaderName;
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};

use super::twilio::is_header_text;
use super::{InvalidOutlet, OutletField, OutletSummary, secret_text, url_user};
use crate::template::{Escaping, Placeholder, Template};

/// Settings of a gateway, as an operator enters them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct HttpParameters {
    /// The URL. Its query may contain placeholders. A user and a password in it are used for basic authentication.
    pub url: String,
    /// `GET`, `POST`, which is the default, or `PUT`.
    #[serde(default)]
    pub method: Option<String>,
    /// Headers, such as `X-Api-Key: {{secret}}`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// `none`, which is the default without a user, `basic` or `bearer`.
    #[serde(default)]
    pub auth: Option<String>,
    /// The user for basic authentication.
    #[serde(default)]
    pub user: Option<String>,
    /// The password or token, also for the placeholder `{{secret}}`.
    #[serde(default, with = "secret_text")]
    pub secret: Option<Secret<String>>,
    /// `json`, which is the default, `form`, or `none`, which is the default for `GET`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// The template of the body; `None` for all values under their names.
    #[serde(default)]
    pub body: Option<String>,
    /// The sender, for the placeholder `{{from}}`.
    #[serde(default)]
    pub from: Option<String>,
    /// A text that the response must contain.
    #[serde(default)]
    pub success_text: Option<String>,
    /// A JSON pointer (RFC 6901) to the value of the response that must be `success_value`.
    #[serde(default)]
    pub success_pointer: Option<String>,
    /// The value at `success_pointer`.
    #[serde(default)]
    pub success_value: Option<String>,
    /// A JSON pointer to the gateway's own ID of the message.
    #[serde(default)]
    pub id_pointer: Option<String>,
}

/// Valid settings of a gateway.
#[derive(Clone)]
pub struct HttpSettings {
    parameters: HttpParameters,
    /// The URL without query.
    url: Url,
    query: Option<Template>,
    method: Method,
    headers: Vec<(HeaderName, Template)>,
    auth: Auth,
    content: Content,
    success: SuccessRule,
}

/// How requests are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Not at all, or by placeholders.
    None,
    /// By a user and the secret as the password (RFC 7617).
    Basic { user: String },
    /// By the secret as a token (RFC 6750).
    Bearer,
}

/// The body of requests. Without a template it contains all values under their names.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// No body.
    None,
    /// JSON.
    Json(Option<Template>),
    /// A form in the encoding of URLs.
    Form(Option<Template>),
}

/// What a response with a status of success must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuccessRule {
    /// Anything.
    Status,
    /// This text.
    Text(String),
    /// JSON with this value at this place.
    Pointer { pointer: String, value: String },
}

impl HttpSettings {
    /// Validates parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub fn new(mut parameters: HttpParameters) -> Result<Self, InvalidOutlet> {
        let (url, url_user) =
            url_user::split(&parameters.url).map_err(|why| OutletField::Url.invalid(why))?;
        parameters.url = url;
        if let Some(found) = url_user {
            if parameters.user.is_some() {
                return Err(OutletField::User.must("must not be given twice: the URL has one too"));
            }
            if found.password.is_some() && parameters.secret.is_some() {
                return Err(OutletField::Secret.must("must not be given twice: the URL has a password too"));
            }
            parameters.user = Some(found.user);
            parameters.secret = found.password.or(parameters.secret);
        }
        let (url, query) = parse_url(&parameters.url)?;
        let method = parse_method(parameters.method.as_deref())?;
        let headers = parameters.headers.iter().map(|header| parse_header(header));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let auth = parse_auth(parameters.auth.as_deref(), parameters.user.as_deref())?;
        let content = parse_content(&method, parameters.content_type.as_deref(), parameters.body.as_deref())?;
        let success = parse_success_rule(&parameters)?;
        if let Some(pointer) = &parameters.id_pointer {
            require_pointer(OutletField::IdPointer, pointer)?;
        }
        if let Some(from) = &parameters.from {
            Text::<1, 64>::from_parameter(from).map_err(|why| OutletField::From.invalid(why))?;
        }
        let settings = Self { url, query, method, headers, auth, content, success, parameters };
        settings.require_used_secret()?;
        Ok(settings)
    }

    /// Checks that there is a secret exactly if it is used.
    fn require_used_secret(&self) -> Result<(), InvalidOutlet> {
        let body = match &self.content {
            Content::Json(template) | Content::Form(template) => template.as_ref(),
            Content::None => None,
        };
        let headers = self.headers.iter().map(|(_, template)| template);
        let mut templates = self.query.iter().chain(body).chain(headers);
        let is_used =
            self.auth != Auth::None || templates.any(|template| template.contains(Placeholder::Secret));
        match &self.parameters.secret {
            None if is_used => Err(OutletField::Secret.must("is required for the authentication")),
            Some(_) if !is_used => Err(OutletField::Secret.must(
                "must be used: choose an authentication, or put {{secret}} into the URL's query, a header or the body",
            )),
            Some(secret) if !is_header_text(secret.expose()) => {
                Err(OutletField::Secret.must("must have 1 to 255 characters of ASCII"))
            }
            _ => Ok(()),
        }
    }

    pub(super) const fn parameters(&self) -> &HttpParameters {
        &self.parameters
    }

    pub(super) fn summary(&self) -> OutletSummary {
        OutletSummary {
            target: self.url.to_string(),
            user: self.parameters.user.clone(),
            from: self.parameters.from.clone(),
        }
    }

    /// Returns the URL without its query.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) const fn query(&self) -> Option<&Template> {
        self.query.as_ref()
    }

    pub(crate) const fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn headers(&self) -> &[(HeaderName, Template)] {
        &self.headers
    }

    pub(crate) const fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) const fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) const fn success(&self) -> &SuccessRule {
        &self.success
    }

    pub(crate) fn id_pointer(&self) -> Option<&str> {
        self.parameters.id_pointer.as_deref()
    }

    pub(crate) fn from(&self) -> Option<&str> {
        self.parameters.from.as_deref()
    }

    pub(crate) const fn secret(&self) -> Option<&Secret<String>> {
        self.parameters.secret.as_ref()
    }

    /// Returns whether the settings refer to the JSON of responses.
    pub(crate) const fn parses_json(&self) -> bool {
        self.parameters.id_pointer.is_some() || matches!(self.success, SuccessRule::Pointer { .. })
    }
}

/// Parses a URL without user. Returns it without its query, and the query as a template.
///
/// Placeholders elsewhere would let a recipient or the name of a service choose the host or the path.
fn parse_url(text: &str) -> Result<(Url, Option<Template>), InvalidOutlet> {
    let expected =
        || OutletField::Url.must("must be an HTTP URL in ASCII, with placeholders only in its query");
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let url = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    let url = url.ok_or_else(expected)?;
    if base.contains("{{") || text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(expected());
    }
    let query = query.map(Template::parse).transpose().map_err(|why| OutletField::Url.invalid(why))?;
    Ok((url, query))
}

fn parse_method(name: Option<&str>) -> Result<Method, InvalidOutlet> {
    match name {
        None | Some("POST") => Ok(Method::POST),
        Some("GET") => Ok(Method::GET),
        Some("PUT") => Ok(Method::PUT),
        Some(_) => Err(OutletField::Method.must("must be GET, POST or PUT")),
    }
}

/// The headers that the client or another setting determines.
const RESERVED_HEADERS: [&str; 7] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "idempotency-key",
    "transfer-encoding",
    "user-agent",
];

/// Parses a header, such as `X-Api-Key: {{secret}}`. Its value can contain only placeholders whose values are known to
/// be valid in a header.
fn parse_header(text: &str) -> Result<(HeaderName, Template), InvalidOutlet> {
    let parse = || {
        let (name, value) = text.split_once(':')?;
        let name: HeaderName = name.parse().ok()?;
        let template = Template::parse(value.trim()).ok()?;
        let is_safe =
            |found| matches!(found, Placeholder::Secret | Placeholder::AttemptSid | Placeholder::Channel);
        let is_valid = !RESERVED_HEADERS.contains(&name.as_str())
            && is_header_text(value.trim())
            && template.placeholders().all(is_safe);
        is_valid.then_some((name, template))
    };
    let expected = format!(
        "must have the form `Name: value` in ASCII, with no placeholders other than {{{{secret}}}}, \
         {{{{attempt_sid}}}} and {{{{channel}}}}, and must not be one of {}",
        RESERVED_HEADERS.join(", ")
    );
    parse().ok_or_else(|| OutletField::Header.invalid(Expected::new(expected)))
}

fn parse_auth(name: Option<&str>, user: Option<&str>) -> Result<Auth, InvalidOutlet> {
    match (name, user) {
        (None | Some("basic"), Some(user)) => {
            // The user ends at the first colon.
            let is_valid = is_header_text(user) && !user.contains(':');
            let expected = || OutletField::User.must("must have 1 to 255 characters of ASCII, and no colon");
            is_valid.then(|| Auth::Basic { user: user.to_owned() }).ok_or_else(expected)
        }
        (Some("basic"), None) => Err(OutletField::User.must("is required for basic authentication")),
        (None | Some("none"), None) => Ok(Auth::None),
        (Some("bearer"), None) => Ok(Auth::Bearer),
        (Some("none" | "bearer"), Some(_)) => {
            Err(OutletField::User.must("must be given only for basic authentication"))
        }
        (Some(_), _) => Err(OutletField::Auth.must("must be none, basic or bearer")),
    }
}

fn parse_content(
    method: &Method,
    content_type: Option<&str>,
    body: Option<&str>,
) -> Result<Content, InvalidOutlet> {
    let default = if method == Method::GET { "none" } else { "json" };
    let content_type = content_type.unwrap_or(default);
    if method == Method::GET && content_type != "none" {
        return Err(OutletField::ContentType.must("must be none for the method GET"));
    }
    let template = body.map(Template::parse).transpose().map_err(|why| OutletField::Body.invalid(why))?;
    match content_type {
        "none" if body.is_some() => Err(OutletField::Body
            .must("must not be given for requests without a body: put it into the URL's query")),
        "none" => Ok(Content::None),
        "json" => {
            if template.as_ref().is_some_and(|template| !is_json(template)) {
                return Err(OutletField::Body.must("must be JSON, with placeholders only in strings"));
            }
            Ok(Content::Json(template))
        }
        "form" => {
            if body.is_some_and(|body| !body.bytes().all(|byte| byte.is_ascii_graphic())) {
                return Err(
                    OutletField::Body.must("must be an encoded form, such as to={{to}}&text={{body}}")
                );
            }
            Ok(Content::Form(template))
        }
        _ => Err(OutletField::ContentType.must("must be json, form or none")),
    }
}

/// Returns whether a template makes JSON with any values. An escaped quote is valid inside of a string only.
fn is_json(template: &Template) -> bool {
    let text = template.render(Escaping::Json, |_| "\"".into());
    serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()
}

fn parse_success_rule(parameters: &HttpParameters) -> Result<SuccessRule, InvalidOutlet> {
    match (&parameters.success_text, &parameters.success_pointer, &parameters.success_value) {
        (None, None, None) => Ok(SuccessRule::Status),
        (Some(text), None, None) if !text.is_empty() => Ok(SuccessRule::Text(text.clone())),
        (None, Some(pointer), Some(value)) => {
            require_pointer(OutletField::Success, pointer)?;
            Ok(SuccessRule::Pointer { pointer: pointer.clone(), value: value.clone() })
        }
        _ => Err(OutletField::Success.must("must be either a text, or a JSON pointer and the value there")),
    }
}

/// Checks that a text is a JSON pointer to a member or an element.
fn require_pointer(field: OutletField, text: &str) -> Result<(), InvalidOutlet> {
    let is_pointer = text.starts_with('/') && !text.chars().any(char::is_control);
    is_pointer.then_some(()).ok_or_else(|| field.must("must be a JSON pointer, such as /data/0/status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> HttpParameters {
        HttpParameters { url: "http://gateway:1401/send".to_owned(), ..HttpParameters::default() }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[track_caller]
    fn assert_invalid(field: OutletField, change: impl FnOnce(&mut HttpParameters)) {
        let mut parameters = parameters();
        change(&mut parameters);
        assert_eq!(HttpSettings::new(parameters).err().map(|invalid| invalid.field), Some(field));
    }

    #[track_caller]
    fn assert_valid(change: impl FnOnce(&mut HttpParameters)) -> HttpSettings {
        let mut parameters = parameters();
        change(&mut parameters);
        HttpSettings::new(parameters).unwrap()
    }

    #[test]
    fn placeholders_in_the_url_are_only_in_its_query() {
        let settings = assert_valid(|it| it.url = "https://host/a/b?to={{to}}&x=%20".to_owned());
        assert_eq!(settings.summary().target, "https://host/a/b");
        for bad in [
            "",
            "host",
            "ftp://host",
            "http://",
            "http://{{to}}/",
            "http://host/{{to}}",
            "http://host/#{{to}}",
            "http://host/?a#b",
            "http://host/?a=ä",
            "http://host/?a=b c",
            "http://host/?{{unknown}}",
        ] {
            assert_invalid(OutletField::Url, |it| it.url = bad.to_owned());
        }
    }

    #[test]
    fn user_and_password_in_the_url_are_used_for_basic_authentication() {
        let settings = assert_valid(|it| it.url = "http://ann:p%40@host/send".to_owned());
        assert_eq!(settings.auth(), &Auth::Basic { user: "ann".to_owned() });
        assert_eq!(settings.secret().unwrap().expose(), "p@");
        assert_eq!(settings.parameters().url, "http://host/send");
        assert_invalid(OutletField::Auth, |it| {
            (it.url, it.auth) = ("http://ann:pw@host".to_owned(), text("digest"));
        });
        assert_invalid(OutletField::User, |it| {
            (it.url, it.auth) = ("http://ann:pw@host".to_owned(), text("bearer"));
        });
        assert_invalid(OutletField::Secret, |it| it.url = "http://ann@host".to_owned());
    }

    #[test]
    fn secret_is_given_exactly_if_it_is_used() {
        let secret = || Some(Secret::new("s3cret".to_owned()));
        assert_valid(|it| (it.auth, it.secret) = (text("bearer"), secret()));
        assert_valid(|it| (it.headers, it.secret) = (vec!["X-Key: {{secret}}".to_owned()], secret()));
        assert_valid(|it| (it.body, it.secret) = (text(r#"{"key":"{{secret}}"}"#), secret()));
        assert_invalid(OutletField::Secret, |it| it.secret = secret());
        assert_invalid(OutletField::Secret, |it| it.auth = text("bearer"));
        assert_invalid(OutletField::Secret, |it| it.headers = vec!["X-Key: {{secret}}".to_owned()]);
        assert_invalid(OutletField::Secret, |it| {
            (it.auth, it.secret) = (text("bearer"), Some(Secret::new("a\nb".to_owned())));
        });
    }

    #[test]
    fn headers_have_a_name_and_safe_placeholders() {
        assert_valid(|it| it.headers = vec!["X-Id: {{attempt_sid}}".to_owned(), "Accept:a/b".to_owned()]);
        for bad in
            ["", "X", "X: ", "X Y: a", "Host: a", "Content-Type: a", "X: {{to}}", "X: ä", "X: a\r\nY: b"]
        {
            assert_invalid(OutletField::Header, |it| it.headers = vec![bad.to_owned()]);
        }
    }

    #[test]
    fn body_is_valid_for_its_content_type_with_any_values() {
        assert_valid(|it| it.body = text(r#"{"to":["{{to}}"],"text":"x{{body}}"}"#));
        for bad in ["", "text", r#"{"to":{{to}}}"#, r#"{{{to}}:1}"#, r#"{"to":"{{to}}""#, r#"{"a":"{{b}}"}"#]
        {
            assert_invalid(OutletField::Body, |it| it.body = text(bad));
        }
        assert_valid(|it| (it.content_type, it.body) = (text("form"), text("to={{to}}&text={{body}}")));
        assert_invalid(OutletField::Body, |it| (it.content_type, it.body) = (text("form"), text("a=b c")));
        assert_invalid(OutletField::Body, |it| (it.content_type, it.body) = (text("none"), text("a=b")));
        assert_invalid(OutletField::Body, |it| (it.method, it.body) = (text("GET"), text("a=b")));
        assert_invalid(OutletField::ContentType, |it| it.content_type = text("xml"));
        assert_invalid(OutletField::ContentType, |it| {
            (it.method, it.content_type) = (text("GET"), text("form"));
        });
        assert_invalid(OutletField::Method, |it| it.method = text("DELETE"));
    }

    #[test]
    fn success_is_recognized_by_a_text_or_by_a_value() {
        assert_valid(|it| it.success_text = text("Success"));
        let rule = assert_valid(|it| (it.success_pointer, it.success_value) = (text("/a/0"), text("OK")));
        assert!(rule.parses_json());
        assert_invalid(OutletField::Success, |it| it.success_text = text(""));
        assert_invalid(OutletField::Success, |it| it.success_pointer = text("/a"));
        assert_invalid(OutletField::Success, |it| it.success_value = text("OK"));
        assert_invalid(OutletField::Success, |it| {
            (it.success_pointer, it.success_value) = (text("a"), text("OK"));
        });
        assert_invalid(OutletField::IdPointer, |it| it.id_pointer = text("id"));
        assert_invalid(OutletField::From, |it| it.from = text(""));
    }
}
