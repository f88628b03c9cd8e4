//! Events about factors and challenges, which webhooks receive. The content of an event is fixed when the event
//! happens.

use crate::challenges::{Challenge, PushChallenge};
use crate::entropy::Entropy;
use crate::factors::{Factor, HasFactorType};
use crate::webhooks::{EventType, Version};

/// A change to a factor or to one of its challenges, which is sent to webhooks.
#[derive(Debug)]
pub struct Event<'e, Kind> {
    /// Type of the event.
    pub event_type: EventType,
    /// Factor that changed, or whose challenge changed.
    pub factor: &'e Factor<Kind>,
    /// Challenge that changed; `None` if the event is about the factor itself.
    pub challenge: Option<&'e Challenge<PushChallenge>>,
    /// Identifier of the event, the same for all webhooks that receive it (docs/protocol/decisions.md, No. 16).
    pub uuid: String,
}

impl<'e, Kind: HasFactorType> Event<'e, Kind> {
    /// Creates an event with a random identifier, a version 4 UUID (RFC 9562).
    pub fn new(
        event_type: EventType,
        factor: &'e Factor<Kind>,
        challenge: Option<&'e Challenge<PushChallenge>>,
        entropy: &dyn Entropy,
    ) -> Self {
        Self { event_type, factor, challenge, uuid: random_uuid(entropy) }
    }

    /// Returns the names and values of the parameters for a webhook of this version (docs/protocol/webhooks.md, section
    /// 2). Parameters whose value is null are omitted.
    pub fn parameters(&self, version: Version) -> Vec<(String, String)> {
        let factor = self.factor;
        let mut parameters = vec![
            ("uuid", self.uuid.clone()),
            ("type", self.event_type.as_str().to_owned()),
            ("account_sid", factor.account_sid.to_string()),
            ("service_sid", factor.service_sid.to_string()),
            ("entity_identity", factor.identity.to_string()),
            ("factor_sid", factor.sid.to_string()),
        ];
        if let Some(challenge) = self.challenge {
            parameters.push(("challenge_sid", challenge.sid.to_string()));
        }
        if version == Version::V2 {
            parameters.push(("factor_type", factor.factor_type().as_str().to_owned()));
            // Trim the name: some web frameworks trim received parameters, which would invalidate the signature.
            let friendly_name = factor.friendly_name.as_str().trim();
            if !friendly_name.is_empty() {
                parameters.push(("factor_friendly_name", friendly_name.to_owned()));
            }
            if let Some(challenge) = self.challenge {
                parameters.push(("challenge_details", challenge.kind.details.to_json().to_string()));
                let texts = [
                    ("challenge_hidden_details", &challenge.kind.hidden_details),
                    ("challenge_metadata", &challenge.metadata),
                ];
                for (name, map) in texts {
                    if let Some(text) = map.as_ref().and_then(|map| serde_json::to_string(map).ok()) {
                        parameters.push((name, text));
                    }
                }
            }
        }
        parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Returns a random version 4 UUID (RFC 9562) as text.
fn random_uuid(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenges::State;
    use crate::challenges::push::tests::challenge;
    use crate::factors::Notification;
    use crate::factors::push::tests::factor;
    use crate::text::FriendlyName;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// An entropy source that fills every buffer with the same byte.
    struct Same(u8);

    impl Entropy for Same {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    fn names(parameters: &[(String, String)]) -> Vec<&str> {
        parameters.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn event_identifier_is_a_version_4_uuid() {
        let uuid =
            |byte| Event::new(EventType::FactorCreated, &factor(Notification::None), None, &Same(byte)).uuid;
        assert_eq!(uuid(0x00), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(0xff), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn webhook_version_2_adds_names_and_details_to_the_sids_of_version_1() {
        let (mut factor, challenge) = (factor(Notification::None), challenge(State::Pending, NOW));
        let event = Event::new(EventType::FactorCreated, &factor, None, &Same(0));
        let v1 = ["uuid", "type", "account_sid", "service_sid", "entity_identity", "factor_sid"];
        let parameters = event.parameters(Version::V1);
        assert_eq!(names(&parameters), v1);
        assert_eq!(parameters[1].1, "factor.created");
        assert_eq!(names(&event.parameters(Version::V2))[6..], ["factor_type", "factor_friendly_name"]);

        let event = Event::new(EventType::ChallengeApproved, &factor, Some(&challenge), &Same(0));
        assert_eq!(names(&event.parameters(Version::V1))[6..], ["challenge_sid"]);
        let parameters = event.parameters(Version::V2);
        assert_eq!(
            names(&parameters)[6..],
            [
                "challenge_sid",
                "factor_type",
                "factor_friendly_name",
                "challenge_details",
                "challenge_hidden_details"
            ]
        );
        assert_eq!(parameters[8].1, "Telephone");
        assert_eq!(parameters[10].1, r#"{"txn":"a/b"}"#);

        // A friendly name is trimmed, and omitted if nothing remains.
        for (name, expected) in [("  ", None), (" A ", Some("A"))] {
            factor.friendly_name = FriendlyName::from_stored(name.into());
            let parameters =
                Event::new(EventType::FactorCreated, &factor, None, &Same(0)).parameters(Version::V2);
            let found = parameters.iter().find(|(name, _)| name == "factor_friendly_name");
            assert_eq!(found.map(|(_, value)| value.as_str()), expected);
        }
    }
}
