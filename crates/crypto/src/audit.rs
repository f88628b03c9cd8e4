//! The chain of the audit log: each line's MAC covers the line, its number and the MAC before, so that whoever
//! has the database but not the key can neither change a line, nor take one out, nor add one.
//!
//! The ends of the chain have a MAC too: otherwise an attacker who takes lines off an end could move the end with
//! them. An attacker who kept the ends of an earlier day can put these back. Servers that run remember the newest
//! ends, and checkpoints outside of the database show it after a restart.
//!
//! A line that is not chained yet has a MAC of its own, made with it, so that it can't be forged or altered while it
//! waits.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use domain::Entropy;
use domain::audit::{Line, Mac, Mark};
use domain::checkpoints::Checkpoint;
use zeroize::Zeroizing;

use crate::{Sealable, equal};

/// What stands in front of what is signed. No two are the beginning of one another, and they never change.
const LINE: &[u8] = b"countersign 1 audit line\0";
const ENDS: &[u8] = b"countersign 1 audit ends\0";
const WAITING: &[u8] = b"countersign 1 audit waiting\0";
const CHECKPOINT: &[u8] = b"countersign 1 audit checkpoint\0";

/// The key of the chain, 256 bits. It does not print, and is wiped when dropped; the library makes a copy of it
/// for each MAC.
pub struct AuditKey(Zeroizing<[u8; 32]>);

