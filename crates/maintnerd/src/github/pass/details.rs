//! What belongs to an issue: comments, events, reviews. It is stale when the issue has changed since it was read, by
//! GitHub's clock on both sides.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use github::Error;
use maintner::core::{Issue, Repository, diff, diff::SeenDetails};
use serde_json::Value;
use types::Timestamp;

use super::{OVERLAP, PassError, Reader, of_issue, query_time};
use crate::github::{
    lists::{self, PER_PAGE},
    parse::{self, ParseError},
};

/// An issue that changed so long after what GitHub's clock says has changed in no time that ever was.
const FUTURE: Duration = Duration::from_mins(2);

/// What the log says of an issue.
pub(super) struct Facts {
    pull_request: bool,
    updated: Timestamp,
    comments: BTreeSet<i64>,
    comments_synced: Option<Timestamp>,
    events: BTreeSet<i64>,
    review_comments: BTreeSet<i64>,
}

impl Facts {
    /// When it changed last.
    pub(super) fn updated(&self) -> Timestamp {
        self.updated
    }
}

pub(super) fn changed(issue: &Issue<'_>) -> Timestamp {
    issue.updated().unwrap_or(issue.created())
}

fn is_stale(issue: &Issue<'_>) -> bool {
    let fresh = |synced: Option<Timestamp>| synced.is_some_and(|synced| synced > changed(issue));
    !fresh(issue.comments_synced())
        || !fresh(issue.events_synced())
        || issue.is_pull_request()
            && !(fresh(issue.reviews_synced())
                && fresh(issue.review_comments_synced())
                && fresh(issue.pull_synced()))
}

impl Reader {
    /// Brings what belongs to all issues that have changed.
    pub(super) async fn details(&mut self) -> Result<(), PassError> {
        for number in self.all_stale().await {
            let brought = self.details_of(number).await;
            self.isolate(number, brought)?;
            if self.is_interrupted() {
                break;
            }
        }
        Ok(())
    }

    async fn all_stale(&self) -> Vec<i32> {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let issues = known.iter().flat_map(Repository::issues);
        let stale = issues
            .filter(|issue| is_stale(issue) && self.settled.get(&issue.number()) != Some(&changed(issue)));
        stale.map(|issue| issue.number()).collect()
    }

    pub(super) async fn is_stale(&self, number: i32) -> bool {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        known.and_then(|known| known.issue(number)).is_some_and(|issue| is_stale(&issue))
    }

    /// Nothing if the issue does not exist.
    pub(super) async fn facts(&self, number: i32) -> Option<Facts> {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let issue = known?.issue(number)?;
        Some(Facts {
            pull_request: issue.is_pull_request(),
            updated: changed(&issue),
            comments: issue.comments().map(|comment| comment.id()).collect(),
            comments_synced: issue.comments_synced(),
            events: issue.events().map(|event| event.id()).collect(),
            review_comments: issue.review_comments().map(|comment| comment.id).collect(),
        })
    }

    /// Brings what belongs to one issue.
    pub(super) async fn details_of(&mut self, number: i32) -> Result<(), PassError> {
        let Some(mut facts) = self.facts(number).await else { return Ok(()) };
        if facts.comments_synced.is_some() && !self.counts.contains_key(&number) {
            // How many comments there are tells whether one was deleted.
            self.look(number).await?;
            let Some(now) = self.facts(number).await else { return Ok(()) };
            facts = now;
        }
        match self.see(number, &facts, false).await {
            Err(PassError::Github(error @ (Error::Gone { .. } | Error::Moved { .. }))) => {
                self.look(number).await?;
                // It is there: then it is strange that what belongs to it is not.
                if self.facts(number).await.is_some() { Err(error.into()) } else { Ok(()) }
            }
            other => other,
        }
    }

    /// Reads and appends; all of it, if it is to be complete rather than new.
    pub(super) async fn see(&mut self, number: i32, facts: &Facts, complete: bool) -> Result<(), PassError> {
        let issue = format!("{}/issues/{number}", self.base());
        let mut seen = SeenDetails::default();
        self.see_comments(&issue, number, facts, complete, &mut seen).await?;
        self.see_events(&issue, number, facts, complete, &mut seen).await?;
        if facts.pull_request {
            let reviews = format!("{}/pulls/{number}/reviews", self.base());
            let listed = lists::whole(&self.client, &reviews, 1).await?;
            seen.reviews =
                self.read(number, "review", &listed.items, parse::review).into_iter().flatten().collect();
            seen.reviews_at = Some(listed.date);
            self.see_review_comments(number, facts, &mut seen).await?;
            self.see_pull(number, &mut seen).await?;
        }
        let dates =
            [seen.comments_at, seen.events_at, seen.reviews_at, seen.review_comments_at, seen.pull_at];
        let earliest = dates.into_iter().flatten().min().unwrap_or_default();
        let repository = Arc::clone(&self.repository);
        self.append(|corpus| {
            diff::details(corpus, repository.at(), number, &seen).into_iter().map(of_issue).collect()
        })
        .await?;
        if facts.updated > earliest + FUTURE {
            self.settled.insert(number, facts.updated);
        } else {
            // In the second in which it was read it may have changed once more.
            self.outcome.again |= facts.updated >= earliest;
        }
        Ok(())
    }

