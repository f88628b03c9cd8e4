//! Deliveries: what is owed to the outside, and what comes after an attempt.
//!
//! ```text
//! owed ──attempt──▶ delivered
//!   ▲        ├────▶ skipped      (it would be of no use any more)
//!   │        ├────▶ failed       (it can't succeed, or time is up)
//!   └─again──┘
//! ```
//!
//! A delivery is written in the transaction of the change that owes it. It is delivered at least once: a
//! process that dies in the middle of an attempt leaves a lease that runs out, and another takes over.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::sids::{AccountSid, AlertSid, ChallengeSid, FactorSid, NotificationSid, ServiceSid, WebhookSid};
use crate::time::Timestamp;
use crate::traces::TraceParent;

/// Names a delivery; also its idempotency token, the same on every attempt. A UUID, time first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u128);

impl DeliveryId {
    /// A new one, made at `now` (RFC 9562, version 7).
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 16];
        entropy.fill(&mut random);
        let milliseconds = u128::from(now.micros().div_euclid(1000) as u64 & 0xffff_ffff_ffff);
        let random = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62) & ((1 << 80) - 1);
        Self(milliseconds << 80 | random | 0x7 << 76 | 0x2 << 62)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = crate::sids::NotASid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.split('-').collect();
        let shape: Vec<usize> = text.split('-').map(str::len).collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(id) if shape == [8, 4, 4, 4, 12] && !digits.starts_with('+') => Ok(Self(id)),
            _ => Err(crate::sids::NotASid),
        }
    }
}

/// Something owed to the outside.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Whose it is.
    pub account_sid: AccountSid,
    /// What is to be done.
    pub work: Work,
    /// Host and port, or provider and credential: deliveries to one place share a limit.
    pub destination: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it came to be owed.
    pub created_at: Timestamp,
    /// Not before; while it is leased, when the lease runs out.
    pub due_at: Timestamp,
    /// Not after.
    pub give_up_at: Timestamp,
    /// What it came to be owed in, if somebody traces that.
    pub trace: Option<TraceParent>,
}

impl Delivery {
    /// One that is owed from `now` on, and due at once.
    pub const fn new(
        id: DeliveryId,
        account_sid: AccountSid,
        work: Work,
        destination: String,
        now: Timestamp,
        give_up_at: Timestamp,
        trace: Option<TraceParent>,
    ) -> Self {
        Self {
            id,
            account_sid,
            work,
            destination,
            attempts: 0,
            created_at: now,
            due_at: now,
            give_up_at,
            trace,
        }
    }
}

/// What is to be done. Kept as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Tell a webhook. What it is told was fixed when the event happened; where it is reached, and the
    /// key that signs, are looked up when it is sent.
    Webhook {
        /// Which.
        webhook_sid: WebhookSid,
        /// Of which service.
        service_sid: ServiceSid,
        /// What it is told.
        parameters: Vec<(String, String)>,
        /// Set for test deliveries: one attempt, no retry, no alert.
        #[serde(default)]
        once: bool,
    },
    /// Push to a device. Everything is looked up when it is sent: an answered challenge is not pushed.
    Push(AskedPush),
    /// Tell the account's debugger webhook of an alert.
    Debugger {
        /// Which alert.
        alert_sid: AlertSid,
        /// What it is told.
        parameters: Vec<(String, String)>,
    },
}

/// A push to a device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPush {
    /// About which challenge.
    pub challenge_sid: ChallengeSid,
    /// To which factor.
    pub factor_sid: FactorSid,
    /// Of which service.
    pub service_sid: ServiceSid,
    /// Of which entity.
    pub identity: String,
    /// The notification that asked for it; none for the first push.
    pub notification_sid: Option<NotificationSid>,
    /// Seconds that the provider may keep it; 0 means now or never.
    pub ttl: u32,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().as_str())
    }
}

/// What kind of delivery it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To a webhook.
    Webhook,
    /// To a device.
    Push,
    /// To a debugger webhook.
    Debugger,
}

impl Kind {
    /// The word in the database and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Push => "push",
            Self::Debugger => "debugger",
        }
    }
}

