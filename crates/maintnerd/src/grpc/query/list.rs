//! Lists in pages: each knows by what it is ordered, and goes on after the last that was shown.

use api::maintner::{
    Change, ChangeStatus, Comment, GetIssueRequest, GetIssueResponse, Issue, IssueKind, IssueState,
    ListChangesRequest, ListIssuesRequest, ListRefsRequest, Ref, SearchCommentsRequest,
};
use maintner::{
    Corpus,
    core::{self, Repository},
    replay::threads,
    search::comments_with_word,
};
use prost::Message;
use rpc::page::{PageToken, filter_hash, size};
use tonic::Status;
use types::{CommitHash, Timestamp};

use super::{QueryError, render};

/// The most labels in one request, so that deciding stays cheap.
pub(super) const MAX_LABELS: usize = 20;
/// A page ends before it grows beyond this, whatever was asked for: it must fit a message.
const MAX_BYTES: usize = rpc::MAX_MESSAGE / 4;

/// Which part of a list.
pub(super) struct Page {
    /// What was shown last.
    after: Option<String>,
    size: usize,
    filter: u64,
}

impl Page {
    fn parse(
        size_and_token: (i32, &str),
        usual: usize,
        most: usize,
        filter: &[&str],
    ) -> Result<Self, Status> {
        let (requested, token) = size_and_token;
        let filter = filter_hash(filter);
        let after = PageToken::decode(token, filter)?;
        Ok(Self { after, size: size(requested, usual, most)?, filter })
    }

    pub(super) fn of_refs(request: &ListRefsRequest) -> Result<Self, Status> {
        let filter = ["refs", &request.repository, &request.prefix];
        Self::parse((request.page_size, &request.page_token), 1000, 10_000, &filter)
    }

    pub(super) fn of_changes(request: &ListChangesRequest) -> Result<Self, Status> {
        let ListChangesRequest { project, status, owner, hashtag, page_size, page_token } = request;
        let filter = ["changes", project, &status.to_string(), owner, hashtag];
        Self::parse((*page_size, page_token), 100, 1000, &filter)
    }

    pub(super) fn of_issues(request: &ListIssuesRequest) -> Result<Self, Status> {
        let ListIssuesRequest { repository, state, labels, kind, updated_since, page_size, page_token } =
            request;
        let since =
            updated_since.map_or_else(String::new, |since| format!("{}.{}", since.seconds, since.nanos));
        let (state, kind) = (state.to_string(), kind.to_string());
        let mut filter = vec!["issues", repository, &state, &kind, &since];
        filter.extend(labels.iter().map(String::as_str));
        Self::parse((*page_size, page_token), 100, 1000, &filter)
    }

    pub(super) fn of_comments(request: &GetIssueRequest) -> Result<Self, Status> {
        let filter = ["comments", &request.repository, &request.number.to_string()];
        Self::parse((request.page_size, &request.page_token), 100, 1000, &filter)
    }

    pub(super) fn of_search(request: &SearchCommentsRequest) -> Result<Self, Status> {
        let filter = ["search", &request.word];
        Self::parse((request.page_size, &request.page_token), 100, 1000, &filter)
    }

    /// What was shown last, as a number.
    fn after_number<T: std::str::FromStr>(&self) -> Result<Option<T>, QueryError> {
        self.after.as_deref().map(str::parse).transpose().map_err(|_| QueryError::BadPlace)
    }

    /// So much of a list as a page holds, and the token of the next page. `place` names an object's place in the list.
    fn fill<T, M: Message>(
        &self,
        objects: impl Iterator<Item = T>,
        place: impl Fn(&T) -> String,
        render: impl Fn(&T) -> M,
    ) -> (Vec<M>, String) {
        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        for object in objects {
            if page.len() == self.size {
                return (
                    page,
                    last.map_or_else(String::new, |last| PageToken::encode(&place(&last), self.filter)),
                );
            }
            let rendered = render(&object);
            bytes += rendered.encoded_len();
            if bytes > MAX_BYTES && !page.is_empty() {
                return (
                    page,
                    last.map_or_else(String::new, |last| PageToken::encode(&place(&last), self.filter)),
                );
            }
            page.push(rendered);
            last = Some(object);
        }
        (page, String::new())
    }
}

