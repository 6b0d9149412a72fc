//! What a pull request wants to merge where, and what checks say of its head.
//!
//! No issue changes with its checks, so they are not waited for: those of open pull requests are asked for again while
//! they are not over and a while after the pull request changed, which costs nothing as long as they say the same; and
//! when an event tells of them. Those of closed ones stay as they were.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::maintpb::{GithubCheck, GithubChecks};
use github::{Error, segment};
use maintner::core::{Issue, Repository, diff, diff::SeenDetails};
use serde_json::Value;
use tracing::warn;
use types::{CommitHash, Timestamp};

use super::{Outcome, PassError, Reader, details::changed, of_issue};
use crate::github::{
    lists::{self, Page},
    parse::{self, ParseError},
};

/// After a pull request changed, checks may begin for so long.
const BEGINNING: Duration = Duration::from_hours(1);
/// Pull requests whose checks are asked for in one pass.
const AT_ONCE: usize = 50;

/// What is remembered of checks, so that asking again costs nothing.
#[derive(Default)]
pub(super) struct Checked {
    /// By commit.
    pages: BTreeMap<String, Vec<Page>>,
    /// The pull request that was asked for last.
    last: i32,
    /// It was said that some cannot be read.
    warned: bool,
}

/// Lists of what checks say: below which path, under which name, and how one is read.
type List = (&'static str, &'static str, fn(&Value) -> Result<GithubCheck, ParseError>);

const LISTS: [List; 2] =
    [("check-runs", "check_runs", parse::check_run), ("status", "statuses", parse::commit_status)];

/// Whether checks of a pull request may say something else soon. `now` is when the last issue changed.
fn is_unfinished(issue: &Issue<'_>, head: &str, now: Timestamp) -> bool {
    if changed(issue) + BEGINNING > now {
        return true;
    }
    let checks = issue.checks().filter(|checks| checks.sha == head);
    checks.is_none_or(|checks| checks.checks.iter().any(|check| check.conclusion.is_empty()))
}

impl Reader {
    /// What a pull request is now, with its checks if it is open.
    pub(super) async fn see_pull(&mut self, number: i32, seen: &mut SeenDetails) -> Result<(), PassError> {
        let reply = self.client.fetch(&format!("{}/pulls/{number}", self.base())).await?;
        let shown = parse::pull(&reply.json()?)
            .map_err(|error| Error::Failed(format!("the answer is no pull request: {error}")))?;
        if shown.number != number {
            return Err(Error::Failed(format!("the answer is about pull request {}", shown.number)).into());
        }
        if shown.open {
            seen.checks = Some(self.read_checks(&shown.pull.head_sha).await?);
        }
        seen.pull = Some(shown.pull);
        seen.pull_at = Some(reply.date);
        Ok(())
    }

    /// Brings what checks say now that may have changed.
    pub(super) async fn unfinished_checks(&mut self) -> Result<(), PassError> {
        let wanted = self.unfinished().await;
        let heads: BTreeSet<&String> = wanted.iter().map(|(_, head)| head).collect();
        self.checked.pages.retain(|head, _| heads.contains(head));
        for (number, head) in wanted.into_iter().take(AT_ONCE) {
            self.checked.last = number;
            let brought = self.checks_of(number, &head).await;
            if let Err(PassError::Github(Error::Gone { .. } | Error::Moved { .. })) = &brought {
                // It may be the repository that is gone, or called otherwise.
                self.check_itself(true).await?;
            }
            self.isolate(number, brought)?;
            if self.is_wanted_elsewhere() {
                break;
            }
        }
        Ok(())
    }

    /// Brings what checks say of a commit, if it is the head of an open pull request.
    pub(in crate::github) async fn commit(&mut self, commit: CommitHash) -> Result<Outcome, PassError> {
        self.begin();
        let head = commit.to_string();
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let numbers: Vec<i32> =
            known.iter().flat_map(|known| known.pulls_at(&head)).map(|issue| issue.number()).collect();
        drop(corpus);
        // An event is told before GitHub's caches know of it.
        self.checked.pages.remove(&head);
        for number in numbers {
            self.checks_of(number, &head).await?;
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Open pull requests whose checks may say something else soon, and their heads; those first that were not asked for
    /// the last time.
    async fn unfinished(&self) -> Vec<(i32, String)> {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let Some(now) = known.as_ref().and_then(Repository::issues_synced) else { return Vec::new() };
        let open = known.iter().flat_map(Repository::issues);
        let open = open.filter(|issue| issue.is_pull_request() && !issue.is_closed());
        let unfinished = open.filter_map(|issue| {
            let head = issue.pull()?.head_sha;
            is_unfinished(&issue, &head, now).then(|| (issue.number(), head))
        });
        let mut all: Vec<_> = unfinished.collect();
        let next = all.partition_point(|(number, _)| *number <= self.checked.last);
        if all.len() > AT_ONCE {
            all.rotate_left(next);
        }
        all
    }

    async fn checks_of(&mut self, number: i32, head: &str) -> Result<(), PassError> {
        if let Some(pages) = self.checked.pages.get(head)
            && lists::is_same(&self.client, pages).await?
        {
            return Ok(());
        }
        let seen = SeenDetails { checks: Some(self.read_checks(head).await?), ..SeenDetails::default() };
        let repository = Arc::clone(&self.repository);
        self.append(|corpus| {
            diff::details(corpus, repository.at(), number, &seen).into_iter().map(of_issue).collect()
        })
        .await
    }

    async fn read_checks(&mut self, head: &str) -> Result<GithubChecks, PassError> {
        let (mut checks, mut pages) = (Vec::new(), Vec::new());
        for (path, name, parse) in LISTS {
            let path = format!("{}/commits/{}/{path}", self.base(), segment(head));
            let listed = match lists::whole_named(&self.client, &path, name).await {
                // Not everybody who may read pull requests may read checks.
                Err(error @ (Error::Gone { .. } | Error::Refused { .. })) => {
                    self.check_itself(true).await?;
                    self.warn_of_checks(&path, &error);
                    continue;
                }
                listed => listed?,
            };
            for item in &listed.items {
                match parse(item) {
                    Ok(check) => checks.push(check),
                    Err(error) => self.problem(format!("a check of `{head}` makes no sense: {error}")),
                }
            }
            pages.extend(listed.pages);
        }
        self.checked.pages.insert(head.to_owned(), pages);
        Ok(GithubChecks { sha: head.to_owned(), checks })
    }

    fn warn_of_checks(&mut self, path: &str, error: &Error) {
        if !std::mem::replace(&mut self.checked.warned, true) {
            let key = self.repository.key();
            warn!(repo.name = %key, "`{key}` at GitHub: no checks from `{path}`: {error}; this is said once");
        }
    }
}
