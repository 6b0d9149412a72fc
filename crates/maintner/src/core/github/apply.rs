//! Applying mutations of GitHub.

use types::Timestamp;

use super::{
    CLOSED, CommentRow, DELETED, EventRow, IssueRow, LOCKED, LabelRow, MILESTONE_NONE, MilestoneRow, NEVER,
    NOT_EXIST, PULL_REQUEST, REASON, RepositoryRow, ReviewRow, State, UserRow, key,
};
use crate::core::{
    decode::{
        Batch, CommentDraft, EventDraft, IssueDraft, MilestoneDraft, RepositoryDraft, ReviewDraft, UserDraft,
        part,
    },
    payloads::Span,
    pool::{List, Pool},
    strings::{Name, Strings},
};

fn set_time(at: &mut i64, new: Option<Timestamp>) {
    if let Some(new) = new {
        *at = new.0;
    }
}

fn set_flag(flags: &mut u32, flag: u32, new: Option<bool>) {
    match new {
        Some(true) => *flags |= flag,
        Some(false) => *flags &= !flag,
        None => {}
    }
}

/// Puts a row into a list that is ordered by some key of the rows.
fn insert_sorted<K: Ord>(pool: &mut Pool<u32>, list: &mut List, row: u32, key: impl Fn(u32) -> K) {
    let new = key(row);
    let rows = pool.get(*list);
    // What comes late belongs to the end, nearly always.
    let at = match rows.last() {
        Some(last) if key(*last) > new => rows.partition_point(|other| key(*other) <= new),
        _ => rows.len(),
    };
    pool.insert(list, at, row);
}

fn remove_row(pool: &mut Pool<u32>, list: &mut List, row: u32) {
    if let Some(at) = pool.get(*list).iter().position(|other| *other == row) {
        pool.remove(list, at);
    }
}

impl State {
    fn repository(&mut self, strings: &mut Strings, owner: Name<'_>, name: Name<'_>) -> u32 {
        let (owner, name) = (strings.intern(owner), strings.intern(name));
        // There are few, and the same is named again and again.
        let known = self.repositories.iter().position(|row| row.owner == owner && row.name == name);
        if let Some(at) = known {
            return at as u32;
        }
        let at = self.repositories.len() as u32;
        self.repositories.push(RepositoryRow { owner, name, issues_synced: NEVER });
        self.repository_order.insert((strings.text(owner).to_owned(), strings.text(name).to_owned()), at);
        at
    }

    /// The index of a user; their login is the last that was told.
    fn user(&mut self, strings: &mut Strings, draft: UserDraft<'_>) -> u32 {
        if let Some(at) = self.find_user(draft.id) {
            if !draft.login.bytes.is_empty() {
                let (row, login) = (&mut self.users[at as usize], strings.intern(draft.login));
                if row.login != login {
                    row.login = login;
                }
            }
            return at;
        }
        let at = self.users.len() as u32;
        self.users.push(UserRow { id: draft.id, login: strings.intern(draft.login), unused: 0 });
        self.user_table.insert(key(0, draft.id), at);
        at
    }

    /// The index of a user plus one; 0 for nobody.
    fn optional_user(&mut self, strings: &mut Strings, draft: Option<UserDraft<'_>>) -> u32 {
        draft.filter(|draft| draft.id != 0).map_or(0, |draft| self.user(strings, draft) + 1)
    }

    fn label(&mut self, strings: &mut Strings, repository: u32, id: i64, name: Name<'_>) -> u32 {
        let at = *self.label_order.entry((repository, id)).or_insert(self.labels.len() as u32);
        if at as usize == self.labels.len() {
            self.labels.push(LabelRow { id, repository, name: strings.intern(name) });
        } else if !name.bytes.is_empty() {
            self.labels[at as usize].name = strings.intern(name);
        }
        at
    }

