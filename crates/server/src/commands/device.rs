//! `countersign device`, which the crate `phone-cli` implements.

use std::sync::Arc;

use app::SystemClock;
use terminal::CliError;

pub(crate) use phone_cli::DeviceOptions as Arguments;

/// Runs the requested subcommand of the terminal phone.
///
/// # Errors
/// Returns an error if the subcommand fails.
pub(crate) async fn run(options: Arguments) -> Result<(), CliError> {
    phone_cli::run(options, Arc::new(SystemClock)).await
}