impl AuditKey {
    /// A new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self(bytes)
    }

    /// The mark of the line that follows `before`: HMAC-SHA256 over the MAC before, the new number as 64 bits, the
    /// highest first, and the line's canonical form.
    pub fn next(&self, before: &Mark, line: &Line) -> Mark {
        let number = before.number.saturating_add(1);
        let mac = self.mac(&[LINE, &before.mac.0, &number.to_be_bytes(), line.canonical().as_bytes()]);
        Mark { number, mac }
    }

    /// The MAC over both ends of the chain: the last line that was removed, and the last that was chained.
    pub fn ends(&self, removed: &Mark, head: &Mark) -> Mac {
        let [removed_number, head_number] = [removed, head].map(|mark| mark.number.to_be_bytes());
        self.mac(&[ENDS, &removed_number, &removed.mac.0, &head_number, &head.mac.0])
    }

    /// The MAC over a line that is not chained yet.
    pub fn waiting(&self, line: &Line) -> Mac {
        self.mac(&[WAITING, line.canonical().as_bytes()])
    }

    /// The MAC over a checkpoint.
    pub fn checkpoint(&self, checkpoint: &Checkpoint) -> Mac {
        self.mac(&[CHECKPOINT, checkpoint.to_string().as_bytes()])
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

/// Whether two MACs are the same one, in a time that does not tell how much of it fits.
pub fn same(one: &Mac, other: &Mac) -> bool {
    equal(&one.0, &other.0)
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
    use domain::audit::{Act, Actor, Change};
    use domain::checkpoints::CheckpointKind;
    use domain::{AccountSid, EventSid, Sid, Timestamp};

    use super::*;
    use crate::{MasterKey, SystemEntropy};

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn line() -> Line {
        let account_sid = AccountSid::from_bytes([1; 16]);
        let change = Change::new(Act::ServiceCreated, account_sid, "VA02");
        let now = Timestamp::from_seconds(1_767_225_600);
        Line::new(EventSid::from_bytes([3; 16]), &Actor::Account(account_sid), change, None, None, now)
    }

    /// What is chained stays so: these MACs, computed with Python, may never change.
    #[test]
    fn the_chain_stands() {
        let key = AuditKey::generate(&Sevens);
        let first = key.next(&Mark::START, &line());
        let second = key.next(&first, &line());
        assert_eq!(
            first.to_string(),
            concat!("1:", "426e62026d589016c5106120d8d030631dcc5644350a5837bf99b2f5e6260646")
        );
        assert_eq!(
            second.to_string(),
            concat!("2:", "12e6e8a400b0c8c1adc6866a16c2cc9b430fcd3ce0322c19aef4df18d724196a")
        );
        assert_eq!(
            key.ends(&first, &second).to_string(),
            "1a57f6a7936b4c08983a69061da3e57321249c8d2cceed6c28b1cfbfc7b1c78d"
        );
    }

    #[test]
    fn everything_in_a_line_counts() {
        let key = AuditKey::generate(&SystemEntropy);
        let before = Mark { number: 41, mac: Mac([9; 32]) };
        let mark = key.next(&before, &line());
        assert_eq!(mark.number, 42);
        let text = || Some("other".to_owned());
        let changes: [fn(&mut Line); 10] = [
            |line| line.sid = EventSid::from_bytes([4; 16]),
            |line| line.actor_type = "operator".to_owned(),
            |line| line.actor = None,
            |line| line.event_type = "service.deleted".to_owned(),
            |line| line.account_sid = None,
            |line| line.resource_sid = None,
            |line| line.data = "{ }".to_owned(),
            |line| line.address = Some(String::new()),
            |line| line.request_sid = Some(String::new()),
            |line| line.created_at = Timestamp::from_micros(line.created_at.micros() + 1),
        ];
        let mut macs = vec![mark.mac];
        for change in changes {
            let mut line = line();
            change(&mut line);
            macs.push(key.next(&before, &line).mac);
        }
        // A text does not count the same in another place.
        macs.push(key.next(&before, &Line { address: text(), ..line() }).mac);
        macs.push(key.next(&before, &Line { request_sid: text(), ..line() }).mac);
        macs.push(key.next(&Mark { number: 40, ..before }, &line()).mac);
        macs.push(key.next(&Mark { mac: Mac([8; 32]), ..before }, &line()).mac);
        macs.push(AuditKey::generate(&SystemEntropy).next(&before, &line()).mac);
        for (place, mac) in macs.iter().enumerate() {
            assert!(!macs[..place].iter().any(|other| same(mac, other)), "{place}");
        }
    }

    #[test]
    fn the_ends_are_not_interchangeable() {
        let key = AuditKey::generate(&SystemEntropy);
        let (one, other) = (Mark { number: 1, mac: Mac([1; 32]) }, Mark { number: 2, mac: Mac([2; 32]) });
        assert!(!same(&key.ends(&one, &other), &key.ends(&other, &one)));
        assert!(same(&key.ends(&one, &other), &key.ends(&one, &other)));
    }

    #[test]
    fn each_mac_is_good_for_its_purpose_alone() {
        let key = AuditKey::generate(&Sevens);
        let mark = key.next(&Mark::START, &line());
        let at = Timestamp::from_seconds(1_767_225_600);
        let checkpoint = Checkpoint { at, kind: CheckpointKind::Reached, mark };
        let macs = [
            mark.mac,
            key.ends(&Mark::START, &mark),
            key.waiting(&line()),
            key.checkpoint(&checkpoint),
            key.checkpoint(&Checkpoint { kind: CheckpointKind::Accepted, ..checkpoint }),
            key.waiting(&Line { data: "{ }".to_owned(), ..line() }),
        ];
        for (place, mac) in macs.iter().enumerate() {
            assert!(!macs[..place].iter().any(|other| same(mac, other)), "{place}");
        }
    }

    #[test]
    fn a_sealed_key_is_the_same_key_and_nothing_else_is_one() {
        let (master, key) = (MasterKey::generate(&SystemEntropy), AuditKey::generate(&SystemEntropy));
        let sealed = master.seal(&key, "", &SystemEntropy);
        let opened: AuditKey = master.open(&sealed, "").unwrap();
        assert_eq!(opened.next(&Mark::START, &line()), key.next(&Mark::START, &line()));
        assert!(AuditKey::from_bytes(&[7; 31]).is_none() && AuditKey::from_bytes(&[7; 33]).is_none());
        assert_eq!(format!("{key:?}"), "AuditKey");
    }
}
