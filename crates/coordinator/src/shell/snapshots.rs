//! Keeps the snapshots within bounds: the oldest go when there are too many bytes.

use tracing::{info, warn};

use super::perform::Worker;
use crate::core::{Event, SnapshotKey};

/// Where a snapshot is kept.
pub(crate) fn blob(key: &str) -> String {
    format!("snapshots/{key}.tar.zst")
}

/// Asks the core to forget what is too much. It keeps what is in use.
pub(super) async fn make_room(worker: Worker) {
    let stored = match worker.records.snapshots().await {
        Ok(stored) => stored,
        Err(error) => return warn!("snapshots cannot be listed: {error}"),
    };
    let mut sum: u64 = 0;
    let mut surplus = Vec::new();
    for (index, (key, bytes)) in stored.into_iter().enumerate() {
        sum += bytes;
        if index > 0 && sum > worker.tuning.snapshot_bytes {
            surplus.push(key);
        }
    }
    if !surplus.is_empty() {
        info!("{} snapshots are dropped to make room", surplus.len());
        // Shutting down: the next one that is stored makes room.
        let _ = worker.handle.tell(Event::DropSnapshots(surplus)).await;
    }
}

/// Removes the bytes of a snapshot that nobody knows any more.
pub(super) async fn remove(worker: Worker, key: SnapshotKey) {
    if let Err(error) = worker.blobs.delete(&blob(&key.0)).await {
        warn!("snapshot `{}` cannot be removed: {error}", key.0);
    }
}
