//! SIDs: each text has at most one kind and one identifier. Also checks trace identifiers.

use std::fmt::Debug;

use domain::parameter::Parameter;
use domain::sids::{
    AccessTokenSid, AccountSid, AlertSid, ApiKeySid, AttemptSid, BucketSid, ChallengeSid, CredentialSid,
    EntitySid, FactorSid, MailerSid, MessagingConfigurationSid, MessagingServiceSid, NotificationSid,
    RateLimitSid, RequestSid, SafeNumberSid, ServiceSid, Sid, TemplateSid, VerificationSid, WebhookSid,
};
use domain::{Entropy, FactorType, Timestamp, TraceParent};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{lines, number};

/// Interprets the input as two lines of text, or as one text used twice. The first line also provides the
/// time, and the second the random bits, of a new SID.
pub fn check(data: &[u8]) {
    let [one, other] = lines(data).unwrap_or([data, data]);
    if let (Ok(one), Ok(other)) = (str::from_utf8(one), str::from_utf8(other)) {
        let kinds = [
            read::<AccessTokenSid>(one, other),
            read::<AccountSid>(one, other),
            read::<AlertSid>(one, other),
            read::<ApiKeySid>(one, other),
            read::<AttemptSid>(one, other),
            read::<BucketSid>(one, other),
            read::<ChallengeSid>(one, other),
            read::<CredentialSid>(one, other),
            read::<EntitySid>(one, other),
            read::<FactorSid>(one, other),
            read::<MailerSid>(one, other),
            read::<MessagingConfigurationSid>(one, other),
            read::<MessagingServiceSid>(one, other),
            read::<NotificationSid>(one, other),
            read::<RateLimitSid>(one, other),
            read::<RequestSid>(one, other),
            read::<SafeNumberSid>(one, other),
            read::<ServiceSid>(one, other),
            read::<TemplateSid>(one, other),
            read::<VerificationSid>(one, other),
            read::<WebhookSid>(one, other),
        ];
        let found = kinds.iter().filter(|found| **found).count();
        assert!(found <= 1, "{one} is of {found} kinds");
        if let Some(parent) = TraceParent::parse(one) {
            assert!(found == 0 && parent.trace_id != 0 && parent.span_id != 0, "{one}");
            // Of a later version, only the fields of version 00 are kept.
            let printed = parent.to_string();
            assert_eq!(printed[2..], one[2..printed.len()], "{one}");
            assert!(!one.starts_with("00") || printed == one, "{one}");
        }
    }
    generated(Timestamp::from_micros(number(one)), other);
}

fn read<S>(one: &str, other: &str) -> bool
where
    S: Sid + Parameter + Serialize + DeserializeOwned + Ord + Debug,
{
    let Ok(sid) = one.parse::<S>() else {
        assert!(S::from_parameter(one).is_err());
        return false;
    };
    let text = sid.to_string();
    // Hexadecimal digits are accepted in either case and written in lower case. No other part has two
    // spellings.
    assert_eq!(one.len(), 34);
    assert!(one.starts_with(S::PREFIX));
    assert_eq!(text, format!("{}{}", S::PREFIX, one[2..].to_ascii_lowercase()));
    assert_eq!(text.parse::<S>(), Ok(sid));
    assert_eq!(S::from_parameter(one), Ok(sid));
    assert_eq!(S::from_bytes(sid.to_bytes()), sid);
    let json = serde_json::to_string(&sid).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<S>(&json).unwrap(), sid);

    if let Ok(second) = other.parse::<S>() {
        let second_text = second.to_string();
        assert_eq!(sid == second, text == second_text);
        assert_eq!(sid == second, one.eq_ignore_ascii_case(other));
        assert_eq!(sid.cmp(&second), text.cmp(&second_text), "texts and identifiers sort alike");
    }
    true
}

struct Given<'d>(&'d [u8]);

impl Entropy for Given<'_> {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().zip(self.0).for_each(|(byte, given)| *byte = *given);
    }
}

fn generated(now: Timestamp, randomness: &[u8]) {
    let entropy = Given(randomness);
    let service = ServiceSid::generate(now, &entropy).to_string();
    assert_eq!(service.parse(), Ok(ServiceSid::generate(now, &entropy)));
    let factor = FactorSid::generate(FactorType::Push, now, &entropy).to_string();
    assert!(factor.starts_with("YF03"));
    assert_eq!(factor[4..16], service[2..14], "both say when they were made");
}
