//! The keyring, and a phone for each of its enrollments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::{ChallengeList, Enrollment, Error, Keyring, ListRequest, Order, Phone, Status, Style};
use domain::factors::Status as FactorStatus;
use domain::{Clock, Timestamp};
use terminal::{CliError, plain, program, quoted, say};

/// Path of the keyring if none is given.
pub(crate) const DEFAULT_KEYRING: &str = "countersign-device.json";

/// Number of pending challenges that are requested: more than a user could answer before they expire.
const MAX_PENDING_CHALLENGES: u32 = 100;

/// The enrollments of a keyring file.
pub(crate) struct Phones {
    path: PathBuf,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
}

/// An enrollment with the phone that sends its requests.
pub(crate) struct EnrolledPhone {
    pub(crate) enrollment: Enrollment,
    pub(crate) phone: Phone,
    clock: Arc<dyn Clock>,
    /// Command line that deletes the private key of the enrollment.
    forget_command: String,
}

impl Phones {
    /// Reads the keyring, which is empty if the file does not exist yet.
    pub(crate) fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        let keyring = Keyring::load(&path)?;
        Ok(Self { path, keyring, clock })
    }

    /// Returns the path of the keyring.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a command line that runs a subcommand of `device` on this keyring, quoted so that it can be copied.
    pub(crate) fn command(&self, command: &str) -> String {
        let program = program();
        if self.path == Path::new(DEFAULT_KEYRING) {
            format!("{program} device {command}")
        } else {
            format!("{program} device --keyring {} {command}", quoted(&self.path.to_string_lossy()))
        }
    }

    /// Creates a phone for the server at `base_url`.
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

    /// Returns the enrollments, oldest first.
    ///
    /// # Errors
    /// Returns an error if there are none, with advice how to enroll.
    pub(crate) fn enrollments(&self) -> Result<&[Enrollment], CliError> {
        match self.keyring.enrollments() {
            [] => Err(CliError::new(format!(
                "no phone is enrolled in {}; \"{} device enroll --help\" shows how to enroll one, and --keyring \
                 selects another keyring",
                self.path.display(),
                program()
            ))),
            enrollments => Ok(enrollments),
        }
    }

    /// Returns the phones of all factors, or of the factor with this SID or SID prefix. Completes enrollments that
    /// were interrupted before verification.
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

    /// Verifies a factor that was created but not verified. A failure is ignored here, because the next request of
    /// the phone reports it.
    async fn verify(&mut self, enrolled: &mut EnrolledPhone) -> Result<(), CliError> {
        match enrolled.phone.verify_factor(&mut enrolled.enrollment).await {
            Ok(()) => self.store(&enrolled.enrollment),
            Err(_) => Ok(()),
        }
    }

    /// Verifies that the keyring can be written. Call it before a request whose response must be stored.
    pub(crate) fn require_writable(&mut self) -> Result<(), CliError> {
        self.update(|_| Ok(()))
    }

    /// Stores an enrollment in the keyring.
    pub(crate) fn store(&mut self, enrollment: &Enrollment) -> Result<(), CliError> {
        self.update(|keyring| {
            keyring.put(enrollment.clone());
            Ok(())
        })
    }

    /// Deletes a factor on the server, unless `is_local`, and then its private key.
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
            false => format!("Deleted the factor {sid} on the server, and its key in the keyring."),
            true => format!("Deleted the key of {sid} in the keyring. The factor is still on the server."),
        })
    }

    /// Changes the keyring file. It is read again first, so that an enrollment of another process is not lost.
    fn update(&mut self, change: impl FnOnce(&mut Keyring) -> Result<(), Error>) -> Result<(), CliError> {
        self.keyring = Keyring::load(&self.path)?;
        change(&mut self.keyring)?;
        Ok(self.keyring.save()?)
    }
}

impl EnrolledPhone {
    /// Returns the pending challenges, newest first.
    pub(crate) async fn list_pending(&self) -> Result<ChallengeList, Error> {
        let list = ListRequest {
            status: Some(Status::Pending),
            order: Order::Descending,
            page_size: MAX_PENDING_CHALLENGES,
            page_token: None,
        };
        self.phone.list_challenges(&self.enrollment, &list).await
    }

    /// Returns the estimated time of the server.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().plus_seconds(self.phone.clock_offset())
    }

    /// Returns the name of the phone and the SID of its factor on one line.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", plain(&self.enrollment.friendly_name), plain(&self.enrollment.factor_sid))
    }

    /// Converts an error of this phone into a message for the terminal.
    pub(crate) fn explain(&self, error: Error) -> CliError {
        match error {
            // The phone has already corrected its clock and repeated the request, so the factor itself is unknown.
            Error::Api { status: 401, .. } => CliError::new(format!(
                "the server does not know the factor {} any more; \"{} --local\" deletes its key here",
                plain(&self.enrollment.factor_sid),
                self.forget_command
            )),
            error => explain(error, &self.enrollment.base_url),
        }
    }
}

/// Converts an error into a message for the terminal. Text from the server is escaped.
pub(crate) fn explain(error: Error, base_url: &str) -> CliError {
    let message = match &error {
        Error::Transport(cause) => {
            let mut root: &dyn std::error::Error = cause;
            while let Some(source) = root.source() {
                root = source;
            }
            format!("the server at {base_url} did not answer: {root}")
        }
        Error::NotPending(challenge) => {
            format!("{} is {} and cannot be answered any more", challenge.sid, challenge.status.as_str())
        }
        Error::Unreadable { .. } => {
            format!("{}; check that {base_url} is the URL of a Countersign server", CliError::from(error))
        }
        Error::Api { status: 404, .. } => "the server has no such service, user or challenge".to_owned(),
        _ => CliError::from(error).to_string(),
    };
    CliError::new(plain(&message))
}
