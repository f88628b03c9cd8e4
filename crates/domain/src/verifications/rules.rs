//! Rules of a server for verifications, which its operator sets.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use crate::parameter::Bounded;
use crate::recipients::Country;
use crate::time::Timestamp;
use crate::verifications::{AttemptSummary, Validity};

/// The rules of a server for verifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationRules {
    /// How long a verification is valid.
    pub validity: Validity,
    /// Countries whose phone numbers may receive messages; empty if all may.
    pub countries: BTreeSet<Country>,
    /// Maximum number of messages that a service sends within an hour; `None` for no limit.
    pub per_service_per_hour: Option<NonZeroU32>,
    /// Number of messages of a service to phone numbers with the same [prefix](crate::PhoneNumber::prefix), within
    /// twelve hours, from which on enough of them must be approved (see [`PrefixTraffic`]); `None` for no such rule.
    pub per_prefix: Option<NonZeroU32>,
}

/// What became of the newest messages of a service to phone numbers with the same prefix. Messages that are not
/// approved are a sign of fraud: an operator of expensive numbers is paid for each message, and uses up whole ranges of
/// numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixTraffic {
    /// The number of messages, and how many of them were approved.
    pub summary: AttemptSummary,
    /// The time of the oldest of these messages; `None` if there are none.
    pub oldest: Option<Timestamp>,
}

impl PrefixTraffic {
    /// Returns whether fewer than a fifth of the messages were approved. A user who needs all five messages of a
    /// verification before typing the code is not suspicious.
    pub const fn is_suspicious(&self) -> bool {
        self.summary.converted * 5 < self.summary.total
    }
}

impl Default for VerificationRules {
    fn default() -> Self {
        const TEN_MINUTES: Validity = match Bounded::new(600) {
            Some(validity) => validity,
            // This is evaluated at compile time, so `unreachable!` can only fail the build.
            None => unreachable!(),
        };
        Self {
            validity: TEN_MINUTES,
            countries: BTreeSet::new(),
            per_service_per_hour: None,
            per_prefix: None,
        }
    }
}

impl VerificationRules {
    /// Returns whether messages are sent to phone numbers of a country. If the countries are restricted, numbers of no
    /// country get none.
    pub fn permits(&self, country: Option<Country>) -> bool {
        self.countries.is_empty() || country.is_some_and(|country| self.countries.contains(&country))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Parameter as _;

    #[test]
    fn restricted_countries_exclude_all_others() {
        let country = |code: &str| Country::from_parameter(code).ok();
        let all = VerificationRules::default();
        assert!(all.permits(country("AT")) && all.permits(None));
        let some = VerificationRules { countries: country("AT").into_iter().collect(), ..all };
        assert!(some.permits(country("AT")) && !some.permits(country("DE")) && !some.permits(None));
    }

    #[test]
    fn one_approval_in_five_messages_is_enough() {
        for (total, converted, is_suspicious) in
            [(0, 0, false), (1, 0, true), (5, 1, false), (6, 1, true), (10, 2, false)]
        {
            let summary = AttemptSummary { total, converted };
            let traffic = PrefixTraffic { summary, oldest: None };
            assert_eq!(traffic.is_suspicious(), is_suspicious, "{converted} of {total}");
        }
    }
}