    fn milestone(&mut self, strings: &mut Strings, repository: u32, draft: &MilestoneDraft<'_>) -> u32 {
        let at = *self.milestone_order.entry((repository, draft.id)).or_insert(self.milestones.len() as u32);
        if at as usize == self.milestones.len() {
            let new = MilestoneRow {
                id: draft.id,
                number: 0,
                repository,
                title: <_>::default(),
                closed: 2,
                unused: 0,
            };
            self.milestones.push(new);
        }
        let row = &mut self.milestones[at as usize];
        if !draft.title.bytes.is_empty() {
            row.title = strings.intern(draft.title);
        }
        if draft.number != 0 {
            row.number = draft.number;
        }
        if let Some(closed) = draft.closed {
            row.closed = closed.into();
        }
        at
    }

    /// Labels and milestones of a repository. Answers how many of them make no sense.
    pub(in crate::core) fn apply_repository(
        &mut self,
        strings: &mut Strings,
        batch: &Batch<'_>,
        draft: &RepositoryDraft<'_>,
    ) -> u64 {
        let repository = self.repository(strings, draft.owner, draft.repository);
        let mut malformed = 0;
        for (id, name) in part(&batch.labels, &draft.labels) {
            if *id == 0 {
                malformed += 1;
            } else {
                self.label(strings, repository, *id, *name);
            }
        }
        for milestone in &draft.milestones {
            if milestone.id == 0 {
                malformed += 1;
            } else {
                self.milestone(strings, repository, milestone);
            }
        }
        for id in &draft.deleted_labels {
            if let Some(at) = self.label_order.remove(&(repository, *id)) {
                self.labels[at as usize].repository = DELETED;
            }
        }
        for id in &draft.deleted_milestones {
            if let Some(at) = self.milestone_order.remove(&(repository, *id)) {
                self.milestones[at as usize].repository = DELETED;
            }
        }
        set_time(&mut self.repositories[repository as usize].issues_synced, draft.issues_synced);
        malformed
    }

    /// The index of an issue, and whether it is new.
    fn issue(&mut self, repository: u32, draft: &IssueDraft<'_>) -> (u32, bool) {
        if let Some(at) = self.find_issue(repository, draft.number) {
            return (at, false);
        }
        let at = self.issues.len() as u32;
        self.issues.push(IssueRow {
            id: draft.id,
            created: draft.created.map_or(NEVER, |at| at.0),
            updated: NEVER,
            closed_at: NEVER,
            comments_synced: NEVER,
            events_synced: NEVER,
            reviews_synced: NEVER,
            review_comments_synced: NEVER,
            pull_synced: NEVER,
            pull: Span::default(),
            checks: Span::default(),
            title: Span::default(),
            body: Span::default(),
            labels: List::default(),
            assignees: List::default(),
            comments: List::default(),
            events: List::default(),
            reviews: List::default(),
            review_comments: List::default(),
            repository,
            number: draft.number,
            user: 0,
            closed_by: 0,
            milestone: 0,
            flags: 0,
        });
        self.issue_table.insert(key(repository, i64::from(draft.number)), at);
        self.issue_order.insert((repository, draft.number), at);
        (at, true)
    }

    /// An issue, and all that happened to it. Answers how much of it makes no sense.
    pub(in crate::core) fn apply_issue(
        &mut self,
        strings: &mut Strings,
        batch: &Batch<'_>,
        draft: &IssueDraft<'_>,
    ) -> u64 {
        let repository = self.repository(strings, draft.owner, draft.repository);
        let (at, _) = self.issue(repository, draft);
        let mut row = self.issues[at as usize];
        set_flag(&mut row.flags, NOT_EXIST, Some(draft.not_exist));
        if draft.not_exist {
            row.flags = row.flags & ((1 << REASON) - 1) | draft.gone << REASON;
            self.issues[at as usize] = row;
            return 0;
        }
        self.set_plain(strings, &mut row, draft);
        self.set_people_and_labels(strings, batch, &mut row, draft);
        let mut malformed = 0;
        for comment in part(&batch.comments, &draft.comments) {
            malformed += u64::from(!self.apply_comment(strings, &mut row, at, comment));
        }
        for id in part(&batch.numbers, &draft.deleted_comments) {
            if let Some(comment) = self.find_comment(at, *id) {
                remove_row(&mut self.lists, &mut row.comments, comment);
                self.comments[comment as usize].issue = DELETED;
            }
        }
        for event in part(&batch.events, &draft.events) {
            malformed += u64::from(!self.apply_event(strings, &mut row, at, event));
        }
        for review in part(&batch.reviews, &draft.reviews) {
            malformed += u64::from(!self.apply_review(strings, &mut row, at, review));
        }
        malformed += self.apply_review_comments(batch, &mut row, draft);
        set_time(&mut row.review_comments_synced, draft.review_comments_synced);
        set_time(&mut row.pull_synced, draft.pull_synced);
        set_time(&mut row.comments_synced, draft.comments_synced);
        set_time(&mut row.events_synced, draft.events_synced);
        set_time(&mut row.reviews_synced, draft.reviews_synced);
        self.issues[at as usize] = row;
        malformed
    }

