//! A virtual device: a software phone with its factor, its behavior, and the challenges that it has received.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::device::{Enrollment, Exchange, Phone, Platform, Status, Style};
use app::challenges::ChallengeFilter;
use app::{App, Backend, BackendOrDevice, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::challenges::PushChallenge;
use domain::factors::Status as FactorStatus;
use domain::{AccountSid, Challenge, ChallengeSid, Clock, EntityPath, FactorSid, Order, PageRequest};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::behavior::{Act, Behavior, Reaction};
use crate::error::Error;
use crate::network::Network;
use crate::step_log::{StepLog, Subject, What};

/// Maximum number of challenges that a device remembers.
const MAX_REMEMBERED_CHALLENGES: usize = 1000;

/// Maximum number of pending challenges in the description of a device.
const MAX_PENDING: usize = 100;

/// A virtual device. Its ID in paths is the SID of its factor.
pub(crate) struct Device {
    pub(crate) factor_sid: FactorSid,
    pub(crate) style: Style,
    pub(crate) log: StepLog,
    path: EntityPath,
    platform: Platform,
    enrollment: Mutex<Enrollment>,
    memory: Mutex<Memory>,
    /// Incremented when a challenge for the device is created.
    challenged: watch::Sender<u64>,
}

/// The challenges of a device, and how it reacts to them.
#[derive(Default)]
struct Memory {
    behavior: Behavior,
    challenges: HashMap<ChallengeSid, Known>,
    /// The challenges in the order in which they were created.
    order: VecDeque<ChallengeSid>,
}

/// What a device does with a challenge.
struct Known {
    act: Act,
    has_reacted: bool,
}

impl Device {
    /// Creates a device with a factor that is not verified yet.
    pub(crate) fn new(
        (factor_sid, path): (FactorSid, EntityPath),
        style: Style,
        platform: Platform,
        enrollment: Enrollment,
        behavior: Behavior,
    ) -> Self {
        Self {
            factor_sid,
            style,
            log: StepLog::default(),
            path,
            platform,
            enrollment: Mutex::new(enrollment),
            memory: Mutex::new(Memory { behavior, ..Memory::default() }),
            challenged: watch::Sender::new(0),
        }
    }

    /// Replaces what the device stores of its factor.
    pub(crate) fn set_enrollment(&self, enrollment: Enrollment) {
        *self.enrollment.lock().unwrap_or_else(PoisonError::into_inner) = enrollment;
    }

    /// Replaces the behavior for challenges that are created from now on.
    pub(crate) fn set_behavior(&self, behavior: Behavior) {
        self.memory().behavior = behavior;
    }

    /// Returns a channel that changes whenever a challenge for the device is created.
    pub(crate) fn challenged(&self) -> watch::Receiver<u64> {
        self.challenged.subscribe()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the device's factor and its key.
    pub(crate) fn enrollment(&self) -> Enrollment {
        self.enrollment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the device learns of challenges by pushes.
    pub(crate) fn has_push(&self) -> bool {
        self.platform != Platform::None
    }

    /// Remembers a challenge, and returns what the device will do with it. That is decided at the first call.
    pub(crate) fn learn_of(&self, challenge: &Challenge<PushChallenge>) -> Reaction {
        let mut memory = self.memory();
        if let Some(known) = memory.challenges.get(&challenge.sid) {
            return known.act.reaction;
        }
        let act = memory.behavior.choose(challenge);
        if memory.order.len() == MAX_REMEMBERED_CHALLENGES
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.challenges.remove(&oldest);
        }
        memory.order.push_back(challenge.sid);
        memory.challenges.insert(challenge.sid, Known { act, has_reacted: false });
        drop(memory);
        self.challenged.send_modify(|version| *version = version.wrapping_add(1));
        act.reaction
    }

    /// Returns what the device does with a challenge, at the first call only: a device reacts once to each challenge.
    pub(crate) fn take_act(&self, challenge_sid: ChallengeSid) -> Option<Act> {
        let mut memory = self.memory();
        let known = memory.challenges.get_mut(&challenge_sid).filter(|known| !known.has_reacted)?;
        known.has_reacted = true;
        Some(known.act)
    }

    /// Returns the newest of these challenges.
    pub(crate) fn newest(&self, sids: impl Iterator<Item = String>) -> Option<String> {
        let memory = self.memory();
        let order = |sid: &String| memory.order.iter().position(|known| known.to_string() == *sid);
        // The list is newest first, except that challenges of the same instant are in no order.
        sids.enumerate()
            .max_by_key(|(index, sid)| (order(sid), std::cmp::Reverse(*index)))
            .map(|(_, sid)| sid)
    }

    /// Returns a phone whose exchanges are logged as steps of the device.
    pub(crate) fn phone(
        self: &Arc<Self>,
        network: &Network,
        clock: Arc<dyn Clock>,
        subject: Subject,
    ) -> Phone {
        self.observed_phone(network, clock, subject, |_| {})
    }

    /// Returns a phone as [`phone`](Self::phone) does, whose exchanges are also passed to `observe`.
    pub(crate) fn observed_phone(
        self: &Arc<Self>,
        network: &Network,
        clock: Arc<dyn Clock>,
        subject: Subject,
        observe: impl Fn(&Exchange) + Send + Sync + 'static,
    ) -> Phone {
        let (device, time) = (Arc::clone(self), Arc::clone(&network.clock));
        let observer = move |exchange: &Exchange| {
            observe(exchange);
            let words = exchange.request.operation.to_string();
            device.log.add(time.now(), What::Sent, &subject, &words);
            let body: Value = serde_json::from_str(&exchange.response.body).unwrap_or_default();
            let mut further = vec![("status", json!(exchange.response.status))];
            further.extend(body["code"].as_i64().map(|code| ("code", json!(code))));
            let words = body["message"].as_str().or(body["status"].as_str()).unwrap_or_default().to_owned();
            device.log.add_with(time.now(), What::Got, &subject, &words, &further);
        };
        network.phone(self.style, clock).with_observer(Arc::new(observer))
    }

    /// Returns the description of the device in responses.
    pub(crate) async fn describe(&self, app: &App) -> Result<Value, Error> {
        let enrollment = self.enrollment();
        let caller: BackendOrDevice = backend(self.path.account_sid)?.into();
        let status = match app.factor(&caller, self.path.clone(), self.factor_sid).await {
            Ok(factor) => match factor.status {
                FactorStatus::Verified => "verified",
                FactorStatus::Unverified => "unverified",
            },
            Err(app::Error::Problem(_)) => "removed",
            Err(fault) => return Err(fault.into()),
        };
        let point = enrollment.key().public_key();
        let number = enrollment.key().private_number();
        // A public key in DER ends with the two coordinates, 32 bytes each.
        let coordinates = point.as_der().last_chunk::<64>().map_or([[0; 32]; 2], |both| {
            [0, 32].map(|start| std::array::from_fn(|index| both[start + index]))
        });
        let encoded = |bytes: &[u8; 32]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(json!({
            "id": self.factor_sid,
            "account_sid": self.path.account_sid,
            "service_sid": self.path.service_sid,
            "identity": self.path.identity.as_str(),
            "factor_sid": self.factor_sid,
            "credential_sid": enrollment.credential_sid,
            "friendly_name": enrollment.friendly_name,
            "push": self.platform.as_str(),
            "status": status,
            "public_key": enrollment.key().public_key_base64(),
            "key": {
                "kty": "EC",
                "crv": "P-256",
                "x": encoded(&coordinates[0]),
                "y": encoded(&coordinates[1]),
                "d": encoded(number.expose()),
            },
            "behaviour": self.memory().behavior.json.clone(),
            "pending": self.pending(app, &caller).await?,
        }))
    }

    /// Returns the SIDs of the device's pending challenges, newest first.
    async fn pending(&self, app: &App, caller: &BackendOrDevice) -> Result<Vec<ChallengeSid>, Error> {
        let entity = match app.entity_ref(caller, self.path.clone()).await {
            Ok(entity) => entity,
            Err(app::Error::Problem(_)) => return Ok(Vec::new()),
            Err(fault) => return Err(fault.into()),
        };
        let filter = ChallengeFilter { factor_sid: Some(self.factor_sid), status: Some(Status::Pending) };
        let page = PageRequest { size: MAX_PENDING, order: Order::Descending, cursor: None };
        let (page, _) = app.challenges(caller, &entity, filter, page).await?;
        Ok(page.items.iter().map(|challenge| challenge.sid).collect())
    }
}

/// Returns the backend of an account.
pub(crate) fn backend(account_sid: AccountSid) -> Result<Backend, Error> {
    Ok(Backend::try_from(Caller::Account(account_sid))?)
}
