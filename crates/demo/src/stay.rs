//! What `--stay` adds after the tour: the server keeps running, and a browser acts as the phone.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use domain::{Identity, Parameter as _, ServiceSid};
use enrollment_link::EnrollmentLink;
use serde_json::Value;
use terminal::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::backend::Backend;
use crate::printer::Printer;

/// Identity of the user who enrolls the browser.
const IDENTITY: &str = "user-0002";

/// Lifetime of the access token in the link, in seconds: the longest that is possible.
const LINK_SECONDS: &str = "300";

/// Interval at which the backend reads the challenge until it is answered.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A backend that asks the user's browser whenever the user presses Enter.
pub(crate) struct Stay {
    url: String,
    backend: Backend,
    printer: Arc<Printer>,
    service_sid: ServiceSid,
    identity: Identity,
}

impl Stay {
    /// Creates the service of the backend.
    ///
    /// # Errors
    /// Returns an error if a request fails.
    pub(crate) async fn new(url: &str, backend: Backend, printer: Arc<Printer>) -> Result<Self, CliError> {
        let service = backend.create_silently("/v2/Services", &[("FriendlyName", "Owl Bank")]).await?;
        let service_sid = text(&service, "sid")?.parse();
        let service_sid = service_sid.map_err(|_| CliError::new("the service has no valid SID"))?;
        let identity = Identity::from_parameter(IDENTITY);
        let identity = identity.map_err(|expected| CliError::new(expected.to_string()))?;
        Ok(Self { url: url.to_owned(), backend, printer, service_sid, identity })
    }

    /// Prints a link, and asks the enrolled browser each time Enter is pressed, until a signal stops the process.
    ///
    /// # Errors
    /// Returns an error if a request fails, or if the reader of standard output has closed it.
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let mut stop = StopSignals::new()?;
        let mut lines = read_lines();
        self.printer.print_browser_introduction();
        self.print_link().await?;
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(()) => tokio::select! {
                        asked = self.ask() => asked?,
                        () = stop.received() => return Ok(()),
                    },
                    // Standard input has ended, so only a signal can follow.
                    None => {
                        stop.received().await;
                        return Ok(());
                    }
                },
                () = stop.received() => return Ok(()),
            }
        }
    }

    /// Prints a link with a new access token.
    async fn print_link(&self) -> Result<(), CliError> {
        let path = format!("/v2/Services/{}/AccessTokens", self.service_sid);
        let form = [("Identity", self.identity.as_str()), ("FactorType", "push"), ("Ttl", LINK_SECONDS)];
        let token = self.backend.create_silently(&path, &form).await?;
        let link = EnrollmentLink::new(&self.url, text(&token, "token")?, self.service_sid, &self.identity);
        self.printer.print_link(link.expose())
    }

    /// Asks the browser that was enrolled last, and prints its answer. Prints another link if no browser is enrolled.
    async fn ask(&self) -> Result<(), CliError> {
        let entity = format!("/v2/Services/{}/Entities/{}", self.service_sid, self.identity);
        let Some(factor_sid) = self.last_factor(&entity).await? else {
            self.printer.print_remark("No browser is enrolled yet. Here is a new link:");
            return self.print_link().await;
        };
        let form = [
            ("FactorSid", factor_sid.as_str()),
            ("Details.Message", "Sign in to Owl Bank?"),
            ("Details.Fields", r#"{"label":"Place","value":"Berlin"}"#),
            ("Details.Fields", r#"{"label":"Code","value":"47"}"#),
        ];
        let challenge = self.backend.create_silently(&format!("{entity}/Challenges"), &form).await?;
        let path = format!("{entity}/Challenges/{}", text(&challenge, "sid")?);
        self.printer.print_remark(
            "The backend asks: \"Sign in to Owl Bank?\" Answer in the browser, within five minutes.",
        );
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let challenge = self.backend.get_silently(&path).await?;
            let status = text(&challenge, "status")?;
            if status != "pending" {
                return self.printer.print_answer(status);
            }
        }
    }

    /// Returns the SID of the newest verified factor. The user does not exist until a factor is created.
    async fn last_factor(&self, entity: &str) -> Result<Option<String>, CliError> {
        let Some(body) = self.backend.find_silently(&format!("{entity}/Factors?PageSize=100")).await? else {
            return Ok(None);
        };
        let factors = body["factors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last = factors.iter().rev().find(|factor| factor["status"] == "verified");
        last.map(|factor| text(factor, "sid").map(str::to_owned)).transpose()
    }
}

/// Returns the string member `name` of a response body, or an error if there is no such member.
fn text<'b>(body: &'b Value, name: &str) -> Result<&'b str, CliError> {
    body[name].as_str().ok_or_else(|| CliError::new(format!("the response has no {name}")))
}

/// Reads standard input on a thread of its own, and returns a message for each line. A thread of the async runtime
/// would delay the program's exit until the user presses Enter.
fn read_lines() -> UnboundedReceiver<()> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || sender.send(()).is_err() {
                break;
            }
        }
    });
    lines
}

/// The signals that stop the demo: SIGINT, which Ctrl-C sends, and SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, CliError> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
