//! The commands of the program, with one file per command.

mod account;
mod api_key;
mod audit;
mod backup;
mod clock;
mod completions;
mod config;
mod credential;
mod demo;
mod device;
mod doctor;
mod health;
mod keys;
mod load;
mod man;
mod migrate;
mod not_found;
mod outlet;
mod restore;
mod serve;
mod service;
mod template;
mod webhooks;

use clap::Subcommand;
use terminal::CliError;

use crate::config::Settings;
use crate::options::ServeOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Box<ServeOptions>),
    /// Run a guided tour: server, backend and phone in one process, with every HTTP exchange explained
    Demo(demo::Arguments),
    /// Act as a phone: enroll, list challenges, and approve or deny them
    Device(Box<device::Arguments>),
    /// Put a deployment under load: enroll phones, run sign-ins, and report throughput, latencies and processor time
    Load(Box<load::Arguments>),
    /// Check over HTTP whether the configured server is running; exits with code 0 if it is
    Health(health::Arguments),
    /// Show or check the configuration, or print a configuration file with all defaults
    Config(config::Arguments),
    /// Diagnose the configuration, machine and database, with advice on each finding; changes nothing. Exits with code
    /// 0 if no problem is found
    Doctor(doctor::Arguments),
    /// Apply pending database migrations; a SQLite database is copied first
    Migrate(migrate::Arguments),
    /// Copy the SQLite database to a file, even while the server is running; the copy does not contain the master key
    Backup(backup::Arguments),
    /// List or rotate the master key and the enrollment keys, even while servers are running
    Keys(keys::Arguments),
    /// Replace the SQLite database with a backup, and keep the replaced database; stop the server first
    Restore(restore::Arguments),
    /// Manage accounts
    Account(account::Arguments),
    /// Manage API keys
    ApiKey(api_key::Arguments),
    /// Show or set the challenge limits of a service
    Service(service::Arguments),
    /// List webhooks and their deliveries, repeat a delivery, or send a test event
    Webhooks(webhooks::Arguments),
    /// Manage push credentials
    Credential(credential::Arguments),
    /// Manage the outlets through which one-time codes are sent, and test them
    Outlet(outlet::Arguments),
    /// Manage templates: texts of your own for messages with one-time codes
    Template(template::Arguments),
    /// Show, verify or export the audit log
    Audit(audit::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Print the manual page, or write the manual pages of all commands to a folder
    Man(man::Arguments),
    /// Resume housekeeping after a jump of the system clock
    Clock(clock::Arguments),
}

impl Command {
    /// Runs the command with the given settings. `program` is the definition of the whole command line, which
    /// completions and manual pages need.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) async fn run(self, settings: Settings, program: clap::Command) -> Result<(), CliError> {
        match self {
            Self::Serve(options) => serve::run(options, settings).await,
            Self::Demo(options) => demo::run(&options).await,
            Self::Device(options) => device::run(*options).await,
            Self::Load(arguments) => load::run(*arguments).await,
            Self::Health(arguments) => health::run(arguments).await,
            Self::Config(arguments) => config::run(&arguments, &settings),
            Self::Doctor(arguments) => doctor::run(&arguments, &settings).await,
            Self::Migrate(arguments) => migrate::run(&arguments).await,
            Self::Keys(arguments) => keys::run(arguments).await,
            Self::Backup(arguments) => backup::run(arguments).await,
            Self::Restore(arguments) => restore::run(arguments).await,
            Self::Account(arguments) => account::run(arguments).await,
            Self::ApiKey(arguments) => api_key::run(arguments).await,
            Self::Service(arguments) => service::run(arguments).await,
            Self::Webhooks(arguments) => webhooks::run(arguments).await,
            Self::Credential(arguments) => credential::run(arguments).await,
            Self::Outlet(arguments) => outlet::run(arguments).await,
            Self::Template(arguments) => template::run(arguments).await,
            Self::Audit(arguments) => audit::run(arguments).await,
            Self::Completions(arguments) => completions::run(&arguments, program),
            Self::Man(arguments) => man::run(&arguments, program),
            Self::Clock(arguments) => clock::run(arguments).await,
        }
    }
}
