//! What is shown of GitHub. Only issues that exist are reachable.

use std::borrow::Cow;

use api::maintpb::{
    GithubChecks, GithubGoneReason, GithubIssueEvent, GithubPull, GithubReview, GithubReviewComment,
};
use prost::Message as _;
use types::Timestamp;

use super::{
    CLOSED, CommentRow, DELETED, EventRow, IssueRow, LOCKED, MILESTONE_NONE, MILESTONE_UNKNOWN, NEVER,
    NOT_EXIST, PULL_REQUEST, REASON, ReviewRow, State, time,
};
use crate::core::{
    Corpus,
    payloads::Span,
    wire::{Fields, find_bytes},
};

/// GitHub, as far as the corpus knows it.
#[derive(Debug, Clone, Copy)]
pub struct Github<'a> {
    corpus: &'a Corpus,
}

/// A repository on GitHub.
#[derive(Debug, Clone, Copy)]
pub struct Repository<'a> {
    corpus: &'a Corpus,
    index: u32,
}

/// An issue or pull request that exists.
#[derive(Clone, Copy)]
pub struct Issue<'a> {
    corpus: &'a Corpus,
    index: u32,
}

/// A comment on an issue.
#[derive(Debug, Clone, Copy)]
pub struct Comment<'a> {
    corpus: &'a Corpus,
    place: usize,
    row: &'a CommentRow,
}

/// Something that happened to an issue.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    corpus: &'a Corpus,
    row: &'a EventRow,
}

/// A review of a pull request.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    corpus: &'a Corpus,
    row: &'a ReviewRow,
}

/// A user. The id never changes, the login may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    /// GitHub's number of the user.
    pub id: i64,
    /// The name they go by.
    pub login: &'a str,
}

/// A team of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team<'a> {
    /// GitHub's number of the team.
    pub id: i64,
    /// Its name in addresses.
    pub slug: Cow<'a, str>,
}

/// A label of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// GitHub's number of the label.
    pub id: i64,
    /// What it says.
    pub name: &'a str,
}

/// A milestone of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Milestone<'a> {
    /// GitHub's number of the milestone among all.
    pub id: i64,
    /// Its number in the repository, by which it is edited.
    pub number: i64,
    /// What it says.
    pub title: &'a str,
    /// Whether it is over.
    pub closed: bool,
}

/// The milestone of an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MilestoneOf<'a> {
    /// Nobody told.
    Unknown,
    /// It has none.
    None,
    /// It has this one.
    Some(Milestone<'a>),
}

/// Why an issue does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nobody told.
    Unknown,
    /// It was deleted.
    Deleted,
    /// It is in another repository now.
    Transferred,
    /// It is a discussion now.
    Converted,
    /// GitHub shows nothing under this number.
    Absent,
}

/// Who was assigned, or no longer, by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The number of the user whose issue it is now, or was.
    pub assignee: i64,
    /// The number of the user who said so.
    pub assigner: i64,
}

impl<'a> Github<'a> {
    pub(in crate::core) fn new(corpus: &'a Corpus) -> Self {
        Self { corpus }
    }

    fn state(self) -> &'a State {
        &self.corpus.github
    }

    /// All repositories, by owner and name.
    pub fn repositories(&self) -> impl Iterator<Item = Repository<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.github.repository_order.values().map(move |index| Repository { corpus, index: *index })
    }

    /// A repository by its owner and name.
    pub fn repository(&self, owner: &str, name: &str) -> Option<Repository<'a>> {
        Some(Repository { corpus: self.corpus, index: self.state().find_repository(owner, name)? })
    }

    /// A user by their number.
    pub fn user(&self, id: i64) -> Option<User<'a>> {
        user(self.corpus, self.state().find_user(id)? + 1)
    }

    /// How many users are known.
    pub fn user_count(&self) -> usize {
        self.state().users.len()
    }

    /// All comments on issues that exist, in the order in which the log first told of them.
    pub fn comments(&self) -> impl DoubleEndedIterator<Item = Comment<'a>> + use<'a> {
        self.comments_in(0..self.state().comments.len())
    }

    /// How many comments there were ever, those that are deleted or on issues that are gone included.
    pub fn comment_count(&self) -> usize {
        self.state().comments.len()
    }

    /// A part of [`Self::comments`], so that several may look at once. The numbers count those on issues that are gone.
    pub fn comments_in(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Comment<'a>> + use<'a> {
        let corpus = self.corpus;
        (range.start..range.end.min(corpus.github.comments.len()))
            .map(move |place| Comment { corpus, place, row: &corpus.github.comments[place] })
            .filter(|comment| {
                let issue = comment.corpus.github.issues.get(comment.row.issue as usize);
                issue.is_some_and(IssueRow::is_complete)
            })
    }
}

