//! `countersign service`: works on the database, also while the server runs.

use clap::{Args, Subcommand};
use domain::ServiceSid;
use domain::limits::OwnLimit;

use crate::account::missing;
use crate::audit::operator;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Services {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Limit the challenges to each factor of a service, from the next one on; without options, show the limits
    Limit {
        /// SID of the service
        sid: ServiceSid,
        /// Challenges that may be pending at one time: a number, `off`, or `default` for the server's option
        #[arg(long, value_name = "LIMIT")]
        max_pending_challenges: Option<OwnLimit>,
        /// Challenges that may be made within a minute: a number, `off`, or `default` for the server's option
        #[arg(long, value_name = "LIMIT")]
        challenges_per_minute: Option<OwnLimit>,
        #[command(flatten)]
        storage: Storage,
    },
}

pub(crate) async fn run(services: Services) -> Result<(), Failure> {
    match services.command {
        Command::Limit { sid, max_pending_challenges, challenges_per_minute, storage } => {
            let app = storage.open_existing().await?;
            let limited =
                app.limit_service(&operator(), sid, max_pending_challenges, challenges_per_minute).await;
            let service = limited.map_err(|error| missing(sid, error))?;
            say(format_args!("service sid             {}", service.sid))?;
            say(format_args!("max pending challenges  {}", service.limits.pending))?;
            say(format_args!("challenges per minute   {}", service.limits.per_minute))?;
            app.stop().await;
        }
    }
    Ok(())
}
