//! The enrollments in the keyring, and a phone for each of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::{
    AuthenticatorApp, ChallengeList, Enrollment, Error, Keyring, ListRequest, Order, Phone, Status, Style,
};
use domain::factors::Status as FactorStatus;
use domain::{Clock, Timestamp};
use terminal::{CliError, plain, program, quoted, say};

/// Default path of the keyring.
pub(crate) const DEFAULT_KEYRING: &str = "countersign-device.json";

/// Maximum number of pending challenges to request: more than a user could answer before they expire.
const MAX_PENDING_CHALLENGES: u32 = 100;

/// The enrollments in a keyring file.
pub(crate) struct Phones {
    path: PathBuf,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
}

/// An enrollment, and the software phone that sends requests for it.
pub(crate) struct EnrolledPhone {
    pub(crate) enrollment: Enrollment,
    pub(crate) phone: Phone,
    clock: Arc<dyn Clock>,
    /// Command line that deletes the factor and its private key, for the user to copy.
    forget_command: String,
}

impl Phones {
    /// Reads the keyring at `path`. If the file does not exist yet, the keyring is empty.
    pub(crate) fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        let keyring = Keyring::load(&path)?;
        Ok(Self { path, keyring, clock })
    }

    /// Returns the path of the keyring file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the command line that runs the subcommand `command` of `device` on this keyring. The path is
    /// quoted, so that the user can copy the command line.
    pub(crate) fn command(&self, command: &str) -> String {
        let program = program();
        if self.path == Path::new(DEFAULT_KEYRING) {
            format!("{program} device {command}")
        } else {
            format!("{program} device --keyring {} {command}", quoted(&self.path.to_string_lossy()))
        }
    }

    /// Returns the entries of the authenticator app in the keyring, oldest first.
    pub(crate) fn authenticator_apps(&self) -> &[AuthenticatorApp] {
        self.keyring.apps()
    }

    /// Returns the local time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Creates a software phone that imitates the SDK `style`, for the server at `base_url`.
    ///
    /// # Errors
    /// Returns an error if `base_url` is not the URL of a server.
    pub(crate) fn phone(&self, style: Style, base_url: &str) -> Result<Phone, CliError> {
        Phone::new(style, base_url, Arc::clone(&self.clock)).map_err(|error| explain(error, base_url))
    }

    fn with_phone(&self, enrollment: Enrollment) -> Result<EnrolledPhone, CliError> {
        let phone = self.phone(enrollment.style, &enrollment.base_url)?;
        let forget_command = self.command(&format!("forget {}", quoted(&enrollment.factor_sid)));
        Ok(EnrolledPhone { enrollment, phone, clock: Arc::clone(&self.clock), forget_command })
    }

    /// Returns all enrollments in the keyring, oldest first.
    ///
    /// # Errors
    /// Returns an error if there are no enrollments. The message says how to enroll.
    pub(crate) fn enrollments(&self) -> Result<&[Enrollment], CliError> {
        match self.keyring.enrollments() {
            [] => Err(CliError::new(format!(
                "no phone is enrolled in {}; \"{} device enroll --help\" explains how to enroll one, and --keyring \
                 selects another keyring",
                self.path.display(),
                program()
            ))),
            enrollments => Ok(enrollments),
        }
    }

    /// Returns a phone for each factor in the keyring. If `factor` is given, returns only the phone of the
    /// factor with this SID or unique SID prefix. Completes enrollments that were interrupted before
    /// verification.
    pub(crate) async fn enrolled(&mut self, factor: Option<String>) -> Result<Vec<EnrolledPhone>, CliError> {
        let enrollments = match factor {
            Some(prefix) => vec![self.keyring.find(&prefix)?.clone()],
            None => self.enrollments()?.to_vec(),
        };
        let mut phones = Vec::with_capacity(enrollments.len());
        for enrollment in enrollments {
            let mut enrolled = self.with_phone(enrollment)?;
            if enrolled.enrollment.status == FactorStatus::Unverified {
                self.verify(&mut enrolled).await?;
            }
            phones.push(enrolled);
        }
        Ok(phones)
    }

    /// Verifies a factor that was created but not yet verified. If the request fails, the factor stays unverified and
    /// the error is ignored here: the phone's next request fails with an error that the user sees.
    async fn verify(&mut self, enrolled: &mut EnrolledPhone) -> Result<(), CliError> {
        match enrolled.phone.verify_factor(&mut enrolled.enrollment).await {
            Ok(()) => self.store(&enrolled.enrollment),
            Err(_) => Ok(()),
        }
    }

    /// Returns an error if the keyring cannot be written. Call this before a request whose response must be
    /// stored.
    pub(crate) fn require_writable(&mut self) -> Result<(), CliError> {
        self.update(|_| Ok(()))
    }

    /// Stores `enrollment` in the keyring file.
    pub(crate) fn store(&mut self, enrollment: &Enrollment) -> Result<(), CliError> {
        self.update(|keyring| {
            keyring.put(enrollment.clone());
            Ok(())
        })
    }

    /// Deletes the private key of a factor from the keyring. Unless `is_local` is `true`, first deletes the
    /// factor on the server. `prefix` is the factor's SID or a unique prefix of it.
    pub(crate) async fn forget(&mut self, prefix: &str, is_local: bool) -> Result<(), CliError> {
        let enrolled = self.with_phone(self.keyring.find(prefix)?.clone())?;
        let sid = &enrolled.enrollment.factor_sid;
        if !is_local {
            enrolled.phone.delete_factor(&enrolled.enrollment).await.map_err(|error| {
                let reason = enrolled.explain(error);
                CliError::new(format!("{reason}. The key was not deleted; --local deletes only the key"))
            })?;
        }
        self.update(|keyring| keyring.remove(sid).map(drop))?;
        say(match is_local {
            false => format!("Deleted the factor {sid} on the server and its key from the keyring."),
            true => format!(
                "Deleted the key of the factor {sid} from the keyring. The factor still exists on the server."
            ),
        })
    }

    /// Applies `change` to the keyring and saves it. The file is read again first, so that an enrollment by
    /// another process is not lost.
    pub(crate) fn update(
        &mut self,
        change: impl FnOnce(&mut Keyring) -> Result<(), Error>,
    ) -> Result<(), CliError> {
        self.keyring = Keyring::load(&self.path)?;
        change(&mut self.keyring)?;
        Ok(self.keyring.save()?)
    }
}

