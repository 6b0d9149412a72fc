//! Follows the refs of all repositories at gitmirror, and gives each repository an importer of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::gitmirror::{
    ListRepositoriesRequest, RefUpdate, Repository, WatchRefsRequest, WatchRefsResponse,
    mirror_service_client::MirrorServiceClient, watch_refs_response::Event,
};
use rpc::{Channel, watch, watch::WatchError};
use runtime::{SharedClock, Tasks};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::warn;
use types::CommitHash;

use crate::{
    config::Limits,
    import::{Changes, Importer, Mailbox},
    ledger::Ledger,
    sources::Sources,
    subject::Subjects,
};

pub(crate) struct Mirror {
    pub(crate) client: MirrorServiceClient<Channel>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) subjects: Arc<Subjects>,
    pub(crate) tasks: Tasks,
    pub(crate) limits: Limits,
    pub(crate) clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    importers: BTreeMap<String, Arc<Mailbox>>,
    /// The refs since the stream began, until it has brought all there is.
    initial: Option<BTreeMap<String, Changes>>,
    /// Ends the stream that stands.
    stream: CancellationToken,
}

impl Mirror {
    pub(crate) fn new(
        client: MirrorServiceClient<Channel>,
        ledger: Arc<Ledger>,
        sources: Arc<Sources>,
        tasks: Tasks,
        limits: Limits,
        clock: SharedClock,
    ) -> Arc<Self> {
        let (subjects, state) = (Arc::default(), Mutex::default());
        Arc::new(Self { client, ledger, sources, subjects, tasks, limits, clock, state })
    }

    /// Follows until shutdown.
    pub(crate) async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let cancel = self.tasks.shutdown();
        while !cancel.is_cancelled() {
            let (opening, handling) = (Arc::clone(&self), Arc::clone(&self));
            let open = move |()| Arc::clone(&opening).open();
            let handle = move |response| Arc::clone(&handling).handle(response);
            let stream = cancel.child_token();
            self.state().stream = stream.clone();
            match watch::run("refs", (), open, handle, stream).await {
                // It is to begin anew, or all is to end.
                Ok(()) => continue,
                Err(WatchError::Handler(status)) => warn!("cannot list repositories, trying again: {status}"),
                Err(WatchError::Refused(status) | WatchError::Expired(status)) => {
                    warn!("gitmirror does not tell refs, trying again: {status}");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(self.limits.retry) => {}
            }
        }
        Ok(())
    }

    /// Begins the stream of refs anew: then all that gitmirror has is compared with the log.
    pub(crate) fn begin_anew(&self) {
        self.state().stream.cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(self: Arc<Self>) -> Result<tonic::Streaming<WatchRefsResponse>, Status> {
        self.sources.set_live(false);
        self.state().initial = Some(BTreeMap::new());
        Ok(self.client.clone().watch_refs(WatchRefsRequest {}).await?.into_inner())
    }

    async fn handle(self: Arc<Self>, response: WatchRefsResponse) -> Result<Option<()>, Status> {
        match response.event {
            Some(Event::Update(update)) => self.update(update).await?,
            Some(Event::Checkpoint(_)) => self.checkpoint().await?,
            None => {}
        }
        Ok(None)
    }

    async fn update(&self, update: RefUpdate) -> Result<(), Status> {
        let RefUpdate { repository, r#ref: name, commit } = update;
        let commit: Option<CommitHash> = match commit.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(commit) => Some(commit),
                Err(error) => {
                    warn!(repo.name = %repository, "gitmirror says that `{name}` of `{repository}` moved, but {error}");
                    return Ok(());
                }
            },
        };
        if let Some(initial) = &mut self.state().initial {
            initial.entry(repository).or_default().insert(name, commit);
            return Ok(());
        }
        if !self.subjects.explains(&repository, &name) {
            // It is new here, or has become a project at a Gerrit.
            self.list().await?;
        }
        self.put(&repository, Changes::from([(name, commit)]));
        Ok(())
    }

    /// The repositories of gitmirror, and what they are.
    pub(crate) async fn list(&self) -> Result<Vec<Repository>, Status> {
        let listed = self.client.clone().list_repositories(ListRepositoriesRequest {}).await?.into_inner();
        self.subjects.learn(&listed.repositories);
        self.sources.learn(&listed.repositories);
        Ok(listed.repositories)
    }

    /// At the first checkpoint of a stream, what is not there is gone: but only in a repository that gitmirror holds
    /// whole, since one that it must clone again has no refs for a while.
    async fn checkpoint(&self) -> Result<(), Status> {
        if self.state().initial.is_none() {
            return Ok(());
        }
        let listed = self.list().await?;
        let Some(initial) = self.state().initial.take() else { return Ok(()) };
        for (repository, changes) in self.with_those_gone(initial, listed).await {
            self.put(&repository, changes);
        }
        self.sources.set_live(true);
        Ok(())
    }

    /// All refs that were told, and those of the log that were not.
    pub(crate) async fn with_those_gone(
        &self,
        mut told: BTreeMap<String, Changes>,
        listed: Vec<Repository>,
    ) -> BTreeMap<String, Changes> {
        for repository in listed.into_iter().filter(|one| one.fetched_at.is_some()) {
            let there = told.entry(repository.name.clone()).or_default();
            let corpus = self.ledger.corpus().await;
            for name in self.subjects.of(&repository.name).all_refs(&corpus) {
                there.entry(name).or_insert(None);
            }
        }
        told
    }

    fn put(&self, repository: &str, changes: Changes) {
        self.sources.begin(repository);
        let mut state = self.state();
        if let Some(mailbox) = state.importers.get(repository) {
            mailbox.put(changes);
            return;
        }
        let mailbox = Arc::<Mailbox>::default();
        mailbox.put(changes);
        state.importers.insert(repository.to_owned(), Arc::clone(&mailbox));
        let importer = Importer {
            repository: repository.to_owned(),
            mailbox,
            ledger: Arc::clone(&self.ledger),
            mirror: self.client.clone(),
            sources: Arc::clone(&self.sources),
            subjects: Arc::clone(&self.subjects),
            retry: self.limits.retry,
        };
        self.tasks.service("import", importer.run(self.tasks.shutdown()));
    }
}
