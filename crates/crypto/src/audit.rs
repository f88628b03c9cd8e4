//! The MAC chain of the audit log, which makes tampering with audit records detectable.
//!
//! ```text
//! position 41        position 42                                    position 43
//! MAC 41 ──────────▶ MAC 42 = HMAC(MAC 41, 42, record 42) ─────────▶ MAC 43 = HMAC(MAC 42, 43, record 43)
//! ```
//!
//! The MAC of each record covers the record, its number and the previous MAC. An attacker who has the database but not
//! the key can therefore not change, remove or insert a record without breaking the chain.
//!
//! A further MAC covers both ends of the chain: the last removed record and the newest record. Without it, an attacker
//! could remove records at an end and move that end. An attacker who saved the ends of an earlier day can still restore
//! them. Running servers detect this because they remember the newest ends; after a restart, checkpoints outside the
//! database reveal it.
//!
//! A record is chained only after it was stored. Until then, it is protected against forgery and alteration by a MAC of
//! its own, which is stored with it.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use domain::Entropy;
use domain::audit::{AuditRecord, ChainPosition, Mac};
use domain::checkpoints::Checkpoint;
use zeroize::Zeroizing;

use crate::{Sealable, constant_time_eq};

/// Domain-separation prefixes: each kind of MAC covers data that starts with one of them. None is a prefix of another.
/// They must never change, because existing MACs would become invalid.
const RECORD_PREFIX: &[u8] = b"countersign 1 audit line\0";
const ENDS_PREFIX: &[u8] = b"countersign 1 audit ends\0";
const UNCHAINED_PREFIX: &[u8] = b"countersign 1 audit waiting\0";
const CHECKPOINT_PREFIX: &[u8] = b"countersign 1 audit checkpoint\0";

/// The HMAC key of the audit chain, 256 bits. It cannot be printed, and is wiped when dropped. `aws-lc-rs` makes a copy
/// of the key for each MAC.
pub struct AuditKey(Zeroizing<[u8; 32]>);

impl AuditKey {
    /// Generates a random audit key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self(bytes)
    }

    /// Returns the chain position of `record`, which follows the position `previous`.
    ///
    /// The MAC of the returned position is HMAC-SHA256 over a fixed prefix, the previous MAC, the new number as a
    /// big-endian 64-bit integer, and the canonical form of the record.
    pub fn next_position(&self, previous: &ChainPosition, record: &AuditRecord) -> ChainPosition {
        let number = previous.number.saturating_add(1);
        let mac =
            self.mac(&[RECORD_PREFIX, &previous.mac.0, &number.to_be_bytes(), record.canonical().as_bytes()]);
        ChainPosition { number, mac }
    }

    /// Returns the MAC over both ends of the chain: `removed`, the last removed record, and `head`, the newest chained
    /// record.
    pub fn ends_mac(&self, removed: &ChainPosition, head: &ChainPosition) -> Mac {
        let [removed_number, head_number] = [removed, head].map(|position| position.number.to_be_bytes());
        self.mac(&[ENDS_PREFIX, &removed_number, &removed.mac.0, &head_number, &head.mac.0])
    }

    /// Returns the MAC that protects a stored record until it is chained.
    pub fn unchained_mac(&self, record: &AuditRecord) -> Mac {
        self.mac(&[UNCHAINED_PREFIX, record.canonical().as_bytes()])
    }

    /// Returns the MAC over the text form of a checkpoint.
    pub fn checkpoint_mac(&self, checkpoint: &Checkpoint) -> Mac {
        self.mac(&[CHECKPOINT_PREFIX, checkpoint.to_string().as_bytes()])
    }

    fn mac(&self, parts: &[&[u8]]) -> Mac {
        let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, &*self.0));
        for part in parts {
            context.update(part);
        }
        let mut mac = Mac([0; 32]);
        mac.0.copy_from_slice(context.sign().as_ref());
        mac
    }
}

/// Returns whether two MACs are equal. The comparison takes constant time.
pub fn macs_equal(one: &Mac, other: &Mac) -> bool {
    constant_time_eq(&one.0, &other.0)
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey")
    }
}