impl<'a> Github<'a> {
    /// The comments of [`Self::comments_in`] whose text, as it is in the log, is wanted. The text is looked at first,
    /// and that of some comments together, line by line of the cache: nearly all the time goes into waiting for memory,
    /// and so they wait at once.
    pub fn comments_whose(
        &self,
        range: std::ops::Range<usize>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<Comment<'a>> {
        const TOGETHER: usize = 32;
        const LINE: usize = 64;
        let (state, payloads) = (self.state(), &self.corpus.payloads);
        let (mut found, mut near) = (Vec::new(), 0);
        let mut texts: Vec<(usize, &[u8])> = Vec::with_capacity(TOGETHER);
        let end = range.end.min(state.comments.len());
        for start in (range.start..end).step_by(TOGETHER) {
            texts.clear();
            for place in start..end.min(start + TOGETHER) {
                texts.push((place, payloads.get_near(state.comments[place].body, &mut near)));
            }
            let mut touched = 0;
            for (_, text) in &texts {
                touched = text.iter().step_by(LINE).fold(touched, |touched, byte| touched ^ byte);
                touched ^= text.last().copied().unwrap_or(0);
            }
            std::hint::black_box(touched);
            for (place, _) in texts.iter().filter(|(_, text)| wanted(text)) {
                found.extend(self.comments_in(*place..*place + 1));
            }
        }
        found
    }
}

impl IssueRow {
    fn is_complete(&self) -> bool {
        self.flags & NOT_EXIST == 0 && self.created != NEVER
    }
}

fn user(corpus: &Corpus, index_plus_one: u32) -> Option<User<'_>> {
    let row = corpus.github.users.get(index_plus_one.checked_sub(1)? as usize)?;
    Some(User { id: row.id, login: corpus.github_strings.text(row.login) })
}

fn label(corpus: &Corpus, index: u32) -> Option<Label<'_>> {
    let row = corpus.github.labels.get(index as usize).filter(|row| row.repository != DELETED)?;
    Some(Label { id: row.id, name: corpus.github_strings.text(row.name) })
}

fn milestone(corpus: &Corpus, index: u32) -> Option<Milestone<'_>> {
    let row = corpus.github.milestones.get(index as usize).filter(|row| row.repository != DELETED)?;
    let title = corpus.github_strings.text(row.title);
    Some(Milestone { id: row.id, number: row.number, title, closed: row.closed == 1 })
}

