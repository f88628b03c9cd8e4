//! How virtual devices reach the server.

use std::net::SocketAddr;
use std::sync::Arc;

use device::{Phone, Style};
use domain::Clock;
use tokio::runtime::Handle;

use crate::clock::TravelingClock;
use crate::error::Error;

/// The connections of all virtual devices.
pub(crate) struct Network {
    /// The clock of the server.
    pub(crate) clock: Arc<TravelingClock>,
    /// The address on which the server listens.
    pub(crate) address: SocketAddr,
    /// Runs all requests of devices, so that none depends on the thread of the request that caused it.
    runtime: Handle,
    /// The phone whose connections all devices share.
    phone: Phone,
}

impl Network {
    /// Creates the connections to the server at `address`. Must be called inside of a runtime.
    ///
    /// # Errors
    /// Returns an error if connections cannot be set up.
    pub(crate) fn new(address: SocketAddr, clock: Arc<TravelingClock>) -> Result<Self, device::Error> {
        let time: Arc<dyn Clock> = Arc::<TravelingClock>::clone(&clock);
        let phone = Phone::new(Style::Android, &format!("http://{address}"), time)?;
        Ok(Self { clock, address, runtime: Handle::current(), phone })
    }

    /// Returns the clock of the server.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TravelingClock>::clone(&self.clock)
    }

    /// Returns a phone that imitates an SDK, with the clock `clock`.
    pub(crate) fn phone(&self, style: Style, clock: Arc<dyn Clock>) -> Phone {
        self.phone.another(style, clock)
    }

    /// Runs an operation of a device to its end, even if the request that caused it is canceled.
    ///
    /// # Errors
    /// Returns the error of the operation.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.runtime.spawn(operation);
        task.await.map_err(|error| Error::Fault(format!("the virtual device failed: {error}")))?
    }
}