/// The refs of a plain repository or of a project at Gerrit.
pub(super) fn refs(
    corpus: &Corpus,
    request: &ListRefsRequest,
    page: &Page,
) -> Result<(Vec<Ref>, String), QueryError> {
    let ListRefsRequest { repository, prefix, .. } = request;
    let is_wanted = |(name, _): &(&str, CommitHash)| {
        name.starts_with(prefix.as_str()) && page.after.as_deref().is_none_or(|after| *name > after)
    };
    let place = |(name, _): &(&str, CommitHash)| (*name).to_owned();
    let render =
        |(name, commit): &(&str, CommitHash)| Ref { name: (*name).to_owned(), commit: commit.to_string() };
    if let Some(project) = corpus.gerrit().project(repository) {
        return Ok(page.fill(project.refs().filter(is_wanted), place, render));
    }
    if !corpus.repositories().any(|known| known == repository) {
        return Err(QueryError::UnknownRepository(repository.clone()));
    }
    Ok(page.fill(corpus.refs(repository).filter(is_wanted), place, render))
}

/// Which changes are asked for.
pub(super) struct Changes {
    project: String,
    status: Option<core::Status>,
    owner: String,
    hashtag: String,
}

impl Changes {
    pub(super) fn parse(request: ListChangesRequest) -> Result<Self, QueryError> {
        let ListChangesRequest { project, status, owner, hashtag, .. } = request;
        let status = ChangeStatus::try_from(status).map_err(|_| QueryError::BadFilter("the status"))?;
        Ok(Self { project, status: render::status_of(status), owner, hashtag })
    }

    fn want(&self, change: &core::Change<'_>) -> bool {
        self.status.is_none_or(|status| change.status() == status)
            && (self.owner.is_empty() || change.owner() == self.owner)
            && (self.hashtag.is_empty() || change.hashtags().any(|hashtag| hashtag == self.hashtag))
    }
}

/// The changes of a project. Looks at all that are newer than the last of the page.
pub(super) fn changes(
    corpus: &Corpus,
    wanted: &Changes,
    page: &Page,
) -> Result<(Vec<Change>, String), QueryError> {
    let project = corpus.gerrit().project(&wanted.project);
    let project = project.ok_or_else(|| QueryError::UnknownRepository(wanted.project.clone()))?;
    let after: Option<u32> = page.after_number()?;
    let older = |change: &core::Change<'_>| after.is_none_or(|after| change.number() < after);
    let all = project.changes().rev().filter(older).filter(|change| wanted.want(change));
    Ok(page.fill(all, |change| change.number().to_string(), render::change))
}

/// Which issues are asked for.
pub(super) struct Issues {
    repository: String,
    closed: Option<bool>,
    pull_request: Option<bool>,
    labels: Vec<String>,
    since: Option<Timestamp>,
}

impl Issues {
    pub(super) fn parse(request: ListIssuesRequest) -> Result<Self, QueryError> {
        let ListIssuesRequest { repository, state, labels, kind, updated_since, .. } = request;
        if labels.len() > MAX_LABELS {
            return Err(QueryError::TooManyLabels(labels.len()));
        }
        let closed = match IssueState::try_from(state).map_err(|_| QueryError::BadFilter("the state"))? {
            IssueState::Unspecified => None,
            IssueState::Open => Some(false),
            IssueState::Closed => Some(true),
        };
        let pull_request = match IssueKind::try_from(kind).map_err(|_| QueryError::BadFilter("the kind"))? {
            IssueKind::Unspecified => None,
            IssueKind::Issue => Some(false),
            IssueKind::PullRequest => Some(true),
        };
        let since = updated_since.as_ref().map(rpc::from_timestamp);
        Ok(Self { repository, closed, pull_request, labels, since })
    }

