//! Reads the refs of a repository in a folder of this machine without starting git, which would cost most of the time
//! between a commit and its build.
//!
//! Loose refs are read before `packed-refs`, as git does: a ref that is packed in between is found in one of them.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use types::CommitHash;

/// The folders of a repository of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Holds `HEAD`.
    pub(crate) git: PathBuf,
    /// Holds refs and objects; another one than `git` in a linked working tree.
    pub(crate) common: PathBuf,
}

/// A folder's refs cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// Not there, or not a git repository.
    #[error("`{}` is not a git repository", .0.display())]
    NoRepository(PathBuf),
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file makes no sense to us: git may know better.
    #[error("cannot make sense of `{}`", .0.display())]
    Odd(PathBuf),
}

/// Refs as they stand in the repository: tags are not peeled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refs {
    /// By full name.
    pub(crate) targets: BTreeMap<String, CommitHash>,
    /// The branch that `HEAD` names, whether it exists or not; empty when it names none.
    pub(crate) head: String,
}

impl Folder {
    /// The folders behind a path that a person gave: a working tree, a linked one, or a bare repository.
    pub(crate) fn locate(path: &Path) -> Result<Self, ScanError> {
        let none = || ScanError::NoRepository(path.to_owned());
        let dot_git = path.join(".git");
        let git = match fs::symlink_metadata(&dot_git) {
            Ok(data) if data.is_file() => {
                let text = read(&dot_git)?;
                let target = text.trim().strip_prefix("gitdir: ").ok_or_else(none)?;
                path.join(target)
            }
            Ok(_) => dot_git,
            Err(_) => path.to_owned(),
        };
        let common = match fs::read_to_string(git.join("commondir")) {
            Ok(text) => git.join(text.trim()),
            Err(_) => git.clone(),
        };
        if !git.join("HEAD").exists() || !common.join("objects").is_dir() || !common.join("refs").is_dir() {
            return Err(none());
        }
        let real = |path: PathBuf| fs::canonicalize(&path).map_err(|source| ScanError::File { path, source });
        Ok(Self { git: real(git)?, common: real(common)? })
    }

    /// Where objects are.
    pub(crate) fn objects(&self) -> PathBuf {
        self.common.join("objects")
    }

    /// Whether its history is cut off somewhere.
    pub(crate) fn is_shallow(&self) -> bool {
        self.common.join("shallow").exists()
    }
}

/// Reads refs again and again; remembers `packed-refs`, which may be large and seldom changes.
pub(crate) struct Scanner {
    /// Beginnings of the names of refs that count, `refs/heads/` and the like.
    prefixes: Vec<String>,
    packed: Option<(Stamp, Arc<BTreeMap<String, CommitHash>>)>,
}

/// Tells two versions of a file apart; git always replaces `packed-refs` by another file.
type Stamp = (u64, u64, u64, i64, i64);

/// What a loose ref holds.
enum Loose {
    Target(CommitHash),
    Symbolic(String),
}

impl Scanner {
    /// For refs whose names begin so.
    pub(crate) fn new(prefixes: Vec<String>) -> Self {
        Self { prefixes, packed: None }
    }

    /// Reads all refs. Blocks on the file system.
    pub(crate) fn scan(&mut self, folder: &Folder) -> Result<Refs, ScanError> {
        let mut loose = BTreeMap::new();
        for prefix in &self.prefixes {
            walk(&folder.common, prefix.trim_end_matches('/'), &mut loose)?;
        }
        let packed = self.packed(&folder.common)?;
        let mut targets: BTreeMap<_, _> = packed.iter().map(|(name, hash)| (name.clone(), *hash)).collect();
        let mut symbolic = Vec::new();
        for (name, value) in loose {
            match value {
                Loose::Target(hash) => {
                    targets.insert(name, hash);
                }
                Loose::Symbolic(target) => symbolic.push((name, target)),
            }
        }
        // A branch that stands for another; chains of them are as rare as they are useless.
        for (name, target) in symbolic {
            if let Some(hash) = targets.get(&target).copied() {
                targets.insert(name, hash);
            }
        }
        Ok(Refs { targets, head: head(&folder.git)? })
    }

    fn packed(&mut self, common: &Path) -> Result<Arc<BTreeMap<String, CommitHash>>, ScanError> {
        let path = common.join("packed-refs");
        let stamp = match fs::metadata(&path) {
            Ok(data) => (data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(source) => return Err(ScanError::File { path, source }),
        };
        if let Some((known, refs)) = &self.packed
            && *known == stamp
        {
            return Ok(refs.clone());
        }
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(ScanError::File { path, source }),
        };
        let refs = Arc::new(self.parse_packed(&bytes).ok_or(ScanError::Odd(path))?);
        self.packed = Some((stamp, refs.clone()));
        Ok(refs)
    }

    fn parse_packed(&self, bytes: &[u8]) -> Option<BTreeMap<String, CommitHash>> {
        let mut refs = BTreeMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            if line.is_empty() || matches!(line[0], b'#' | b'^') {
                continue;
            }
            // A name that is not UTF-8 cannot be spoken of in our protocol.
            let Ok(line) = str::from_utf8(line) else { continue };
            let (hash, name) = line.split_once(' ')?;
            if self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())) && is_ref_name(name) {
                refs.insert(name.to_owned(), hash.parse().ok()?);
            }
        }
        Some(refs)
    }
}

