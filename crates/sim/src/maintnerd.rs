//! maintnerd behind its port: the mutation log, whose prefix never changes, and a stream of it that breaks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    maintner::{Checkpoint, MutationBatch, WatchMutationsResponse, watch_mutations_response::Event},
    maintpb::{BuildResult, GitCommit, GitMutation, GitRef, Mutation, RepositoryMutation},
};
use async_trait::async_trait;
use coordinator::ports::MutationLog;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::Notify;
use tonic::Status;
use types::BuildNumber;

use crate::{context::lock, coordinator::Life, fault::Fault, judge::Invariant, world::World};

/// The log.
#[derive(Default)]
pub(crate) struct Log {
    inner: Mutex<Inner>,
    grown: Notify,
}

#[derive(Default)]
struct Inner {
    /// Another history has another number.
    history: u64,
    mutations: Vec<Mutation>,
    results: BTreeMap<(u64, u32), BuildResult>,
}

impl Log {
    /// A commit becomes the tip of a branch.
    pub(crate) fn push(&self, commits: Vec<GitCommit>, repository: &str, git_ref: &str, tip: &str) {
        let mut inner = lock(&self.inner);
        for commit in commits {
            let git = GitMutation { repo: None, commit: Some(commit) };
            inner.mutations.push(Mutation { git: Some(git), ..Mutation::default() });
        }
        let moved = RepositoryMutation {
            repository: repository.to_owned(),
            refs: vec![GitRef { r#ref: git_ref.to_owned(), sha1: tip.to_owned() }],
            deleted_refs: Vec::new(),
        };
        inner.mutations.push(Mutation { repository: Some(moved), ..Mutation::default() });
        drop(inner);
        self.grown.notify_waiters();
    }

    /// Something else happens.
    pub(crate) fn add(&self, mutation: Mutation) {
        lock(&self.inner).mutations.push(mutation);
        self.grown.notify_waiters();
    }

    /// The log is another from now on: the same mutations, and no position of the old one is known.
    pub(crate) fn lose_history(&self) {
        lock(&self.inner).history += 1;
        self.grown.notify_waiters();
    }

    pub(crate) fn has_result(&self, build: BuildNumber) -> bool {
        let of = (build.0, 0)..=(build.0, u32::MAX);
        lock(&self.inner).results.range(of).next().is_some()
    }

    /// How a result is taken; the error is what is wrong with it.
    fn append(&self, result: BuildResult) -> Result<(), String> {
        let mut inner = lock(&self.inner);
        match inner.results.get(&(result.build, result.attempt)) {
            Some(before) if *before == result => Ok(()),
            Some(before) => Err(format!("build {} was reported twice: {before:?}, {result:?}", result.build)),
            None => {
                inner.results.insert((result.build, result.attempt), result);
                inner.mutations.push(Mutation::default());
                drop(inner);
                self.grown.notify_waiters();
                Ok(())
            }
        }
    }
}

pub(crate) struct SimMutations {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

/// One reader of the log.
struct Reader {
    world: Arc<World>,
    life: Arc<Life>,
    history: u64,
    position: usize,
    /// Whether it was told that it has all.
    told: bool,
}

fn down() -> Status {
    Status::unavailable("maintnerd does not run")
}

#[async_trait]
impl MutationLog for SimMutations {
    async fn append(&self, results: Vec<BuildResult>) -> Result<(), Status> {
        let context = &self.world.context;
        context.judge.call();
        context.pause(0, 30).await;
        self.life.check().await;
        if context.weather().maintnerd_down > 0 {
            return Err(down());
        }
        for result in results {
            let build = BuildNumber(result.build);
            match self.world.log.append(result) {
                Ok(()) => context.judge.result(build),
                Err(what) => context.judge.broken(Invariant::Once, what),
            }
        }
        if context.strikes(Fault::AppendAnswerLost, |weather| weather.append_lost) {
            return Err(Status::unavailable("the connection broke"));
        }
        Ok(())
    }

    async fn watch(
        &self,
        resume_token: String,
    ) -> Result<BoxStream<'static, Result<WatchMutationsResponse, Status>>, Status> {
        let context = &self.world.context;
        context.judge.call();
        context.pause(0, 30).await;
        self.life.check().await;
        if context.weather().maintnerd_down > 0 {
            return Err(down());
        }
        let history = lock(&self.world.log.inner).history;
        let position = match resume_token.split_once(':') {
            None => 0,
            Some((known, position)) if known == history.to_string() => position.parse().unwrap_or(0),
            Some(_) => return Err(Status::out_of_range("another history")),
        };
        let reader = Reader {
            world: Arc::clone(&self.world),
            life: Arc::clone(&self.life),
            history,
            position,
            told: false,
        };
        Ok(futures_util::stream::unfold(reader, |mut reader| async move {
            let next = reader.next().await;
            Some((next, reader))
        })
        .boxed())
    }
}

impl Reader {
    async fn next(&mut self) -> Result<WatchMutationsResponse, Status> {
        loop {
            self.life.check().await;
            let world = Arc::clone(&self.world);
            let grown = world.log.grown.notified();
            let mut grown = std::pin::pin!(grown);
            grown.as_mut().enable();
            let context = &world.context;
            if context.weather().maintnerd_down > 0 {
                return Err(down());
            }
            if let Some(response) = self.response()? {
                if context.strikes(Fault::StreamBroken, |weather| weather.stream_broken) {
                    return Err(Status::unavailable("the stream broke"));
                }
                context.judge.call();
                return Ok(response);
            }
            // A checkpoint comes at least every 20 s; the pieces notice that maintnerd has died meanwhile.
            for _ in 0..4 {
                tokio::select! {
                    biased;
                    () = &mut grown => break,
                    () = tokio::time::sleep(Duration::from_secs(5)) => {}
                }
                if context.weather().maintnerd_down > 0 {
                    break;
                }
            }
            self.told = false;
        }
    }

    fn response(&mut self) -> Result<Option<WatchMutationsResponse>, Status> {
        let inner = lock(&self.world.log.inner);
        if inner.history != self.history {
            return Err(Status::unavailable("maintnerd has started anew"));
        }
        let length = inner.mutations.len();
        let event = if self.position < length {
            let most = 1 + self.world.context.between(0, 12) as usize;
            let end = length.min(self.position + most);
            let mutations = inner.mutations[self.position..end].to_vec();
            self.position = end;
            self.told = false;
            Event::Batch(MutationBatch { mutations })
        } else if self.told {
            return Ok(None);
        } else {
            self.told = true;
            Event::Checkpoint(Checkpoint { position: length as u64 })
        };
        let resume_token = format!("{}:{}", self.history, self.position);
        Ok(Some(WatchMutationsResponse { event: Some(event), resume_token }))
    }
}
