//! What is measured: latencies and failures, per step.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;

/// A request of a cycle, or of a mix of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The backend creates a challenge.
    Create,
    /// The phone lists its pending challenges.
    List,
    /// The phone fetches a challenge.
    Get,
    /// The phone answers a challenge.
    Answer,
    /// The backend reads a challenge.
    Read,
    /// The backend reads the service.
    Service,
    /// The backend requests a one-time code.
    Send,
    /// The backend checks the right one-time code.
    Check,
}

impl Step {
    /// All steps, in the order of a cycle.
    pub(crate) const ALL: [Self; 8] = [
        Self::Create,
        Self::List,
        Self::Get,
        Self::Answer,
        Self::Read,
        Self::Service,
        Self::Send,
        Self::Check,
    ];

    /// Returns whether the step needs an enrolled phone.
    pub(crate) const fn needs_phone(self) -> bool {
        !matches!(self, Self::Service | Self::Send | Self::Check)
    }

    /// Returns the step's name on the command line and in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Get => "get",
            Self::Answer => "answer",
            Self::Read => "read",
            Self::Service => "service",
            Self::Send => "send",
            Self::Check => "check",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Latencies in microseconds, with three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Longest latency that is recorded exactly; longer ones count as this. Requests time out earlier, but the first
    /// step of a late start also waits for its turn.
    const MAX: Duration = Duration::from_hours(1);

    #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram accepts")]
    fn new() -> Self {
        let max_micros = u64::try_from(Self::MAX.as_micros()).unwrap_or(u64::MAX);
        Self(Histogram::new_with_bounds(1, max_micros, 3).expect("valid bounds"))
    }

    fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// Returns the number of recorded latencies.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the latency that the fraction `quantile` of all requests did not exceed; zero if there are none.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(quantile))
    }

    /// Returns the longest latency; zero if there are none.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }
}

/// The measured part of a run: everything after the warm-up.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    /// Latencies of complete cycles, or of complete requests in other scenarios.
    iterations: Latencies,
    /// Latencies of successful requests, in the order of [`Step::ALL`].
    steps: [Latencies; Step::ALL.len()],
    /// Number of failed requests by step and failure.
    failures: BTreeMap<(Step, Failure), u64>,
    /// Number of cycles, or of requests in other scenarios, with a failed step.
    failed_iterations: u64,
    /// The end of the last iteration.
    last_end: Option<Instant>,
}

impl Measurement {
    /// Creates an empty measurement.
    pub(crate) fn new() -> Self {
        let none = Latencies::new();
        Self {
            steps: std::array::from_fn(|_| none.clone()),
            iterations: none,
            failures: BTreeMap::new(),
            failed_iterations: 0,
            last_end: None,
        }
    }

    /// Records a request that succeeded.
    pub(crate) fn record_success(&mut self, step: Step, latency: Duration) {
        self.steps[step as usize].record(latency);
    }

    /// Records a request that failed. Its latency is not recorded: fast refusals would improve the percentiles.
    pub(crate) fn record_failure(&mut self, step: Step, failure: Failure) {
        *self.failures.entry((step, failure)).or_default() += 1;
    }

    /// Records the end of an iteration, with its latency if all its steps succeeded.
    pub(crate) fn record_iteration(&mut self, end: Instant, latency: Option<Duration>) {
        match latency {
            Some(latency) => self.iterations.record(latency),
            None => self.failed_iterations += 1,
        }
        self.last_end = self.last_end.max(Some(end));
    }

    /// Adds everything that `other` has recorded.
    pub(crate) fn merge(&mut self, other: Self) {
        self.iterations.merge(&other.iterations);
        for (steps, others) in self.steps.iter_mut().zip(&other.steps) {
            steps.merge(others);
        }
        for (key, count) in other.failures {
            *self.failures.entry(key).or_default() += count;
        }
        self.failed_iterations += other.failed_iterations;
        self.last_end = self.last_end.max(other.last_end);
    }

    /// Returns the latencies of complete iterations.
    pub(crate) const fn iterations(&self) -> &Latencies {
        &self.iterations
    }

    /// Returns the latencies of each step that was taken.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Step, &Latencies)> {
        Step::ALL.into_iter().zip(&self.steps).filter(|(_, latencies)| latencies.count() > 0)
    }

    /// Returns the number of failed requests by step and failure.
    pub(crate) const fn failures(&self) -> &BTreeMap<(Step, Failure), u64> {
        &self.failures
    }

    /// Returns the number of iterations with a failed step.
    pub(crate) const fn failed_iterations(&self) -> u64 {
        self.failed_iterations
    }

    /// Returns the number of requests, failed ones included.
    pub(crate) fn request_count(&self) -> u64 {
        let succeeded = self.steps.iter().map(Latencies::count).sum::<u64>();
        succeeded + self.failures.values().sum::<u64>()
    }

    /// Returns the end of the last iteration, or `None` if there was none.
    pub(crate) const fn last_end(&self) -> Option<Instant> {
        self.last_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn quantiles_are_within_a_thousandth_of_the_recorded_latencies() {
        let mut latencies = Latencies::new();
        for number in 1..=1000 {
            latencies.record(MILLISECOND * number);
        }
        for (quantile, expected) in [(0.5, 500), (0.9, 900), (0.99, 990), (0.999, 999)] {
            let measured = latencies.quantile(quantile).as_secs_f64() * 1000.0;
            assert!((measured / f64::from(expected) - 1.0).abs() < 0.001, "{quantile}: {measured}");
        }
        assert!(latencies.max() >= MILLISECOND * 1000);
        assert_eq!(Latencies::new().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn latency_beyond_the_maximum_is_recorded_as_the_maximum() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_hours(5));
        assert!(latencies.max() >= Latencies::MAX, "{:?}", latencies.max());
    }

    #[test]
    fn merged_measurement_has_the_records_of_both() {
        let begin = Instant::now();
        let refused = Failure::Refused { status: 429, code: Some(20429) };
        let mut one = Measurement::new();
        one.record_success(Step::Create, MILLISECOND);
        one.record_failure(Step::List, refused.clone());
        one.record_iteration(begin, None);
        let mut other = Measurement::new();
        other.record_failure(Step::List, refused.clone());
        other.record_success(Step::Create, MILLISECOND * 3);
        other.record_iteration(begin + MILLISECOND, Some(MILLISECOND * 5));
        one.merge(other);
        assert_eq!(one.failures()[&(Step::List, refused)], 2);
        assert_eq!((one.request_count(), one.failed_iterations(), one.iterations().count()), (4, 1, 1));
        assert_eq!(one.last_end(), Some(begin + MILLISECOND));
        let steps: Vec<_> = one.steps().map(|(step, latencies)| (step, latencies.count())).collect();
        assert_eq!(steps, [(Step::Create, 2)]);
    }
}
