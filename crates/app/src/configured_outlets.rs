//! The outlets of the server's options.

use outlet_client::OutletSettings;

/// Outlets of the configuration, for accounts without an outlet for a channel.
#[derive(Clone, Debug, Default)]
pub struct ConfiguredOutlets {
    /// Sends mail.
    pub mail: Option<OutletSettings>,
    /// Sends text messages.
    pub text: Option<OutletSettings>,
}
