//! As `gerrit/warm.rs`, for issues.

use super::{State, key};
use crate::core::{
    decode::{Batch, GithubStep, part},
    strings::{Strings, Text},
    table::Table,
};

impl State {
    /// Has room for so many more comments, and for less of the rest.
    pub(in crate::core) fn reserve(&mut self, more: usize) {
        let (comments, events, issues) = (more / 3, more / 5, more / 20);
        self.comments.reserve(comments);
        self.comment_table.reserve(self.comments.len() + comments);
        self.events.reserve(events);
        self.event_table.reserve(self.events.len() + events);
        self.issues.reserve(issues);
        self.issue_table.reserve(self.issues.len() + issues);
    }

    /// Looks at the issues that these steps speak of, at the ends of their lists, and where what is new will be found.
    pub(in crate::core) fn warm(&self, strings: &Strings, batch: &Batch<'_>, steps: &[GithubStep]) {
        let drafts = || {
            steps.iter().filter_map(|step| match step {
                GithubStep::Issue(at) => batch.issues.get(*at as usize),
                GithubStep::Repository(_) => None,
            })
        };
        let mut issues = Vec::with_capacity(steps.len());
        for draft in drafts() {
            let names = strings.peek(draft.owner).zip(strings.peek(draft.repository));
            let is = |(owner, name): (Text, Text)| {
                self.repositories.iter().position(|row| row.owner == owner && row.name == name)
            };
            let Some(repository) = names.and_then(is) else { continue };
            let at = self.issue_table.first(key(repository as u32, i64::from(draft.number)));
            issues.extend(at.map(|at| (at, draft)));
        }
        let row = |at: u32| self.issues.get(at as usize);
        let mut touched = issues.iter().filter_map(|(at, _)| row(*at)).fold(0, |touched, row| {
            // These are in different lines of the cache, and in all that a row is in.
            touched ^ row.id as usize ^ row.reviews_synced as usize ^ row.labels.len() ^ row.flags as usize
        });
        let first = |table: &Table, hash| table.first(hash).unwrap_or(0) as usize;
        let comments = drafts().flat_map(|one| part(&batch.comments, &one.comments));
        let named = comments.map(|comment| comment.user).chain(drafts().map(|one| one.user));
        for user in named.flatten() {
            let row = self.users.get(first(&self.user_table, key(0, user.id)));
            touched ^= row.map_or(0, |row| row.id as usize);
        }
        let mut last = Vec::with_capacity(issues.len());
        for (at, draft) in &issues {
            let Some(row) = row(*at) else { continue };
            let ends = (self.lists.get(row.comments).last(), self.lists.get(row.events).last());
            last.push((ends.0.copied(), ends.1.copied()));
            for comment in part(&batch.comments, &draft.comments) {
                touched ^= first(&self.comment_table, key(*at, comment.id));
            }
            for event in part(&batch.events, &draft.events) {
                touched ^= first(&self.event_table, key(*at, event.id));
            }
        }
        for (comment, event) in last {
            let comment = comment.and_then(|at| self.comments.get(at as usize)).map_or(0, |row| row.created);
            let event = event.and_then(|at| self.events.get(at as usize)).map_or(0, |row| row.created);
            touched ^= (comment ^ event) as usize;
        }
        std::hint::black_box(touched);
    }
}
