//! One bare repository of ours on disk: made, fetched into, tidied, and made anew when it is broken.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use types::{CommitHash, RepositoryName};

use crate::{
    RepositoryConfig, Timings,
    git::{Git, GitError},
    origin::Origin,
    scan::is_ref_name,
};

/// Our own refs: never fetched, never pruned by a fetch, never told to watchers.
pub(crate) const TRY_REFS: &str = "refs/farmer/try/";
/// Commits that somebody asked for and no branch or tag of the origin holds.
pub(crate) const ASKED_REFS: &str = "refs/farmer/asked/";

/// A ref of the mirror as it stands there: tags are not peeled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MirrorRef {
    pub(crate) name: String,
    pub(crate) target: CommitHash,
}

/// The mirror of one repository.
#[derive(Clone)]
pub(crate) struct Mirror {
    git: Git,
    folder: PathBuf,
    origin: Origin,
    prefixes: Vec<String>,
    timings: Timings,
}

impl Mirror {
    /// In a folder below `top`.
    pub(crate) fn new(git: Git, top: &Path, config: &RepositoryConfig, timings: Timings) -> Self {
        let mut prefixes = vec!["refs/heads/".to_owned(), "refs/tags/".to_owned()];
        prefixes.extend(config.also.iter().cloned());
        let folder = top.join(file_name(&config.name));
        Self { git, folder, origin: config.origin.clone(), prefixes, timings }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The beginnings of the names of the refs that are mirrored.
    pub(crate) fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// Makes an empty one unless it is there. Says whether it had to.
    pub(crate) async fn make(&self) -> Result<bool, GitError> {
        if self.folder.join("HEAD").exists() && self.folder.join("objects").exists() {
            return Ok(false);
        }
        let made = fs::create_dir_all(&self.folder);
        made.map_err(|source| GitError::Run { what: "init".into(), source })?;
        self.git.call(&self.folder, ["init", "--bare", "--quiet", "--template="]).run().await?;
        Ok(true)
    }

    /// Fetches all that the origin has, and drops what it has no more.
    pub(crate) async fn fetch(&self) -> Result<(), GitError> {
        self.fetch_refs(&self.prefixes).await
    }

    /// The same of those refs only that are below each name that ends with a slash, and of those of the other names,
    /// which must be there.
    pub(crate) async fn fetch_refs(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), GitError> {
        let mut arguments: Vec<std::ffi::OsString> = [
            "fetch",
            "--quiet",
            "--prune",
            "--force",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--update-shallow",
            "--",
        ]
        .map(Into::into)
        .into();
        arguments.push(self.origin.argument().to_owned());
        arguments.extend(names.into_iter().map(|name| {
            let (name, below) = (name.as_ref(), if name.as_ref().ends_with('/') { "*" } else { "" });
            format!("+{name}{below}:{name}{below}").into()
        }));
        let fetched = self.git.call(&self.folder, arguments).limit(self.timings.fetch).run().await;
        if let Err(GitError::TimedOut { .. }) = fetched {
            self.remove_locks();
        }
        fetched.map(drop)
    }

    /// Asks the origin for one commit by name, and keeps it under `refs/farmer/asked/`.
    pub(crate) async fn ask(&self, commit: CommitHash) -> Result<(), GitError> {
        let mut arguments: Vec<std::ffi::OsString> =
            ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--"]
                .map(Into::into)
                .into();
        arguments.push(self.origin.argument().to_owned());
        arguments.push(format!("+{commit}:{ASKED_REFS}{commit}").into());
        self.git.call(&self.folder, arguments).limit(self.timings.ask).run().await.map(drop)
    }

    /// All refs of the mirror whose names begin so.
    pub(crate) async fn refs(&self, prefixes: &[String]) -> Result<Vec<MirrorRef>, GitError> {
        let mut arguments = vec!["for-each-ref".to_owned(), "--format=%(objectname) %(refname)".to_owned()];
        // Git takes a name for a folder of refs only without its slash.
        arguments.extend(prefixes.iter().map(|prefix| prefix.trim_end_matches('/').to_owned()));
        let text = self.git.call(&self.folder, arguments).run().await?;
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let (hash, name) = str::from_utf8(line).ok()?.split_once(' ')?;
            Some(MirrorRef { name: name.to_owned(), target: hash.parse().ok()? })
        });
        Ok(lines.collect())
    }

    /// Deletes one of our own refs.
    pub(crate) async fn delete_ref(&self, name: &str) -> Result<(), GitError> {
        self.git.call(&self.folder, ["update-ref", "-d", name]).run().await.map(drop)
    }

    /// The branch that the origin's `HEAD` names; empty when it names none.
    pub(crate) async fn head_of_origin(&self) -> Result<String, GitError> {
        let mut arguments: Vec<std::ffi::OsString> = ["ls-remote", "--symref", "--"].map(Into::into).into();
        arguments.push(self.origin.argument().to_owned());
        arguments.push("HEAD".into());
        // Not in the mirror: it may be the one that is broken.
        let outside = self.folder.parent().unwrap_or(&self.folder);
        let text = self.git.call(outside, arguments).limit(Duration::from_mins(1)).run().await?;
        let text = String::from_utf8_lossy(&text);
        let branch = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        Ok(branch.filter(|name| is_ref_name(name)).unwrap_or_default().to_owned())
    }

    /// Whether every object that a ref leads to is there.
    pub(crate) async fn is_whole(&self) -> bool {
        let walk = self.git.call(&self.folder, ["rev-list", "--objects", "--all", "--quiet"]);
        walk.limit(self.timings.fetch).run().await.is_ok()
    }

    /// Makes it anew from the origin. What was uploaded is saved if it can be read.
    pub(crate) async fn remake(&self) -> Result<(), GitError> {
        let broken = self.folder.with_extension("broken");
        let moved = remove(&broken).and_then(|()| match fs::rename(&self.folder, &broken) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        moved.map_err(|source| GitError::Run { what: "init".into(), source })?;
        self.make().await?;
        self.fetch().await?;
        let save = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"].map(Into::into);
        let save =
            save.into_iter().chain([broken.clone().into_os_string(), "+refs/farmer/*:refs/farmer/*".into()]);
        // The broken one may not have them any more.
        let _ = self.git.call(&self.folder, save).limit(self.timings.fetch).run().await;
        let _ = remove(&broken);
        Ok(())
    }

    /// Packs and prunes when there is enough to do. Git decides.
    pub(crate) async fn tidy(&self) -> Result<(), GitError> {
        self.git
            .call(&self.folder, ["gc", "--auto", "--quiet"])
            .limit(Duration::from_hours(1))
            .run()
            .await
            .map(drop)
    }

    /// Pushes branches and tags on; what is gone here goes there.
    pub(crate) async fn push(&self, to: &Origin) -> Result<(), GitError> {
        let mut arguments: Vec<std::ffi::OsString> =
            ["push", "--quiet", "--prune", "--force", "--no-verify", "--"].map(Into::into).into();
        arguments.push(to.argument().to_owned());
        arguments.extend(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"].map(Into::into));
        self.git.call(&self.folder, arguments).limit(self.timings.fetch).run().await.map(drop)
    }

    /// Removes locks that a killed git left behind. Nobody else may be at work in the mirror.
    pub(crate) fn remove_locks(&self) {
        let mut folders = vec![self.folder.join("refs")];
        let tops = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = tops.map(|entry| entry.path()).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else {
                    files.push(entry.path());
                }
            }
        }
        for file in files {
            if file.extension().is_some_and(|extension| extension == "lock") {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// A name for each repository that no other has: `/` becomes `%2F`, and `%` is in no name.
pub(crate) fn file_name(name: &RepositoryName) -> String {
    format!("{}.git", name.as_str().replace('/', "%2F"))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
