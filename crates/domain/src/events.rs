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
    /// Names the event; all webhooks that hear of it get the same (protocol 00, row 16).
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

    /// What a webhook of this version is told (protocol 05 section 2). Values that are null are left out.
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
