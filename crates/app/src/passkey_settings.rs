//! The relying party of passkeys and the criteria for their authenticators, as a service and a new passkey name them.

use crypto::passkeys::relying_party::{default_origin, parse_origin, parse_relying_party_id};
use domain::factors::passkey::{MAX_ORIGINS, Origin, RelyingParty, RelyingPartyId};
use domain::services::{self, Attachment, Passkeys, Requirement};
use domain::text::Text;
use domain::{Code, Problem};

/// What a new passkey gets from the request and from the settings of its service.
pub(crate) struct PasskeyConfig {
    pub(crate) relying_party: RelyingParty,
    pub(crate) authenticator_attachment: Attachment,
    pub(crate) discoverable_credentials: Requirement,
    pub(crate) user_verification: Requirement,
}

/// Checks the relying party in the settings of a service, and converts its ID to lower case.
///
/// # Errors
/// Returns error 60372 if the ID is not a domain name, and 60371 if there are too many origins or one of them does not
/// belong to the ID.
pub(crate) fn normalize(settings: &mut Passkeys) -> Result<(), Problem> {
    let relying_party = &mut settings.relying_party;
    let origins = relying_party.origins.as_deref().unwrap_or_default();
    check_number(origins)?;
    if let Some(id) = &mut relying_party.id {
        let parsed = parse_id(id.as_str())?;
        check_origins(origins, &parsed)?;
        *id = Text::from_stored(parsed.as_str().to_owned());
    }
    Ok(())
}

/// Combines what a request names with the settings of its service.
///
/// # Errors
/// Returns error 60371 if there is no relying party, or its name or an origin is missing or invalid; 60372 for its ID;
/// 60393 if a criterion is named neither by the request nor by the service.
pub(crate) fn resolve(given: &Passkeys, service: &Passkeys) -> Result<PasskeyConfig, Problem> {
    let relying_party = resolve_relying_party(&given.relying_party, &service.relying_party)?;
    let attachment = given.authenticator_attachment.or(service.authenticator_attachment);
    let discoverable = given.discoverable_credentials.or(service.discoverable_credentials);
    let verification = given.user_verification.or(service.user_verification);
    let (Some(authenticator_attachment), Some(discoverable_credentials), Some(user_verification)) =
        (attachment, discoverable, verification)
    else {
        let criteria = [
            ("authenticator_attachment", attachment.is_none()),
            ("discoverable_credentials", discoverable.is_none()),
            ("user_verification", verification.is_none()),
        ];
        let missing: Vec<_> =
            criteria.into_iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| name).collect();
        let advice = format!("set {} in config or in the service", missing.join(", "));
        return Err(Problem::with_advice(Code::MissingAuthenticatorCriteria, advice));
    };
    Ok(PasskeyConfig { relying_party, authenticator_attachment, discoverable_credentials, user_verification })
}

/// A relying party with an ID of its own takes neither name nor origins from the service, which belong to another ID.
fn resolve_relying_party(
    given: &services::RelyingParty,
    service: &services::RelyingParty,
) -> Result<RelyingParty, Problem> {
    let empty = services::RelyingParty::default();
    if *given == empty && *service == empty {
        return Err(invalid("set config.relying_party, or the relying party of the service"));
    }
    let service_id = service.id.as_ref().map(|id| parse_id(id.as_str())).transpose()?;
    let own_id = given.id.as_ref().map(|id| parse_id(id.as_str())).transpose()?;
    let is_of_service = own_id.is_none() || own_id == service_id;
    let inherited = if is_of_service { service } else { &empty };
    let id = own_id.or(service_id).ok_or_else(|| {
        Problem::with_advice(Code::InvalidRelyingPartyId, "config.relying_party.id is required")
    })?;
    let name = given.name.as_ref().or(inherited.name.as_ref()).cloned();
    let name = name.ok_or_else(|| invalid("config.relying_party.name is required"))?;
    let origins = given.origins.as_ref().or(inherited.origins.as_ref()).cloned().unwrap_or_default();
    check_number(&origins)?;
    check_origins(&origins, &id)?;
    let origins = or_default(origins, &id);
    Ok(RelyingParty { id, name, origins })
}

/// Returns the relying party ID in the settings of a service.
///
/// # Errors
/// Returns error 60372 if the setting is not a domain name.
pub(crate) fn id_of_service(settings: &Passkeys) -> Result<Option<RelyingPartyId>, Problem> {
    settings.relying_party.id.as_ref().map(|id| parse_id(id.as_str())).transpose()
}

/// Returns `origins`, or the one that is made of the ID if there are none.
pub(crate) fn or_default(origins: Vec<Origin>, id: &RelyingPartyId) -> Vec<Origin> {
    match origins.is_empty() {
        true => vec![Origin::from_stored(default_origin(id.as_str()))],
        false => origins,
    }
}

/// Returns the origins in the form in which browsers send them.
pub(crate) fn accepted_origins(id: &RelyingPartyId, origins: &[Origin]) -> Vec<String> {
    origins.iter().filter_map(|origin| parse_origin(origin.as_str(), id.as_str())).collect()
}