impl<'a> Repository<'a> {
    /// Who owns it.
    pub fn owner(&self) -> &'a str {
        self.corpus.github_strings.text(self.corpus.github.repositories[self.index as usize].owner)
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.corpus.github_strings.text(self.corpus.github.repositories[self.index as usize].name)
    }

    /// All issues and pull requests that exist, by number.
    pub fn issues(&self) -> impl DoubleEndedIterator<Item = Issue<'a>> + use<'a> {
        let (corpus, repository) = (self.corpus, self.index);
        let all = corpus.github.issue_order.range((repository, 0)..=(repository, i32::MAX));
        all.map(move |(_, index)| Issue { corpus, index: *index }).filter(|issue| issue.row().is_complete())
    }

    /// An issue that exists.
    pub fn issue(&self, number: i32) -> Option<Issue<'a>> {
        let index = self.corpus.github.find_issue(self.index, number)?;
        let issue = Issue { corpus: self.corpus, index };
        issue.row().is_complete().then_some(issue)
    }

    /// Whether an issue with this number was there, or should have been, and is deleted or moved elsewhere.
    pub fn is_gone(&self, number: i32) -> bool {
        let index = self.corpus.github.find_issue(self.index, number);
        index.is_some_and(|index| self.corpus.github.issues[index as usize].flags & NOT_EXIST != 0)
    }

    /// Why an issue is gone, if it is.
    pub fn why_gone(&self, number: i32) -> Option<Gone> {
        let index = self.corpus.github.find_issue(self.index, number)?;
        let flags = self.corpus.github.issues[index as usize].flags;
        (flags & NOT_EXIST != 0).then(|| match GithubGoneReason::try_from((flags >> REASON) as i32) {
            Ok(GithubGoneReason::Deleted) => Gone::Deleted,
            Ok(GithubGoneReason::Transferred) => Gone::Transferred,
            Ok(GithubGoneReason::Converted) => Gone::Converted,
            Ok(GithubGoneReason::Absent) => Gone::Absent,
            Ok(GithubGoneReason::Unspecified) | Err(_) => Gone::Unknown,
        })
    }

    /// Its open pull requests whose head is a commit, by number. Takes time proportional to the issues.
    pub fn pulls_at<'s>(&self, sha: &'s str) -> impl Iterator<Item = Issue<'a>> + use<'a, 's> {
        let open = self.issues().filter(|issue| issue.is_pull_request() && !issue.is_closed());
        open.filter(move |issue| issue.pull().is_some_and(|pull| pull.head_sha == sha))
    }

    /// Up to when all issues are known, by GitHub's clock: every one that had changed before.
    pub fn issues_synced(&self) -> Option<Timestamp> {
        time(self.corpus.github.repositories[self.index as usize].issues_synced)
    }

    /// The first so many numbers under which the log has nothing, up to the highest that it has an issue under.
    pub fn missing(&self, most: usize) -> Vec<i32> {
        let known = self.corpus.github.issue_order.range((self.index, 1)..=(self.index, i32::MAX));
        let (mut missing, mut next) = (Vec::new(), 1);
        for (_, number) in known.map(|(key, _)| key) {
            missing.extend((next..*number).take(most - missing.len()));
            next = number.saturating_add(1);
            if missing.len() == most {
                break;
            }
        }
        missing
    }

    /// The numbers of the issues that are gone, in order.
    pub fn gone(&self) -> impl Iterator<Item = i32> + use<'a> {
        let (github, repository) = (&self.corpus.github, self.index);
        let all = github.issue_order.range((repository, 0)..=(repository, i32::MAX));
        all.filter(|(_, at)| github.issues[**at as usize].flags & NOT_EXIST != 0)
            .map(|((_, number), _)| *number)
    }

    /// Its labels, by id.
    pub fn labels(&self) -> impl Iterator<Item = Label<'a>> + use<'a> {
        let (corpus, repository) = (self.corpus, self.index);
        let all = corpus.github.label_order.range((repository, i64::MIN)..=(repository, i64::MAX));
        all.filter_map(move |(_, at)| label(corpus, *at))
    }

    /// Its milestones, by id.
    pub fn milestones(&self) -> impl Iterator<Item = Milestone<'a>> + use<'a> {
        let (corpus, repository) = (self.corpus, self.index);
        let all = corpus.github.milestone_order.range((repository, i64::MIN)..=(repository, i64::MAX));
        all.filter_map(move |(_, at)| milestone(corpus, *at))
    }
}

impl<'a> Issue<'a> {
    /// One that may not exist, or of which not all was told.
    pub(super) fn any(corpus: &'a Corpus, repository: u32, number: i32) -> Option<Self> {
        Some(Self { corpus, index: corpus.github.find_issue(repository, number)? })
    }

    /// Whether it exists and somebody told when it was opened.
    pub(super) fn is_complete(&self) -> bool {
        self.row().is_complete()
    }

    /// Whether somebody told when it was opened.
    pub(super) fn is_dated(&self) -> bool {
        self.row().created != NEVER
    }

    /// Whether it does not exist.
    pub(super) fn is_gone(&self) -> bool {
        self.is(NOT_EXIST)
    }

