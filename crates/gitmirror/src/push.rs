//! Pushes a mirror on to other hosts. Each destination has a loop of its own, so that one that is down holds up no
//! other.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Origin, Timings, git::GitError, repository::Repository};

/// Pushes to one destination after each change, until cancelled; tries again with growing pauses.
pub(crate) async fn run(
    repository: Arc<Repository>,
    to: Origin,
    mut changes: watch::Receiver<u64>,
    timings: Timings,
    cancel: CancellationToken,
) {
    let mut pause = timings.first_retry;
    loop {
        let failed = tokio::select! {
            () = cancel.cancelled() => return,
            failed = push(&repository, &to, &mut changes) => failed,
        };
        let Some(error) = failed else {
            repository.pushed(&to, None);
            pause = timings.first_retry;
            continue;
        };
        repository.pushed(&to, Some(describe(&repository, &to, &error)));
        // So that the next round begins at once.
        changes.mark_changed();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(timings.last_retry);
    }
}

/// Waits for a change and pushes it.
async fn push(repository: &Repository, to: &Origin, changes: &mut watch::Receiver<u64>) -> Option<GitError> {
    if changes.changed().await.is_err() {
        // The keeper is gone; we are about to be cancelled.
        std::future::pending::<()>().await;
    }
    repository.mirror.push(to).await.err()
}

fn describe(repository: &Repository, to: &Origin, error: &GitError) -> String {
    let name = &repository.name;
    format!(
        "repository `{name}` cannot be pushed to `{to}`: {error}; check that its credentials may push there"
    )
}
