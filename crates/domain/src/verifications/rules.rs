//! Rules of a server for verifications, which its operator sets.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use crate::parameter::Bounded;
use crate::recipients::Country;
use crate::verifications::Validity;

/// The rules of a server for verifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationRules {
    /// How long a verification is valid.
    pub validity: Validity,
    /// Countries whose phone numbers may receive messages; empty if all may.
    pub countries: BTreeSet<Country>,
    /// Maximum number of messages that a service sends within an hour; `None` for no limit.
    pub per_service_per_hour: Option<NonZeroU32>,
}

impl Default for VerificationRules {
    fn default() -> Self {
        const TEN_MINUTES: Validity = match Bounded::new(600) {
            Some(validity) => validity,
            // This is evaluated at compile time, so `unreachable!` can only fail the build.
            None => unreachable!(),
        };
        Self { validity: TEN_MINUTES, countries: BTreeSet::new(), per_service_per_hour: None }
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
}
