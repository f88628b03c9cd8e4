//! The options of `countersign load`, and what they mean together.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use domain::ServiceSid;
use terminal::CliError;

use crate::measurement::Step;
use crate::schedule::Pace;

/// Default number of phones, unless more virtual users need one each.
const DEFAULT_PHONES: usize = 100;

/// Options of `countersign load`.
#[derive(Debug, Args)]
pub struct LoadOptions {
    /// Base URL of the server or load balancer to put under load, such as http://127.0.0.1:8080. Required, and not
    /// read from the environment, because the command creates data there and uses all its capacity
    #[arg(long, value_name = "URL")]
    host: Option<String>,

    /// SID of an existing service to use (VA…). Without it, the command creates a service
    #[arg(long, value_name = "SID")]
    service: Option<ServiceSid>,

    /// Work of the virtual users: `cycle` for full sign-ins of five requests (create, list, get, answer, read), `codes`
    /// for one-time codes by text message (send, check), `poll` for phones that only list their pending challenges, or
    /// single requests with optional weights, such as `create` or `get=3,list=1`. Requests: create, list, get, answer,
    /// read, service, send, check. For codes, the account needs an outlet for text messages; use one of the kind
    /// capture, because the phone numbers may be in use. A service in --service must permit custom codes
    #[arg(long, default_value = "cycle")]
    scenario: Scenario,

    /// Number of phones to enroll, each for a user of its own [default: 100, or more if --concurrency is higher]
    #[arg(long, value_name = "COUNT")]
    phones: Option<NonZeroUsize>,

    /// Number of virtual users, each with one connection. With --rate, the maximum number of iterations in progress
    #[arg(long, value_name = "COUNT", default_value = "32")]
    concurrency: NonZeroUsize,

    /// Start this many cycles or requests per second, whether or not the server keeps up; latencies count from the
    /// scheduled start. Without it, each virtual user starts the next one when the previous one has ended
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Interval at which each phone polls in the scenario `poll`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    poll_interval: Duration,

    /// Measured time, such as 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,

    /// Time before the measured time, in which the load is the same and nothing is recorded
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    warmup: Duration,

    /// Number of challenges to prepare for the request `answer`, and of codes for `check`, because each can be used
    /// once. The run ends early when all are used
    #[arg(long, value_name = "COUNT", default_value = "10000")]
    challenges: NonZeroUsize,

    /// Register the phones for pushes: Android phones with FCM, iPhones with APNs. Use --service with a service that
    /// has push credentials
    #[arg(long, requires = "service")]
    push: bool,

    /// Number of threads that send requests. One thread sends about 20,000 requests per second
    #[arg(long, value_name = "COUNT", default_value = "1")]
    threads: NonZeroUsize,

    /// Keep the created service, or the created users of an existing service, instead of deleting them at the end
    #[arg(long)]
    keep: bool,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// The work of the virtual users.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scenario {
    /// Full sign-ins: create a challenge, list, get and answer it, read its status.
    Cycle,
    /// One-time codes: request a code, check it.
    Codes,
    /// Each phone lists its pending challenges at an interval.
    Poll,
    /// Single requests.
    Requests(Mix),
}

/// Kinds of requests, each with its share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix(Vec<(Step, NonZeroU32)>);

impl Mix {
    /// Returns the kind of the request with this number. Kinds alternate in a fixed order with the length of all
    /// weights together.
    pub(crate) fn step(&self, number: u64) -> Step {
        let total: u64 = self.0.iter().map(|(_, weight)| u64::from(weight.get())).sum();
        let mut place = number % total.max(1);
        for (step, weight) in &self.0 {
            match place.checked_sub(weight.get().into()) {
                Some(rest) => place = rest,
                None => return *step,
            }
        }
        Step::Service
    }

    /// Returns whether requests of this kind are part of the mix.
    pub(crate) fn contains(&self, step: Step) -> bool {
        self.0.iter().any(|(contained, _)| *contained == step)
    }
}

impl Scenario {
    /// Returns whether the scenario needs enrolled phones.
    pub(crate) fn needs_phones(&self) -> bool {
        match self {
            Self::Cycle | Self::Poll => true,
            Self::Codes => false,
            Self::Requests(Mix(shares)) => shares.iter().any(|(step, _)| step.needs_phone()),
        }
    }

    /// Returns whether the scenario sends one-time codes.
    pub(crate) fn has_codes(&self) -> bool {
        match self {
            Self::Cycle | Self::Poll => false,
            Self::Codes => true,
            Self::Requests(mix) => mix.contains(Step::Send) || mix.contains(Step::Check),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle => f.write_str("cycle"),
            Self::Codes => f.write_str("codes"),
            Self::Poll => f.write_str("poll"),
            Self::Requests(Mix(shares)) => {
                let shares: Vec<_> = shares.iter().map(|(step, weight)| format!("{step}={weight}")).collect();
                f.write_str(&shares.join(","))
            }
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cycle" => Ok(Self::Cycle),
            "codes" => Ok(Self::Codes),
            "poll" => Ok(Self::Poll),
            text => text
                .split(',')
                .map(parse_share)
                .collect::<Result<_, _>>()
                .map(|shares| Self::Requests(Mix(shares))),
        }
    }
}