impl EnrolledPhone {
    /// Returns the factor's pending challenges, newest first: at most 100.
    pub(crate) async fn list_pending(&self) -> Result<ChallengeList, Error> {
        let list = ListRequest {
            status: Some(Status::Pending),
            order: Order::Descending,
            page_size: MAX_PENDING_CHALLENGES,
            page_token: None,
        };
        self.phone.list_challenges(&self.enrollment, &list).await
    }

    /// Returns the estimated current time of the server.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().plus_seconds(self.phone.clock_offset())
    }

    /// Returns the phone's name and its factor's SID on one line, for display.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", plain(&self.enrollment.friendly_name), plain(&self.enrollment.factor_sid))
    }

    /// Converts an error from a request by this phone into a message for the terminal.
    pub(crate) fn explain(&self, error: Error) -> CliError {
        match error {
            // The phone has already corrected its clock and repeated the request, so a 401 now means that
            // the server no longer knows the factor.
            Error::Api { status: 401, .. } => CliError::new(format!(
                "the server no longer knows the factor {}; \"{} --local\" deletes its key from the keyring",
                plain(&self.enrollment.factor_sid),
                self.forget_command
            )),
            error => explain(error, &self.enrollment.base_url),
        }
    }
}

/// Converts an error into a message for the terminal. Control characters in text from the server are escaped.
pub(crate) fn explain(error: Error, base_url: &str) -> CliError {
    let message = match &error {
        Error::Transport(cause) => {
            let mut root: &dyn std::error::Error = cause;
            while let Some(source) = root.source() {
                root = source;
            }
            format!("the server at {base_url} did not respond: {root}")
        }
        Error::NotPending(challenge) => {
            format!("{} is {} and can no longer be answered", challenge.sid, challenge.status.as_str())
        }
        Error::Unreadable { .. } => {
            format!("{}; check that {base_url} is the URL of a Countersign server", CliError::from(error))
        }
        Error::Api { status: 404, .. } => "the server has no such service, user or challenge".to_owned(),
        _ => CliError::from(error).to_string(),
    };
    CliError::new(plain(&message))
}
