//! What the farm is to be: from `farm.toml`, or from one repository and nothing else.

use std::path::{Path, PathBuf};

use anyhow::Context;
use buildspec::Farm;
use runtime::Failure;
use types::RepositoryName;

use super::Args;
use crate::{farm::data_folder, tree};

/// What the farm is to be.
pub(crate) struct Wanted {
    /// The operator's file, or what stands for it.
    pub(crate) farm: Farm,
    /// Where it was read from, if it was.
    pub(crate) path: Option<PathBuf>,
    /// The data folder.
    pub(crate) data: PathBuf,
}

/// Reads the file, or makes one up for a repository.
pub(crate) fn read(args: &Args) -> anyhow::Result<Wanted> {
    match &args.config {
        Some(path) => from_file(path, args.data.clone()),
        None => from_repository(args.repo.as_deref(), args.data.clone()),
    }
}

fn from_file(path: &Path, data: Option<PathBuf>) -> anyhow::Result<Wanted> {
    // Kept as the file has it, so that it differs from the file only once that is edited.
    let farm: Farm = runtime::config::load(path).context("read the configuration")?;
    Ok(Wanted { data: data.unwrap_or_else(|| farm.data.clone()), path: Some(path.to_owned()), farm })
}

fn from_repository(repo: Option<&str>, data: Option<PathBuf>) -> anyhow::Result<Wanted> {
    let origin = origin(repo)?;
    let data = data.unwrap_or_else(|| data_folder(Path::new(&origin)));
    let farm = Farm::local(name_of(&origin), &origin, data.clone());
    Ok(Wanted { farm, path: None, data })
}

/// A path made absolute, a URL as it is.
fn origin(repo: Option<&str>) -> anyhow::Result<String> {
    let text = repo.unwrap_or(".");
    if is_url(text) {
        return Ok(text.to_owned());
    }
    let unusable = |error| {
        Failure::Unavailable.of(anyhow::Error::from(error)
            .context(format!("open the repository `{text}`: give another with --repo")))
    };
    let path = Path::new(text).canonicalize().map_err(unusable)?;
    // Inside a work tree its top is meant; a bare repository is its own top.
    let top = tree::root(&path).unwrap_or(path);
    top.to_str()
        .map(str::to_owned)
        .with_context(|| format!("use the path `{}`, which is not UTF-8", top.display()))
}

/// Whether git takes the text as an address elsewhere: a scheme, or `host:path`.
fn is_url(text: &str) -> bool {
    let before_slash = text.split('/').next().unwrap_or(text);
    before_slash.contains(':')
}

/// A name for the repository, from the last part of its address.
fn name_of(origin: &str) -> RepositoryName {
    let last =
        origin.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(origin).trim_end_matches(".git");
    let plain = |byte: char| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { '-' };
    let name: String = last.chars().map(plain).take(64).collect();
    name.trim_matches('-').parse().unwrap_or_else(|_| "repository".parse().expect("is a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_after_the_end_of_its_address() {
        for (origin, name) in [
            ("/home/someone/My Project", "my-project"),
            ("https://example.com/owner/tool.git", "tool"),
            ("git@example.com:owner/tool", "tool"),
            ("/", "repository"),
        ] {
            assert_eq!(name_of(origin).as_str(), name, "{origin}");
        }
    }

    #[test]
    fn addresses_are_told_from_paths() {
        assert!(is_url("https://example.com/a") && is_url("git@example.com:a/b") && is_url("file:///a"));
        assert!(!is_url("/a/b") && !is_url(".") && !is_url("./a:b"));
    }
}