    fn row(&self) -> &'a IssueRow {
        &self.corpus.github.issues[self.index as usize]
    }

    fn is(&self, flag: u32) -> bool {
        self.row().flags & flag != 0
    }

    /// Where it is.
    pub fn repository(&self) -> Repository<'a> {
        Repository { corpus: self.corpus, index: self.row().repository }
    }

    /// Its number in the repository.
    pub fn number(&self) -> i32 {
        self.row().number
    }

    /// GitHub's number of it among all.
    pub fn id(&self) -> i64 {
        self.row().id
    }

    /// Whether it is a pull request.
    pub fn is_pull_request(&self) -> bool {
        self.is(PULL_REQUEST)
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.is(CLOSED)
    }

    /// Whether only few may comment on it.
    pub fn is_locked(&self) -> bool {
        self.is(LOCKED)
    }

    /// Who opened it.
    pub fn user(&self) -> Option<User<'a>> {
        user(self.corpus, self.row().user)
    }

    /// Who closed it, as far as that is told.
    pub fn closed_by(&self) -> Option<User<'a>> {
        user(self.corpus, self.row().closed_by)
    }

    /// Its title.
    pub fn title(&self) -> Cow<'a, str> {
        self.corpus.payloads.text(self.row().title)
    }

    /// What it says.
    pub fn body(&self) -> Cow<'a, str> {
        self.corpus.payloads.text(self.row().body)
    }

    /// When it was opened.
    pub fn created(&self) -> Timestamp {
        Timestamp(self.row().created)
    }

    /// When GitHub last saw a change to it. Comments and edits count, renamed labels and milestones do not.
    pub fn updated(&self) -> Option<Timestamp> {
        time(self.row().updated)
    }

    /// When it was closed the last time.
    pub fn closed_at(&self) -> Option<Timestamp> {
        time(self.row().closed_at)
    }

    /// The latest time that is told of it, of a comment or of an event.
    pub fn last_modified(&self) -> Timestamp {
        let comments = self.comments().filter_map(|comment| comment.updated().max(comment.created()));
        let events = self.events().next_back().and_then(|event| event.created());
        comments.chain(events).chain(self.updated()).max().unwrap_or(self.created())
    }

    /// Its milestone.
    pub fn milestone(&self) -> MilestoneOf<'a> {
        match self.row().milestone {
            MILESTONE_UNKNOWN => MilestoneOf::Unknown,
            MILESTONE_NONE => MilestoneOf::None,
            index => milestone(self.corpus, index - 2).map_or(MilestoneOf::Unknown, MilestoneOf::Some),
        }
    }

    /// Its labels, by id.
    pub fn labels(&self) -> impl Iterator<Item = Label<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.github.lists.get(self.row().labels).iter().filter_map(move |at| label(corpus, *at))
    }

    /// Whether it has a label of this name.
    pub fn has_label(&self, name: &str) -> bool {
        self.labels().any(|label| label.name == name)
    }

    /// Who it is assigned to, the first first.
    pub fn assignees(&self) -> impl Iterator<Item = User<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.github.lists.get(self.row().assignees).iter().filter_map(move |at| user(corpus, *at + 1))
    }

    /// Its comments, by time and then id.
    pub fn comments(&self) -> impl DoubleEndedIterator<Item = Comment<'a>> + ExactSizeIterator + use<'a> {
        let corpus = self.corpus;
        let list = corpus.github.lists.get(self.row().comments);
        list.iter().map(move |at| {
            let place = *at as usize;
            Comment { corpus, place, row: &corpus.github.comments[place] }
        })
    }

    /// What happened to it, by time and then id.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = Event<'a>> + ExactSizeIterator + use<'a> {
        let corpus = self.corpus;
        let list = corpus.github.lists.get(self.row().events);
        list.iter().map(move |at| Event { corpus, row: &corpus.github.events[*at as usize] })
    }

    /// Its reviews, by time and then id.
    pub fn reviews(&self) -> impl DoubleEndedIterator<Item = Review<'a>> + ExactSizeIterator + use<'a> {
        let corpus = self.corpus;
        let list = corpus.github.lists.get(self.row().reviews);
        list.iter().map(move |at| Review { corpus, row: &corpus.github.reviews[*at as usize] })
    }

    /// Comments on its lines, if it is a pull request, in the order in which the log first told of them. Reads them
    /// from the log.
    pub fn review_comments(&self) -> impl Iterator<Item = GithubReviewComment> + use<'a> {
        let corpus = self.corpus;
        let cells = corpus.github.review_comments.get(self.row().review_comments);
        cells.iter().filter_map(|cell| GithubReviewComment::decode(corpus.payloads.get(cell.span)).ok())
    }

    /// Up to when all comments on its lines are known, by GitHub's clock.
    pub fn review_comments_synced(&self) -> Option<Timestamp> {
        time(self.row().review_comments_synced)
    }

    /// What it wants to merge where, if it is a pull request and somebody told. Reads it from the log.
    pub fn pull(&self) -> Option<GithubPull> {
        self.told(self.row().pull)
    }

    /// What checks say of the head of a pull request, or of the one before; nothing if nobody told. Reads it from the
    /// log.
    pub fn checks(&self) -> Option<GithubChecks> {
        self.told(self.row().checks)
    }

    fn told<M: prost::Message + Default>(&self, span: Span) -> Option<M> {
        let bytes = Some(self.corpus.payloads.get(span)).filter(|bytes| !bytes.is_empty())?;
        M::decode(bytes).ok()
    }

    /// When pull and checks were seen last, by GitHub's clock.
    pub fn pull_synced(&self) -> Option<Timestamp> {
        time(self.row().pull_synced)
    }

    /// Up to when all comments are known, by GitHub's clock.
    pub fn comments_synced(&self) -> Option<Timestamp> {
        time(self.row().comments_synced)
    }

    /// Up to when all events are known, by GitHub's clock.
    pub fn events_synced(&self) -> Option<Timestamp> {
        time(self.row().events_synced)
    }

    /// Up to when all reviews are known, by GitHub's clock.
    pub fn reviews_synced(&self) -> Option<Timestamp> {
        time(self.row().reviews_synced)
    }
}

