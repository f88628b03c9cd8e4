//! Everything that the virtual users share: the deployment, the phones, prepared challenges, and the schedule.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Backend;
use crate::failure::Failure;
use crate::options::Scenario;
use crate::phones::{Phone, SignedAnswer};
use crate::schedule::Schedule;
use crate::target::{Request, Target};

/// The plan of a run.
pub(crate) struct Plan {
    /// The deployment under load.
    pub(crate) target: Arc<Target>,
    /// The backend whose requests the virtual users send.
    pub(crate) backend: Arc<Backend>,
    /// The enrolled phones.
    pub(crate) phones: Vec<Phone>,
    /// Challenges and codes that exist before the run.
    pub(crate) prepared: Prepared,
    /// The work of the virtual users.
    pub(crate) scenario: Scenario,
    /// Number of virtual users.
    pub(crate) concurrency: usize,
    /// When iterations start.
    pub(crate) schedule: Schedule,
    /// Number of iterations that have ended, including those of the warm-up.
    pub(crate) ended: AtomicU64,
}

/// Challenges and codes that exist before the run, because requests of a mix refer to them.
#[derive(Default)]
pub(crate) struct Prepared {
    /// SID of a pending challenge of each phone; empty if the scenario needs none.
    pub(crate) pending: Vec<String>,
    /// Signed answers that were not sent, each with the number of its phone.
    pub(crate) answers: Mutex<Vec<(usize, SignedAnswer)>>,
    /// Number of codes that were sent, to the phone numbers from 0 on.
    pub(crate) code_count: u64,
    /// Number of calls of [`take_code`](Self::take_code).
    pub(crate) checked: AtomicU64,
}

impl Prepared {
    /// Removes and returns a signed answer with the number of its phone. Returns `None` if all have been sent.
    pub(crate) fn take_answer(&self) -> Option<(usize, SignedAnswer)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Returns a phone number whose code was not checked before, or `None` if all have been checked.
    pub(crate) fn take_code(&self) -> Option<u64> {
        let number = self.checked.fetch_add(1, Ordering::Relaxed);
        (number < self.code_count).then_some(number)
    }
}

impl Plan {
    /// Returns the index of the phone whose turn it is. Phones take turns, so that in the scenario `poll` the interval
    /// between two polls of a phone is constant. Returns 0 if there are no phones.
    pub(crate) fn phone_index(&self, iteration: u64) -> usize {
        let index = iteration.checked_rem(self.phones.len() as u64).unwrap_or_default();
        usize::try_from(index).unwrap_or_default()
    }

    /// Builds the request that creates a challenge for a phone.
    pub(crate) fn create_challenge(&self, phone: &Phone) -> Result<Request, Failure> {
        self.backend.create_challenge(&self.target, phone.challenges_path(), phone.factor_sid(), None)
    }

    /// Builds the request with which the backend reads a challenge of a phone.
    pub(crate) fn read_challenge(&self, phone: &Phone, sid: &str) -> Result<Request, Failure> {
        self.backend.read_challenge(&self.target, phone.challenges_path(), sid)
    }

    /// Counts an iteration that has ended.
    pub(crate) fn count_iteration(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}
