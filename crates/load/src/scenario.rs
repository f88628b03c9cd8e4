//! The work of a virtual user: full cycles, one-time codes, single requests, or polls.

use std::cell::RefCell;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::unconstrained;
use tokio::time::sleep;

use crate::backend::ChallengeView;
use crate::client::{Client, Reply};
use crate::failure::Failure;
use crate::measurement::{Measurement, Step};
use crate::options::Scenario;
use crate::phones::{Phone, require_listed};
use crate::plan::Plan;
use crate::schedule::Start;
use crate::target::Request;

/// Pause after a request without a response, so that a server that is down is not flooded with connections.
const PAUSE_AFTER_NO_RESPONSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The work of an iteration ended early. The failed request is recorded already, if there was one.
enum Interrupted {
    /// A request failed.
    Failed,
    /// No prepared challenge or code is left.
    Exhausted,
}

/// Runs the virtual users with the numbers `users` until the schedule ends, and returns what they measured.
pub(crate) async fn run_users(plan: &Plan, users: impl Iterator<Item = usize>) -> Measurement {
    let measurement = RefCell::new(Measurement::new());
    let mut running: FuturesUnordered<_> =
        users.map(|number| VirtualUser::new(plan, &measurement, number).run()).collect();
    // All users of a thread are one task, whose budget tokio would exhaust after 128 operations.
    unconstrained(async { while running.next().await.is_some() {} }).await;
    drop(running);
    measurement.into_inner()
}

/// A virtual user: a backend and a phone that take turns on one connection.
struct VirtualUser<'a> {
    plan: &'a Plan,
    measurement: &'a RefCell<Measurement>,
    client: Client<'a>,
    /// Number of the phone that this user uses next in a cycle. No other user uses it.
    next_phone: usize,
    /// Number of this user.
    number: usize,
    /// Whether the current iteration is measured.
    is_measured: bool,
}

impl<'a> VirtualUser<'a> {
    fn new(plan: &'a Plan, measurement: &'a RefCell<Measurement>, number: usize) -> Self {
        let client = Client::new(&plan.target);
        Self { plan, measurement, client, next_phone: number, number, is_measured: false }
    }

    async fn run(mut self) {
        while let Some(start) = self.plan.schedule.next().await {
            self.is_measured = start.is_measured;
            let result = match &self.plan.scenario {
                Scenario::Cycle => self.cycle(start.at).await,
                Scenario::Codes => self.codes(start).await,
                Scenario::Poll => self.request(Step::List, start).await,
                Scenario::Requests(mix) => self.request(mix.step(start.number), start).await,
            };
            if let Err(Interrupted::Exhausted) = result {
                return;
            }
            let end = Instant::now();
            self.plan.count_iteration();
            if self.is_measured {
                let latency = result.is_ok().then(|| end - start.at);
                self.measurement.borrow_mut().record_iteration(end, latency);
            }
        }
    }

    /// Runs a full cycle: the five requests of a sign-in.
    async fn cycle(&mut self, start: Instant) -> Result<(), Interrupted> {
        let plan = self.plan;
        let phone = self.own_phone();
        let reply = self.send(Step::Create, start, plan.create_challenge(phone)).await?;
        let sid = self.check(Step::Create, challenge_sid(&reply))?;

        let reply = self.send(Step::List, Instant::now(), phone.list_pending(&plan.target)).await?;
        self.check(Step::List, require_listed(&reply, &sid))?;

        let reply = self.send(Step::Get, Instant::now(), phone.get_challenge(&plan.target, &sid)).await?;
        let challenge = self.check(Step::Get, phone.parse_challenge(&reply))?;

        let answer = self.check(Step::Answer, phone.sign_approval(&challenge))?;
        self.send(Step::Answer, Instant::now(), phone.answer(&plan.target, &answer)).await?;

        let reply = self.send(Step::Read, Instant::now(), plan.read_challenge(phone, &sid)).await?;
        self.check(Step::Read, require_approved(&reply))
    }

    /// Requests a code for a phone number that no other iteration uses, and checks it.
    async fn codes(&mut self, start: Start) -> Result<(), Interrupted> {
        let plan = self.plan;
        self.send(Step::Send, start.at, plan.backend.send_code(&plan.target, start.number)).await?;
        let request = plan.backend.check_code(&plan.target, start.number);
        let reply = self.send(Step::Check, Instant::now(), request).await?;
        self.check(Step::Check, require_approved(&reply))
    }

    /// Sends a single request, with whichever phone has its turn if it needs one.
    async fn request(&mut self, step: Step, start: Start) -> Result<(), Interrupted> {
        let plan = self.plan;
        let (target, prepared) = (&plan.target, &plan.prepared);
        let index = plan.phone_index(start.number);
        let phone = || &plan.phones[index];
        let request = match step {
            Step::Create => plan.create_challenge(phone()),
            Step::List => phone().list_pending(target),
            Step::Get => phone().get_challenge(target, &prepared.pending[index]),
            Step::Answer => {
                let (index, answer) = prepared.take_answer().ok_or(Interrupted::Exhausted)?;
                plan.phones[index].answer(target, &answer)
            }
            Step::Read => plan.read_challenge(phone(), &prepared.pending[index]),
            Step::Service => plan.backend.read_service(target),
            // The first numbers belong to the prepared codes.
            Step::Send => plan.backend.send_code(target, prepared.code_count + start.number),
            Step::Check => {
                let number = prepared.take_code().ok_or(Interrupted::Exhausted)?;
                plan.backend.check_code(target, number)
            }
        };
        let reply = self.send(step, start.at, request).await?;
        match step {
            Step::Get => self.check(step, phone().parse_challenge(&reply)).map(drop),
            Step::Check => self.check(step, require_approved(&reply)),
            _ => Ok(()),
        }
    }

    /// Returns the next of the phones that only this user uses.
    fn own_phone(&mut self) -> &'a Phone {
        let phones = &self.plan.phones;
        let phone = &phones[self.next_phone];
        self.next_phone += self.plan.concurrency;
        if self.next_phone >= phones.len() {
            self.next_phone = self.number;
        }
        phone
    }

    /// Sends a request and records its latency since `start`, or its failure.
    async fn send(
        &mut self,
        step: Step,
        start: Instant,
        request: Result<Request, Failure>,
    ) -> Result<Reply, Interrupted> {
        let request = self.check(step, request)?;
        let result = self.client.send(request).await.and_then(Reply::require_success);
        if let Err(Failure::NoResponse(_)) = result {
            sleep(PAUSE_AFTER_NO_RESPONSE).await;
        }
        if self.is_measured && result.is_ok() {
            self.measurement.borrow_mut().record_success(step, start.elapsed());
        }
        self.check(step, result)
    }

    /// Records a failure of `step`.
    fn check<T>(&self, step: Step, result: Result<T, Failure>) -> Result<T, Interrupted> {
        result.map_err(|failure| {
            if self.is_measured {
                self.measurement.borrow_mut().record_failure(step, failure);
            }
            Interrupted::Failed
        })
    }
}

/// Returns the SID of the challenge in a response.
fn challenge_sid(reply: &Reply) -> Result<String, Failure> {
    ChallengeView::parse(reply).map(|challenge| challenge.sid.into_owned())
}

/// Checks that the challenge or the verification in a response is approved.
fn require_approved(reply: &Reply) -> Result<(), Failure> {
    match ChallengeView::parse(reply)?.status.as_ref() {
        "approved" => Ok(()),
        status => Err(Failure::Unexpected(format!("expected status approved, got {status}"))),
    }
}
