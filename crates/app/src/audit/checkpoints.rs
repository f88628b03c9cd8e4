//! Publishing checkpoints of the audit chain outside of the database: in the server's log, and optionally in a file.
//!
//! While a process runs, it detects a rollback on its own. After a restart, or if the whole audit log was replaced,
//! only a checkpoint saved outside the database reveals it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crypto::audit::macs_equal;
use domain::audit::{AuditAction, ChainPosition, Change, Mac};
use domain::checkpoints::{Checkpoint, CheckpointKind};
use store::Write;
use tracing::{error, info};

use crate::App;
use crate::audit::chain_state::CheckpointLog;
use crate::audit::{Origin, chain};
use crate::error::{Error, Fault};

/// A checkpoint that was read from a checkpoint file.
struct SavedCheckpoint {
    line_number: usize,
    checkpoint: Checkpoint,
    /// Whether the checkpoint was signed with the audit key of this database.
    is_authentic: bool,
}

impl App {
    /// Publishes the chain head as a checkpoint. From then on, the head is also published each minute if it has moved,
    /// and at shutdown. If `file` is given, each checkpoint is also appended to this file.
    ///
    /// # Errors
    /// Returns an error if the chain does not contain the last checkpoint in the file, if the file cannot be read or
    /// written, or if one of its checkpoints was signed with another audit key. Also fails if the database fails.
    pub async fn publish_checkpoints(&self, file: Option<&Path>) -> Result<(), Error> {
        if let Some(file) = file
            && let Some(last) = self.checkpoints_in(file)?.last()
        {
            self.chain.remember_head(last.position);
        }
        match (chain::observe(self).await, file) {
            (Err(Error::Fault(Fault::RolledBackChain { seen, end })), Some(file)) => {
                return Err(Fault::CheckpointFile(rolled_back(file, &seen, end)).into());
            }
            // Without a file, the server starts despite a broken chain, which the chaining task then reports.
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

    /// Publishes the chain head as a checkpoint if the head has moved since the last checkpoint, or if `force` is set.
    /// Does nothing in a process that does not publish checkpoints.
    pub(crate) fn publish_checkpoint(&self, force: bool) {
        let Some(log) = self.chain.checkpoints.get() else { return };
        let mut published = log.published.lock().unwrap_or_else(PoisonError::into_inner);
        if *published == Some(self.chain.head()) && !force {
            return;
        }
        *published = Some(self.log_checkpoint());
        if let Some(file) = &log.file
            && let Err(fault) = self.append_checkpoint(file, CheckpointKind::Reached)
        {
            error!("could not write the audit checkpoint to the file: {}", fault.report());
        }
    }

    fn log_checkpoint(&self) -> ChainPosition {
        let head = self.chain.head();
        info!(head = %head, "audit checkpoint published");
        head
    }

    /// Returns the checkpoints in a file, oldest first. If an operator has accepted a checkpoint, the result starts
    /// with the last accepted one. Truncated lines are skipped. The result is empty if the file does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or if one of these checkpoints was not signed with this database's
    /// audit key.
    pub fn checkpoints_in(&self, file: &Path) -> Result<Vec<Checkpoint>, Error> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error(file, &error)),
        };
        let mut saved: Vec<SavedCheckpoint> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some((checkpoint, mac)) = parse_line(line) else { continue };
            let is_authentic = macs_equal(&self.chain.key.checkpoint_mac(&checkpoint), &mac);
            if is_authentic && checkpoint.kind == CheckpointKind::Accepted {
                saved.clear();
            }
            saved.push(SavedCheckpoint { line_number: index + 1, checkpoint, is_authentic });
        }
        // Do not skip foreign checkpoints: otherwise an attacker could invalidate all checkpoints by making the server
        // start a new chain.
        if let Some(foreign) = saved.iter().find(|saved| !saved.is_authentic) {
            return Err(Fault::CheckpointFile(format!(
                "{}, line {}: this checkpoint is not signed with the audit key of this database: either the audit log \
                 was recreated, the file belongs to another database, or it was altered; if this is expected, run \
                 `countersign audit accept`",
                file.display(),
                foreign.line_number
            ))
            .into());
        }
        Ok(saved.into_iter().map(|saved| saved.checkpoint).collect())
    }

    /// Accepts the current audit log even though it does not match the checkpoints in a file, for example after a
    /// backup was restored. Writes an audit record about this, appends an accepted checkpoint to the file, and returns
    /// its position.
    ///
    /// # Errors
    /// Returns an error if the chain is broken, if the database fails, or if the file cannot be written.
    pub async fn accept_audit_chain(&self, origin: &Origin, file: &Path) -> Result<ChainPosition, Error> {
        chain::observe(self).await?;
        let audit = self.audit(origin, self.now());
        let change =
            Change::of_server(AuditAction::EventsAccepted).detail("head", self.chain.head().to_string());
        self.store.write(async move |tx: &mut Write| audit.record(tx, change.clone()).await).await?;
        chain::finish(self).await;
        self.append_checkpoint(file, CheckpointKind::Accepted)?;
        Ok(self.chain.head())
    }

    /// Appends the current chain head to a checkpoint file as one line. The line is on disk when the function returns.
    fn append_checkpoint(&self, path: &Path, kind: CheckpointKind) -> Result<(), Error> {
        let at_path = |error| file_error(path, &error);
        let checkpoint = Checkpoint { at: self.now(), kind, position: self.chain.head() };
        let line = format!("{checkpoint} {}\n", self.chain.key.checkpoint_mac(&checkpoint));
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let mut file = file.map_err(at_path)?;
        // After a crash, the last line may be incomplete. End it before writing the new line.
        let line = if lacks_final_newline(&mut file).map_err(at_path)? { format!("\n{line}") } else { line };
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(at_path)
    }
}

/// Parses a line of a checkpoint file, and returns the checkpoint and its MAC. Returns `None` for a truncated or
/// otherwise malformed line.
fn parse_line(line: &str) -> Option<(Checkpoint, Mac)> {
    let (checkpoint, mac) = line.rsplit_once(' ')?;
    Some((checkpoint.parse().ok()?, mac.parse().ok()?))
}

/// Returns whether a nonempty file lacks a line feed at its end. Moves the read position of the file.
fn lacks_final_newline(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn rolled_back(file: &Path, seen: &ChainPosition, end: i64) -> String {
    format!(
        "the audit log was rolled back or rewritten: it ends with record {end}, but {} ends with {seen}; after restoring \
         a backup run `countersign audit accept`, otherwise run `countersign audit verify`",
        file.display()
    )
}

fn file_error(file: &Path, error: &std::io::Error) -> Error {
    Fault::CheckpointFile(format!("{}: {error}", file.display())).into()
}
