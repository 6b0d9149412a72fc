//! Gerrit's own word on votes, by its REST API: what the corpus says is compared with it.

use std::time::Duration;

use serde::Deserialize;
use types::CommitHash;

use crate::golang::{ANSWERS, ASKS};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Gerrit puts before JSON, so that no page can read it as a script.
const GUARD: &[u8] = b")]}'";
/// More is no answer to our question.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Changes in one answer. More do not wait for a try at once; those beyond are compared when others are done.
const MAX_CHANGES: &str = "500";
/// How many changes are asked for by number: what fits a URL.
const MAX_OTHERS: usize = 250;

/// Gerrit was asked in vain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GerritError {
    /// It cannot be reached, or broke off.
    #[error("`{url}` does not answer")]
    Http { url: String, source: reqwest::Error },
    /// It does not want to tell.
    #[error("`{url}` answers {status}")]
    Refused { url: String, status: u16 },
    /// It is another server, or speaks otherwise than we know.
    #[error("`{url}` gives an answer that makes no sense: {what}")]
    Nonsense { url: String, what: String },
}

/// What Gerrit says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its project there, without the host.
    pub(crate) project: String,
    pub(crate) number: u32,
    /// The state that it says it of.
    pub(crate) meta: CommitHash,
    /// Whether it waits for a try.
    pub(crate) waits: bool,
    /// The votes that say so, for people.
    pub(crate) votes: String,
}

/// A part of `ChangeInfo`.
#[derive(Deserialize)]
struct Change {
    project: String,
    #[serde(rename = "_number")]
    number: u32,
    status: String,
    /// Told by Gerrit 3.4 and later.
    meta_rev_id: Option<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, Label>,
}

#[derive(Deserialize)]
struct Label {
    #[serde(default)]
    all: Vec<Vote>,
}

#[derive(Deserialize)]
struct Vote {
    #[serde(default)]
    value: i32,
    #[serde(rename = "_account_id")]
    account: Option<i64>,
}

/// Asks Gerrits, as anybody may.
pub(crate) struct Gerrits(reqwest::Client);

impl Gerrits {
    pub(crate) fn new() -> reqwest::Result<Self> {
        let policy = reqwest::redirect::Policy::none();
        let client =
            reqwest::Client::builder().user_agent("farmer-maintnerd").redirect(policy).timeout(PATIENCE);
        Ok(Self(client.build()?))
    }

    /// What Gerrit says of the open changes that wait for a try by its own word, and of these others. One query.
    pub(crate) async fn votes(&self, url: &str, others: &[u32]) -> Result<Vec<Said>, GerritError> {
        let failed =
            |source: reqwest::Error| GerritError::Http { url: url.to_owned(), source: source.without_url() };
        let query = query(others);
        let parts = [("q", query.as_str()), ("o", "DETAILED_LABELS"), ("n", MAX_CHANGES)];
        let mut response =
            self.0.get(format!("{url}/changes/")).query(&parts).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(GerritError::Refused { url: url.to_owned(), status: response.status().as_u16() });
        }
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            answer.extend_from_slice(&piece);
            if answer.len() > MAX_ANSWER {
                return Err(nonsense(url, format!("more than {MAX_ANSWER} bytes")));
            }
        }
        let json = answer.strip_prefix(GUARD).unwrap_or(&answer);
        let changes: Vec<Change> =
            serde_json::from_slice(json).map_err(|error| nonsense(url, error.to_string()))?;
        Ok(changes.into_iter().filter_map(said).collect())
    }
}

fn nonsense(url: &str, what: String) -> GerritError {
    GerritError::Nonsense { url: url.to_owned(), what }
}

/// `status:open (label:Run-TryBot=1 OR change:12)`.
fn query(others: &[u32]) -> String {
    let others = others.iter().take(MAX_OTHERS).map(|number| format!(" OR change:{number}"));
    format!("status:open (label:{ASKS}=1{})", others.collect::<Vec<_>>().concat())
}

/// Nothing if Gerrit does not say of which state it speaks: then nothing can be compared.
fn said(change: Change) -> Option<Said> {
    let meta = change.meta_rev_id?.parse().ok()?;
    let votes = |label: &'static str| change.labels.get(label).into_iter().flat_map(|label| &label.all);
    let asked = votes(ASKS).any(|vote| vote.value == 1);
    let answered = votes(ANSWERS).any(|vote| vote.value != 0);
    let mut words = Vec::new();
    for label in [ASKS, ANSWERS] {
        for vote in votes(label).filter(|vote| vote.value != 0) {
            let account = vote.account.unwrap_or_default();
            words.push(format!("{label}{:+} by {account}", vote.value));
        }
    }
    Some(Said {
        project: change.project,
        number: change.number,
        meta,
        waits: change.status == "NEW" && asked && !answered,
        votes: if words.is_empty() { "no votes".to_owned() } else { words.join(", ") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Said> {
        said(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_gerrit_says_is_read() {
        let meta = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let change = |status: &str, labels: &str| {
            let json = format!(
                r#"{{"id": "x", "project": "a/b", "_number": 7, "status": "{status}", "meta_rev_id": "{meta}", "labels": {labels}}}"#
            );
            read(&json).unwrap()
        };
        let asked = r#""Run-TryBot": {"all": [{"value": 0}, {"value": 1, "_account_id": 9}]}"#;
        let one = change("NEW", &format!("{{{asked}}}"));
        assert_eq!((one.project.as_str(), one.number, one.waits), ("a/b", 7, true));
        assert_eq!((one.meta.to_string().as_str(), one.votes.as_str()), (meta, "Run-TryBot+1 by 9"));
        let answered =
            change("NEW", &format!(r#"{{{asked}, "TryBot-Result": {{"all": [{{"value": -1}}]}}}}"#));
        assert_eq!(
            (answered.waits, answered.votes.as_str()),
            (false, "Run-TryBot+1 by 9, TryBot-Result-1 by 0")
        );
        assert!(!change("MERGED", &format!("{{{asked}}}")).waits);
        assert_eq!(change("NEW", r#"{"Verified": {}}"#).votes, "no votes");
        assert_eq!(read(r#"{"project": "a", "_number": 7, "status": "NEW"}"#), None, "of an older Gerrit");
    }

    #[test]
    fn the_question_names_those_that_we_believe_to_wait() {
        assert_eq!(query(&[]), "status:open (label:Run-TryBot=1)");
        assert_eq!(query(&[5, 6]), "status:open (label:Run-TryBot=1 OR change:5 OR change:6)");
        assert!(query(&(0..10_000).collect::<Vec<_>>()).len() < 8000);
    }
}
