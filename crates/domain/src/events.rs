//! Events: what a backend's webhooks are told, fixed at the moment when it happens.

use crate::challenges::Challenge;
use crate::entropy::Entropy;
use crate::factors::{Factor, FactorType};
use crate::webhooks::{EventType, Version};

/// Something that happened to a factor, or to a challenge to it.
#[derive(Debug)]
pub struct Event<'e> {
    /// What.
    pub event_type: EventType,
    /// To which factor.
    pub factor: &'e Factor,
    /// To which challenge.
    pub challenge: Option<&'e Challenge>,
    /// Names the event; all webhooks that hear of it get the same (docs/protocol/decisions.md, No. 16).
    pub uuid: String,
}

impl<'e> Event<'e> {
    /// An event that happens now, with a name of its own (RFC 9562, version 4).
    pub fn new(
        event_type: EventType,
        factor: &'e Factor,
        challenge: Option<&'e Challenge>,
        entropy: &dyn Entropy,
    ) -> Self {
        Self { event_type, factor, challenge, uuid: uuid(entropy) }
    }

    /// What a webhook of this version is told (docs/protocol/webhooks.md, section 2). Values that are null are left out.
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
            parameters.push(("factor_type", FactorType::Push.as_str().to_owned()));
            // Some frameworks trim what they receive, after which a signature would not hold.
            let friendly_name = factor.friendly_name.as_str().trim();
            if !friendly_name.is_empty() {
                parameters.push(("factor_friendly_name", friendly_name.to_owned()));
            }
            if let Some(challenge) = self.challenge {
                parameters.push(("challenge_details", challenge.details.to_json().to_string()));
                let texts = [
                    ("challenge_hidden_details", &challenge.hidden_details),
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

fn uuid(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenges::State;
    use crate::challenges::tests::challenge;
    use crate::factors::Notification;
    use crate::factors::tests::factor;
    use crate::text::FriendlyName;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// The same byte again and again.
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
    fn the_uuid_is_a_random_one() {
        let uuid =
            |byte| Event::new(EventType::FactorCreated, &factor(Notification::None), None, &Same(byte)).uuid;
        assert_eq!(uuid(0x00), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(0xff), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn version_1_tells_sids_and_version_2_also_details() {
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

        // A name of white space alone is none, and one beside white space is sent without it.
        for (name, told) in [("  ", None), (" A ", Some("A"))] {
            factor.friendly_name = FriendlyName::from_stored(name.into());
            let parameters =
                Event::new(EventType::FactorCreated, &factor, None, &Same(0)).parameters(Version::V2);
            let found = parameters.iter().find(|(name, _)| name == "factor_friendly_name");
            assert_eq!(found.map(|(_, value)| value.as_str()), told);
        }
    }
}