    fn set_plain(&mut self, strings: &mut Strings, row: &mut IssueRow, draft: &IssueDraft<'_>) {
        if row.id == 0 {
            row.id = draft.id;
        }
        if row.created == NEVER {
            set_time(&mut row.created, draft.created);
        }
        set_time(&mut row.updated, draft.updated);
        set_time(&mut row.closed_at, draft.closed_at);
        if let Some(user) = draft.user {
            row.user = self.optional_user(strings, Some(user));
        }
        if let Some(user) = draft.closed_by {
            row.closed_by = self.optional_user(strings, Some(user));
        }
        if draft.no_milestone {
            row.milestone = MILESTONE_NONE;
        } else if draft.milestone.id != 0 {
            row.milestone = self.milestone(strings, row.repository, &draft.milestone) + 2;
        }
        set_flag(&mut row.flags, CLOSED, draft.closed);
        set_flag(&mut row.flags, LOCKED, draft.locked);
        set_flag(&mut row.flags, PULL_REQUEST, Some(true).filter(|_| draft.pull_request));
        if let Some(pull) = draft.pull {
            row.pull = pull;
        }
        if let Some(checks) = draft.checks {
            row.checks = checks;
        }
        if let Some(title) = draft.title {
            row.title = title;
        }
        if let Some(body) = draft.body {
            row.body = body;
        }
    }

    fn set_people_and_labels(
        &mut self,
        strings: &mut Strings,
        batch: &Batch<'_>,
        row: &mut IssueRow,
        draft: &IssueDraft<'_>,
    ) {
        for user in part(&batch.users, &draft.assignees) {
            let user = self.user(strings, *user);
            if !self.lists.get(row.assignees).contains(&user) {
                self.lists.push(&mut row.assignees, user);
            }
        }
        for id in part(&batch.numbers, &draft.deleted_assignees) {
            if let Some(user) = self.find_user(*id) {
                remove_row(&mut self.lists, &mut row.assignees, user);
            }
        }
        for id in part(&batch.numbers, &draft.remove_labels) {
            if let Some(label) = self.label_order.get(&(row.repository, *id)) {
                remove_row(&mut self.lists, &mut row.labels, *label);
            }
        }
        for (id, name) in part(&batch.labels, &draft.add_labels) {
            let label = self.label(strings, row.repository, *id, *name);
            if !self.lists.get(row.labels).contains(&label) {
                insert_sorted(&mut self.lists, &mut row.labels, label, |at| self.labels[at as usize].id);
            }
        }
    }

