//! The keyring, and a phone for each enrollment in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use app::SystemClock;
use device::{ChallengeList, Enrollment, Error, Keyring, ListRequest, Order, Phone, Status};
use domain::factors::Status as FactorStatus;
use domain::{Clock as _, Timestamp};

use crate::failure::Failure;
use crate::terminal::{plain, program, quoted, say};

/// The keyring when none is named.
pub(super) const KEYRING: &str = "countersign-device.json";

/// Most pending challenges that are looked at; nobody could answer more before they expire.
const MANY: u32 = 100;

/// All enrollments of a keyring.
pub(super) struct Phones {
    path: PathBuf,
    keyring: Keyring,
}

/// One enrollment, and the phone that speaks for it.
pub(super) struct Handset {
    pub(super) enrollment: Enrollment,
    pub(super) phone: Phone,
    /// What deletes its key, as a command line.
    forget: String,
}

impl Phones {
    /// Reads the keyring; an empty one if there is none yet.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let keyring = Keyring::load(&path)?;
        Ok(Self { path, keyring })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The command line that runs a command of `device` on this keyring, as it can be copied.
    pub(super) fn command(&self, command: &str) -> String {
        let program = program();
        if self.path == Path::new(KEYRING) {
            format!("{program} device {command}")
        } else {
            format!("{program} device --keyring {} {command}", quoted(&self.path.to_string_lossy()))
        }
    }

    fn handset(&self, enrollment: Enrollment) -> Result<Handset, Failure> {
        let phone = Phone::new(enrollment.style, &enrollment.base_url, Arc::new(SystemClock));
        let phone = phone.map_err(|error| explain(error, &enrollment.base_url))?;
        let forget = self.command(&format!("forget {}", quoted(&enrollment.factor_sid)));
        Ok(Handset { enrollment, phone, forget })
    }

    /// The enrollments, oldest first.
    ///
    /// # Errors
    /// When there is none, with what to do about it.
    pub(super) fn enrollments(&self) -> Result<&[Enrollment], Failure> {
        match self.keyring.enrollments() {
            [] => Err(Failure::new(format!(
                "no phone is enrolled in {}; run \"{} device enroll --help\" to see how, or name \
                 another keyring with --keyring",
                self.path.display(),
                program()
            ))),
            enrollments => Ok(enrollments),
        }
    }

    /// The phones of all factors, or of the one whose SID begins so. Ends enrollments that were cut short.
    pub(super) async fn take(&mut self, factor: Option<String>) -> Result<Vec<Handset>, Failure> {
        let enrollments = match factor {
            Some(beginning) => vec![self.keyring.find(&beginning)?.clone()],
            None => self.enrollments()?.to_vec(),
        };
        let mut handsets = Vec::with_capacity(enrollments.len());
        for enrollment in enrollments {
            let mut handset = self.handset(enrollment)?;
            if handset.enrollment.status == FactorStatus::Unverified {
                self.verify(&mut handset).await?;
            }
            handsets.push(handset);
        }
        Ok(handsets)
    }

    /// Does the second half of an enrollment of which only the first half is done. That it can't be done
    /// now hinders nothing: whatever comes next will say why.
    async fn verify(&mut self, handset: &mut Handset) -> Result<(), Failure> {
        match handset.phone.verify_factor(&mut handset.enrollment).await {
            Ok(()) => self.keep(&handset.enrollment),
            Err(_) => Ok(()),
        }
    }

    /// Makes sure that the keyring can be written, before anything is sent whose answer must be kept.
    pub(super) fn prepare(&mut self) -> Result<(), Failure> {
        self.change(|_| Ok(()))
    }

    /// Puts an enrollment into the keyring.
    pub(super) fn keep(&mut self, enrollment: &Enrollment) -> Result<(), Failure> {
        self.change(|keyring| {
            keyring.put(enrollment.clone());
            Ok(())
        })
    }

    /// Deletes a factor, and then its key.
    pub(super) async fn forget(&mut self, beginning: &str, local: bool) -> Result<(), Failure> {
        let handset = self.handset(self.keyring.find(beginning)?.clone())?;
        let sid = &handset.enrollment.factor_sid;
        if !local {
            handset.phone.delete_factor(&handset.enrollment).await.map_err(|error| {
                let why = handset.explain(error);
                Failure::new(format!("{why}. The key is still here; --local deletes it all the same"))
            })?;
        }
        self.change(|keyring| keyring.remove(sid).map(drop))?;
        say(match local {
            false => format!("Deleted the factor {sid} on the server, and its key here."),
            true => format!("Deleted the key of {sid} here. The server still has the factor."),
        })
    }

    /// Reads the keyring anew before it changes it: what another process has enrolled meanwhile must not
    /// be lost.
    fn change(&mut self, change: impl FnOnce(&mut Keyring) -> Result<(), Error>) -> Result<(), Failure> {
        self.keyring = Keyring::load(&self.path)?;
        change(&mut self.keyring)?;
        Ok(self.keyring.save()?)
    }
}

impl Handset {
    /// What waits for an answer, newest first.
    pub(super) async fn pending(&self) -> Result<ChallengeList, Error> {
        let list = ListRequest {
            status: Some(Status::Pending),
            order: Order::Descending,
            page_size: MANY,
            page_token: None,
        };
        self.phone.challenges(&self.enrollment, &list).await
    }

    /// The time, as far as the phone knows the server's.
    pub(super) fn now(&self) -> Timestamp {
        SystemClock.now().plus_seconds(self.phone.clock_offset())
    }

    /// The phone's name and its factor, in one line.
    pub(super) fn title(&self) -> String {
        format!("{} ({})", plain(&self.enrollment.friendly_name), plain(&self.enrollment.factor_sid))
    }

    /// What went wrong for this phone, in words for a terminal.
    pub(super) fn explain(&self, error: Error) -> Failure {
        match error {
            // Refused twice, with the clock repaired: it is the factor that is not known.
            Error::Api { status: 401, .. } => Failure::new(format!(
                "the server does not know the factor {} any more; \"{} --local\" deletes its key here",
                plain(&self.enrollment.factor_sid),
                self.forget
            )),
            error => explain(error, &self.enrollment.base_url),
        }
    }
}

/// What went wrong, in words for a terminal: a stranger's words are defused.
pub(super) fn explain(error: Error, base_url: &str) -> Failure {
    let words = match &error {
        Error::Transport(cause) => {
            let mut root: &dyn std::error::Error = cause;
            while let Some(deeper) = root.source() {
                root = deeper;
            }
            format!("the server at {base_url} did not answer: {root}")
        }
        Error::NotPending(challenge) => {
            format!("{} is {} and can't be answered any more", challenge.sid, challenge.status.as_str())
        }
        Error::Unreadable { .. } => {
            format!("{}; check that {base_url} is the address of a Countersign server", Failure::from(error))
        }
        Error::Api { status: 404, .. } => "the server has no such service, user or challenge".to_owned(),
        _ => Failure::from(error).to_string(),
    };
    Failure::new(plain(&words))
}
