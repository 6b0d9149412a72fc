//! Git repositories made for a test.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A repository with a work tree in a temporary folder, on branch `main`.
#[derive(Debug)]
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    /// An empty one.
    ///
    /// # Panics
    /// When git is missing or fails, as all of this type does: a test cannot go on then.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let repository = Self { folder };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.git(&["config", "user.name", "Test"]);
        repository.git(&["config", "user.email", "test@example.com"]);
        repository.git(&["config", "gc.auto", "0"]);
        repository
    }

    /// One with these files, committed.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let repository = Self::empty();
        repository.commit("first", files);
        repository
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes files without committing them.
    pub fn write(&self, files: &[(&str, &str)]) {
        for (name, content) in files {
            let file: PathBuf = self.path().join(name);
            let parent = file.parent().expect("a file has a folder");
            std::fs::create_dir_all(parent).expect("make a folder");
            std::fs::write(&file, content).expect("write a file");
        }
    }

    /// Writes files and commits everything; answers the commit.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        self.write(files);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Makes many commits on top of `main`, each changing one file, on branch `imported`: fast, and `main` stays.
    pub fn import(&self, count: usize, change: impl Fn(usize) -> (String, String)) {
        use std::fmt::Write as _;
        let mut stream = String::from("feature done\n");
        for number in 1..=count {
            let (file, content) = change(number);
            let message = format!("commit {number}");
            let from = if number == 1 { "from refs/heads/main^0\n" } else { "" };
            write!(
                stream,
                "commit refs/heads/imported\ncommitter Test <test@example.com> {} +0000\ndata {}\n{message}\n{from}\
                 M 100644 inline {file}\ndata {}\n{content}\n",
                1_700_000_000 + number,
                message.len(),
                content.len(),
            )
            .expect("write to a string");
        }
        stream.push_str("done\n");
        let mut import = Command::new("git")
            .arg("-C")
            .arg(self.path())
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start git");
        import.stdin.take().expect("is piped").write_all(stream.as_bytes()).expect("write the stream");
        assert!(import.wait().expect("wait for git").success(), "git fast-import failed");
    }

    /// Runs git in it and answers what it printed.
    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(self.path()).args(args).output().expect("start git");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?} failed: {error}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}
