//! Where a repository comes from: a folder on this machine, or a URL.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use url::Url;

/// Where a repository is fetched from.
#[derive(Clone, PartialEq, Eq)]
pub enum Origin {
    /// A git repository in a folder of this machine: noticed at once when it changes.
    Local(PathBuf),
    /// Anything else that git can fetch: asked for news now and then, and when tickled.
    Remote(String),
}

/// Not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an origin: {rule}")]
pub struct ParseOriginError {
    text: String,
    rule: &'static str,
}

const FORMS: &str = "give a folder, an http, https, ssh or git URL, or `user@host:path`";

impl Origin {
    /// What git is given. May hold credentials: never log it, use [`fmt::Display`].
    pub(crate) fn argument(&self) -> &std::ffi::OsStr {
        match self {
            Self::Local(path) => path.as_os_str(),
            Self::Remote(url) => url.as_ref(),
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Remote(_) => None,
        }
    }

    /// Whether this is `owner/name` at a host that calls its repositories so, in whatever case.
    pub fn is_called(&self, owner: &str, name: &str) -> bool {
        let Self::Remote(url) = self else { return false };
        let path = match Url::parse(url) {
            Ok(url) => url.path().to_owned(),
            Err(_) => url.split_once(':').map(|(_, path)| path.to_owned()).unwrap_or_default(),
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        path.split_once('/').is_some_and(|(first, second)| {
            first.eq_ignore_ascii_case(owner) && second.eq_ignore_ascii_case(name)
        })
    }
}

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| Err(ParseOriginError { text: without_credentials(text), rule });
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return refuse(FORMS);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') { Ok(Self::Local(path.into())) } else { refuse(FORMS) };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let known = matches!(scheme, "http" | "https" | "ssh" | "git");
            return match Url::parse(text) {
                Ok(url) if known && url.has_host() && !rest.starts_with('-') => {
                    Ok(Self::Remote(text.to_owned()))
                }
                _ => refuse(FORMS),
            };
        }
        // `ext::command` and its like would run a program.
        if text.split('/').next().is_some_and(|start| start.contains("::")) {
            return refuse("remote helpers are not allowed");
        }
        match text.split_once(':') {
            Some((host, path)) if !host.contains('/') && !path.is_empty() => {
                Ok(Self::Remote(text.to_owned()))
            }
            _ => match std::path::absolute(text) {
                Ok(path) => Ok(Self::Local(path)),
                Err(_) => refuse("the current folder is gone"),
            },
        }
    }
}

/// Without user name and password for HTTP, without password for the rest.
fn without_credentials(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    if !url.has_host() {
        return text.to_owned();
    }
    // These fail only for URLs that cannot have credentials.
    let _ = url.set_password(None);
    if matches!(url.scheme(), "http" | "https") {
        let _ = url.set_username("");
    }
    url.into()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(url) => f.write_str(&without_credentials(url)),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_urls_are_told_apart() {
        for text in ["/srv/go.git", "file:///srv/go.git"] {
            assert_eq!(text.parse(), Ok(Origin::Local("/srv/go.git".into())));
        }
        assert!(matches!("./a:b".parse(), Ok(Origin::Local(_))));
        for text in ["https://github.com/golang/go", "git@github.com:golang/go.git", "ssh://git@host/x"] {
            assert_eq!(text.parse(), Ok(Origin::Remote(text.into())));
        }
    }

    #[test]
    fn what_would_run_a_program_or_pass_an_option_is_refused() {
        for text in [
            "",
            "-u",
            "--upload-pack=x",
            "ext::sh -c id",
            "fd::3",
            "a\nb",
            "gopher://x/y",
            "ssh://-oProxy=x/y",
            "file://x",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        let show = |text: &str| text.parse::<Origin>().unwrap().to_string();
        assert_eq!(show("https://me:secret@host/a/b.git"), "https://host/a/b.git");
        assert_eq!(show("https://token@host/a/b"), "https://host/a/b");
        assert_eq!(show("ssh://git:secret@host/a/b"), "ssh://git@host/a/b");
    }

    #[test]
    fn a_repository_is_known_by_owner_and_name() {
        for text in [
            "https://github.com/Golang/Go.git",
            "https://github.com/golang/go/",
            "git@github.com:golang/go.git",
            "ssh://git@github.com/golang/go",
        ] {
            assert!(text.parse::<Origin>().unwrap().is_called("golang", "go"), "{text}");
        }
        for text in ["https://github.com/golang/gopls", "https://go.googlesource.com/go", "/golang/go"] {
            assert!(!text.parse::<Origin>().unwrap().is_called("golang", "go"), "{text}");
        }
    }
}
