//! Publishing checkpoints of the audit chain outside of the database: in the server's log, and in a file.
//!
//! A running process notices if the chain is rolled back. After a restart, or if an attacker replaces the whole log,
//! only a checkpoint that was saved elsewhere shows it.

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

/// A checkpoint in a file.
struct SavedCheckpoint {
    line_number: usize,
    checkpoint: Checkpoint,
    /// Whether the audit key of this database signed it.
    is_authentic: bool,
}

impl App {
    /// Publishes the end of the audit chain: now, each minute if it has moved, and at shutdown. If `file` is given, each
    /// checkpoint is appended to it.
    ///
    /// # Errors
    /// Returns an error if the chain ends before the last checkpoint in the file, if the file cannot be read or written,
    /// or if it was signed with another audit key.
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
            // Without a file the server starts anyway; the chaining task reports the broken chain.
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

    /// Publishes a checkpoint if the chain has moved since the last one, or if `force` is set. Does nothing in a process
    /// that does not publish checkpoints.
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

    /// Reads the valid checkpoints in a file, oldest first. They start with the last one that an operator accepted. The
    /// result is empty if the file does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or has checkpoints that this database's audit key did not sign.
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
        // Skipping it would let an attacker discard all checkpoints by making the server start a new chain.
        if let Some(foreign) = saved.iter().find(|saved| !saved.is_authentic) {
            return Err(Fault::CheckpointFile(format!(
                "{}, line {}: this checkpoint is not signed with the audit key of this database, so the audit log was \
                 started anew, the file belongs to another database, or it was altered; if this is expected, run \
                 `countersign audit accept`",
                file.display(),
                foreign.line_number
            ))
            .into());
        }
        Ok(saved.into_iter().map(|saved| saved.checkpoint).collect())
    }

    /// Accepts the current audit log in place of the checkpoints in a file, and writes an audit record about it. This is
    /// for a restored backup.
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

    /// Appends a line to the file in a single durable write.
    fn append_checkpoint(&self, path: &Path, kind: CheckpointKind) -> Result<(), Error> {
        let at_path = |error| file_error(path, &error);
        let checkpoint = Checkpoint { at: self.now(), kind, position: self.chain.head() };
        let line = format!("{checkpoint} {}\n", self.chain.key.checkpoint_mac(&checkpoint));
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let mut file = file.map_err(at_path)?;
        // After a crash the last line may lack its end; finish it before the new one.
        let line = if lacks_final_newline(&mut file).map_err(at_path)? { format!("\n{line}") } else { line };
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(at_path)
    }
}

/// Parses the checkpoint and the MAC on a line; returns `None` for a truncated line.
fn parse_line(line: &str) -> Option<(Checkpoint, Mac)> {
    let (checkpoint, mac) = line.rsplit_once(' ')?;
    Some((checkpoint.parse().ok()?, mac.parse().ok()?))
}

/// Returns whether a file does not end with a line feed.
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