impl std::fmt::Debug for Issue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let repository = self.repository();
        write!(f, "{}/{}#{} {}", repository.owner(), repository.name(), self.number(), self.title())
    }
}

impl<'a> Comment<'a> {
    /// GitHub's number of it.
    pub fn id(&self) -> i64 {
        self.row.id
    }

    /// Its place in [`Github::comments_in`]. It stays the same, whatever the log tells later.
    pub fn place(&self) -> usize {
        self.place
    }

    /// What it is about.
    pub fn issue(&self) -> Issue<'a> {
        Issue { corpus: self.corpus, index: self.row.issue }
    }

    /// Who wrote it.
    pub fn user(&self) -> Option<User<'a>> {
        user(self.corpus, self.row.user)
    }

    /// What it says.
    pub fn body(&self) -> Cow<'a, str> {
        self.corpus.payloads.text(self.row.body)
    }

    /// What it says, as it is in the log.
    pub fn body_bytes(&self) -> &'a [u8] {
        self.corpus.payloads.get(self.row.body)
    }

    /// When it was written.
    pub fn created(&self) -> Option<Timestamp> {
        time(self.row.created)
    }

    /// When it was last edited.
    pub fn updated(&self) -> Option<Timestamp> {
        time(self.row.updated)
    }
}

impl<'a> Event<'a> {
    /// All that the log says of it.
    pub fn whole(&self) -> GithubIssueEvent {
        GithubIssueEvent::decode(self.message()).unwrap_or_default()
    }

