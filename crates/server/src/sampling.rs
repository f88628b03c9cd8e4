//! Samples the database size, the disk space and the time of the last backup for the metrics.
//!
//! Sampling runs in the background, because a slow disk or database must not delay a request for the metrics. Such a
//! request returns the latest samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::App;
use telemetry::metrics::METRICS;

use crate::last_backup;

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(30);

/// The folders from which disk space and the time of the last backup are sampled.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampledFolders {
    /// The folder of the SQLite database, whose disk space is sampled; `None` with PostgreSQL or an in-memory database.
    pub(crate) database: Option<PathBuf>,
    /// The data folder, which contains the time of the last backup; `None` if all data is in memory.
    pub(crate) data: Option<PathBuf>,
}

/// The background sampling task. Dropping it stops the task.
pub(crate) struct Sampling(tokio::task::JoinHandle<()>);

impl Sampling {
    /// Starts the sampling task. It takes the first sample immediately, and another one every [`SAMPLE_INTERVAL`].
    pub(crate) fn start(app: Arc<App>, folders: SampledFolders) -> Self {
        Self(tokio::spawn(async move {
            loop {
                app.refresh_size_gauges().await;
                let folders = folders.clone();
                let _ = tokio::task::spawn_blocking(move || folders.sample()).await;
                tokio::time::sleep(SAMPLE_INTERVAL).await;
            }
        }))
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SampledFolders {
    fn sample(&self) {
        if let Some(folder) = &self.database {
            sample_disk(folder);
        }
        let backup = self.data.as_deref().and_then(last_backup::read);
        METRICS.last_backup_timestamp.set(backup.map_or(0, |started_at| started_at.seconds()));
    }
}

/// Updates the gauges for the size and free space of the disk that contains `folder`. If that fails, the gauges keep
/// their previous values.
fn sample_disk(folder: &Path) {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
    METRICS.disk_size.set(bytes(disk.f_blocks));
    // Do not use `f_bfree`, which includes blocks that only root can use.
    METRICS.disk_free.set(bytes(disk.f_bavail));
}