impl Work {
    /// What kind of delivery it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Webhook { .. } => Kind::Webhook,
            Self::Push(_) => Kind::Push,
            Self::Debugger { .. } => Kind::Debugger,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It arrived.
    Delivered,
    /// It is of no use any more: answered, expired, disabled, deleted.
    Skipped,
    /// It may arrive another time; the other side may have said when, in seconds.
    Again {
        /// Seconds that the other side asks to wait.
        after: Option<i64>,
    },
    /// It may be tried again at once, since the receiver's own overrides say so.
    AtOnce,
    /// It can't arrive.
    Failed,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// It was of no use any more.
    Skipped,
    /// It is tried again at this instant.
    At(Timestamp),
    /// Nobody tries again.
    Failed,
}

/// How long to wait between attempts: at first 1 to 5 seconds, then doubling, never more than `longest`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Longest wait, in seconds.
    pub longest: i64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { longest: 3600 }
    }
}

impl Schedule {
    /// Microseconds to wait after this many attempts. `chance` spreads deliveries that failed together: any
    /// number of 0 to 1, the first wait is `1 + 4 × chance` seconds.
    fn wait(self, attempts: u32, chance: f64) -> i64 {
        let doublings = attempts.saturating_sub(1).min(30);
        let seconds = (1.0 + 4.0 * chance.clamp(0.0, 1.0)) * f64::from(1_u32 << doublings);
        (seconds.min(self.longest as f64) * 1e6) as i64
    }

    /// Microseconds to wait because the other side asks for `seconds`: never more than the longest wait, and
    /// never more than half of the time that is `left`. What a receiver says can't end a delivery.
    fn granted(self, seconds: i64, left: i64) -> i64 {
        seconds.clamp(0, self.longest).saturating_mul(1_000_000).min(left / 2)
    }

    /// What comes after an attempt that ended at `now`, when `attempts` were made, this one included
    /// (docs/protocol/decisions.md, No. 13 and 35).
    pub fn next(
        self,
        ending: &Ending,
        attempts: u32,
        give_up_at: Timestamp,
        now: Timestamp,
        chance: f64,
    ) -> Next {
        let wait = match ending {
            Ending::Delivered => return Next::Delivered,
            Ending::Skipped => return Next::Skipped,
            Ending::Failed => return Next::Failed,
            Ending::AtOnce => 0,
            Ending::Again { after } => {
                let left = give_up_at.micros().saturating_sub(now.micros());
                let granted = after.map_or(0, |seconds| self.granted(seconds, left));
                self.wait(attempts, chance).max(granted)
            }
        };
        let at = Timestamp::from_micros(now.micros().saturating_add(wait));
        if at < give_up_at { Next::At(at) } else { Next::Failed }
    }
}

/// Seconds by which a delivery may be scheduled in the future of a node, since the clocks of nodes differ.
const CLOCK_SKEW: i64 = 30;

/// Which deliveries wait only because a clock was set back: they were scheduled at an instant that is still
/// to come, or wait for longer than any delivery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Scheduled later than this.
    pub scheduled_after: Timestamp,
    /// Or due later than this.
    pub due_after: Timestamp,
}

