//! The work folder: where builds live, and the only place that callers can name paths in.
//!
//! A path is first read as text, so that what is plainly wrong is refused with a clear message; but what keeps it
//! beneath the folder is the operating system (`openat2` where it has it, by way of cap-std), since only that sees the
//! symbolic links that a build may make at any time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{environment, platform};

/// A path that leads, or may lead, out of the work folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path beneath the work folder: {why}")]
pub(crate) struct BadPath {
    path: String,
    why: &'static str,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error(transparent)]
    Bad(#[from] BadPath),
    #[error("there is no folder `{0}`")]
    Missing(String),
    #[error("cannot use `{path}`")]
    Io { path: String, source: io::Error },
}

/// A path below the work folder, as far as its text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelativePath(PathBuf);

/// The longest path that Linux takes.
const LONGEST: usize = 4095;

impl RelativePath {
    /// Reads a path; nothing and `.` mean the work folder itself.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPath> {
        let bad = |why| BadPath { path: text.chars().take(200).collect(), why };
        if text.contains('\0') {
            return Err(bad("it contains NUL"));
        }
        if text.len() > LONGEST {
            return Err(bad("it is too long"));
        }
        if text.starts_with('/') {
            return Err(bad("it is absolute"));
        }
        let mut path = PathBuf::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(bad("it contains `..`")),
                name => path.push(platform::file_name(name.as_bytes()).map_err(bad)?),
            }
        }
        Ok(Self(path))
    }

    /// True for the work folder itself.
    pub(crate) fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// As a path that is never empty.
    pub(crate) fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { &self.0 }
    }

    /// What an error of the system means for this path.
    pub(crate) fn error(&self, source: io::Error) -> FolderError {
        let path = self.as_path().display().to_string();
        if is_escape(&source) {
            return FolderError::Bad(BadPath { path, why: "a symbolic link in it leads out" });
        }
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FolderError::Missing(path),
            _ => FolderError::Io { path, source },
        }
    }
}

/// Whether cap-std refused to leave a folder: an error of its own, without a number from the system.
pub(crate) fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// The work folder.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    dir: RwLock<Arc<Dir>>,
    path: String,
}

impl WorkFolder {
    /// Opens the folder, making it if need be.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let text = path
            .to_str()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))?;
        if let Some(parent) = path.parent() {
            platform::spread(parent);
        }
        Ok(Self { dir: RwLock::new(open(path)?), path: text.to_owned() })
    }

    /// Puts a new folder in the place of this one, which must be empty: the system refuses otherwise. A folder that
    /// cannot be replaced, for example since a file system is mounted there, stays. True if it was replaced.
    ///
    /// ext4 gives files the inodes near their folder, and without a journal it passes over those that were freed in the
    /// last minutes, one by one, for each new file. Many short builds in one folder would come to spend most of their
    /// time there.
    pub(crate) fn renew(&self) -> bool {
        let path = Path::new(&self.path);
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let renewed = std::fs::create_dir(&fresh).and_then(|()| std::fs::rename(&fresh, path));
        match renewed.and_then(|()| open(path)) {
            Ok(dir) => {
                *self.dir.write().unwrap_or_else(PoisonError::into_inner) = dir;
                true
            }
            Err(error) => {
                tracing::debug!("the work folder stays: {error}");
                let _ = std::fs::remove_dir(&fresh);
                false
            }
        }
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> Arc<Dir> {
        Arc::clone(&self.dir.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the folders that every build finds.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        for name in [environment::HOME, environment::TMP] {
            match self.dir().create_dir(name) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens a folder beneath it.
    pub(crate) fn open_dir(&self, path: &RelativePath) -> Result<Dir, FolderError> {
        self.dir().open_dir(path.as_path()).map_err(|error| path.error(error))
    }

    /// Opens a folder beneath it, making it and those above it if need be.
    pub(crate) fn make_dir(&self, path: &RelativePath) -> Result<Dir, FolderError> {
        match self.open_dir(path) {
            Err(FolderError::Missing(_)) => {}
            opened => return opened,
        }
        self.dir().create_dir_all(path.as_path()).map_err(|error| path.error(error))?;
        self.open_dir(path)
    }

    /// Checks that a program named by a path does not lie outside; one that is missing is found out by starting it.
    pub(crate) fn check_program(&self, name: &str) -> Result<(), BadPath> {
        if !name.contains(std::path::is_separator) || Path::new(name).has_root() {
            return Ok(());
        }
        let path = RelativePath::parse(name)?;
        match self.dir().metadata(path.as_path()) {
            Err(error) if is_escape(&error) => {
                Err(BadPath { path: name.to_owned(), why: "a symbolic link in it leads out" })
            }
            _ => Ok(()),
        }
    }
}

fn open(path: &Path) -> io::Result<Arc<Dir>> {
    Dir::open_ambient_dir(path, ambient_authority()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = RelativePath::parse(text);
        let parsed = parsed.as_ref().map(|path| path.as_path().to_str().unwrap()).map_err(|error| error.why);
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn paths_are_read() {
        check("a/b", Ok("a/b"));
        check("./a//b/", Ok("a/b"));
        check("", Ok("."));
        check(".", Ok("."));
        check("a/..", Err("it contains `..`"));
        check("../a", Err("it contains `..`"));
        check("/etc", Err("it is absolute"));
        check("a\0b", Err("it contains NUL"));
        check(&"a".repeat(5000), Err("it is too long"));
        check("..a/b..", Ok("..a/b.."));
    }

    #[test]
    fn a_symbolic_link_leads_nowhere_outside() {
        let outside = tempfile::tempdir().unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let folder = WorkFolder::open(&temporary.path().join("work")).unwrap();
        std::os::unix::fs::symlink(outside.path(), temporary.path().join("work/out")).unwrap();
        std::os::unix::fs::symlink("..", temporary.path().join("work/up")).unwrap();
        for text in ["out", "out/x", "up", "up/x"] {
            let path = RelativePath::parse(text).unwrap();
            assert!(matches!(folder.open_dir(&path), Err(FolderError::Bad(_))), "{text}");
            assert!(matches!(folder.make_dir(&path), Err(FolderError::Bad(_))), "{text}");
        }
        assert!(folder.check_program("up/work/x").is_err());
        assert!(folder.check_program("sub/none").is_ok());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_folder_is_renewed_and_one_that_is_not_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("work");
        let folder = WorkFolder::open(&path).unwrap();
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
        let before = inode();
        assert!(folder.renew());
        let renewed = inode();
        assert_ne!(before, renewed);
        folder.prepare().unwrap();
        assert!(path.join(environment::HOME).exists());
        assert!(!folder.renew());
        assert_eq!(inode(), renewed);
        assert!(path.join(environment::HOME).exists());
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
