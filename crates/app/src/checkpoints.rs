//! Publishing checkpoints of the audit log outside of the database: in the server's log, and in a file.
//!
//! Within a process the chain can't be put back unnoticed. Across restarts, and against an attacker who replaces the
//! whole log, only what was written elsewhere helps.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crypto::audit::same;
use domain::audit::{Act, Change, Mac, Mark};
use domain::checkpoints::{Checkpoint, CheckpointKind};
use store::Write;
use tracing::{error, info};

use crate::App;
use crate::audit::Origin;
use crate::chain;
use crate::error::{Error, Fault};

/// Where a server publishes checkpoints.
pub(crate) struct CheckpointLog {
    file: Option<PathBuf>,
    /// The last one that was published.
    published: Mutex<Option<Mark>>,
}

impl App {
    /// Publishes the end of the audit log's chain from now on: at once, every minute in which it moves, and when the
    /// process stops. With a file, each checkpoint is appended to it.
    ///
    /// # Errors
    /// When the chain is behind the last checkpoint in the file, or the file can't be read or written, or was written
    /// with another audit key.
    pub async fn publish_checkpoints(&self, file: Option<&Path>) -> Result<(), Error> {
        if let Some(file) = file
            && let Some(last) = self.checkpoints_in(file)?.last()
        {
            self.chain.remember_head(last.mark);
        }
        match (chain::observe(self).await, file) {
            (Err(Error::Fault(Fault::RewoundChain { seen, end })), Some(file)) => {
                return Err(Fault::CheckpointFile(behind(file, &seen, end)).into());
            }
            // Without a file the server starts, chains nothing, and reports it.
            (Err(Error::Fault(Fault::BrokenChain)), None) => {}
            (result, _) => result?,
        }
        if let Some(file) = file {
            self.append_checkpoint(file, CheckpointKind::Reached)?;
        }
        let published = Mutex::new(Some(self.log_checkpoint()));
        let _ = self.chain.checkpoints.set(CheckpointLog { file: file.map(Path::to_owned), published });
        Ok(())
    }

    /// Publishes a checkpoint if the chain has moved since the last one, or in any case. Nothing happens in a process
    /// that publishes none.
    pub(crate) fn publish_checkpoint(&self, in_any_case: bool) {
        let Some(log) = self.chain.checkpoints.get() else { return };
        let mut published = log.published.lock().unwrap_or_else(PoisonError::into_inner);
        if *published == Some(self.chain.head()) && !in_any_case {
            return;
        }
        *published = Some(self.log_checkpoint());
        if let Some(file) = &log.file
            && let Err(fault) = self.append_checkpoint(file, CheckpointKind::Reached)
        {
            error!("the checkpoint of the audit log is missing in the file: {}", fault.chain());
        }
    }

    fn log_checkpoint(&self) -> Mark {
        let head = self.chain.head();
        info!(head = %head, "checkpoint of the audit log");
        head
    }

    /// The checkpoints in a file that count, oldest first: those from the last one that an operator accepted on. None
    /// if there is no file.
    ///
    /// # Errors
    /// When the file can't be read, or has checkpoints that were not signed with this database's audit key.
    pub fn checkpoints_in(&self, file: &Path) -> Result<Vec<Checkpoint>, Error> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(file, &error)),
        };
        let signed = text.lines().enumerate().filter_map(|(place, line)| Some((place + 1, signed(line)?)));
        let mut counting: Vec<(usize, Checkpoint, bool)> = Vec::new();
        for (line, (checkpoint, mac)) in signed {
            let is_ours = same(&self.chain.key.checkpoint(&checkpoint), &mac);
            if is_ours && checkpoint.kind == CheckpointKind::Accepted {
                counting.clear();
            }
            counting.push((line, checkpoint, is_ours));
        }
        // Skipping it would let an attacker get rid of all checkpoints by making the server begin a new chain.
        if let Some((line, ..)) = counting.iter().find(|(.., is_ours)| !is_ours) {
            return Err(Fault::CheckpointFile(format!(
                "{}, line {line}: this checkpoint is not signed with the audit key of this database, so the audit log \
                 was begun anew, the file is of another database, or it was altered; if that is right, run \
                 `countersign audit accept`",
                file.display()
            ))
            .into());
        }
        Ok(counting.into_iter().map(|(_, checkpoint, _)| checkpoint).collect())
    }

    /// Accepts the audit log as it is, in place of the checkpoints in a file, and leaves a line that says so. For a
    /// backup that was restored.
    ///
    /// # Errors
    /// When the chain is broken, the database fails, or the file can't be written.
    pub async fn accept_audit_chain(&self, origin: &Origin, file: &Path) -> Result<Mark, Error> {
        chain::observe(self).await?;
        let audit = self.audit(origin, self.now());
        let change = Change::of_server(Act::EventsAccepted).with("head", self.chain.head().to_string());
        self.store.write(async move |tx: &mut Write| audit.note(tx, change.clone()).await).await?;
        chain::finish(self).await;
        self.append_checkpoint(file, CheckpointKind::Accepted)?;
        Ok(self.chain.head())
    }

    /// Appends a line in one write, and makes it durable.
    fn append_checkpoint(&self, path: &Path, kind: CheckpointKind) -> Result<(), Error> {
        let at_path = |error| at(path, &error);
        let checkpoint = Checkpoint { at: self.now(), kind, mark: self.chain.head() };
        let line = format!("{checkpoint} {}\n", self.chain.key.checkpoint(&checkpoint));
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let mut file = file.map_err(at_path)?;
        // A line that a crash cut off is ended, so that this one stands by itself.
        let line = if is_cut_off(&mut file).map_err(at_path)? { format!("\n{line}") } else { line };
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(at_path)
    }
}

/// The checkpoint and the MAC on a line; `None` for a line that was cut off.
fn signed(line: &str) -> Option<(Checkpoint, Mac)> {
    let (checkpoint, mac) = line.rsplit_once(' ')?;
    Some((checkpoint.parse().ok()?, mac.parse().ok()?))
}

/// Whether the last line of a file has no end.
fn is_cut_off(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn behind(file: &Path, seen: &Mark, end: i64) -> String {
    format!(
        "the audit log was put back or rewritten: it ends with line {end}, and {} has {seen} as its end; if you \
         restored a backup, run `countersign audit accept`, else see `countersign audit verify`",
        file.display()
    )
}

fn at(file: &Path, error: &std::io::Error) -> Error {
    Fault::CheckpointFile(format!("{}: {error}", file.display())).into()
}
