//! The result of a run, as text for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};
use terminal::{plain, table};

use crate::failure::Failure;
use crate::measurement::{Latencies, Measurement};
use crate::options::{Scenario, Settings};
use crate::process::{Process, Usage};
use crate::schedule::Pace;

/// The quantiles that a report contains, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The server's process, which runs on this machine, and what it used in the measured time.
pub(crate) struct ServerUsage {
    /// The process that listens on the port of the deployment.
    pub(crate) process: Process,
    /// What the process used.
    pub(crate) usage: Usage,
}

/// The result of a run.
pub(crate) struct Report {
    /// The options of the run.
    pub(crate) settings: Settings,
    /// SID of the service that was used.
    pub(crate) service: String,
    /// Latencies and failures.
    pub(crate) measurement: Measurement,
    /// Time from the end of the warm-up to the end of the last iteration.
    pub(crate) elapsed: Duration,
    /// Number of measured iterations that were due, at a fixed rate.
    pub(crate) scheduled: Option<u64>,
    /// What this process used in the measured time, if the kernel provides it.
    pub(crate) driver: Option<Usage>,
    /// The server's process, if it runs on this machine and may be inspected.
    pub(crate) server: Option<ServerUsage>,
}

impl Report {
    /// Returns the name of an iteration.
    fn unit(&self) -> &'static str {
        match self.settings.scenario {
            Scenario::Cycle => "cycle",
            Scenario::Codes => "code",
            Scenario::Poll => "poll",
            Scenario::Requests(_) => "request",
        }
    }

    /// Returns the number of iterations whose steps all succeeded.
    pub(crate) fn completed(&self) -> u64 {
        self.measurement.iterations().count()
    }

    fn per_second(&self, count: u64) -> f64 {
        ratio(count as f64, self.elapsed.as_secs_f64())
    }

    /// Returns the number of iterations that were due and not started before the end.
    fn late(&self) -> Option<u64> {
        let started = self.completed() + self.measurement.failed_iterations();
        self.scheduled.map(|scheduled| scheduled.saturating_sub(started))
    }

    fn milliseconds_per_iteration(&self, cpu: Duration) -> f64 {
        ratio(cpu.as_secs_f64() * 1000.0, self.completed() as f64)
    }

    /// Returns the report as one JSON object. Times are in milliseconds unless the name has another unit.
    pub(crate) fn to_json(&self) -> Value {
        let Settings { host, scenario, phones, concurrency, threads, pace, .. } = &self.settings;
        let rate = match pace {
            Pace::Unlimited => None,
            Pace::PerSecond(rate) => Some(rate),
        };
        let steps = self.measurement.steps().map(|(step, latencies)| {
            let mut object = Map::from_iter([("step".to_owned(), Value::from(step.as_str()))]);
            object.extend(latencies_json(latencies));
            Value::Object(object)
        });
        let errors = self.measurement.failures().iter().map(|((step, failure), count)| {
            let (status, code) = match failure {
                Failure::Refused { status, code } => (Some(*status), *code),
                Failure::NoResponse(_) | Failure::Unexpected(_) => (None, None),
            };
            json!({
                "step": step.as_str(), "status": status, "code": code,
                "reason": failure.to_string(), "count": count,
            })
        });
        json!({
            "host": host,
            "service": self.service,
            "scenario": scenario.to_string(),
            "phones": phones,
            "concurrency": concurrency,
            "threads": threads,
            "rate": rate,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "unit": self.unit(),
            "completed": self.completed(),
            "failed": self.measurement.failed_iterations(),
            "not_started": self.late(),
            "per_second": rounded(self.per_second(self.completed())),
            "requests": self.measurement.request_count(),
            "latency": latencies_json(self.measurement.iterations()),
            "steps": steps.collect::<Vec<_>>(),
            "errors": errors.collect::<Vec<_>>(),
            "driver": self.driver.map(|driver| json!({
                "cpu_seconds": driver.cpu.as_secs_f64(),
                "cpu_ms_per_iteration": rounded(self.milliseconds_per_iteration(driver.cpu)),
            })),
            "server": self.server.as_ref().map(|server| self.server_json(server)),
        })
    }

    fn server_json(&self, server: &ServerUsage) -> Value {
        json!({
            "pid": server.process.id(),
            "name": server.process.name(),
            "cpu_seconds": server.usage.cpu.as_secs_f64(),
            "cpu_ms_per_iteration": rounded(self.milliseconds_per_iteration(server.usage.cpu)),
            "context_switches_per_request": rounded(self.switches_per_request(server)),
            "resident_mib": rounded(mebibytes(server.usage.resident_bytes)),
        })
    }

    fn switches_per_request(&self, server: &ServerUsage) -> f64 {
        ratio(server.usage.context_switches as f64, self.measurement.request_count() as f64)
    }

    /// Returns the report as text of several lines.
    pub(crate) fn to_text(&self) -> String {
        let unit = self.unit();
        let Settings { scenario, phones, concurrency, pace, .. } = &self.settings;
        let mut load = format!("{scenario}, {concurrency} virtual users, {phones} phones");
        if let Pace::PerSecond(rate) = pace {
            let _ = write!(load, ", {rate} per second");
        }
        let completed = self.completed();
        let mut rows = vec![
            ("load", load),
            ("measured", format!("{:.1} s", self.elapsed.as_secs_f64())),
            ("completed", format!("{completed} {unit}s, {:.1} per second", self.per_second(completed))),
            ("failed", self.measurement.failed_iterations().to_string()),
        ];
        if let Some(late @ 1..) = self.late() {
            rows.push((
                "not started",
                format!("{late} were due and had to wait: the rate is beyond the capacity"),
            ));
        }
        if let Some(driver) = &self.driver {
            let cpu = self.milliseconds_per_iteration(driver.cpu);
            rows.push(("driver", format!("{cpu:.3} ms of CPU per {unit}")));
        }
        if let Some(server) = &self.server {
            rows.push(("server", self.server_text(server)));
        }
        format!("{}\n\n{}{}", table(&rows), self.latency_table(), self.error_list())
    }

    fn server_text(&self, server: &ServerUsage) -> String {
        format!(
            "{:.3} ms of CPU per {}, {:.1} context switches per request, {:.0} MiB resident ({}, process {})",
            self.milliseconds_per_iteration(server.usage.cpu),
            self.unit(),
            self.switches_per_request(server),
            mebibytes(server.usage.resident_bytes),
            server.process.name(),
            server.process.id(),
        )
    }

    fn latency_table(&self) -> String {
        let mut text = format!("  {:12}{:>10}", "latency, ms", "count");
        for name in QUANTILES.map(|(name, _)| name).into_iter().chain(["max"]) {
            let _ = write!(text, "{name:>10}");
        }
        text.push('\n');
        let all =
            (self.settings.scenario == Scenario::Cycle).then(|| ("cycle", self.measurement.iterations()));
        let steps = self.measurement.steps().map(|(step, latencies)| (step.as_str(), latencies));
        for (name, latencies) in steps.chain(all) {
            let _ = write!(text, "  {name:12}{:>10}", latencies.count());
            for latency in QUANTILES
                .map(|(_, quantile)| latencies.quantile(quantile))
                .into_iter()
                .chain([latencies.max()])
            {
                let _ = write!(text, "{:>10.2}", milliseconds(latency));
            }
            text.push('\n');
        }
        text
    }

    fn error_list(&self) -> String {
        let mut text = String::new();
        for ((step, failure), count) in self.measurement.failures() {
            let _ = write!(text, "\n  {count} × {step}: {}", plain(&failure.to_string()));
        }
        text
    }
}

