//! Reload while running: a change of the file is read within a moment; an invalid one keeps what was there and says so.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};

use super::{Errors, FromToml, parse};
use crate::Tasks;

/// Editors write in several steps: the file is read this long after the first.
const SETTLE: Duration = Duration::from_millis(50);

/// The file cannot be watched: the system gives no notice of changes in its folder.
#[derive(Debug, thiserror::Error)]
#[error("watch `{}`", .path.display())]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// The configuration that applies, and what is wrong with the file if it is not that. Clones see the same changes.
#[derive(Clone)]
pub struct Reload<T> {
    state: watch::Receiver<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    problem: Option<Errors>,
}

impl<T> Reload<T> {
    /// What applies: the last valid content of the file.
    pub fn current(&self) -> Arc<T> {
        self.state.borrow().current.clone()
    }

    /// What is wrong with the file as it is now; None if it is what applies.
    pub fn problem(&self) -> Option<Errors> {
        self.state.borrow().problem.clone()
    }

    /// Waits for the next change of the file: what applies now, or why the change does not. Never ends after shutdown.
    ///
    /// Cancel safe. Of several changes in a row only the last may be seen.
    pub async fn changed(&mut self) -> Result<Arc<T>, Errors> {
        if self.state.changed().await.is_err() {
            return std::future::pending().await;
        }
        let state = self.state.borrow_and_update();
        match &state.problem {
            None => Ok(state.current.clone()),
            Some(errors) => Err(errors.clone()),
        }
    }
}

/// Watches the file until `tasks` shut down. The log says what came of each change. Costs nothing while nothing changes.
///
/// `current` is what the caller has loaded and what applies. The file is read again at once: an edit between that load
/// and this call is a change like any other, also when it is a wrong one.
pub fn watch<T: FromToml + PartialEq + Send + Sync + 'static>(
    path: &Path,
    current: Arc<T>,
    tasks: &Tasks,
) -> Result<Reload<T>, WatchError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (hint, hints) = mpsc::channel(1);
    // Room for one hint: this one.
    let _ = hint.try_send(());
    let watcher = watcher(&path, hint).map_err(|source| WatchError { path: path.clone(), source })?;
    let (send, receive) = watch::channel(State { current, problem: None });
    let shutdown = tasks.shutdown();
    tasks.job("configuration watch", async move {
        let _watcher = watcher;
        let _ = shutdown.run_until_cancelled(follow(path, hints, send)).await;
    });
    Ok(Reload { state: receive })
}

/// Watches the folder, since editors and Kubernetes replace the file rather than write it.
fn watcher(path: &Path, hint: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            return;
        }
        // A full channel holds a hint already.
        let _ = hint.try_send(());
    };
    let mut watcher = notify::recommended_watcher(notice)?;
    watcher.watch(path.parent().unwrap_or(Path::new("/")), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

async fn follow<T: FromToml + PartialEq>(
    path: PathBuf,
    mut hints: mpsc::Receiver<()>,
    state: watch::Sender<State<T>>,
) {
    let mut last = None;
    while hints.recv().await.is_some() {
        tokio::time::sleep(SETTLE).await;
        let text = tokio::fs::read_to_string(&path).await;
        let seen = Some(text.as_ref().ok().cloned());
        if seen == last {
            continue; // another file of the folder
        }
        last = seen;
        apply(&path, read(&path, &text), &state);
    }
}

fn apply<T: PartialEq>(path: &Path, fresh: Result<T, Errors>, state: &watch::Sender<State<T>>) {
    let file = path.display();
    match fresh {
        Ok(fresh) if applies(&state.borrow(), &fresh) => {}
        Ok(fresh) => {
            tracing::info!("reloaded `{file}`");
            state.send_modify(|state| *state = State { current: Arc::new(fresh), problem: None });
        }
        Err(errors) => {
            tracing::warn!("`{file}` is not valid, what was loaded before still applies: {errors}");
            state.send_modify(|state| state.problem = Some(errors));
        }
    }
}

fn applies<T: PartialEq>(state: &State<T>, fresh: &T) -> bool {
    state.problem.is_none() && *state.current == *fresh
}

fn read<T: FromToml>(path: &Path, text: &std::io::Result<String>) -> Result<T, Errors> {
    let name = path.display().to_string();
    match text {
        Ok(text) => parse(&name, text),
        Err(error) => Err(Errors::unreadable(&name, error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::Table;

    #[derive(Debug, PartialEq)]
    struct Size(u32);

    impl FromToml for Size {
        fn from_toml(table: &mut Table<'_>) -> Self {
            Self(table.required("size"))
        }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        tasks: Tasks,
        reload: Reload<Size>,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("farm.toml"), "size = 1").unwrap();
            let tasks = Tasks::new(CancellationToken::new());
            let reload = watch(&folder.path().join("farm.toml"), Arc::new(Size(1)), &tasks).unwrap();
            Self { folder, tasks, reload }
        }

        fn write(&self, text: &str) {
            // As editors do: a new file takes the name.
            let fresh = self.folder.path().join("farm.toml~");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, self.folder.path().join("farm.toml")).unwrap();
        }

        async fn changed(&mut self) -> Result<Arc<Size>, Errors> {
            tokio::time::timeout(Duration::from_secs(10), self.reload.changed()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_valid_change_applies() {
        let mut fixture = Fixture::new();
        assert_eq!(*fixture.reload.current(), Size(1));
        fixture.write("size = 2");
        assert_eq!(*fixture.changed().await.unwrap(), Size(2));
        std::fs::write(fixture.folder.path().join("farm.toml"), "size = 3").unwrap();
        while *fixture.reload.current() != Size(3) {
            let _ = fixture.changed().await; // a torn write may be seen as an error first
        }
        assert_eq!(fixture.reload.problem(), None);
        fixture.tasks.shutdown().cancel();
        fixture.tasks.finish(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn an_invalid_change_keeps_the_old_and_says_why_until_it_is_put_right() {
        let mut fixture = Fixture::new();
        fixture.write("sise = 2");
        let errors = fixture.changed().await.unwrap_err();
        assert_eq!(errors.list().len(), 2, "{errors}");
        assert_eq!(*fixture.reload.current(), Size(1));
        assert_eq!(fixture.reload.problem(), Some(errors));
        fixture.write("size = 4");
        assert_eq!(*fixture.changed().await.unwrap(), Size(4));
        assert_eq!(fixture.reload.problem(), None);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_keeps_the_old() {
        let mut fixture = Fixture::new();
        std::fs::remove_file(fixture.folder.path().join("farm.toml")).unwrap();
        let errors = fixture.changed().await.unwrap_err();
        assert!(errors.to_string().contains("cannot be read"), "{errors}");
        assert_eq!(*fixture.reload.current(), Size(1));
    }

    #[tokio::test]
    async fn an_edit_between_the_load_and_the_watch_is_seen() {
        for (text, applies) in [("size = 2", 2), ("sise = 2", 1)] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("farm.toml"), text).unwrap();
            let tasks = Tasks::new(CancellationToken::new());
            let reload = watch(&folder.path().join("farm.toml"), Arc::new(Size(1)), &tasks).unwrap();
            let mut fixture = Fixture { folder, tasks, reload };
            assert_eq!(fixture.changed().await.is_ok(), applies == 2);
            assert_eq!(*fixture.reload.current(), Size(applies));
        }
    }
}
