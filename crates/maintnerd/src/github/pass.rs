//! One look at a repository: what has changed, and what belongs to it.

mod audit;
mod details;
mod gone;
mod pull;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::maintpb::{GithubIssueMutation, GithubMutation, Mutation};
use github::{Client, Error, Fetched, Reply, segment};
use maintner::{
    Corpus,
    core::diff::{self, SeenIssue},
    log::AppendError,
};
use serde_json::Value;
use tokio::time::Instant;
use types::Timestamp;

use super::{
    GithubRepository,
    lists::{self, PER_PAGE, Page},
    parse::{self, ParseError},
    wakes::Wakes,
};
use crate::ledger::Ledger;

/// Lists are asked for from a little earlier on: GitHub may show a change a moment late.
const OVERLAP: Duration = Duration::from_mins(1);
/// Numbers without an issue that are looked at in one pass.
const GAPS: usize = 500;
/// When so many things in a row cannot be read, it is not about them.
const FAILURES: u32 = 3;

/// A pass came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Github(#[from] Error),
    /// The log takes no more: this process cannot go on.
    #[error("cannot append to the mutation log")]
    Append(#[from] AppendError),
    #[error("`{0}` is not at GitHub, or not for this token to see")]
    NoRepository(String),
    #[error("`{known}` is `{now}` now: correct `github` in farm.toml")]
    Renamed { known: String, now: String },
    #[error("`{0}` has no issues: they are disabled at GitHub")]
    NoIssues(String),
}

impl PassError {
    /// How long GitHub asks to wait, if it does.
    pub(super) fn limited(&self) -> Option<Duration> {
        match self {
            Self::Github(Error::Limited { after }) => Some(*after),
            _ => None,
        }
    }

    /// Whether it may be about one thing only, so that others can be read.
    fn is_of_one(&self) -> bool {
        match self {
            Self::Github(error) => {
                !matches!(error, Error::Limited { .. } | Error::Unauthorized(_) | Error::Token { .. })
            }
            Self::Append(error) => matches!(error, AppendError::TooLarge { .. }),
            _ => false,
        }
    }
}

/// How many comments GitHub says that an issue has, and when.
#[derive(Debug, Clone, Copy)]
struct Count {
    comments: usize,
    date: Timestamp,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How much was new.
    pub(super) news: u64,
    /// The first thing that could not be read; others were.
    pub(super) problem: Option<String>,
    /// There is more to read, or something changed in the second in which it was read.
    pub(super) again: bool,
    /// Something else is wanted at once: the rest comes after that.
    pub(super) interrupted: bool,
    /// How many mutations said of what is known something else than the log.
    drift: u64,
}

/// Reads one repository. What it remembers saves requests, and no more.
pub(super) struct Reader {
    repository: Arc<GithubRepository>,
    client: Client,
    ledger: Arc<Ledger>,
    /// The repository itself, as it was last.
    itself: Option<String>,
    labels: Vec<Page>,
    milestones: Vec<Page>,
    /// The first page of the last list of issues: its path and etag.
    head: Option<(String, String)>,
    counts: BTreeMap<i32, Count>,
    /// Issues whose time of change lies in the future, by GitHub's own clock, and that time: what belongs to them was
    /// read, although it can never be later than that.
    settled: BTreeMap<i32, Timestamp>,
    checked: pull::Checked,
    wakes: Arc<Wakes>,
    /// When something that is expected is to be looked at.
    pub(super) until: Option<Instant>,
    /// The issue that the auditor looked at last; none before the first.
    audited: Option<i32>,
    failures: u32,
    outcome: Outcome,
}

impl Reader {
    pub(super) fn new(
        repository: Arc<GithubRepository>,
        client: Client,
        ledger: Arc<Ledger>,
        wakes: Arc<Wakes>,
    ) -> Self {
        Self {
            repository,
            client,
            ledger,
            itself: None,
            labels: Vec::new(),
            milestones: Vec::new(),
            head: None,
            counts: BTreeMap::new(),
            settled: BTreeMap::new(),
            checked: pull::Checked::default(),
            wakes,
            until: None,
            audited: None,
            failures: 0,
            outcome: Outcome::default(),
        }
    }

