//! Hears from the operating system that refs of a folder may have changed. Only ever a hint: who gets one scans, and
//! scans now and then without any.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use crate::scan::Folder;

/// Watches one folder until dropped.
pub(crate) struct Watch {
    _watcher: RecommendedWatcher,
    folder: Folder,
    /// Which folders they were: others may have taken their names since.
    identity: Vec<(u64, u64)>,
}

impl Watch {
    /// Calls `changed` after each sign of a change, on a thread of the watcher.
    pub(crate) fn new(folder: &Folder, changed: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let identity = identity(folder);
        let of = Relevant::new(folder);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if !of.concerns(&event) => {}
            // An error may hide a change.
            _ => changed(),
        })?;
        watcher.watch(&folder.common.join("refs"), RecursiveMode::Recursive)?;
        watcher.watch(&folder.common, RecursiveMode::NonRecursive)?;
        if folder.git != folder.common {
            watcher.watch(&folder.git, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { _watcher: watcher, folder: folder.clone(), identity })
    }

    /// Whether it still watches what is there now.
    pub(crate) fn is_current(&self, folder: &Folder) -> bool {
        self.folder == *folder && self.identity == identity(folder)
    }
}

fn identity(folder: &Folder) -> Vec<(u64, u64)> {
    let of = |path: &Path| fs::metadata(path).map_or((0, 0), |data| (data.dev(), data.ino()));
    vec![of(&folder.git), of(&folder.common), of(&folder.common.join("refs"))]
}

/// Tells signs of changed refs from all the rest that goes on in a repository.
struct Relevant {
    head: PathBuf,
    packed: PathBuf,
    refs: PathBuf,
    common: PathBuf,
}

impl Relevant {
    fn new(folder: &Folder) -> Self {
        Self {
            head: folder.git.join("HEAD"),
            packed: folder.common.join("packed-refs"),
            refs: folder.common.join("refs"),
            common: folder.common.clone(),
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        // Our own scans open files, too.
        let is_read = match event.kind {
            EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
            _ => false,
        };
        event.need_rescan() || (!is_read && event.paths.iter().any(|path| self.is_of_refs(path)))
    }

    fn is_of_refs(&self, path: &Path) -> bool {
        let is_lock = path.extension() == Some(OsStr::new("lock"));
        !is_lock
            && (path.starts_with(&self.refs)
                || [&self.head, &self.packed, &self.common].contains(&&path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RenameMode};

    use super::*;

    #[test]
    fn only_refs_count_and_reading_them_does_not() {
        let folder = Folder { git: "/r/.git".into(), common: "/r/.git".into() };
        let relevant = Relevant::new(&folder);
        let check = |kind, path: &str| relevant.concerns(&Event::new(kind).add_path(path.into()));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert!(check(renamed, "/r/.git/refs/heads/main"));
        assert!(check(renamed, "/r/.git/packed-refs"));
        assert!(check(renamed, "/r/.git/HEAD"));
        assert!(check(EventKind::Create(CreateKind::Folder), "/r/.git/refs/heads/dev"));
        assert!(check(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/r/.git/refs/heads/main"));
        assert!(!check(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/r/.git/refs/heads/main"));
        assert!(!check(EventKind::Create(CreateKind::File), "/r/.git/refs/heads/main.lock"));
        assert!(!check(renamed, "/r/.git/index"));
        assert!(!check(renamed, "/r/.git/refs-of-another"));
    }
}
