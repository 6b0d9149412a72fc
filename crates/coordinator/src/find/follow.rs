//! Follows the mutation log. The position is stored with the builds that it led to, so each move of a ref has its
//! effect exactly once; a repeat finds the builds and makes none.

use std::{collections::BTreeMap, sync::Arc};

use api::{
    maintner::{WatchMutationsResponse, watch_mutations_response::Event},
    maintpb::Mutation,
};
use buildspec::{Purpose, Repository};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use pages::view::LiveEvent;
use runtime::SharedClock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{CommitHash, Outcome, RepositoryName};

use super::{Commit, MirrorError, Planner, Wanted, moves::Recent, tries::touched};
use crate::{
    core::{Accept, Mutation as Bug, NewBuild, RefMove, SeenCommit},
    ports::{Changes, Commits, Found, MutationLog, RecordsError, Refs},
    settings::Settings,
    shell::{Handle, Hub, Stopped},
};

/// How many commits are looked at side by side.
const SIDE_BY_SIDE: usize = 8;
/// How many commits are accepted together, so that the first of a large push begin at once.
const TOGETHER: usize = 32;
/// After so many mutations without a move the position is stored anyway.
const STORE_AFTER: usize = 5000;
/// How long to wait before a mirror that cannot be reached is asked again.
pub(super) const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why finding work cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// What is known cannot be read.
    #[error("the builds of a commit cannot be read")]
    Read(#[from] RecordsError),
    /// Shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Finds work.
pub(crate) struct Finder {
    pub(crate) mutations: Arc<dyn MutationLog>,
    pub(crate) changes: Arc<dyn Changes>,
    pub(crate) mirror: Arc<dyn Commits>,
    pub(crate) planner: Planner,
    pub(crate) settings: Settings,
    pub(crate) handle: Handle,
    pub(crate) found: Arc<dyn Found>,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
    pub(crate) mutation: Option<Bug>,
}

/// What is known of the log.
struct Position {
    refs: Refs,
    recent: Recent,
    /// False while the log is read for the first time: then only where refs end up counts.
    caught_up: bool,
    /// Mutations since the position was stored.
    unstored: usize,
}

/// Tips of branches, by repository.
type Tips = BTreeMap<RepositoryName, Vec<CommitHash>>;

/// What becomes durable with the last of some builds.
#[derive(Default)]
struct Tail {
    cursor: Option<String>,
    /// Refs that moved and are not built.
    refs: Vec<RefMove>,
}

/// A ref that has moved.
struct Moved {
    repository: RepositoryName,
    git_ref: String,
    commit: Option<CommitHash>,
}

impl Finder {
    /// Follows until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (cursor, refs) = self.found.position().await?;
        let position = Mutex::new(Position {
            refs,
            recent: Recent::default(),
            caught_up: cursor.is_some(),
            unstored: 0,
        });
        let open = |resume_token: String| {
            let mutations = Arc::clone(&self.mutations);
            async move { mutations.watch(resume_token).await }
        };
        let mut token = cursor.unwrap_or_default();
        loop {
            let handle = |response| self.handle(&position, &shutdown, response);
            let watched = rpc::watch::run("mutations", token, open, handle, shutdown.clone()).await;
            match watched {
                Err(rpc::watch::WatchError::Handler(FindError::Stopped(_))) | Ok(()) => return Ok(()),
                Err(rpc::watch::WatchError::Expired(status)) => {
                    // Another log than before. Builds that exist are found again, not repeated.
                    warn!("the mutation log does not know our position, it is read from the start: {status}");
                    token = String::new();
                    position.lock().await.caught_up = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn handle(
        &self,
        position: &Mutex<Position>,
        shutdown: &CancellationToken,
        response: WatchMutationsResponse,
    ) -> Result<Option<String>, FindError> {
        let position = &mut *position.lock().await;
        let token = response.resume_token;
        match response.event {
            Some(Event::Batch(batch)) => {
                position.unstored += batch.mutations.len();
                let changes = touched(&self.settings.farm(), &batch.mutations);
                let moves =
                    batch.mutations.into_iter().flat_map(|mutation| read(position, mutation)).collect();
                if position.caught_up {
                    // Before the position is stored: a crash in between repeats what changes nothing.
                    self.look_at(&position.recent, changes, shutdown).await?;
                    self.take(position, moves, &token, shutdown).await?;
                } else {
                    position.note(moves);
                }
            }
            Some(Event::Checkpoint(_)) if !position.caught_up => {
                self.begin(position, &token, shutdown).await?;
            }
            Some(Event::Checkpoint(_)) | None => {}
        }
        Ok(Some(token))
    }

    /// The log was read for the first time: the tips are built, not all of history.
    async fn begin(
        &self,
        position: &mut Position,
        token: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), FindError> {
        info!("the mutation log is read: {} refs", position.refs.len());
        let tips = position.refs.iter().map(|((repository, git_ref), commit)| Moved {
            repository: repository.clone(),
            git_ref: git_ref.clone(),
            commit: Some(*commit),
        });
        let (built, plain): (Vec<Moved>, Vec<Moved>) = tips.partition(|moved| self.builds(moved).is_some());
        for moved in built {
            let Some(commit) = moved.commit else { continue };
            let commits = self
                .again(shutdown, || position.recent.one(&*self.mirror, &moved.repository, commit))
                .await?;
            self.accept(&moved, commits, Tail::default(), shutdown).await?;
        }
        let refs = plain.iter().map(Moved::row).collect();
        self.handle.accept(Accept { refs, ..Accept::default() }).await?;
        self.look_at_all(&position.recent, shutdown).await?;
        position.caught_up = true;
        self.store(position, token).await
    }

    async fn store(&self, position: &mut Position, token: &str) -> Result<(), FindError> {
        position.unstored = 0;
        self.handle.accept(Accept { cursor: Some(token.to_owned()), ..Accept::default() }).await?;
        Ok(())
    }

    /// Refs have moved while we watch.
    async fn take(
        &self,
        position: &mut Position,
        moves: Vec<Moved>,
        token: &str,
        shutdown: &CancellationToken,
    ) -> Result<(), FindError> {
        if moves.is_empty() && position.unstored < STORE_AFTER {
            return Ok(());
        }
        let (built, plain): (Vec<Moved>, Vec<Moved>) =
            moves.into_iter().partition(|moved| moved.commit.is_some() && self.builds(moved).is_some());
        let has_new = built.iter().any(|moved| position.stood(moved).is_none());
        let stood = if has_new { self.tips_that_are_built(position) } else { Tips::new() };
        // What comes last carries the position, so that a crash before it repeats and loses nothing.
        let mut tail = Tail { cursor: Some(token.to_owned()), refs: plain.iter().map(Moved::row).collect() };
        position.note(plain);
        position.unstored = 0;
        let count = built.len();
        if Bug::CursorFirst.is(self.mutation) {
            self.handle.accept(Accept { cursor: tail.cursor.clone(), ..Accept::default() }).await?;
        }
        for (index, moved) in built.into_iter().enumerate() {
            let Some(commit) = moved.commit else { continue };
            let commits = self.again(shutdown, || self.new_on(position, &stood, &moved, commit)).await?;
            let tail = if index + 1 == count { std::mem::take(&mut tail) } else { Tail::default() };
            self.accept(&moved, commits, tail, shutdown).await?;
            position.note(vec![moved]);
        }
        if count == 0 {
            let Tail { cursor, refs } = tail;
            self.handle.accept(Accept { cursor, refs, ..Accept::default() }).await?;
        }
        Ok(())
    }

    /// The tips of the branches that are built, by repository. O(all refs).
    fn tips_that_are_built(&self, position: &Position) -> Tips {
        let mut tips = Tips::new();
        for ((repository, git_ref), commit) in &position.refs {
            if self.built_branch(repository, git_ref).is_some() {
                tips.entry(repository.clone()).or_default().push(*commit);
            }
        }
        tips
    }

    /// The commits that a move brings to a branch. A branch that is new brings what no branch had that was built before,
    /// given as `stood`. If there was none, the repository is new, and of all its history only tips are built.
    async fn new_on(
        &self,
        position: &Position,
        stood: &Tips,
        moved: &Moved,
        new: CommitHash,
    ) -> Result<Vec<Commit>, MirrorError> {
        let repository = &moved.repository;
        // One more than is built, to see whether there is more.
        let most = self.builds(moved).map_or(1, |repository| repository.push_builds) + 1;
        if let Some(old) = position.stood(moved) {
            return position.recent.between(&*self.mirror, repository, (old, new), most).await;
        }
        match stood.get(repository) {
            Some(others) => position.recent.beyond(&*self.mirror, repository, others, new, most).await,
            None => position.recent.one(&*self.mirror, repository, new).await,
        }
    }

    fn builds(&self, moved: &Moved) -> Option<Repository> {
        self.built_branch(&moved.repository, &moved.git_ref)
    }

    /// The repository of a branch that is built.
    fn built_branch(&self, repository: &RepositoryName, git_ref: &str) -> Option<Repository> {
        let farm = self.settings.farm();
        let repository = farm.repository(repository)?;
        let branch = git_ref.strip_prefix("refs/heads/")?;
        repository.builds_branch(branch).then(|| repository.clone())
    }

    /// Asks for the builds of commits, newest first.
    async fn accept(
        &self,
        moved: &Moved,
        commits: Vec<Commit>,
        tail: Tail,
        shutdown: &CancellationToken,
    ) -> Result<(), FindError> {
        let now = self.clock.now().0;
        self.note_size(moved, &commits);
        let seen: Vec<SeenCommit> = commits
            .iter()
            .enumerate()
            .map(|(index, commit)| SeenCommit {
                repository: moved.repository.clone(),
                git_ref: moved.git_ref.clone(),
                commit: commit.hash,
                subject: commit.subject.clone(),
                author: commit.author.clone(),
                time: commit.time,
                place: now - index as i64,
            })
            .collect();
        if let Some(repository) = self.builds(moved) {
            let looks: Vec<BoxFuture<'_, Result<Vec<NewBuild>, FindError>>> = commits
                .iter()
                .enumerate()
                .map(|(index, commit)| {
                    let too_many = index >= repository.push_builds as usize;
                    self.builds_of(&repository, moved, commit, too_many, shutdown).boxed()
                })
                .collect();
            let found = stream::iter(looks).buffered(SIDE_BY_SIDE);
            let mut found = std::pin::pin!(found.ready_chunks(TOGETHER));
            while let Some(chunk) = found.next().await {
                let builds = chunk.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
                // Whatever comes last carries the position, so that a crash in between repeats and loses nothing.
                if !builds.is_empty() && commits.len() > 1 {
                    self.handle.accept(Accept { builds, ..Accept::default() }).await?;
                } else if !builds.is_empty() {
                    return self.finish(moved, seen, builds, tail).await;
                }
            }
        }
        self.finish(moved, seen, Vec::new(), tail).await
    }

    /// Tells of a push that is too large to be built whole, and of its end when the next comes.
    fn note_size(&self, moved: &Moved, commits: &[Commit]) {
        let Some(repository) = self.builds(moved) else { return };
        let name = format!("size of a push to {} of {}", moved.git_ref, moved.repository);
        let Some(first) = commits.get(repository.push_builds as usize) else {
            return self.hub.solved(&name);
        };
        let text = format!("{} at {}: {}", moved.repository, first.hash.short(), skipped(&repository));
        warn!(repo.name = %moved.repository, "{text}");
        self.hub.problem(name, text, "`farmer build COMMIT` builds any of them", self.clock.now());
    }

    async fn finish(
        &self,
        moved: &Moved,
        commits: Vec<SeenCommit>,
        builds: Vec<NewBuild>,
        tail: Tail,
    ) -> Result<(), FindError> {
        let Tail { cursor, mut refs } = tail;
        refs.push(moved.row());
        let new_rows = !commits.is_empty();
        self.handle.accept(Accept { builds, cursor, refs, commits, ..Accept::default() }).await?;
        if new_rows {
            self.hub.tell(|| LiveEvent::Rows { repository: moved.repository.clone() });
        }
        Ok(())
    }

    /// The builds that a commit should have and has not.
    async fn builds_of(
        &self,
        repository: &Repository,
        moved: &Moved,
        commit: &Commit,
        too_many: bool,
        shutdown: &CancellationToken,
    ) -> Result<Vec<NewBuild>, FindError> {
        let ask = || async { self.planner.at(repository, commit.hash).await.map(Some) };
        let at = self.again(shutdown, ask).await?;
        // The commit has gone from the mirror since: nothing to build.
        let Some(at) = at else { return Ok(Vec::new()) };
        let wanted = Wanted { git_ref: moved.git_ref.clone(), ..Wanted::default() };
        let problem = format!("builders of {}", repository.name);
        let builds: Vec<NewBuild> = match &at.file {
            Ok(file) => {
                self.hub.solved(&problem);
                let farm = self.settings.farm();
                let chosen =
                    farm.select(&repository.name, &moved.git_ref, Purpose::Submitted, &file.builders);
                chosen
                    .into_iter()
                    .map(|builder| self.planner.build(&at, &repository.name, commit, builder, &wanted))
                    .collect()
            }
            Err(text) => {
                let shown = format!("{} at {}: {text}", repository.name, commit.hash.short());
                self.hub.problem(problem, shown, "mend it in the repository", self.clock.now());
                let shows =
                    at.has_file.then(|| self.planner.problem(&repository.name, commit, &wanted, text));
                shows.flatten().into_iter().collect()
            }
        };
        let known = self.found.known(commit.hash).await?;
        let is_new = |build: &NewBuild| {
            let key = &build.key;
            !known.contains_key(&(key.repository.clone(), key.builder.clone(), key.variant.clone()))
        };
        let new = builds.into_iter().filter(is_new);
        if too_many {
            return Ok(skip(repository, new.collect()).into_iter().filter(is_new).collect());
        }
        Ok(new.collect())
    }

    /// Asks gitmirror until it answers. What it does not have, and what it refuses, is nothing.
    pub(super) async fn again<T: Default, F: Future<Output = Result<T, MirrorError>>>(
        &self,
        shutdown: &CancellationToken,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, FindError> {
        let mut failed = false;
        loop {
            match ask().await {
                Ok(answer) => {
                    if failed {
                        self.hub.solved("gitmirror");
                    }
                    return Ok(answer);
                }
                Err(error) if error.is_transient() => {
                    if !failed {
                        warn!("work waits for gitmirror: {error}");
                        let text = format!("work waits for gitmirror: {error}");
                        self.hub.problem("gitmirror", text, "see that gitmirror runs", self.clock.now());
                    }
                    failed = true;
                }
                Err(error) => {
                    warn!("nothing is built: {error}");
                    return Ok(T::default());
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Stopped.into()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

impl Moved {
    fn row(&self) -> RefMove {
        RefMove { repository: self.repository.clone(), git_ref: self.git_ref.clone(), commit: self.commit }
    }
}

impl Position {
    /// Where a ref was before it moved.
    fn stood(&self, moved: &Moved) -> Option<CommitHash> {
        self.refs.get(&(moved.repository.clone(), moved.git_ref.clone())).copied()
    }

    fn note(&mut self, moves: Vec<Moved>) {
        for moved in moves {
            let key = (moved.repository, moved.git_ref);
            match moved.commit {
                Some(commit) => self.refs.insert(key, commit),
                None => self.refs.remove(&key),
            };
        }
    }
}

/// What is done with the first commit of a push that is too many: its builds end at once and say why, and beside them
/// there is still room for the same builds if somebody asks for them.
fn skip(repository: &Repository, builds: Vec<NewBuild>) -> Vec<NewBuild> {
    let skipped = skipped(repository);
    let skip = |mut build: NewBuild| {
        "skipped".clone_into(&mut build.key.variant);
        build.verdict = Some((Outcome::Skipped, skipped.clone()));
        build
    };
    builds.into_iter().map(skip).collect()
}

fn skipped(repository: &Repository) -> String {
    format!(
        "a push is built up to its newest {} commits (`push_builds`): this one and those before it are not",
        repository.push_builds
    )
}

/// What a mutation says to us: commits are remembered, moves are answered.
fn read(position: &mut Position, mutation: Mutation) -> Vec<Moved> {
    if let Some(commit) = mutation.git.and_then(|git| git.commit).as_ref().and_then(Commit::parse) {
        position.recent.remember(commit);
    }
    let Some(change) = mutation.repository else { return Vec::new() };
    let Ok(repository) = change.repository.parse::<RepositoryName>() else { return Vec::new() };
    let moved = change.refs.into_iter().map(|git_ref| (git_ref.r#ref, git_ref.sha1.parse().ok()));
    let gone = change.deleted_refs.into_iter().map(|name| (name, None));
    moved
        .chain(gone)
        .map(|(git_ref, commit)| Moved { repository: repository.clone(), git_ref, commit })
        .collect()
}
