//! Mutations of GitHub.

use types::Timestamp;

use super::{Batch, GithubStep, Part, Payload, since};
use crate::core::{
    github::ReviewCommentCell,
    payloads::Span,
    strings::{Name, Texts},
    wire::{DecodeError, Fields, Value},
};

/// A user that is named.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserDraft<'a> {
    pub(crate) id: i64,
    pub(crate) login: Name<'a>,
}

/// What is said of an issue. What is not said stays as it is.
#[derive(Debug, Clone)]
pub(crate) struct IssueDraft<'a> {
    pub(crate) owner: Name<'a>,
    pub(crate) repository: Name<'a>,
    pub(crate) number: i32,
    pub(crate) id: i64,
    pub(crate) not_exist: bool,
    /// Why not: a `GithubGoneReason`.
    pub(crate) gone: u32,
    pub(crate) pull_request: bool,
    pub(crate) user: Option<UserDraft<'a>>,
    pub(crate) closed_by: Option<UserDraft<'a>>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) title: Option<Span>,
    pub(crate) body: Option<Span>,
    pub(crate) closed: Option<bool>,
    pub(crate) locked: Option<bool>,
    pub(crate) no_milestone: bool,
    pub(crate) milestone: MilestoneDraft<'a>,
    pub(crate) assignees: Part,
    pub(crate) deleted_assignees: Part,
    pub(crate) add_labels: Part,
    pub(crate) remove_labels: Part,
    pub(crate) comments: Part,
    pub(crate) deleted_comments: Part,
    pub(crate) events: Part,
    pub(crate) reviews: Part,
    pub(crate) review_comments: Part,
    pub(crate) deleted_review_comments: Part,
    pub(crate) review_comments_synced: Option<Timestamp>,
    /// A `GithubPull`.
    pub(crate) pull: Option<Span>,
    /// A `GithubChecks`.
    pub(crate) checks: Option<Span>,
    pub(crate) pull_synced: Option<Timestamp>,
    pub(crate) comments_synced: Option<Timestamp>,
    pub(crate) events_synced: Option<Timestamp>,
    pub(crate) reviews_synced: Option<Timestamp>,
}

/// What is said of a milestone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MilestoneDraft<'a> {
    pub(crate) id: i64,
    pub(crate) number: i64,
    pub(crate) title: Name<'a>,
    pub(crate) closed: Option<bool>,
}

/// What is said of a comment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommentDraft<'a> {
    pub(crate) id: i64,
    pub(crate) user: Option<UserDraft<'a>>,
    pub(crate) body: Option<Span>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) updated: Option<Timestamp>,
}

/// Something that happened to an issue. The rest is read again when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventDraft<'a> {
    pub(crate) id: i64,
    pub(crate) kind: Name<'a>,
    pub(crate) actor: i64,
    pub(crate) created: Option<Timestamp>,
    pub(crate) span: Span,
}

/// A review of a pull request. The rest is read again when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReviewDraft<'a> {
    pub(crate) id: i64,
    pub(crate) actor: i64,
    pub(crate) state: Name<'a>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) span: Span,
}

/// What is said of a repository: milestones are in [`RepositoryDraft::milestones`], labels in the batch.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryDraft<'a> {
    pub(crate) owner: Name<'a>,
    pub(crate) repository: Name<'a>,
    pub(crate) labels: Part,
    pub(crate) milestones: Vec<MilestoneDraft<'a>>,
    pub(crate) deleted_labels: Vec<i64>,
    pub(crate) deleted_milestones: Vec<i64>,
    pub(crate) issues_synced: Option<Timestamp>,
}

fn empty<'a>() -> Name<'a> {
    Name::new(b"")
}

impl RepositoryDraft<'_> {
    fn new() -> Self {
        Self {
            owner: empty(),
            repository: empty(),
            labels: 0..0,
            milestones: Vec::new(),
            deleted_labels: Vec::new(),
            deleted_milestones: Vec::new(),
            issues_synced: None,
        }
    }
}