impl Stranded {
    /// The deliveries that are stranded at `now`, where leases last for `lease` seconds. A lease is never
    /// taken for stranded by a node whose clock is behind by less than a lease.
    pub fn at(now: Timestamp, lease: i64, schedule: Schedule) -> Self {
        let skew = lease.max(CLOCK_SKEW);
        Self {
            scheduled_after: now.plus_seconds(skew),
            due_after: now.plus_seconds(schedule.longest.max(lease).saturating_add(skew)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::factors::FactorType;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn waits(chance: f64) -> Vec<i64> {
        (1..=14).map(|attempts| Schedule::default().wait(attempts, chance) / 1_000_000).collect()
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        assert_eq!(waits(0.0), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(waits(1.0), [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn the_other_side_may_ask_for_more_time_but_not_for_less() {
        let next =
            |after| Schedule::default().next(&Ending::Again { after }, 1, NOW.plus_seconds(86_400), NOW, 0.0);
        assert_eq!(next(None), Next::At(NOW.plus_seconds(1)));
        assert_eq!(next(Some(0)), Next::At(NOW.plus_seconds(1)));
        assert_eq!(next(Some(-5)), Next::At(NOW.plus_seconds(1)));
        assert_eq!(next(Some(120)), Next::At(NOW.plus_seconds(120)));
        assert_eq!(next(Some(3600)), Next::At(NOW.plus_seconds(3600)));
    }

    /// Such as `120000`, by a receiver that counts in milliseconds.
    #[test]
    fn wish_beyond_the_longest_wait_is_capped_by_it() {
        let next =
            |after| Schedule::default().next(&Ending::Again { after }, 1, NOW.plus_seconds(86_400), NOW, 0.0);
        for wish in [3601, 86_400, 120_000, i64::MAX] {
            assert_eq!(next(Some(wish)), Next::At(NOW.plus_seconds(3600)), "{wish}");
        }
    }

    #[test]
    fn wish_beyond_the_end_is_halved_and_ends_nothing() {
        let next = |left, after| {
            Schedule::default().next(&Ending::Again { after }, 1, NOW.plus_seconds(left), NOW, 0.0)
        };
        assert_eq!(next(300, Some(3600)), Next::At(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(200)), Next::At(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(150)), Next::At(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(149)), Next::At(NOW.plus_seconds(149)));
        // The server's own wait ends it, with a wish as without one.
        assert_eq!((next(1, Some(3600)), next(1, None)), (Next::Failed, Next::Failed));
    }

    #[test]
    fn delivery_is_stranded_only_by_more_than_clocks_differ() {
        let schedule = Schedule { longest: 600 };
        assert_eq!(
            Stranded::at(NOW, 45, schedule),
            Stranded { scheduled_after: NOW.plus_seconds(45), due_after: NOW.plus_seconds(645) }
        );
        // However short a lease is, clocks differ by more; and a lease may be the longest of all waits.
        assert_eq!(Stranded::at(NOW, 1, schedule).scheduled_after, NOW.plus_seconds(30));
        assert_eq!(Stranded::at(NOW, 900, schedule).due_after, NOW.plus_seconds(1800));
    }

    /// Several versions share a database while servers are replaced.
    #[test]
    fn what_a_later_version_keeps_beside_the_work_is_passed_over() {
        let (service_sid, challenge_sid) =
            (ServiceSid::generate(NOW, &Ones), ChallengeSid::generate(FactorType::Push, NOW, &Ones));
        let parameters = vec![("type".to_owned(), "challenge.approved".to_owned())];
        let asked = AskedPush {
            challenge_sid,
            factor_sid: FactorSid::generate(FactorType::Push, NOW, &Ones),
            service_sid,
            identity: "user-0001".to_owned(),
            notification_sid: None,
            ttl: 300,
        };
        let webhook_sid = WebhookSid::generate(NOW, &Ones);
        for work in [
            Work::Push(asked),
            Work::Webhook { webhook_sid, service_sid, parameters: parameters.clone(), once: false },
            Work::Debugger { alert_sid: AlertSid::generate(NOW, &Ones), parameters },
        ] {
            let mut kept = serde_json::to_value(&work).unwrap();
            kept["trace"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
            assert_eq!(serde_json::from_value::<Work>(kept).unwrap(), work);
        }
    }

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    #[test]
    fn ids_are_uuids_of_version_7() {
        let id = DeliveryId::generate(NOW, &Ones);
        assert_eq!(id.to_string(), "019b76da-a800-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "x", "019b76daa8007fffbfffffffffffffff", "+19b76da-a800-7fff-bfff-ffffffffffff"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever happens, a delivery ends, is never due in the past, and never after it is given up.
        #[test]
        fn every_delivery_ends(attempts in 1_u32..1000, left in -10_i64..100_000, chance in 0.0..1.0, after: Option<i64>) {
            let give_up_at = NOW.plus_seconds(left);
            match Schedule::default().next(&Ending::Again { after }, attempts, give_up_at, NOW, chance) {
                Next::At(at) => prop_assert!(at > NOW && at < give_up_at),
                next => prop_assert_eq!(next, Next::Failed),
            }
        }

        /// Whatever the other side asks for, there is another attempt exactly where there would be without.
        #[test]
        fn wish_ends_no_delivery(attempts in 1_u32..1000, left in -10_i64..100_000, chance in 0.0..1.0, after: i64) {
            let next = |after| {
                let ending = Ending::Again { after };
                Schedule::default().next(&ending, attempts, NOW.plus_seconds(left), NOW, chance)
            };
            prop_assert_eq!(next(Some(after)) == Next::Failed, next(None) == Next::Failed);
        }
    }
}
