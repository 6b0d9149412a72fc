//! The working tree of the current folder, as a commit that nobody has made.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use types::CommitHash;

use crate::output;

/// A commit of a working tree, in a repository of its own that borrows the objects of the real one: nothing is
/// written into the user's repository.
pub(crate) struct TreeCommit {
    scratch: tempfile::TempDir,
    /// The commit.
    pub(crate) commit: CommitHash,
    head: CommitHash,
    root: PathBuf,
}

/// What a bundle leaves out because the farm should have it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leave {
    /// What HEAD reaches: enough for a farm that mirrors this repository.
    Head,
    /// What any remote-tracking branch reaches.
    Remotes,
    /// Nothing.
    Nothing,
}

/// The top folder of the work tree that a folder lies in.
pub(crate) fn root(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["rev-parse", "--show-toplevel"]);
    Ok(PathBuf::from(run(&mut git).map_err(|_| {
        output::usage(format!("`{}` lies in no git work tree: run this inside one", folder.display()))
    })?))
}

impl TreeCommit {
    /// Commits what lies in the work tree that holds `folder`, ignored files left out.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let root = root(folder)?;
        let git_dir = PathBuf::from(run(git(&root).args(["rev-parse", "--absolute-git-dir"]))?);
        let head: CommitHash = run(git(&root).args(["rev-parse", "--verify", "HEAD^{commit}"]))
            .map_err(|_| output::usage("this repository has no commit yet: make one first"))?
            .parse()?;
        let objects = run(git(&root).args(["rev-parse", "--path-format=absolute", "--git-path", "objects"]))?;
        let scratch = tempfile::tempdir().context("make a temporary folder")?;
        let bare = scratch.path().join("git");
        run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&bare))?;
        std::fs::write(bare.join("objects/info/alternates"), format!("{objects}\n"))
            .context("borrow objects")?;
        let index = scratch.path().join("index");
        // A copy of the index keeps what git knows of unchanged files: only changed ones are read again.
        if git_dir.join("index").exists() {
            std::fs::copy(git_dir.join("index"), &index).context("copy the index")?;
        }
        let mut tree = Self { scratch, commit: head, head, root };
        run(tree.borrowed(&index).args(["add", "--all", "--", "."]))?;
        let written = run(tree.borrowed(&index).arg("write-tree"))?;
        tree.commit = tree.commit_tree(&written)?;
        Ok(tree)
    }

    fn commit_tree(&self, tree: &str) -> anyhow::Result<CommitHash> {
        let subject = run(git(&self.root).args(["log", "-1", "--format=%s"]))?;
        let message = format!("try: {subject}\n\nThe working tree on top of {}.\n", self.head);
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(self.scratch.path().join("git"));
        git.args([
            "-c",
            "commit.gpgSign=false",
            "commit-tree",
            tree,
            "-p",
            &self.head.to_string(),
            "-m",
            &message,
        ]);
        let name =
            run(git_config(&self.root, "user.name").as_mut()).unwrap_or_else(|_| "farmer try".to_owned());
        let email =
            run(git_config(&self.root, "user.email").as_mut()).unwrap_or_else(|_| "try@localhost".to_owned());
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), &name).env(format!("GIT_{role}_EMAIL"), &email);
        }
        Ok(run(&mut git)?.parse()?)
    }

    /// Git over the user's work tree whose new objects and index go to the scratch folder.
    fn borrowed(&self, index: &Path) -> Command {
        let objects = self.scratch.path().join("git/objects");
        let mut git = git(&self.root);
        git.env("GIT_INDEX_FILE", index).env("GIT_OBJECT_DIRECTORY", &objects);
        let alternates = std::fs::read_to_string(objects.join("info/alternates")).unwrap_or_default();
        git.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternates.trim());
        git
    }

    /// The commit and what it needs as a git bundle.
    pub(crate) fn bundle(&self, leave: Leave) -> anyhow::Result<Vec<u8>> {
        let bare = self.scratch.path().join("git");
        let file = self.scratch.path().join("bundle");
        let mut set = Command::new("git");
        run(set.arg("--git-dir").arg(&bare).args([
            "update-ref",
            "refs/heads/try",
            &self.commit.to_string(),
        ]))?;
        let mut git = Command::new("git");
        git.arg("--git-dir")
            .arg(&bare)
            .args(["bundle", "create", "--quiet"])
            .arg(&file)
            .arg("refs/heads/try");
        match leave {
            Leave::Head => {
                git.arg(format!("^{}", self.head));
            }
            Leave::Remotes => {
                let refs = run(self::git(&self.root).args([
                    "for-each-ref",
                    "--format=^%(objectname)",
                    "refs/remotes",
                ]))?;
                git.args(refs.lines().filter(|line| line.len() > 1));
            }
            Leave::Nothing => {}
        }
        run(&mut git)?;
        std::fs::read(&file).context("read the bundle")
    }
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    git
}

fn git_config(root: &Path, key: &str) -> Box<Command> {
    let mut git = git(root);
    git.args(["config", key]);
    Box::new(git)
}

/// Runs git and answers what it printed, without the line's end.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => output::usage("there is no `git` on the PATH: install it"),
        _ => anyhow::Error::from(error).context("start git"),
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("`git {}` failed: {}", arguments.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| run(git(folder.path()).args(args)).unwrap();
        git(&["init", "--quiet"]);
        git(&["config", "user.name", "a"]);
        git(&["config", "user.email", "a@example.com"]);
        std::fs::write(folder.path().join("kept"), "1").unwrap();
        std::fs::write(folder.path().join(".gitignore"), "ignored\n").unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "first"]);
        folder
    }

    #[test]
    fn a_try_holds_changed_and_new_files_but_no_ignored_ones() {
        let folder = repository();
        std::fs::write(folder.path().join("kept"), "2").unwrap();
        std::fs::write(folder.path().join("new"), "3").unwrap();
        std::fs::write(folder.path().join("ignored"), "4").unwrap();
        let tree = TreeCommit::of(folder.path()).unwrap();
        let bare = tree.scratch.path().join("git");
        let list = run(Command::new("git").arg("--git-dir").arg(&bare).args([
            "ls-tree",
            "--name-only",
            &tree.commit.to_string(),
        ]));
        assert_eq!(list.unwrap(), ".gitignore\nkept\nnew");
        assert!(
            run(git(folder.path()).args(["cat-file", "-e", &tree.commit.to_string()])).is_err(),
            "nothing is left behind"
        );
        let status = run(git(folder.path()).args(["status", "--porcelain"])).unwrap();
        assert_eq!(status, " M kept\n?? new", "the index is untouched");
    }

    #[test]
    fn a_bundle_brings_the_commit_to_who_has_its_parent() {
        let folder = repository();
        let clone = tempfile::tempdir().unwrap();
        run(Command::new("git").args(["clone", "--quiet", "--bare"]).arg(folder.path()).arg(clone.path()))
            .unwrap();
        std::fs::write(folder.path().join("new"), "3").unwrap();
        let tree = TreeCommit::of(folder.path()).unwrap();
        for leave in [Leave::Head, Leave::Remotes, Leave::Nothing] {
            let file = clone.path().join("bundle");
            std::fs::write(&file, tree.bundle(leave).unwrap()).unwrap();
            run(git(clone.path()).arg("bundle").arg("unbundle").arg(&file)).unwrap();
            run(git(clone.path()).args(["cat-file", "-e", &tree.commit.to_string()])).unwrap();
        }
    }

    #[test]
    fn a_folder_without_a_repository_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(root(folder.path()).unwrap_err().to_string().contains("lies in no git work tree"));
    }
}
