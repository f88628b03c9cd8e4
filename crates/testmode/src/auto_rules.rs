//! Rules by which virtual devices spend the access tokens of the application under test.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::access_tokens::Grant;
use domain::{Identity, ServiceSid};
use serde::Deserialize;
use serde_json::Value;

use crate::behavior::Pattern;

/// A rule: an access token for an identity that matches is spent by a new device.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutoRule {
    when: When,
    /// The members of the new device, without its service and its identity.
    pub(crate) device: Value,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    identity: Pattern,
}

/// The rules of a server.
#[derive(Default)]
pub(crate) struct AutoRules(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    rules: Vec<(u64, AutoRule)>,
    /// Number of rules that were ever added, from which the next rule gets its ID.
    rules_ever: u64,
    /// Users for whom test mode itself creates an access token at the moment.
    own: HashSet<(ServiceSid, Identity)>,
}

impl AutoRules {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule, and returns its ID.
    pub(crate) fn add(&self, rule: AutoRule) -> u64 {
        let mut contents = self.lock();
        contents.rules_ever += 1;
        let id = contents.rules_ever;
        contents.rules.push((id, rule));
        id
    }

    /// Removes the rule with this ID. Returns whether there was one.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut contents = self.lock();
        let before = contents.rules.len();
        contents.rules.retain(|(known, _)| *known != id);
        contents.rules.len() < before
    }

    /// Removes all rules.
    pub(crate) fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Returns the first rule for an access token, unless test mode itself creates the token.
    pub(crate) fn find(&self, grant: &Grant) -> Option<AutoRule> {
        let contents = self.lock();
        if contents.own.contains(&(grant.service_sid, grant.identity.clone())) {
            return None;
        }
        let rule =
            contents.rules.iter().find(|(_, rule)| rule.when.identity.matches(grant.identity.as_str()));
        rule.map(|(_, rule)| rule.clone())
    }

    /// Excepts access tokens for this user from the rules, until [`end_exception`](Self::end_exception) is called.
    pub(crate) fn except(&self, service_sid: ServiceSid, identity: &Identity) {
        self.lock().own.insert((service_sid, identity.clone()));
    }

    /// Ends an exception.
    pub(crate) fn end_exception(&self, service_sid: ServiceSid, identity: &Identity) {
        self.lock().own.remove(&(service_sid, identity.clone()));
    }
}
