//! When iterations start: as soon as a virtual user is free, or at a fixed rate.
//!
//! At a fixed rate, starts do not depend on the server. If all virtual users still wait for responses when a start is
//! due, the start is late, and its latency includes the delay. A load driver that measures from the actual start
//! instead leaves out the requests that a stalled server would have delayed most ("coordinated omission").

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Maximum delay of a start that is attributed to the timer of this process, whose resolution is a millisecond. Such a
/// start is measured from its actual time.
const TIMER_TOLERANCE: Duration = Duration::from_millis(2);

/// What decides when an iteration starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Each virtual user starts the next iteration when the previous one has ended (closed loop).
    Unlimited,
    /// This number of iterations starts each second (open loop).
    PerSecond(f64),
}

/// The starts of all iterations of a run, shared by all virtual users.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    begin: Instant,
    /// The end of the warm-up. Earlier starts are not measured.
    measured_from: Instant,
    end: Instant,
    /// Number of starts that virtual users have taken.
    taken: AtomicU64,
    is_stopped: AtomicBool,
}

/// The start of an iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Number of the iteration, counted from 0.
    pub(crate) number: u64,
    /// The instant from which the latency is measured.
    pub(crate) at: Instant,
    /// Whether the iteration is measured; during the warm-up it is not.
    pub(crate) is_measured: bool,
}

impl Schedule {
    /// Creates a schedule that begins now.
    pub(crate) fn new(pace: Pace, warmup: Duration, duration: Duration) -> Self {
        let begin = Instant::now();
        let measured_from = begin + warmup;
        Self {
            pace,
            begin,
            measured_from,
            end: measured_from + duration,
            taken: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Waits until the next iteration starts. Returns `None` if the run is over.
    pub(crate) async fn next(&self) -> Option<Start> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let scheduled = self.scheduled(number).unwrap_or(asked);
        if asked.max(scheduled) >= self.end || self.is_stopped.load(Ordering::Relaxed) {
            return None;
        }
        let at = if scheduled > asked {
            sleep_until(scheduled.into()).await;
            start_after_sleep(scheduled, Instant::now())
        } else {
            scheduled
        };
        Some(Start { number, at, is_measured: scheduled >= self.measured_from })
    }

    /// Ends the run early: no further iterations start.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Returns the instant at which the iteration is scheduled, or `None` in a closed loop.
    fn scheduled(&self, number: u64) -> Option<Instant> {
        match self.pace {
            Pace::Unlimited => None,
            Pace::PerSecond(rate) => Some(self.begin + Duration::from_secs_f64(number as f64 / rate)),
        }
    }

    /// Returns the number of measured iterations that are scheduled in all, or `None` in a closed loop.
    pub(crate) fn scheduled_count(&self) -> Option<u64> {
        let Pace::PerSecond(rate) = self.pace else { return None };
        let before = |instant: Instant| ((instant - self.begin).as_secs_f64() * rate).ceil() as u64;
        Some(before(self.end) - before(self.measured_from))
    }

    /// Returns the end of the warm-up.
    pub(crate) const fn measured_from(&self) -> Instant {
        self.measured_from
    }

    /// Returns the time since the begin, at most the planned duration of the run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed().min(self.duration())
    }

    /// Returns the planned duration of the run, including the warm-up.
    pub(crate) fn duration(&self) -> Duration {
        self.end - self.begin
    }
}

/// Returns the instant from which to measure an iteration whose virtual user was free, and slept until `woke`.
fn start_after_sleep(scheduled: Instant, woke: Instant) -> Instant {
    // A longer delay means that this process did not get the processor, which delays real clients too.
    if woke - scheduled <= TIMER_TOLERANCE { woke } else { scheduled }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn closed_loop_starts_at_once_until_the_end() {
        let schedule = Schedule::new(Pace::Unlimited, MILLISECOND * 500, MILLISECOND * 500);
        let first = schedule.next().await.unwrap();
        assert!(!first.is_measured && first.number == 0);
        tokio::time::sleep(MILLISECOND * 550).await;
        let second = schedule.next().await.unwrap();
        assert!(second.is_measured && second.number == 1);
        tokio::time::sleep(MILLISECOND * 500).await;
        assert!(schedule.next().await.is_none());
        assert_eq!(schedule.scheduled_count(), None);
    }

    #[tokio::test]
    async fn latencies_after_a_stall_are_measured_from_the_scheduled_starts() {
        // One virtual user at 100 starts a second, whose first request takes 200 ms and all others none.
        let schedule = Schedule::new(Pace::PerSecond(100.0), Duration::ZERO, MILLISECOND * 1000);
        let mut latencies = Vec::new();
        while let Some(start) = schedule.next().await {
            if start.number == 0 {
                tokio::time::sleep(MILLISECOND * 200).await;
            }
            latencies.push(start.at.elapsed());
        }
        // Starts 1 to 19 were due during the stall: the first of them waited 190 ms, the next 180 ms, and so on.
        for (number, latency) in latencies.iter().enumerate().skip(1).take(19) {
            let wait = MILLISECOND * 200 - MILLISECOND * 10 * u32::try_from(number).unwrap();
            assert!(*latency >= wait, "{number}: {latency:?} < {wait:?}");
        }
        // Every start was made, since the run went on after the stall.
        assert_eq!(Some(latencies.len() as u64), schedule.scheduled_count());
    }

    #[tokio::test]
    async fn starts_that_are_due_after_the_end_are_not_made() {
        let schedule = Schedule::new(Pace::PerSecond(1000.0), Duration::ZERO, MILLISECOND * 500);
        assert!(schedule.next().await.is_some());
        tokio::time::sleep(MILLISECOND * 550).await;
        assert!(schedule.next().await.is_none());
        assert_eq!(schedule.scheduled_count(), Some(500));
    }

    #[tokio::test]
    async fn stopped_schedule_has_no_more_starts() {
        let schedule = Schedule::new(Pace::Unlimited, Duration::ZERO, Duration::from_hours(1));
        assert!(schedule.next().await.is_some());
        schedule.stop();
        assert!(schedule.next().await.is_none());
    }

    #[test]
    fn only_starts_after_the_warm_up_are_counted() {
        let schedule = Schedule::new(Pace::PerSecond(10.0), Duration::from_secs(2), Duration::from_secs(3));
        assert_eq!(schedule.scheduled_count(), Some(30));
        assert_eq!(schedule.duration(), Duration::from_secs(5));
        let measured = |number| schedule.scheduled(number).unwrap() >= schedule.measured_from();
        assert!(!measured(19) && measured(20));
    }

    #[test]
    fn only_the_imprecision_of_the_timer_is_not_attributed_to_the_server() {
        let scheduled = Instant::now();
        assert_eq!(start_after_sleep(scheduled, scheduled + MILLISECOND), scheduled + MILLISECOND);
        assert_eq!(start_after_sleep(scheduled, scheduled + MILLISECOND * 9), scheduled);
    }
}
