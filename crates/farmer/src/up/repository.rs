//! Whether a repository can be reached, asked before anything is started for it.

use std::{path::Path, process::Stdio, time::Duration};

use buildspec::Repository;
use runtime::Failure;
use tokio::process::Command;

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with a repository, and what to do.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("there is no `git` on the PATH: install it, then start again")]
    NoGit,
    #[error("`{0}` is no git repository that can be read: give another with --repo ({1})")]
    Unreadable(String, String),
    #[error("`{0}` did not answer within {PATIENCE:?}: check the address and the network, then start again")]
    Silent(String),
}

/// Asks the origin for its refs, unless the farm has a mirror of it already: then it starts without asking.
pub(crate) async fn check(repository: &Repository, data: &Path) -> anyhow::Result<()> {
    let origin = || gitmirror::redact(&repository.origin);
    let mut git = Command::new("git");
    if data.join("gitmirror").join("mirrored").join(repository.name.as_str()).exists() {
        git.arg("--version");
    } else {
        git.args(["-c", "safe.directory=*", "ls-remote", "--quiet", "--", &repository.origin]);
    }
    git.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, git.output()).await {
        Err(_) => return Err(Failure::Unavailable.of(CheckError::Silent(origin()))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::Unavailable.of(CheckError::NoGit));
        }
        Ok(result) => result?,
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let first =
        words.lines().find(|line| !line.trim().is_empty()).unwrap_or("git said nothing").trim().to_owned();
    Err(Failure::Unavailable.of(CheckError::Unreadable(origin(), gitmirror::redact(&first))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_no_repository_is_named_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let origin = folder.path().display().to_string();
        let mut farm = buildspec::Farm::local("example".parse().unwrap(), &origin, folder.path().to_owned());
        let repository = farm.repositories.remove(0);
        let error = check(&repository, folder.path()).await.unwrap_err();
        assert!(error.to_string().contains(&origin) && error.to_string().contains("--repo"), "{error}");
    }

    #[tokio::test]
    async fn an_address_is_repeated_without_its_password() {
        let folder = tempfile::tempdir().unwrap();
        let origin = "http://me:secret@127.0.0.1:1/a";
        let farm = buildspec::Farm::local("example".parse().unwrap(), origin, folder.path().to_owned());
        let error = check(&farm.repositories[0], folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("`http://127.0.0.1:1/a`"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