/// Reads the loose refs below a folder.
fn walk(common: &Path, top: &str, found: &mut BTreeMap<String, Loose>) -> Result<(), ScanError> {
    let mut folders = vec![top.to_owned()];
    while let Some(name) = folders.pop() {
        let path = common.join(&name);
        let list = match fs::read_dir(&path) {
            Ok(list) => list,
            // Git removes empty folders at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // In the reftable format `refs/heads` is a file.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(ScanError::Odd(path)),
            Err(source) => return Err(ScanError::File { path, source }),
        };
        for entry in list {
            let entry = entry.map_err(|source| ScanError::File { path: path.clone(), source })?;
            let Some(file) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let child = format!("{name}/{file}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(child);
            } else if is_ref_name(&child)
                && let Some(value) = read_loose(&entry.path())?
            {
                found.insert(child, value);
            }
        }
    }
    Ok(())
}

fn read_loose(path: &Path) -> Result<Option<Loose>, ScanError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ScanError::File { path: path.to_owned(), source }),
    };
    let text = text.trim_end();
    if let Some(target) = text.strip_prefix("ref: ") {
        return Ok(Some(Loose::Symbolic(target.trim().to_owned())));
    }
    text.parse().map(|hash| Some(Loose::Target(hash))).map_err(|_| ScanError::Odd(path.to_owned()))
}

fn head(git: &Path) -> Result<String, ScanError> {
    let text = read(&git.join("HEAD"))?;
    let branch = text.trim_end().strip_prefix("ref: ").map(str::trim).unwrap_or_default();
    Ok(if is_ref_name(branch) { branch.to_owned() } else { String::new() })
}

fn read(path: &Path) -> Result<String, ScanError> {
    fs::read_to_string(path).map_err(|source| ScanError::File { path: path.to_owned(), source })
}

/// Whether git would take it for the full name of a ref.
pub(crate) fn is_ref_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && Path::new(part).extension().is_none_or(|extension| extension != "lock")
    };
    name.starts_with("refs/")
        && name.split('/').all(part)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(|char| char.is_control() || " ~^:?*[\\".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_refuses_are_no_refs() {
        for name in ["refs/heads/main", "refs/heads/-x", "refs/heads/a.b/ü", "refs/heads/@"] {
            assert!(is_ref_name(name), "{name}");
        }
        for name in [
            "",
            "HEAD",
            "refs/",
            "refs/heads/",
            "refs/heads//a",
            "refs/heads/a.lock",
            "refs/heads/.a",
            "refs/heads/..",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/a\nb",
            "refs/heads/a:b",
            "refs/heads/*",
            "refs/heads/a@{1}",
            "refs/heads/a.",
            "refs/heads/a.lock/b",
        ] {
            assert!(!is_ref_name(name), "{name}");
        }
    }

    #[test]
    fn loose_refs_win_over_packed_ones_and_locks_are_no_refs() {
        let dir = tempfile::tempdir().unwrap();
        let git = dir.path().join(".git");
        for folder in ["objects", "refs/heads/dev", "refs/tags", "refs/remotes/origin"] {
            fs::create_dir_all(git.join(folder)).unwrap();
        }
        let hash = |digit: &str| digit.repeat(40);
        let write = |name: &str, text: String| fs::write(git.join(name), text).unwrap();
        write("HEAD", "ref: refs/heads/main\n".into());
        write(
            "packed-refs",
            format!(
                "# pack-refs with: peeled fully-peeled sorted \n{} refs/heads/main\n{} refs/heads/old\n{} refs/tags/v1\n^{}\n{} refs/remotes/origin/x\n",
                hash("1"),
                hash("2"),
                hash("3"),
                hash("4"),
                hash("5"),
            ),
        );
        write("refs/heads/main", format!("{}\n", hash("a")));
        write("refs/heads/dev/one", format!("{}\n", hash("b")));
        write("refs/heads/alias", "ref: refs/heads/old\n".into());
        write("refs/heads/main.lock", String::new());
        write("refs/remotes/origin/x", format!("{}\n", hash("c")));
        let folder = Folder::locate(dir.path()).unwrap();
        let mut scanner = Scanner::new(vec!["refs/heads/".into(), "refs/tags/".into()]);
        let refs = scanner.scan(&folder).unwrap();
        let shown: Vec<_> =
            refs.targets.iter().map(|(name, hash)| format!("{name} {}", &hash.to_string()[..1])).collect();
        assert_eq!(
            shown,
            [
                "refs/heads/alias 2",
                "refs/heads/dev/one b",
                "refs/heads/main a",
                "refs/heads/old 2",
                "refs/tags/v1 3"
            ]
        );
        assert_eq!(refs.head, "refs/heads/main");
        assert_eq!(scanner.scan(&folder).unwrap(), refs);
    }

    #[test]
    fn what_is_no_repository_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Folder::locate(dir.path()), Err(ScanError::NoRepository(_))));
        assert!(matches!(Folder::locate(&dir.path().join("gone")), Err(ScanError::NoRepository(_))));
    }
}
