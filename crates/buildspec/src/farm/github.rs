//! Repositories at GitHub whose issues belong to the farm's.

use std::{path::PathBuf, time::Duration};

/// A repository at GitHub. Its issues and pull requests are in the mutation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubRepository {
    /// Who owns it.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Where the REST API is, without a slash at the end.
    pub url: String,
    /// The file that holds the token; without it GitHub answers sixty questions an hour.
    pub token: Option<PathBuf>,
    /// How often GitHub is asked for news when nothing wakes us.
    pub poll: Duration,
}

impl GithubRepository {
    /// GitHub's own API.
    pub const URL: &str = "https://api.github.com";

    /// Owner and name of a repository at github.com, from any of its addresses.
    pub fn of_origin(origin: &str) -> Option<(String, String)> {
        let rest = origin
            .strip_prefix("https://github.com/")
            .or_else(|| origin.strip_prefix("ssh://git@github.com/"))
            .or_else(|| origin.strip_prefix("git@github.com:"))?;
        Self::parse(rest.trim_end_matches('/').trim_end_matches(".git"))
    }

    /// Owner and name from `owner/name`.
    pub(crate) fn parse(text: &str) -> Option<(String, String)> {
        let (owner, name) = text.split_once('/')?;
        let is_name = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !name.is_empty() && name.bytes().all(allowed) && !matches!(name, "." | "..")
        };
        (is_name(owner) && is_name(name)).then(|| (owner.to_owned(), name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use runtime::config;

    use super::*;
    use crate::Farm;

    fn farm(text: &str) -> Farm {
        config::parse("farm.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(text: &str) -> String {
        config::parse::<Farm>("farm.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn only_addresses_at_github_are_known() {
        let go = Some(("golang".to_owned(), "go".to_owned()));
        for origin in
            ["https://github.com/golang/go", "https://github.com/golang/go.git", "git@github.com:golang/go"]
        {
            assert_eq!(GithubRepository::of_origin(origin), go, "{origin}");
        }
        for origin in [
            "/srv/go",
            "https://go.googlesource.com/go",
            "https://github.com/golang",
            "https://github.com/a/b/c",
        ] {
            assert_eq!(GithubRepository::of_origin(origin), None, "{origin}");
        }
    }

    #[test]
    fn a_repository_at_github_is_named_once_and_its_token_does_not_travel_in_the_clear() {
        let repository = |name: &str, origin: &str, github: &str| {
            format!("[[repositories]]\nname = \"{name}\"\norigin = \"{origin}\"\ngithub = {{ {github} }}\n")
        };
        let go = "https://github.com/golang/go";
        let own = repository("go", go, "token = \"/t\", poll = \"30s\"");
        let github = farm(&own).repositories[0].github.clone().unwrap();
        assert_eq!((github.owner.as_str(), github.name.as_str()), ("golang", "go"));
        assert_eq!((github.url.as_str(), github.poll), (GithubRepository::URL, Duration::from_secs(30)));
        let same = repository("b", "/b", "repository = \"Golang/Go\"");
        assert!(errors(&(own + &same)).contains("there is another repository at `Golang/Go`"));
        let fine = "url = \"http://127.0.0.1:80/api/v3/\", token = \"/t\", repository = \"a/b\"";
        let github = farm(&repository("b", "/b", fine)).repositories[0].github.clone().unwrap();
        assert_eq!(github.url, "http://127.0.0.1:80/api/v3");
        for (bad, said) in [
            ("", "`github` needs `repository`, as in `owner/name`"),
            ("repository = \"golang\"", "`golang` is not as in `owner/name`"),
            ("repository = \"a/..\"", "`a/..` is not as in `owner/name`"),
            ("repository = \"a/b\", poll = \"1ms\"", "`poll` must be at least 1s"),
            ("repository = \"a/b\", url = \"github\"", "is not a URL"),
            ("repository = \"a/b\", url = \"https://me:secret@github.com\"", "may not hold a user"),
            ("repository = \"a/b\", url = \"http://github.local\", token = \"/t\"", "in the clear"),
        ] {
            let said_then = errors(&repository("b", "/b", bad));
            assert!(said_then.contains(said) && !said_then.contains("secret"), "{bad}: {said_then}");
        }
    }
}
