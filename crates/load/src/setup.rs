//! Prepares a run and removes what it created: phones, challenges, codes, and the service.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use domain::Clock;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use terminal::CliError;

use crate::backend::{Backend, ChallengeView, Credentials};
use crate::client::Client;
use crate::failure::Failure;
use crate::measurement::Step;
use crate::options::{Mix, Scenario, Settings};
use crate::phones::{Enroller, Phone, SignedAnswer, identity};
use crate::plan::Prepared;
use crate::progress::Progress;
use crate::target::Target;

/// Lifetime of a prepared challenge in seconds: a minute less than the longest that the server permits.
const PREPARED_LIFETIME_SECONDS: i64 = 59 * 60;

/// The deployment and the backend with which a run is prepared.
pub(crate) struct Setup {
    /// The deployment.
    pub(crate) target: Arc<Target>,
    /// The backend.
    pub(crate) backend: Arc<Backend>,
    /// The options of the run.
    pub(crate) settings: Settings,
    clock: Arc<dyn Clock>,
    /// A text that differs between runs, for the identities of users.
    run_id: String,
}

impl Setup {
    /// Connects to the deployment, and creates the service if the options name none.
    ///
    /// # Errors
    /// Returns an error if the deployment cannot be reached, refuses the credentials, or has no such service.
    pub(crate) async fn open(
        settings: Settings,
        credentials: &Credentials,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CliError> {
        let target = Target::resolve(&settings.host).await?;
        let mut client = Client::new(&target);
        let has_codes = settings.scenario.has_codes();
        let backend = Backend::open(&mut client, &target, credentials, settings.service, has_codes).await?;
        let run_id = format!("{:x}", clock.now().micros());
        drop(client);
        Ok(Self { target: Arc::new(target), backend: Arc::new(backend), settings, clock, run_id })
    }

    /// Enrolls the phones.
    ///
    /// # Errors
    /// Returns an error if a phone cannot be enrolled.
    pub(crate) async fn enroll_phones(&self) -> Result<Vec<Phone>, CliError> {
        let enroller = Enroller {
            target: &self.target,
            backend: &self.backend,
            clock: Arc::clone(&self.clock),
            run_id: &self.run_id,
            has_push: self.settings.has_push,
        };
        let enroll = async |client: &mut Client<'_>, number| enroller.enroll(client, number).await;
        self.for_each("enrolling", self.settings.phones, enroll)
            .await
            .map_err(|failure| failure.explain("enroll a phone"))
    }

    /// Creates the challenges, and sends the codes, that the scenario needs.
    ///
    /// # Errors
    /// Returns an error if a challenge cannot be created, fetched or signed, or a code cannot be sent.
    pub(crate) async fn prepare_requests(&self, phones: &[Phone]) -> Result<Prepared, CliError> {
        let Scenario::Requests(mix) = &self.settings.scenario else { return Ok(Prepared::default()) };
        let expiration_date = self.clock.now().plus_seconds(PREPARED_LIFETIME_SECONDS).to_string();
        let create = async |client: &mut Client<'_>, phone: &Phone| {
            let (path, factor) = (phone.challenges_path(), phone.factor_sid());
            let request =
                self.backend.create_challenge(&self.target, path, factor, Some(&expiration_date))?;
            let reply = client.send(request).await?.require_success()?;
            Ok::<_, Failure>(ChallengeView::parse(&reply)?.sid.into_owned())
        };
        let create_pending =
            async |client: &mut Client<'_>, number: usize| create(client, &phones[number]).await;
        let sign_answer = async |client: &mut Client<'_>, number: usize| {
            let index = number % phones.len();
            let phone = &phones[index];
            let sid = create(client, phone).await?;
            let reply = client.send(phone.get_challenge(&self.target, &sid)?).await?;
            let challenge = phone.parse_challenge(&reply)?;
            Ok::<(usize, SignedAnswer), Failure>((index, phone.sign_approval(&challenge)?))
        };
        let needs_pending = mix.contains(Step::Get) || mix.contains(Step::Read);
        let pending_count = if needs_pending { phones.len() } else { 0 };
        let answer_count = if mix.contains(Step::Answer) { self.settings.challenges } else { 0 };
        let explain = |failure: Failure| failure.explain("prepare a challenge");
        let pending = self.for_each("preparing", pending_count, create_pending).await.map_err(explain)?;
        let answers = self.for_each("preparing", answer_count, sign_answer).await.map_err(explain)?;
        let code_count = self.prepare_codes(mix).await?;
        Ok(Prepared { pending, answers: Mutex::new(answers), code_count, ..Prepared::default() })
    }

    /// Sends the codes that the requests of a mix check, and returns their number.
    async fn prepare_codes(&self, mix: &Mix) -> Result<u64, CliError> {
        let count = if mix.contains(Step::Check) { self.settings.challenges } else { 0 };
        let send = async |client: &mut Client<'_>, number: usize| {
            let request = self.backend.send_code(&self.target, number as u64)?;
            client.send(request).await?.require_success().map(drop)
        };
        let sent = self.for_each("preparing", count, send).await;
        sent.map_err(|failure| failure.explain("send a code"))?;
        Ok(count as u64)
    }

    /// Deletes what the run has created: the service, or the users of the phones if the service existed before.
    ///
    /// # Errors
    /// Returns an error if something could not be deleted.
    pub(crate) async fn clean_up(&self) -> Result<(), CliError> {
        let result = if self.settings.service.is_none() {
            self.backend.delete_service(&mut Client::new(&self.target), &self.target).await
        } else {
            let delete = async |client: &mut Client<'_>, number: usize| {
                let identity = identity(&self.run_id, number);
                match self.backend.delete_entity(client, &self.target, &identity).await {
                    // The phone with this number was not enrolled.
                    Err(Failure::Refused { status: 404, .. }) => Ok(()),
                    result => result,
                }
            };
            self.for_each("deleting", self.settings.phones, delete).await.map(drop)
        };
        result.map_err(|failure| failure.explain("delete what the run has created"))
    }

    /// Calls `work` for each number below `count`, on as many connections as there are virtual users, and returns the
    /// results in the order of the numbers.
    ///
    /// # Errors
    /// Returns the first failure. Work that has begun is abandoned then.
    async fn for_each<T>(
        &self,
        label: &'static str,
        count: usize,
        work: impl AsyncFn(&mut Client<'_>, usize) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let progress = Progress::items(label, count);
        let next = Cell::new(0);
        let worker = async || {
            let mut client = Client::new(&self.target);
            let mut results = Vec::new();
            while next.get() < count {
                let number = next.replace(next.get() + 1);
                results.push((number, work(&mut client, number).await?));
                progress.advance();
            }
            Ok::<_, Failure>(results)
        };
        let mut workers: FuturesUnordered<_> =
            (0..self.settings.concurrency.min(count)).map(|_| worker()).collect();
        let mut results = Vec::with_capacity(count);
        while let Some(result) = workers.next().await {
            results.extend(result?);
        }
        results.sort_by_key(|(number, _)| *number);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}
