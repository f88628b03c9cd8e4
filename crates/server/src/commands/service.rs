//! `countersign service`: shows or changes the limits of services in the database, even while servers are running.

use app::App;
use clap::{Args, Subcommand};
use domain::ServiceSid;
use domain::limits::LimitOverride;
use terminal::{CliError, say};

use super::not_found::not_found;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a service's limits on challenges per factor, effective immediately; without options, show the limits
    Limit {
        /// SID of the service
        sid: ServiceSid,
        /// Maximum number of pending challenges per factor: a number, `off`, or `default` for the server's own limit
        #[arg(long, value_name = "LIMIT")]
        max_pending_challenges: Option<LimitOverride>,
        /// Maximum number of challenges created per factor per minute: a number, `off`, or `default` for the server's
        /// own limit
        #[arg(long, value_name = "LIMIT")]
        challenges_per_minute: Option<LimitOverride>,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let Command::Limit { sid, max_pending_challenges, challenges_per_minute, storage } = arguments.command;
    let limit_service = async |app: &App| {
        let limited =
            app.set_service_limits(&operator(), sid, max_pending_challenges, challenges_per_minute).await;
        limited.map_err(|error| not_found(sid, error))
    };
    let service = storage.with_app(limit_service).await?;
    say(format_args!("service sid             {}", service.sid))?;
    say(format_args!("max pending challenges  {}", service.limits.pending))?;
    say(format_args!("challenges per minute   {}", service.limits.per_minute))
}