fn latencies_json(latencies: &Latencies) -> Map<String, Value> {
    let quantiles = QUANTILES.map(|(name, quantile)| (format!("{name}_ms"), latencies.quantile(quantile)));
    let all = quantiles.into_iter().chain([("max_ms".to_owned(), latencies.max())]);
    let all = all.map(|(name, latency)| (name, Value::from(milliseconds(latency))));
    [("count".to_owned(), Value::from(latencies.count()))].into_iter().chain(all).collect()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// Returns `a / b`, or zero if `b` is zero, which JSON could not represent.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// Returns a number with three decimal places.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::measurement::Step;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Returns the report of ten seconds with 100 cycles of 20 ms, and one whose answer was refused.
    fn report(pace: Pace) -> Report {
        let mut measurement = Measurement::new();
        let begin = Instant::now();
        for number in 1..=100 {
            for step in [Step::Create, Step::List, Step::Get, Step::Answer, Step::Read] {
                measurement.record_success(step, MILLISECOND * 4);
            }
            measurement.record_iteration(begin + MILLISECOND * number, Some(MILLISECOND * 20));
        }
        measurement.record_success(Step::Create, MILLISECOND * 4);
        let refused = Failure::Refused { status: 403, code: Some(60323) };
        measurement.record_failure(Step::Answer, refused);
        measurement.record_iteration(begin, None);
        let used = |cpu: u32, context_switches| Usage {
            cpu: MILLISECOND * cpu,
            context_switches,
            resident_bytes: 41 * 1024 * 1024,
        };
        Report {
            settings: Settings {
                host: "http://127.0.0.1:8080".to_owned(),
                service: None,
                scenario: Scenario::Cycle,
                phones: 100,
                concurrency: 32,
                pace,
                duration: Duration::from_secs(10),
                warmup: Duration::from_secs(2),
                challenges: 1,
                has_push: false,
                threads: 1,
                is_kept: false,
                is_json: false,
            },
            service: "VA00000000000000000000000000000000".to_owned(),
            measurement,
            elapsed: Duration::from_secs(10),
            scheduled: (pace != Pace::Unlimited).then_some(111),
            driver: Some(used(25, 0)),
            server: Some(ServerUsage { process: Process::current(), usage: used(110, 2008) }),
        }
    }

    #[test]
    fn json_report_has_rates_latencies_errors_and_usage() {
        let json = report(Pace::Unlimited).to_json();
        assert_eq!(
            (&json["completed"], &json["failed"], &json["requests"]),
            (&100.into(), &1.into(), &502.into())
        );
        assert_eq!((&json["unit"], &json["per_second"]), (&"cycle".into(), &10.0.into()));
        assert_eq!((&json["rate"], &json["not_started"]), (&Value::Null, &Value::Null));
        assert_eq!(json["latency"]["count"], 100);
        assert!((json["latency"]["p99.9_ms"].as_f64().unwrap() - 20.0).abs() < 0.05, "{json}");
        assert_eq!(json["steps"].as_array().unwrap().len(), 5);
        assert_eq!((&json["steps"][0]["step"], &json["steps"][0]["count"]), (&"create".into(), &101.into()));
        let error = &json["errors"][0];
        assert_eq!((&error["step"], &error["status"]), (&"answer".into(), &403.into()));
        assert_eq!((&error["code"], &error["count"]), (&60323.into(), &1.into()));
        assert_eq!(json["driver"]["cpu_ms_per_iteration"], 0.25);
        assert_eq!(json["server"]["cpu_ms_per_iteration"], 1.1);
        assert_eq!(json["server"]["context_switches_per_request"], 4.0);
        assert_eq!(json["server"]["resident_mib"], 41.0);
    }

    #[test]
    fn text_report_has_a_line_per_step_and_per_kind_of_error() {
        let text = report(Pace::Unlimited).to_text();
        for expected in [
            "cycle, 32 virtual users, 100 phones",
            "100 cycles, 10.0 per second",
            "0.250 ms of CPU per cycle",
            "4.0 context switches per request, 41 MiB resident",
            "  create             101      4.00",
            "1 × answer: HTTP status 403, code 60323",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("not started"), "{text}");
    }

    #[test]
    fn starts_that_were_due_and_not_made_are_reported() {
        let report = report(Pace::PerSecond(11.1));
        assert_eq!(report.to_json()["not_started"], 10);
        assert!(report.to_text().contains("10 were due"), "{}", report.to_text());
    }

    #[test]
    fn run_without_a_single_iteration_is_reported_with_zeros() {
        let report =
            Report { measurement: Measurement::new(), elapsed: Duration::ZERO, ..report(Pace::Unlimited) };
        let json = report.to_json();
        assert_eq!(
            (&json["per_second"], &json["driver"]["cpu_ms_per_iteration"]),
            (&0.0.into(), &0.0.into())
        );
        assert_eq!(json["latency"]["max_ms"], 0.0);
    }
}