/// Parses a kind of request with its weight, such as `get=3`; without a weight, the weight is 1.
fn parse_share(text: &str) -> Result<(Step, NonZeroU32), String> {
    let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
    let step = Step::ALL.into_iter().find(|step| step.as_str() == name);
    let weight = weight.parse().map_err(|_| format!("the weight of {name} must be a whole number from 1"))?;
    let step = step.ok_or_else(|| {
        format!("{name} is none of cycle, codes, poll, {}", Step::ALL.map(Step::as_str).join(", "))
    })?;
    Ok((step, weight))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.001..=1_000_000.0).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.001 to 1000000".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "must be a duration such as 500ms, 30s or 5m".to_owned())
}

/// The options of a run, complete and consistent.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Base URL of the deployment.
    pub(crate) host: String,
    /// SID of the existing service to use.
    pub(crate) service: Option<ServiceSid>,
    /// Work of the virtual users.
    pub(crate) scenario: Scenario,
    /// Number of phones; 0 if the scenario needs none.
    pub(crate) phones: usize,
    /// Number of virtual users.
    pub(crate) concurrency: usize,
    /// When iterations start.
    pub(crate) pace: Pace,
    /// Measured time.
    pub(crate) duration: Duration,
    /// Time before the measured time.
    pub(crate) warmup: Duration,
    /// Number of challenges to prepare for answers, and of codes for checks.
    pub(crate) challenges: usize,
    /// Whether the phones register for pushes.
    pub(crate) has_push: bool,
    /// Number of threads that send requests.
    pub(crate) threads: usize,
    /// Whether created data stay on the server.
    pub(crate) is_kept: bool,
    /// Whether the report is JSON.
    pub(crate) is_json: bool,
}

impl LoadOptions {
    /// Returns the options with all defaults that depend on other options.
    ///
    /// # Errors
    /// Returns an error if there is no host, or if options exclude each other.
    pub(crate) fn settings(self) -> Result<Settings, CliError> {
        let host = self.host.ok_or_else(|| {
            CliError::new(
                "load needs --host, such as --host http://127.0.0.1:8080. There is no default, because the command \
                 creates data on the server and uses all its capacity",
            )
        })?;
        let concurrency = self.concurrency.get();
        let phones = match self.scenario.needs_phones() {
            true => self.phones.map_or(DEFAULT_PHONES.max(concurrency), NonZeroUsize::get),
            false => 0,
        };
        if self.scenario == Scenario::Cycle && phones < concurrency {
            return Err(CliError::new(format!(
                "--phones {phones} is less than --concurrency {concurrency}; each virtual user needs a phone of its own"
            )));
        }
        let pace = match (&self.scenario, self.rate) {
            (Scenario::Poll, Some(_)) => {
                return Err(CliError::new(
                    "--rate does not apply to --scenario poll; its rate is --phones divided by --poll-interval",
                ));
            }
            (Scenario::Poll, None) => Pace::PerSecond(phones as f64 / self.poll_interval.as_secs_f64()),
            (_, Some(rate)) => Pace::PerSecond(rate),
            (_, None) => Pace::Unlimited,
        };
        Ok(Settings {
            host,
            service: self.service,
            scenario: self.scenario,
            phones,
            concurrency,
            pace,
            duration: self.duration,
            warmup: self.warmup,
            challenges: self.challenges.get(),
            has_push: self.push,
            threads: self.threads.get().min(concurrency),
            is_kept: self.keep,
            is_json: self.json,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        load: LoadOptions,
    }

    fn settings(arguments: &str) -> Result<Settings, String> {
        let words = ["load"].into_iter().chain(arguments.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.load.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn run_without_a_host_is_refused() {
        assert!(settings("").unwrap_err().contains("--host"));
        assert_eq!(settings("--host http://127.0.0.1").unwrap().host, "http://127.0.0.1");
    }

    #[test]
    fn each_virtual_user_of_a_cycle_has_a_phone() {
        let phones =
            |arguments: &str| settings(&format!("--host x {arguments}")).map(|settings| settings.phones);
        assert_eq!(phones(""), Ok(100));
        assert_eq!(phones("--concurrency 200"), Ok(200));
        assert!(phones("--concurrency 200 --phones 100").unwrap_err().contains("--phones 100"));
        assert_eq!(phones("--concurrency 200 --phones 100 --scenario get"), Ok(100));
        assert_eq!(
            ["codes", "send,check=2"].map(|name| phones(&format!("--scenario {name}"))),
            [Ok(0), Ok(0)]
        );
    }

    #[test]
    fn pace_follows_from_the_rate_or_the_polling_interval() {
        let pace = |arguments: &str| settings(&format!("--host x {arguments}")).map(|settings| settings.pace);
        assert_eq!(pace(""), Ok(Pace::Unlimited));
        assert_eq!(pace("--rate 1500"), Ok(Pace::PerSecond(1500.0)));
        assert_eq!(pace("--scenario poll --phones 20000"), Ok(Pace::PerSecond(2000.0)));
        assert!(pace("--scenario poll --rate 5").unwrap_err().contains("--poll-interval"));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(pace(&format!("--rate={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_of_a_mix_alternate_in_proportion_to_their_weights() {
        let Scenario::Requests(mix) = "get=3,list".parse().unwrap() else { panic!("not a mix") };
        let steps: Vec<_> = (0..8).map(|number| mix.step(number).as_str()).collect();
        assert_eq!(steps, ["get", "get", "get", "list", "get", "get", "get", "list"]);
        assert!(mix.contains(Step::Get) && !mix.contains(Step::Answer));
    }

    #[test]
    fn unknown_request_or_weight_is_rejected() {
        for (text, expected) in
            [("", "none of"), ("cycles", "none of"), ("get=0", "weight"), ("get=x", "weight")]
        {
            let error = text.parse::<Scenario>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
