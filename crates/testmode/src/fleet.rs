//! All virtual devices of a server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use domain::access_tokens::{Grant, TokenText};
use domain::{ChallengeSid, FactorSid, Secret};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::auto_rules::{AutoRule, AutoRules};
use crate::clock::TravelingClock;
use crate::device::Device;
use crate::error::Error;
use crate::network::Network;
use crate::reaction;

/// The virtual devices, and what they need to send requests.
pub(crate) struct Fleet {
    clock: Arc<TravelingClock>,
    devices: Mutex<HashMap<FactorSid, Arc<Device>>>,
    /// The rules by which new devices spend access tokens.
    pub(crate) rules: AutoRules,
    tokens: mpsc::UnboundedSender<OfferedToken>,
    /// Taken by the task that enrolls devices.
    offered: Mutex<Option<mpsc::UnboundedReceiver<OfferedToken>>>,
    notices: mpsc::UnboundedSender<Notice>,
    /// Taken by the task that handles notices.
    received: Mutex<Option<mpsc::UnboundedReceiver<Notice>>>,
    network: OnceLock<Arc<Network>>,
}

/// A challenge that reaches a device.
struct Notice {
    device: Arc<Device>,
    challenge_sid: ChallengeSid,
}

/// An access token that a new device is to spend.
pub(crate) struct OfferedToken {
    pub(crate) grant: Grant,
    pub(crate) token: Secret<String>,
    pub(crate) rule: AutoRule,
}

impl Fleet {
    /// Creates a fleet without devices.
    pub(crate) fn new(clock: Arc<TravelingClock>) -> Self {
        let (notices, received) = mpsc::unbounded_channel();
        let (tokens, offered) = mpsc::unbounded_channel();
        Self {
            clock,
            devices: Mutex::default(),
            rules: AutoRules::default(),
            tokens,
            offered: Mutex::new(Some(offered)),
            notices,
            received: Mutex::new(Some(received)),
            network: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FactorSid, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to handle notices. Devices send their requests to `address`. Must be called inside of a runtime.
    pub(crate) fn start(self: &Arc<Self>, address: SocketAddr) -> JoinHandle<()> {
        match Network::new(address, Arc::clone(&self.clock)) {
            Ok(network) => drop(self.network.set(Arc::new(network))),
            Err(error) => {
                tracing::error!("virtual devices cannot send requests: {}", domain::error_report(&error));
            }
        }
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).take();
        tokio::spawn(Arc::clone(self).handle_notices(received))
    }

    /// Starts the reaction to each notice. This background task ends only with the runtime.
    async fn handle_notices(self: Arc<Self>, received: Option<mpsc::UnboundedReceiver<Notice>>) {
        let (Some(mut received), Some(network)) = (received, self.network.get()) else { return };
        while let Some(Notice { device, challenge_sid }) = received.recv().await {
            tokio::spawn(reaction::react(Arc::clone(network), device, challenge_sid));
        }
    }

    /// Returns the number of devices.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Adds a device.
    pub(crate) fn add(&self, device: Arc<Device>) {
        self.lock().insert(device.factor_sid, device);
    }

    /// Removes a device, if there is one with this factor.
    pub(crate) fn remove(&self, factor_sid: FactorSid) {
        self.lock().remove(&factor_sid);
    }

    /// Forgets all devices and rules. The factors stay.
    pub(crate) fn clear(&self) {
        self.rules.clear();
        self.lock().clear();
    }

    /// Returns the device with this factor.
    pub(crate) fn find(&self, factor_sid: FactorSid) -> Option<Arc<Device>> {
        self.lock().get(&factor_sid).cloned()
    }

    /// Returns the device with the ID `id`.
    ///
    /// # Errors
    /// Returns error code 20404 if there is none.
    pub(crate) fn require(&self, id: &str) -> Result<Arc<Device>, Error> {
        let found = id.parse().ok().and_then(|factor_sid| self.find(factor_sid));
        found.ok_or_else(|| Error::missing(format_args!("there is no virtual device {id}")))
    }

    /// Returns all devices, in the order of their enrollment.
    pub(crate) fn all(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.lock().values().cloned().collect();
        devices.sort_by_key(|device| device.factor_sid);
        devices
    }

    /// Passes a challenge to a device, which reacts once to each challenge.
    pub(crate) fn notice(&self, device: Arc<Device>, challenge_sid: ChallengeSid) {
        let _ = self.notices.send(Notice { device, challenge_sid });
    }

    /// Offers an access token that was created to the rules.
    pub(crate) fn offer(&self, grant: &Grant, text: &TokenText) {
        if let Some(rule) = self.rules.find(grant) {
            let token = Secret::new(text.expose().to_owned());
            let _ = self.tokens.send(OfferedToken { grant: grant.clone(), token, rule });
        }
    }

    /// Returns the access tokens that rules select, at the first call only.
    pub(crate) fn take_offered(&self) -> Option<mpsc::UnboundedReceiver<OfferedToken>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the connections of the devices.
    ///
    /// # Errors
    /// Returns an error if the server could not set up connections at its start.
    pub(crate) fn network(&self) -> Result<&Arc<Network>, Error> {
        self.network.get().ok_or_else(|| Error::Fault("virtual devices cannot send requests".to_owned()))
    }
}