impl<'a> IssueDraft<'a> {
    fn new() -> Self {
        Self {
            owner: empty(),
            repository: empty(),
            number: 0,
            id: 0,
            not_exist: false,
            gone: 0,
            pull_request: false,
            user: None,
            closed_by: None,
            created: None,
            updated: None,
            closed_at: None,
            title: None,
            body: None,
            closed: None,
            locked: None,
            no_milestone: false,
            milestone: MilestoneDraft { id: 0, number: 0, title: empty(), closed: None },
            assignees: 0..0,
            deleted_assignees: 0..0,
            add_labels: 0..0,
            remove_labels: 0..0,
            comments: 0..0,
            deleted_comments: 0..0,
            events: 0..0,
            reviews: 0..0,
            review_comments: 0..0,
            deleted_review_comments: 0..0,
            review_comments_synced: None,
            pull: None,
            checks: None,
            pull_synced: None,
            comments_synced: None,
            events_synced: None,
            reviews_synced: None,
        }
    }

    /// Fields that are told once. Answers whether this was one.
    fn set(
        &mut self,
        texts: &mut Texts<'a>,
        payload: Payload<'_>,
        number: u64,
        value: &'a [u8],
    ) -> Result<bool, DecodeError> {
        match number {
            1 => self.owner = texts.name(value),
            2 => self.repository = texts.name(value),
            4 => self.user = Some(user(texts, value)?),
            5 => self.created = Some(timestamp(value)?),
            6 => self.updated = Some(timestamp(value)?),
            // An empty one says nothing: that a body was emptied can only be said by the other field.
            7 if !value.is_empty() && self.body.is_none() => self.body = Some(payload.span(value)),
            9 if !value.is_empty() => self.title = Some(payload.span(value)),
            14 => self.comments_synced = status(value)?,
            18 => self.milestone.title = texts.name(value),
            19 => self.closed = Some(bool_change(value)?),
            21 => self.closed_at = Some(timestamp(value)?),
            22 => self.closed_by = Some(user(texts, value)?),
            25 => self.locked = Some(bool_change(value)?),
            27 => self.events_synced = status(value)?,
            30 => self.reviews_synced = status(value)?,
            31 => self.body = Some(payload.span(text_change(value)?)),
            100 => self.gone = gone(value)?,
            104 => self.review_comments_synced = status(value)?,
            105 => self.pull = Some(whole(payload, value)?),
            106 => self.pull_synced = status(value)?,
            107 => self.checks = Some(whole(payload, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_number(&mut self, number: u64, value: i64) {
        match number {
            3 => self.number = value as i32,
            12 => self.id = value,
            13 => self.not_exist = value != 0,
            15 => self.no_milestone = value != 0,
            16 => self.milestone.id = value,
            17 => self.milestone.number = value,
            28 => self.pull_request = value != 0,
            _ => {}
        }
    }
}

impl<'a> Batch<'a> {
    pub(super) fn add_issue(&mut self, payload: Payload<'a>, message: &'a [u8]) -> Result<(), DecodeError> {
        let mut issue = IssueDraft::new();
        let (comments, events, reviews) = (self.comments.len(), self.events.len(), self.reviews.len());
        let (users, labels, numbers) = (self.users.len(), self.labels.len(), self.numbers.len());
        // Numbers of several kinds may alternate, which no writer does: each kind comes after the one before.
        let (mut removed, mut deleted, mut unsaid) = (Vec::new(), Vec::new(), Vec::new());
        let review_comments = self.review_comments.len();
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (11, _) => repeated(value, |id| self.numbers.push(id))?,
                (23, _) => repeated(value, |id| removed.push(id))?,
                (101, _) => repeated(value, |id| deleted.push(id))?,
                (103, _) => repeated(value, |id| unsaid.push(id))?,
                (_, Value::Bytes(bytes)) => match number {
                    8 => self.comments.push(comment(&mut self.github_texts, payload, bytes)?),
                    10 => self.users.push(user(&mut self.github_texts, bytes)?),
                    24 => self.labels.push(label(&mut self.github_texts, bytes)?),
                    26 => self.events.push(event(&mut self.github_texts, payload, bytes)?),
                    29 => self.reviews.push(review(&mut self.github_texts, payload, bytes)?),
                    102 => self.review_comments.push(review_comment(payload, bytes)?),
                    _ => issue.set(&mut self.github_texts, payload, number, bytes).map(|_| ())?,
                },
                (_, Value::Number(value)) => issue.set_number(number, value as i64),
                _ => {}
            }
        }
        issue.deleted_assignees = since(&self.numbers, numbers);
        let start = self.numbers.len();
        self.numbers.extend(removed);
        issue.remove_labels = since(&self.numbers, start);
        let start = self.numbers.len();
        self.numbers.extend(deleted);
        issue.deleted_comments = since(&self.numbers, start);
        let start = self.numbers.len();
        self.numbers.extend(unsaid);
        issue.deleted_review_comments = since(&self.numbers, start);
        issue.review_comments = since(&self.review_comments, review_comments);
        issue.assignees = since(&self.users, users);
        issue.add_labels = since(&self.labels, labels);
        issue.comments = since(&self.comments, comments);
        issue.events = since(&self.events, events);
        issue.reviews = since(&self.reviews, reviews);
        if issue.number <= 0 || issue.owner.bytes.is_empty() || issue.repository.bytes.is_empty() {
            self.malformed();
        } else {
            self.github_steps.push(GithubStep::Issue(self.issues.len() as u32));
            self.issues.push(issue);
        }
        Ok(())
    }

    pub(super) fn add_repository(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let labels = self.labels.len();
        let mut draft = RepositoryDraft::new();
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => draft.owner = self.github_texts.name(value.bytes()?),
                2 => draft.repository = self.github_texts.name(value.bytes()?),
                3 => self.labels.push(label(&mut self.github_texts, value.bytes()?)?),
                4 => draft.milestones.push(milestone(&mut self.github_texts, value.bytes()?)?),
                100 => draft.issues_synced = status(value.bytes()?)?,
                101 => repeated(value, |id| draft.deleted_labels.push(id))?,
                102 => repeated(value, |id| draft.deleted_milestones.push(id))?,
                _ => {}
            }
        }
        draft.labels = since(&self.labels, labels);
        if draft.owner.bytes.is_empty() || draft.repository.bytes.is_empty() {
            self.malformed();
        } else {
            self.github_steps.push(GithubStep::Repository(self.repositories.len() as u32));
            self.repositories.push(draft);
        }
        Ok(())
    }
}

