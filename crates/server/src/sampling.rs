//! Samples the sizes of the database and its disk, and the time of the last backup, for the metrics.
//!
//! A disk or a database may take long to answer, so this is done in the background. A request for the metrics gets
//! the last samples at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::App;
use telemetry::metrics::METRICS;

use crate::last_backup;

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(30);

/// The folders that are sampled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders {
    /// The folder of the SQLite database, unless there is none.
    pub(crate) database: Option<PathBuf>,
    /// The data folder, unless everything is in memory.
    pub(crate) data: Option<PathBuf>,
}

/// The task that samples; stops when this is dropped.
pub(crate) struct Sampling(tokio::task::JoinHandle<()>);

impl Sampling {
    /// Starts to sample, the first time at once.
    pub(crate) fn start(app: Arc<App>, folders: Folders) -> Self {
        Self(tokio::spawn(async move {
            loop {
                app.measure_size().await;
                let folders = folders.clone();
                let _ = tokio::task::spawn_blocking(move || folders.sample()).await;
                tokio::time::sleep(INTERVAL).await;
            }
        }))
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Folders {
    fn sample(&self) {
        if let Some(folder) = &self.database {
            sample_disk(folder);
        }
        let backup = self.data.as_deref().and_then(last_backup::read);
        METRICS.last_backup_timestamp.set(backup.map_or(0, |begun| begun.seconds()));
    }
}

/// Sets the gauges of the disk that has a folder. If it can't be looked at, they stay as they were.
fn sample_disk(folder: &Path) {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
    METRICS.disk_size.set(bytes(disk.f_blocks));
    // Not `f_bfree`: some blocks are reserved for root.
    METRICS.disk_free.set(bytes(disk.f_bavail));
}