    /// Brings all that has changed since the last pass into the log. `direct` does not trust that GitHub knows what it
    /// was asked before: an event is told before its caches know of it.
    pub(super) async fn pass(&mut self, direct: bool) -> Result<Outcome, PassError> {
        self.begin();
        self.check_itself(direct).await?;
        self.labels_and_milestones().await?;
        self.issues(direct).await?;
        if !self.outcome.interrupted {
            self.gaps().await?;
        }
        if !self.outcome.interrupted {
            self.details().await?;
        }
        if !self.outcome.interrupted {
            self.unfinished_checks().await?;
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Whether something is to be looked at before the rest of this.
    fn is_wanted_elsewhere(&self) -> bool {
        self.wakes.any() || self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Ends a pass early if something else is wanted: it is asked after each step, and the next pass goes on there.
    fn is_interrupted(&mut self) -> bool {
        self.outcome.interrupted |= self.is_wanted_elsewhere();
        self.outcome.interrupted
    }

    /// Reads one issue, and what belongs to it if it has changed.
    pub(super) async fn one(&mut self, number: i32) -> Result<Outcome, PassError> {
        self.begin();
        self.look(number).await?;
        if self.is_stale(number).await {
            self.details_of(number).await?;
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Whether what was done last brought something, also if it failed then.
    pub(super) fn has_news(&self) -> bool {
        self.outcome.news > 0
    }

    fn begin(&mut self) {
        self.outcome = Outcome::default();
        self.failures = 0;
    }

    /// The path of the repository.
    fn base(&self) -> String {
        format!("/repos/{}/{}", segment(&self.repository.owner), segment(&self.repository.name))
    }

    /// Appends what is new.
    async fn append(&mut self, news: impl FnOnce(&Corpus) -> Vec<Mutation>) -> Result<(), PassError> {
        let (mut count, mut drift) = (0, 0);
        let counted = |corpus: &Corpus| {
            let mutations = news(corpus);
            count = mutations.iter().filter(|mutation| is_news(mutation)).count() as u64;
            drift = mutations.iter().filter(|mutation| audit::is_drift(mutation)).count() as u64;
            mutations
        };
        self.ledger.append_news(counted).await?;
        self.outcome.news += count;
        self.outcome.drift += drift;
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        self.outcome.problem.get_or_insert(problem);
    }

    /// What cannot be read does not keep us from the rest, unless nothing can.
    fn isolate(&mut self, number: i32, result: Result<(), PassError>) -> Result<(), PassError> {
        match result {
            Ok(()) => self.failures = 0,
            Err(error) if error.is_of_one() && self.failures + 1 < FAILURES => {
                self.failures += 1;
                self.problem(format!("issue {number}: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sees that the repository is there, under its name, and shows issues: only then does it mean something that one
    /// of them is not shown.
    async fn check_itself(&mut self, direct: bool) -> Result<(), PassError> {
        let key = self.repository.key();
        let etag = self.itself.take().filter(|_| !direct);
        let reply = match self.client.get(&self.base(), etag.as_deref()).await {
            Ok(Fetched::Same) => {
                self.itself = etag;
                return Ok(());
            }
            Ok(Fetched::New(reply)) => reply,
            Err(error) if error.is_gone() => return Err(PassError::NoRepository(key)),
            Err(Error::Moved { to }) => {
                let now = self.client.fetch(&to).await?.json()?;
                let now = now["full_name"].as_str().unwrap_or(&to).to_owned();
                return Err(PassError::Renamed { known: key, now });
            }
            Err(error) => return Err(error.into()),
        };
        let shown = reply.json()?;
        match shown["full_name"].as_str() {
            Some(now) if !now.eq_ignore_ascii_case(&key) => {
                return Err(PassError::Renamed { known: key, now: now.to_owned() });
            }
            Some(_) => {}
            None => return Err(Error::Failed("the answer is no repository".into()).into()),
        }
        if shown["has_issues"] == Value::Bool(false) {
            return Err(PassError::NoIssues(key));
        }
        self.itself = reply.etag;
        Ok(())
    }

    /// Renamed labels and milestones change no issue: these lists alone tell.
    async fn labels_and_milestones(&mut self) -> Result<(), PassError> {
        let labels = self.base() + "/labels";
        if !lists::is_same(&self.client, &self.labels).await? {
            self.labels.clear();
            let (seen, pages) = self.whole_twice(&labels, parse::label, |label| label.id).await?;
            let repository = Arc::clone(&self.repository);
            self.append(|corpus| of_repository(diff::repository(corpus, repository.at(), Some(&seen), None)))
                .await?;
            self.labels = pages;
        }
        let milestones = self.base() + "/milestones?state=all";
        if !lists::is_same(&self.client, &self.milestones).await? {
            self.milestones.clear();
            let (seen, pages) = self.whole_twice(&milestones, parse::milestone, |one| one.id).await?;
            let repository = Arc::clone(&self.repository);
            self.append(|corpus| of_repository(diff::repository(corpus, repository.at(), None, Some(&seen))))
                .await?;
            self.milestones = pages;
        }
        Ok(())
    }

    /// A list of which what is not there is deleted. One of several pages is read twice, since a thing that is deleted
    /// meanwhile moves another from one page to the one before, where nobody looks any more.
    async fn whole_twice<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Value) -> Result<T, ParseError>,
        id: impl Fn(&T) -> i64,
    ) -> Result<(Vec<T>, Vec<Page>), PassError> {
        let first = lists::whole(&self.client, path, 1).await?;
        let mut items = first.items;
        let mut pages = first.pages;
        if pages.len() > 1 {
            let second = lists::whole(&self.client, path, 1).await?;
            // The later word counts.
            items.splice(0..0, second.items);
            pages = second.pages;
        }
        let (mut seen, mut ids) = (Vec::new(), BTreeSet::new());
        for item in &items {
            // One that makes no sense might be taken for deleted: so all wait.
            let one = parse(item).map_err(|error| Error::Failed(format!("`{path}`: {error}")))?;
            if ids.insert(id(&one)) {
                seen.push(one);
            }
        }
        Ok((seen, pages))
    }

    async fn synced(&self) -> Option<Timestamp> {
        let corpus = self.ledger.corpus().await;
        corpus.github().repository(&self.repository.owner, &self.repository.name)?.issues_synced()
    }

    fn list_path(&self, since: Option<Timestamp>) -> String {
        let path = format!("{}/issues?state=all&sort=updated&direction=asc&per_page={PER_PAGE}", self.base());
        match since.and_then(query_time) {
            Some(since) => lists::with(&path, &format!("since={since}")),
            None => path,
        }
    }

    /// Brings all issues that have changed, those first that changed first: so what is in the log is always all up to
    /// some time. The next page is asked for by the time of the last issue on this one, and not by its number: whatever
    /// moves meanwhile, moves to the end.
    async fn issues(&mut self, direct: bool) -> Result<(), PassError> {
        let mut since = self.synced().await.map(|at| at - OVERLAP);
        let mut path = self.list_path(since);
        let head = self.head.take().filter(|(known, _)| *known == path && !direct);
        let (mut asked, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut etag = head.as_ref().map(|(_, etag)| etag.clone());
        loop {
            let reply = match self.client.get(&path, etag.take().as_deref()).await? {
                Fetched::New(reply) => reply,
                Fetched::Same => {
                    self.head = head;
                    return Ok(());
                }
            };
            let count = lists::items(&reply)?.len();
            let mut page = self.read_page(&reply)?;
            let last = page.iter().map(|issue| issue.updated).max();
            // A time that has not come yet would hide all that changes before.
            let until = page.iter().map(|issue| issue.updated).filter(|at| *at <= reply.date).max();
            page.retain(|issue| seen.insert((issue.number, issue.updated)));
            self.append_page(&page, until).await?;
            if self.is_interrupted() {
                return Ok(());
            }
            asked.insert(path.clone());
            let full = count >= PER_PAGE;
            if asked.len() == 1
                && !full
                && let Some(etag) = reply.etag.clone()
            {
                self.head = Some((path.clone(), etag));
            }
            let on = last
                .filter(|last| since.is_none_or(|since| *last > since))
                .filter(|_| full || reply.next.is_some());
            let by_time =
                on.map(|on| (Some(on), self.list_path(Some(on)))).filter(|(_, path)| !asked.contains(path));
            let by_link = || reply.next.clone().filter(|_| count > 0).map(|next| (since, next));
            match by_time.or_else(by_link) {
                Some((_, next)) if asked.contains(&next) => {
                    return Err(Error::Failed("the pages of issues lead round in circles".into()).into());
                }
                Some(next) => (since, path) = next,
                None => return Ok(()),
            }
        }
    }

    /// The issues on a page. One that makes no sense is left out, and told.
    fn read_page(&mut self, reply: &Reply) -> Result<Vec<SeenIssue>, PassError> {
        let mut page = Vec::new();
        for item in lists::items(reply)? {
            match parse::issue(&item) {
                Ok((seen, comments)) => {
                    self.counted(seen.number, comments, reply.date);
                    page.push(seen);
                }
                Err(error) => self.problem(format!("issue {} makes no sense: {error}", item["number"])),
            }
        }
        Ok(page)
    }

    fn counted(&mut self, number: i32, comments: Option<usize>, date: Timestamp) {
        if let Some(comments) = comments {
            self.counts.insert(number, Count { comments, date });
        }
    }

    async fn append_page(&mut self, page: &[SeenIssue], until: Option<Timestamp>) -> Result<(), PassError> {
        let repository = Arc::clone(&self.repository);
        self.append(|corpus| {
            let at = repository.at();
            let issues = page.iter().filter_map(|seen| diff::issue(corpus, at, seen)).map(of_issue);
            let synced = until.and_then(|until| diff::issues_synced(corpus, at, until));
            issues.chain(synced.map(of_github)).collect()
        })
        .await
    }

    /// Looks at the numbers that no list has shown: each is something that is gone, or a discussion.
    async fn gaps(&mut self) -> Result<(), PassError> {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let missing = known.map(|known| known.missing(GAPS)).unwrap_or_default();
        drop(corpus);
        self.outcome.again |= missing.len() == GAPS;
        for number in missing {
            let looked = self.look(number).await;
            self.isolate(number, looked)?;
            if self.is_interrupted() {
                break;
            }
        }
        Ok(())
    }

    /// Brings an issue as it is now, or that it is gone.
    async fn look(&mut self, number: i32) -> Result<(), PassError> {
        let reply = match self.client.fetch(&format!("{}/issues/{number}", self.base())).await {
            Ok(reply) => reply,
            Err(error @ (Error::Gone { .. } | Error::Moved { .. })) => {
                return self.vanished(number, error).await;
            }
            Err(error) => return Err(error.into()),
        };
        let (seen, comments) = parse::issue(&reply.json()?)
            .map_err(|error| Error::Failed(format!("the answer is no issue: {error}")))?;
        if seen.number != number {
            return Err(Error::Failed(format!("the answer is about issue {}", seen.number)).into());
        }
        self.counted(number, comments, reply.date);
        self.append_page(&[seen], None).await
    }
}

/// A time as a query takes it.
fn query_time(at: Timestamp) -> Option<String> {
    Some(jiff::Timestamp::from_second(at.seconds()).ok()?.to_string())
}

fn of_issue(issue: GithubIssueMutation) -> Mutation {
    Mutation { github_issue: Some(issue), ..Mutation::default() }
}

fn of_github(github: GithubMutation) -> Mutation {
    Mutation { github: Some(github), ..Mutation::default() }
}

fn of_repository((issues, said): (Vec<GithubIssueMutation>, Option<GithubMutation>)) -> Vec<Mutation> {
    issues.into_iter().map(of_issue).chain(said.map(of_github)).collect()
}

/// Whether a mutation says more than up to when something is known.
fn is_news(mutation: &Mutation) -> bool {
    let issue = mutation.github_issue.clone().is_some_and(|mut issue| {
        (issue.comment_status, issue.event_status, issue.review_status) = (None, None, None);
        (issue.review_comment_status, issue.pull_status) = (None, None);
        issue != blank(&issue)
    });
    let github = mutation.github.clone().is_some_and(|mut github| {
        github.issue_status = None;
        let (owner, repo) = (github.owner.clone(), github.repo.clone());
        github != GithubMutation { owner, repo, ..GithubMutation::default() }
    });
    issue || github
}

fn blank(issue: &GithubIssueMutation) -> GithubIssueMutation {
    let (owner, repo, number) = (issue.owner.clone(), issue.repo.clone(), issue.number);
    GithubIssueMutation { owner, repo, number, ..GithubIssueMutation::default() }
}