    /// New comments; and all, if their number is not what GitHub says.
    async fn see_comments(
        &mut self,
        issue: &str,
        number: i32,
        facts: &Facts,
        complete: bool,
        seen: &mut SeenDetails,
    ) -> Result<(), PassError> {
        let count = self.counts.get(&number).copied();
        if let Some(count) = count.filter(|count| count.comments == 0 && facts.comments.is_empty()) {
            seen.comments_at = Some(count.date);
            return Ok(());
        }
        let comments = format!("{issue}/comments");
        let since = facts.comments_synced.filter(|_| !complete).and_then(|at| query_time(at - OVERLAP));
        let path = since.as_ref().map_or(comments.clone(), |since| format!("{comments}?since={since}"));
        let mut listed = lists::whole(&self.client, &path, 1).await?;
        seen.comments = self.read(number, "comment", &listed.items, parse::comment);
        seen.comments_at = Some(listed.date);
        let Some(count) = count.map(|count| count.comments) else { return Ok(()) };
        let mut ids = facts.comments.clone();
        ids.extend(seen.comments.iter().map(|comment| comment.id));
        if ids.len() == count {
            return Ok(());
        }
        if since.is_some() {
            listed = lists::whole(&self.client, &comments, 1).await?;
            seen.comments = self.read(number, "comment", &listed.items, parse::comment);
        }
        // Only a list that is as long as it should be tells what is not there.
        let there: BTreeSet<i64> = seen.comments.iter().map(|comment| comment.id).collect();
        seen.all_comments = there.len() == count && listed.items.len() == count;
        Ok(())
    }

    /// Events come at the end: the pages that are known are not read again, if what is known is there.
    async fn see_events(
        &mut self,
        issue: &str,
        number: i32,
        facts: &Facts,
        complete: bool,
        seen: &mut SeenDetails,
    ) -> Result<(), PassError> {
        let events = format!("{issue}/events");
        let first = if complete { 1 } else { 1 + facts.events.len().saturating_sub(1) / PER_PAGE };
        let mut listed = lists::whole(&self.client, &events, first).await?;
        let is_known = |item: &Value| item["id"].as_i64().is_some_and(|id| facts.events.contains(&id));
        if first > 1 && !listed.items.iter().any(is_known) {
            listed = lists::whole(&self.client, &events, 1).await?;
        }
        seen.events = self.read(number, "event", &listed.items, parse::event);
        seen.events_at = Some(listed.date);
        Ok(())
    }

    /// All comments on lines. One that is missing is deleted if a second look does not show it either.
    async fn see_review_comments(
        &mut self,
        number: i32,
        facts: &Facts,
        seen: &mut SeenDetails,
    ) -> Result<(), PassError> {
        let path = format!("{}/pulls/{number}/comments", self.base());
        let listed = lists::whole(&self.client, &path, 1).await?;
        seen.review_comments_at = Some(listed.date);
        let mut items = listed.items;
        let ids =
            |items: &[Value]| items.iter().filter_map(|item| item["id"].as_i64()).collect::<BTreeSet<_>>();
        if !facts.review_comments.is_subset(&ids(&items)) {
            // The later word counts.
            items.extend(lists::whole(&self.client, &path, 1).await?.items);
            seen.all_review_comments = true;
        }
        seen.review_comments = self.read(number, "comment on lines", &items, parse::review_comment);
        // One that makes no sense is not taken for deleted.
        seen.all_review_comments &= seen.review_comments.len() == items.len();
        Ok(())
    }

    /// What makes no sense is left out, and told.
    fn read<T>(
        &mut self,
        number: i32,
        what: &str,
        items: &[Value],
        parse: impl Fn(&Value) -> Result<T, ParseError>,
    ) -> Vec<T> {
        let mut read = Vec::new();
        for item in items {
            match parse(item) {
                Ok(one) => read.push(one),
                Err(error) => {
                    self.problem(format!("{what} {} of issue {number} makes no sense: {error}", item["id"]));
                }
            }
        }
        read
    }
}