fn parse_id(text: &str) -> Result<RelyingPartyId, Problem> {
    let id = parse_relying_party_id(text).map(RelyingPartyId::from_stored);
    id.ok_or_else(|| {
        let advice = "it must be a domain name without scheme, port and path, or localhost";
        Problem::with_advice(Code::InvalidRelyingPartyId, advice)
    })
}

fn check_number(origins: &[Origin]) -> Result<(), Problem> {
    match origins.len() > MAX_ORIGINS {
        true => Err(invalid("it must have at most 16 origins")),
        false => Ok(()),
    }
}

fn check_origins(origins: &[Origin], id: &RelyingPartyId) -> Result<(), Problem> {
    match origins.iter().all(|origin| parse_origin(origin.as_str(), id.as_str()).is_some()) {
        true => Ok(()),
        false => Err(invalid(
            "each origin must be https:// and the relying party id or a subdomain of it, http://localhost, or an app id",
        )),
    }
}

fn invalid(advice: &str) -> Problem {
    Problem::with_advice(Code::InvalidRelyingParty, advice)
}

#[cfg(test)]
mod tests {
    use domain::Parameter as _;

    use super::*;

    fn text<const MIN: usize, const MAX: usize>(text: &str) -> Option<Text<MIN, MAX>> {
        Some(Text::from_parameter(text).unwrap())
    }

    fn relying_party(id: &str, origins: &[&str]) -> services::RelyingParty {
        let origins = origins.iter().map(|origin| Text::from_parameter(origin).unwrap()).collect();
        services::RelyingParty { id: text(id), name: text("Owl Bank"), origins: Some(origins) }
    }

    fn complete() -> Passkeys {
        Passkeys {
            relying_party: relying_party("owl.example", &["login.owl.example"]),
            authenticator_attachment: Some(Attachment::Any),
            discoverable_credentials: Some(Requirement::Preferred),
            user_verification: Some(Requirement::Required),
        }
    }

    fn code<T>(result: Result<T, Problem>) -> Code {
        result.err().unwrap().code()
    }

    #[test]
    fn request_overrides_the_settings_of_the_service() {
        let given = Passkeys { user_verification: Some(Requirement::Discouraged), ..Passkeys::default() };
        let config = resolve(&given, &complete()).unwrap();
        assert_eq!(config.user_verification, Requirement::Discouraged);
        assert_eq!(config.discoverable_credentials, Requirement::Preferred);
        assert_eq!(config.relying_party.id.as_str(), "owl.example");
        assert_eq!(
            accepted_origins(&config.relying_party.id, &config.relying_party.origins),
            ["https://login.owl.example"]
        );
    }

    #[test]
    fn relying_party_with_another_id_inherits_nothing() {
        let mut given = Passkeys { relying_party: relying_party("bat.example", &[]), ..Passkeys::default() };
        let config = resolve(&given, &complete()).unwrap();
        assert_eq!(config.relying_party.origins, [Origin::from_stored("https://bat.example".to_owned())]);
        given.relying_party.name = None;
        assert_eq!(code(resolve(&given, &complete())), Code::InvalidRelyingParty);
        // The same ID in capital letters is that of the service.
        given.relying_party.id = text("OWL.example");
        let config = resolve(&given, &complete()).unwrap();
        assert_eq!(config.relying_party.name.as_str(), "Owl Bank");
    }

    #[test]
    fn missing_relying_party_id_and_criteria_have_codes_of_their_own() {
        let none = Passkeys::default();
        assert_eq!(code(resolve(&none, &none)), Code::InvalidRelyingParty);
        let mut given = complete();
        given.relying_party.id = None;
        assert_eq!(code(resolve(&given, &none)), Code::InvalidRelyingPartyId);
        let mut given = complete();
        (given.authenticator_attachment, given.user_verification) = (None, None);
        let problem = resolve(&given, &none).err().unwrap();
        assert_eq!(problem.code(), Code::MissingAuthenticatorCriteria);
        assert!(
            problem.message().contains("set authenticator_attachment, user_verification in"),
            "{problem}"
        );
    }

    #[test]
    fn settings_of_a_service_are_checked_and_stored_in_lower_case() {
        let mut settings = complete();
        settings.relying_party.id = text("OWL.example");
        normalize(&mut settings).unwrap();
        assert_eq!(settings.relying_party.id.as_ref().unwrap().as_str(), "owl.example");
        for (id, origins, expected) in [
            ("https://owl.example", &[][..], Code::InvalidRelyingPartyId),
            ("owl.example", &["https://bat.example"][..], Code::InvalidRelyingParty),
            ("owl.example", &["owl.example"; 17][..], Code::InvalidRelyingParty),
        ] {
            let mut settings = Passkeys { relying_party: relying_party(id, origins), ..Passkeys::default() };
            assert_eq!(code(normalize(&mut settings)), expected, "{id}");
        }
        let mut unnamed = relying_party("owl.example", &["owl.example"; 16]);
        unnamed.id = None;
        normalize(&mut Passkeys { relying_party: unnamed, ..Passkeys::default() }).unwrap();
    }
}