    fn want(&self, issue: &core::Issue<'_>) -> bool {
        self.closed.is_none_or(|closed| issue.is_closed() == closed)
            && self.pull_request.is_none_or(|pull_request| issue.is_pull_request() == pull_request)
            && self.labels.iter().all(|label| issue.has_label(label))
            && self.since.is_none_or(|since| issue.last_modified() >= since)
    }
}

fn repository<'a>(corpus: &'a Corpus, name: &str) -> Result<Repository<'a>, QueryError> {
    let found = name.split_once('/').and_then(|(owner, name)| corpus.github().repository(owner, name));
    found.ok_or_else(|| QueryError::UnknownRepository(name.to_owned()))
}

/// The issues of a repository. Looks at all that are newer than the last of the page.
pub(super) fn issues(
    corpus: &Corpus,
    wanted: &Issues,
    page: &Page,
) -> Result<(Vec<Issue>, String), QueryError> {
    let repository = repository(corpus, &wanted.repository)?;
    let after: Option<i32> = page.after_number()?;
    let older = |issue: &core::Issue<'_>| after.is_none_or(|after| issue.number() < after);
    let all = repository.issues().rev().filter(older).filter(|issue| wanted.want(issue));
    Ok(page.fill(all, |issue| issue.number().to_string(), render::issue))
}

/// One issue, with a page of its comments.
pub(super) fn issue(
    corpus: &Corpus,
    request: GetIssueRequest,
    page: &Page,
) -> Result<GetIssueResponse, QueryError> {
    let GetIssueRequest { repository: name, number, .. } = request;
    let issue = repository(corpus, &name)?.issue(number);
    let issue = issue.ok_or(QueryError::UnknownIssue { repository: name.clone(), number })?;
    // A comment that comes late has its place by its time: it is missed by those who are past it, and nobody sees one
    // twice.
    let after = page.after.as_deref().map(place_of_comment).transpose()?;
    let time_and_id = |comment: &core::Comment<'_>| (comment.created().unwrap_or_default(), comment.id());
    let later = issue.comments().filter(|comment| after.is_none_or(|after| time_and_id(comment) > after));
    let place = |comment: &core::Comment<'_>| {
        let (time, id) = time_and_id(comment);
        format!("{}/{id}", time.0)
    };
    let (comments, next_page_token) = page.fill(later, place, render::comment);
    let changes =
        u32::try_from(number).into_iter().flat_map(|number| corpus.gerrit().changes_of_issue(&name, number));
    Ok(GetIssueResponse {
        issue: Some(render::issue(&issue)),
        body: render::cut(&issue.body()).to_owned(),
        comments,
        changes: changes.map(|change| format!("{}~{}", change.project().name(), change.number())).collect(),
        next_page_token,
        resume_token: String::new(),
        pull_request: render::pull_request(&issue),
    })
}

fn place_of_comment(text: &str) -> Result<(Timestamp, i64), QueryError> {
    let (time, id) = text.split_once('/').ok_or(QueryError::BadPlace)?;
    let number = |text: &str| text.parse().map_err(|_| QueryError::BadPlace);
    Ok((Timestamp(number(time)?), number(id)?))
}

/// A page of the comments that have a word in them, and how many there are in all.
pub(super) fn search(
    corpus: &Corpus,
    request: &SearchCommentsRequest,
    page: &Page,
) -> Result<(Vec<Comment>, u64, String), QueryError> {
    if request.word.is_empty() {
        return Err(QueryError::NoWord);
    }
    let after: Option<usize> = page.after_number()?;
    let found = comments_with_word(corpus, &request.word, threads());
    let total = found.len() as u64;
    let later = found.into_iter().filter(|comment| after.is_none_or(|after| comment.place() > after));
    let (comments, next) = page.fill(later, |comment| comment.place().to_string(), render::comment);
    Ok((comments, total, next))
}
