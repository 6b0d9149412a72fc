//! How changes under review are tried, as `farm.toml` says it of a repository.

use std::path::PathBuf;

use runtime::config::Table;

use crate::GerritProject;

/// How changes of a repository at a Gerrit are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tries {
    /// What asks for a try.
    pub on: TryOn,
    /// The label whose vote +1 asks, if votes do.
    pub label: String,
    /// The label that is voted on when a try has ended.
    pub result: String,
    /// The accounts that are listened to, by their numbers at Gerrit, if not votes ask.
    pub trusted: Vec<u64>,
    /// The account that votes and speaks.
    pub user: String,
    /// The file that holds its HTTP password.
    pub password: PathBuf,
}

/// What asks for a try of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOn {
    /// A vote, by whoever may vote.
    Vote,
    /// A patch set, by somebody who is trusted.
    Upload,
    /// A message with a line that begins with `/try`, by somebody who is trusted.
    Comment,
}

impl TryOn {
    const WORDS: &[(&str, Self)] =
        &[("vote", Self::Vote), ("upload", Self::Upload), ("comment", Self::Comment)];
}

/// Reads the table `tries` of a repository.
pub(crate) fn tries(table: &mut Table<'_>, gerrit: Option<&GerritProject>) -> Option<Tries> {
    let known = table.has("gerrit");
    let mut inner = table.value("tries")?.table()?;
    let on = inner.choice("on", TryOn::WORDS).unwrap_or(TryOn::Vote);
    let tries = Tries {
        on,
        label: inner.default("label", "Run-TryBot".to_owned()),
        result: inner.default("result", "TryBot-Result".to_owned()),
        trusted: inner.default("trusted", Vec::new()),
        user: inner.required("user"),
        password: inner.required("password"),
    };
    if on != TryOn::Vote && tries.trusted.is_empty() {
        inner.error_at("on", "without votes somebody must be `trusted`: a list of numbers of accounts");
    }
    if tries.label == tries.result {
        inner.error_at("result", "`result` must be another label than `label`");
    }
    match gerrit {
        None if !known => table.error_at("tries", "`tries` are of a repository with `gerrit`"),
        Some(project) if !is_safe(&project.url) => {
            table.error_at(
                "tries",
                "`tries` send a password: the `url` of `gerrit` must begin with `https://`",
            );
        }
        _ => {}
    }
    Some(tries)
}

/// Whether a password may be sent there: encrypted, or not beyond this machine.
fn is_safe(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return true };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

#[cfg(test)]
mod tests {
    use runtime::config;

    use super::*;
    use crate::Farm;

    fn read(gerrit: &str, tries: &str) -> Result<Option<Tries>, String> {
        let text =
            format!("[[repositories]]\nname = \"a\"\norigin = \"/a\"\n{gerrit}\ntries = {{ {tries} }}\n");
        let farm: Farm = config::parse("farm.toml", &text).map_err(|errors| errors.to_string())?;
        Ok(farm.repositories[0].tries.clone())
    }

    const HERE: &str = "gerrit = { url = \"http://127.0.0.1:8080\" }";

    #[test]
    fn votes_ask_unless_it_is_said_otherwise() {
        let tries = read(HERE, "user = \"bot\", password = \"/p\"").unwrap().unwrap();
        assert_eq!(
            (tries.on, tries.label.as_str(), tries.result.as_str()),
            (TryOn::Vote, "Run-TryBot", "TryBot-Result")
        );
        let words =
            "on = \"comment\", trusted = [7, 8], result = \"Verified\", user = \"bot\", password = \"/p\"";
        let tries = read(HERE, words).unwrap().unwrap();
        assert_eq!(
            (tries.on, tries.trusted, tries.result.as_str()),
            (TryOn::Comment, vec![7, 8], "Verified")
        );
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (gerrit, tries, problem) in [
            ("", "user = \"b\", password = \"/p\"", "`tries` are of a repository with `gerrit`"),
            (HERE, "on = \"upload\", user = \"b\", password = \"/p\"", "somebody must be `trusted`"),
            (HERE, "label = \"a\", result = \"a\", user = \"b\", password = \"/p\"", "another label"),
            (HERE, "user = \"b\"", "password"),
            (
                "gerrit = { url = \"http://review.example.com\" }",
                "user = \"b\", password = \"/p\"",
                "https://",
            ),
        ] {
            let said = read(gerrit, tries).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }
}