/// Numbers that repeat: one for each field, or packed into one.
fn repeated(value: Value<'_>, mut tell: impl FnMut(i64)) -> Result<(), DecodeError> {
    match value {
        Value::Bytes(packed) => {
            let mut fields = Fields(packed);
            while !fields.0.is_empty() {
                tell(fields.varint()? as i64);
            }
        }
        _ => tell(value.number()?),
    }
    Ok(())
}

pub(crate) fn timestamp(message: &[u8]) -> Result<Timestamp, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => seconds = value.number()?,
            2 => nanos = value.number()? as i32,
            _ => {}
        }
    }
    Ok(Timestamp::from_parts(seconds, nanos))
}

/// Why an issue is gone.
fn gone(message: &[u8]) -> Result<u32, DecodeError> {
    Ok(u32::try_from(first_number(message)?).unwrap_or(0))
}

fn status(message: &[u8]) -> Result<Option<Timestamp>, DecodeError> {
    let mut date = None;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            date = Some(timestamp(value.bytes()?)?);
        }
    }
    Ok(date)
}

fn bool_change(message: &[u8]) -> Result<bool, DecodeError> {
    let mut changed = false;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            changed = value.bool()?;
        }
    }
    Ok(changed)
}

fn text_change(message: &[u8]) -> Result<&[u8], DecodeError> {
    let mut changed = &message[..0];
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            changed = value.bytes()?;
        }
    }
    Ok(changed)
}