    fn apply_comment(
        &mut self,
        strings: &mut Strings,
        issue: &mut IssueRow,
        issue_index: u32,
        draft: &CommentDraft<'_>,
    ) -> bool {
        if draft.id == 0 {
            return false;
        }
        let user = self.optional_user(strings, draft.user);
        let known = self.find_comment(issue_index, draft.id);
        let at = known.unwrap_or(self.comments.len() as u32);
        if known.is_none() {
            self.comment_table.insert(key(issue_index, draft.id), at);
            let (id, body, issue) = (draft.id, Span::default(), issue_index);
            self.comments.push(CommentRow { id, created: NEVER, updated: NEVER, body, issue, user });
        } else if draft.created.is_some_and(|new| new.0 != self.comments[at as usize].created) {
            remove_row(&mut self.lists, &mut issue.comments, at);
        }
        let row = &mut self.comments[at as usize];
        let before = row.created;
        if user != 0 {
            row.user = user;
        }
        set_time(&mut row.created, draft.created);
        set_time(&mut row.updated, draft.updated);
        if let Some(body) = draft.body {
            row.body = body;
        }
        if known.is_none() || row.created != before {
            let comments = &self.comments;
            let order = |at: u32| (comments[at as usize].created, comments[at as usize].id);
            insert_sorted(&mut self.lists, &mut issue.comments, at, order);
        }
        true
    }

    /// Comments on lines: each is as said now, whatever it was. Answers how many make no sense.
    fn apply_review_comments(
        &mut self,
        batch: &Batch<'_>,
        row: &mut IssueRow,
        draft: &IssueDraft<'_>,
    ) -> u64 {
        let mut malformed = 0;
        for cell in part(&batch.review_comments, &draft.review_comments) {
            let known = self.review_comments.get_mut(row.review_comments);
            match known.iter_mut().find(|known| known.id == cell.id) {
                _ if cell.id == 0 => malformed += 1,
                Some(known) => *known = *cell,
                None => self.review_comments.push(&mut row.review_comments, *cell),
            }
        }
        for id in part(&batch.numbers, &draft.deleted_review_comments) {
            let known = self.review_comments.get(row.review_comments);
            if let Some(at) = known.iter().position(|known| known.id == *id) {
                self.review_comments.remove(&mut row.review_comments, at);
            }
        }
        malformed
    }

    fn apply_event(
        &mut self,
        strings: &mut Strings,
        issue: &mut IssueRow,
        issue_index: u32,
        draft: &EventDraft<'_>,
    ) -> bool {
        if draft.id == 0 {
            return false;
        }
        let (created, kind) = (draft.created.map_or(NEVER, |at| at.0), strings.intern(draft.kind));
        let (id, actor, span) = (draft.id, draft.actor, draft.span);
        let row = EventRow { id, created, actor, span, issue: issue_index, kind };
        let known = self.event_table.find(key(issue_index, id), |at| {
            self.events[at as usize].id == id && self.events[at as usize].issue == issue_index
        });
        let at = known.unwrap_or(self.events.len() as u32);
        if known.is_some() {
            remove_row(&mut self.lists, &mut issue.events, at);
            self.events[at as usize] = row;
        } else {
            self.event_table.insert(key(issue_index, id), at);
            self.events.push(row);
        }
        let events = &self.events;
        let order = |at: u32| (events[at as usize].created, events[at as usize].id);
        insert_sorted(&mut self.lists, &mut issue.events, at, order);
        true
    }

    fn apply_review(
        &mut self,
        strings: &mut Strings,
        issue: &mut IssueRow,
        issue_index: u32,
        draft: &ReviewDraft<'_>,
    ) -> bool {
        if draft.id == 0 {
            return false;
        }
        let (created, state) = (draft.created.map_or(NEVER, |at| at.0), strings.intern(draft.state));
        let (id, actor, span) = (draft.id, draft.actor, draft.span);
        let row = ReviewRow { id, created, actor, span, issue: issue_index, state };
        let known = self.review_table.find(key(issue_index, id), |at| {
            self.reviews[at as usize].id == id && self.reviews[at as usize].issue == issue_index
        });
        let at = known.unwrap_or(self.reviews.len() as u32);
        if known.is_some() {
            remove_row(&mut self.lists, &mut issue.reviews, at);
            self.reviews[at as usize] = row;
        } else {
            self.review_table.insert(key(issue_index, id), at);
            self.reviews.push(row);
        }
        let reviews = &self.reviews;
        let order = |at: u32| (reviews[at as usize].created, reviews[at as usize].id);
        insert_sorted(&mut self.lists, &mut issue.reviews, at, order);
        true
    }
}