    fn message(&self) -> &'a [u8] {
        self.corpus.payloads.get(self.row.span)
    }

    fn text(&self, field: u64) -> Option<Cow<'a, str>> {
        find_bytes(self.message(), field).map(String::from_utf8_lossy)
    }

    fn number(&self, field: u64) -> i64 {
        number(self.message(), field)
    }

    /// GitHub's number of it. Later events may have lower ones.
    pub fn id(&self) -> i64 {
        self.row.id
    }

    /// What kind of thing: `labeled`, `closed`, …; GitHub adds more.
    pub fn kind(&self) -> &'a str {
        self.corpus.github_strings.text(self.row.kind)
    }

    /// The number of the user who did it.
    pub fn actor(&self) -> Option<i64> {
        Some(self.row.actor).filter(|id| *id != 0)
    }

    /// When.
    pub fn created(&self) -> Option<Timestamp> {
        time(self.row.created)
    }

    /// The name of the label that was added or removed.
    pub fn label(&self) -> Option<Cow<'a, str>> {
        find_bytes(find_bytes(self.message(), 5)?, 2).map(String::from_utf8_lossy)
    }

    /// The title of the milestone.
    pub fn milestone(&self) -> Option<Cow<'a, str>> {
        find_bytes(find_bytes(self.message(), 6)?, 2).map(String::from_utf8_lossy)
    }

    /// Who was assigned or unassigned.
    pub fn assignment(&self) -> Option<Assignment> {
        let (assignee, assigner) = (self.number(7), self.number(8));
        (assignee != 0).then_some(Assignment { assignee, assigner })
    }

    /// The commit that closed or mentioned it: owner, repository and hash.
    pub fn commit(&self) -> Option<(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>)> {
        let commit = find_bytes(self.message(), 9)?;
        let text = |field| find_bytes(commit, field).map(String::from_utf8_lossy);
        Some((text(1)?, text(2)?, text(3)?))
    }

    /// What the event says beyond what is modelled, as JSON.
    pub fn other_json(&self) -> Option<&'a [u8]> {
        find_bytes(self.message(), 10)
    }

    /// The title before and after.
    pub fn rename(&self) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
        Some((self.text(11)?, self.text(12)?))
    }

    /// The number of the user who is to review, or no longer, and of the one who asked.
    pub fn review_request(&self) -> Option<(i64, i64)> {
        let (reviewer, requester) = (self.number(13), self.number(14));
        (reviewer != 0 || requester != 0).then_some((reviewer, requester))
    }

    /// The review that was dismissed: its number, its state and why.
    pub fn dismissed_review(&self) -> Option<(i64, Cow<'a, str>, Cow<'a, str>)> {
        let dismissed = find_bytes(self.message(), 15)?;
        let text = |field| find_bytes(dismissed, field).map(String::from_utf8_lossy).unwrap_or_default();
        Some((number(dismissed, 1), text(4), text(3)))
    }

    /// The team that is to review.
    pub fn team_reviewer(&self) -> Option<Team<'a>> {
        let team = find_bytes(self.message(), 16)?;
        let slug = find_bytes(team, 2).map(String::from_utf8_lossy).unwrap_or_default();
        Some(Team { id: number(team, 1), slug })
    }
}

fn number(message: &[u8], field: u64) -> i64 {
    let mut fields = Fields(message);
    let mut found = 0;
    while let Ok(Some((at, value))) = fields.next() {
        if at == field {
            found = value.number().unwrap_or(0);
        }
    }
    found
}

impl<'a> Review<'a> {
    /// All that the log says of it.
    pub fn whole(&self) -> GithubReview {
        GithubReview::decode(self.corpus.payloads.get(self.row.span)).unwrap_or_default()
    }

    fn text(&self, field: u64) -> Cow<'a, str> {
        let message = self.corpus.payloads.get(self.row.span);
        find_bytes(message, field).map(String::from_utf8_lossy).unwrap_or_default()
    }

    /// GitHub's number of it.
    pub fn id(&self) -> i64 {
        self.row.id
    }

    /// The number of the user who wrote it.
    pub fn actor(&self) -> Option<i64> {
        Some(self.row.actor).filter(|id| *id != 0)
    }

    /// When.
    pub fn created(&self) -> Option<Timestamp> {
        time(self.row.created)
    }

    /// `APPROVED`, `COMMENTED`, …
    pub fn state(&self) -> &'a str {
        self.corpus.github_strings.text(self.row.state)
    }

    /// What it says.
    pub fn body(&self) -> Cow<'a, str> {
        self.text(4)
    }

    /// The hash of the commit it is about.
    pub fn commit(&self) -> Cow<'a, str> {
        self.text(6)
    }

    /// What the author is to the repository, such as `CONTRIBUTOR`.
    pub fn association(&self) -> Cow<'a, str> {
        self.text(7)
    }

    /// What the review says beyond what is modelled, as JSON.
    pub fn other_json(&self) -> Option<&'a [u8]> {
        find_bytes(self.corpus.payloads.get(self.row.span), 8)
    }
}