fn user<'a>(texts: &mut Texts<'a>, message: &'a [u8]) -> Result<UserDraft<'a>, DecodeError> {
    let (id, login) = label(texts, message)?;
    Ok(UserDraft { id, login })
}

/// A number and a text, in this order: labels, users, teams.
fn label<'a>(texts: &mut Texts<'a>, message: &'a [u8]) -> Result<(i64, Name<'a>), DecodeError> {
    let (mut id, mut name) = (0, &b""[..]);
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.number()?,
            2 => name = value.bytes()?,
            _ => {}
        }
    }
    Ok((id, texts.name(name)))
}

fn milestone<'a>(texts: &mut Texts<'a>, message: &'a [u8]) -> Result<MilestoneDraft<'a>, DecodeError> {
    let mut draft = MilestoneDraft { id: 0, number: 0, title: empty(), closed: None };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => draft.id = value.number()?,
            2 => draft.title = texts.name(value.bytes()?),
            3 => draft.closed = Some(bool_change(value.bytes()?)?),
            4 => draft.number = value.number()?,
            _ => {}
        }
    }
    Ok(draft)
}

fn comment<'a>(
    texts: &mut Texts<'a>,
    payload: Payload<'_>,
    message: &'a [u8],
) -> Result<CommentDraft<'a>, DecodeError> {
    let mut draft = CommentDraft { id: 0, user: None, body: None, created: None, updated: None };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => draft.id = value.number()?,
            2 => draft.user = Some(user(texts, value.bytes()?)?),
            3 => {
                let body = Some(value.bytes()?).filter(|body| !body.is_empty());
                draft.body = body.map(|body| payload.span(body));
            }
            4 => draft.created = Some(timestamp(value.bytes()?)?),
            5 => draft.updated = Some(timestamp(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(draft)
}

fn event<'a>(
    texts: &mut Texts<'a>,
    payload: Payload<'_>,
    message: &'a [u8],
) -> Result<EventDraft<'a>, DecodeError> {
    let mut draft = EventDraft { id: 0, kind: empty(), actor: 0, created: None, span: payload.span(message) };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => draft.id = value.number()?,
            2 => draft.kind = texts.name(value.bytes()?),
            3 => draft.actor = value.number()?,
            4 => draft.created = Some(timestamp(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(draft)
}

fn review<'a>(
    texts: &mut Texts<'a>,
    payload: Payload<'_>,
    message: &'a [u8],
) -> Result<ReviewDraft<'a>, DecodeError> {
    let mut draft =
        ReviewDraft { id: 0, actor: 0, state: empty(), created: None, span: payload.span(message) };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => draft.id = value.number()?,
            2 => draft.actor = value.number()?,
            3 => draft.created = Some(timestamp(value.bytes()?)?),
            5 => draft.state = texts.name(value.bytes()?),
            _ => {}
        }
    }
    Ok(draft)
}

/// All but its number is read again when it is asked for.
fn review_comment(payload: Payload<'_>, message: &[u8]) -> Result<ReviewCommentCell, DecodeError> {
    let (id, span) = (first_number(message)?, payload.span(message));
    Ok(ReviewCommentCell { id, span })
}

/// A message that is read again when it is asked for.
fn whole(payload: Payload<'_>, message: &[u8]) -> Result<Span, DecodeError> {
    let mut fields = Fields(message);
    while fields.next()?.is_some() {}
    Ok(payload.span(message))
}

/// The field with the number 1.
fn first_number(message: &[u8]) -> Result<i64, DecodeError> {
    let mut found = 0;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            found = value.number()?;
        }
    }
    Ok(found)
}