impl Sealable for AuditKey {
    const PURPOSE: &'static str = "audit key";

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_vec())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        <[u8; 32]>::try_from(bytes).ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use domain::audit::{Actor, AuditAction, Change};
    use domain::checkpoints::CheckpointKind;
    use domain::{AccountSid, EventSid, RequestSid, Sid, Timestamp};

    use super::*;
    use crate::{MasterKey, SystemEntropy};

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn record() -> AuditRecord {
        let account_sid = AccountSid::from_bytes([1; 16]);
        let change = Change::new(AuditAction::ServiceCreated, account_sid, "VA02");
        let now = Timestamp::from_seconds(1_767_225_600);
        AuditRecord::new(EventSid::from_bytes([3; 16]), &Actor::Account(account_sid), change, None, None, now)
    }

    /// Existing chains must stay valid, so the expected MACs must never change. They were computed with Python.
    #[test]
    fn macs_of_a_known_audit_chain_never_change() {
        let key = AuditKey::generate(&Sevens);
        let first = key.next_position(&ChainPosition::START, &record());
        let second = key.next_position(&first, &record());
        assert_eq!(
            first.to_string(),
            concat!("1:", "426e62026d589016c5106120d8d030631dcc5644350a5837bf99b2f5e6260646")
        );
        assert_eq!(
            second.to_string(),
            concat!("2:", "12e6e8a400b0c8c1adc6866a16c2cc9b430fcd3ce0322c19aef4df18d724196a")
        );
        assert_eq!(
            key.ends_mac(&first, &second).to_string(),
            "1a57f6a7936b4c08983a69061da3e57321249c8d2cceed6c28b1cfbfc7b1c78d"
        );
    }

    #[test]
    fn mac_covers_every_field_of_an_audit_record() {
        let key = AuditKey::generate(&SystemEntropy);
        let before = ChainPosition { number: 41, mac: Mac([9; 32]) };
        let position = key.next_position(&before, &record());
        assert_eq!(position.number, 42);
        let changes: [fn(&mut AuditRecord); 10] = [
            |record| record.sid = EventSid::from_bytes([4; 16]),
            |record| record.actor_type = "operator".to_owned(),
            |record| record.actor = None,
            |record| record.event_type = "service.deleted".to_owned(),
            |record| record.account_sid = None,
            |record| record.resource_sid = None,
            |record| record.data = "{ }".to_owned(),
            |record| record.address = Some(String::new()),
            |record| record.request_sid = Some(RequestSid::from_bytes([5; 16])),
            |record| record.created_at = Timestamp::from_micros(record.created_at.micros() + 1),
        ];
        let mut macs = vec![position.mac];
        for change in changes {
            let mut record = record();
            change(&mut record);
            macs.push(key.next_position(&before, &record).mac);
        }
        // The same text in a different field must yield a different MAC.
        let text = || Some("other".to_owned());
        macs.push(key.next_position(&before, &AuditRecord { address: text(), ..record() }).mac);
        macs.push(key.next_position(&before, &AuditRecord { resource_sid: text(), ..record() }).mac);
        macs.push(key.next_position(&ChainPosition { number: 40, ..before }, &record()).mac);
        macs.push(key.next_position(&ChainPosition { mac: Mac([8; 32]), ..before }, &record()).mac);
        macs.push(AuditKey::generate(&SystemEntropy).next_position(&before, &record()).mac);
        for (index, mac) in macs.iter().enumerate() {
            assert!(!macs[..index].iter().any(|other| macs_equal(mac, other)), "{index}");
        }
    }

    #[test]
    fn mac_of_the_audit_chain_ends_depends_on_their_order() {
        let key = AuditKey::generate(&SystemEntropy);
        let (one, other) =
            (ChainPosition { number: 1, mac: Mac([1; 32]) }, ChainPosition { number: 2, mac: Mac([2; 32]) });
        assert!(!macs_equal(&key.ends_mac(&one, &other), &key.ends_mac(&other, &one)));
        assert!(macs_equal(&key.ends_mac(&one, &other), &key.ends_mac(&one, &other)));
    }

    #[test]
    fn audit_macs_made_for_different_purposes_differ() {
        let key = AuditKey::generate(&Sevens);
        let position = key.next_position(&ChainPosition::START, &record());
        let at = Timestamp::from_seconds(1_767_225_600);
        let checkpoint = Checkpoint { at, kind: CheckpointKind::Reached, position };
        let macs = [
            position.mac,
            key.ends_mac(&ChainPosition::START, &position),
            key.unchained_mac(&record()),
            key.checkpoint_mac(&checkpoint),
            key.checkpoint_mac(&Checkpoint { kind: CheckpointKind::Accepted, ..checkpoint }),
            key.unchained_mac(&AuditRecord { data: "{ }".to_owned(), ..record() }),
        ];
        for (index, mac) in macs.iter().enumerate() {
            assert!(!macs[..index].iter().any(|other| macs_equal(mac, other)), "{index}");
        }
    }

    #[test]
    fn audit_key_survives_sealing_and_must_have_32_bytes() {
        let (master, key) = (MasterKey::generate(&SystemEntropy), AuditKey::generate(&SystemEntropy));
        let sealed = master.seal(&key, "", &SystemEntropy);
        let opened: AuditKey = master.open(&sealed, "").unwrap();
        assert_eq!(
            opened.next_position(&ChainPosition::START, &record()),
            key.next_position(&ChainPosition::START, &record())
        );
        assert!(AuditKey::from_bytes(&[7; 31]).is_none() && AuditKey::from_bytes(&[7; 33]).is_none());
        assert_eq!(format!("{key:?}"), "AuditKey");
    }
}
