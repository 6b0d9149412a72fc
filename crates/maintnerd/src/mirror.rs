//! Follows the refs of all repositories at gitmirror, and gives each repository an importer of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::gitmirror::{
    ListRepositoriesRequest, RefUpdate, WatchRefsRequest, WatchRefsResponse,
    mirror_service_client::MirrorServiceClient, watch_refs_response::Event,
};
use rpc::{Channel, watch, watch::WatchError};
use runtime::Tasks;
use tonic::Status;
use tracing::warn;
use types::CommitHash;

use crate::{
    config::Limits,
    import::{Changes, Importer, Mailbox},
    ledger::Ledger,
    sources::Sources,
};

pub(crate) struct Mirror {
    client: MirrorServiceClient<Channel>,
    ledger: Arc<Ledger>,
    sources: Arc<Sources>,
    tasks: Tasks,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    importers: BTreeMap<String, Arc<Mailbox>>,
    /// The refs since the stream began, until it has brought all there is.
    initial: Option<BTreeMap<String, Changes>>,
}

impl Mirror {
    pub(crate) fn new(
        client: MirrorServiceClient<Channel>,
        ledger: Arc<Ledger>,
        sources: Arc<Sources>,
        tasks: Tasks,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self { client, ledger, sources, tasks, limits, state: Mutex::default() })
    }

    /// Follows until shutdown.
    pub(crate) async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let cancel = self.tasks.shutdown();
        while !cancel.is_cancelled() {
            let (opening, handling) = (Arc::clone(&self), Arc::clone(&self));
            let open = move |()| Arc::clone(&opening).open();
            let handle = move |response| Arc::clone(&handling).handle(response);
            match watch::run("refs", (), open, handle, cancel.clone()).await {
                Ok(()) => break,
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
            Some(Event::Update(update)) => self.update(update),
            Some(Event::Checkpoint(_)) => self.checkpoint().await?,
            None => {}
        }
        Ok(None)
    }

    fn update(&self, update: RefUpdate) {
        let RefUpdate { repository, r#ref: name, commit } = update;
        let commit: Option<CommitHash> = match commit.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(commit) => Some(commit),
                Err(error) => {
                    warn!(repo.name = %repository, "gitmirror says that `{name}` of `{repository}` moved, but {error}");
                    return;
                }
            },
        };
        if let Some(initial) = &mut self.state().initial {
            initial.entry(repository).or_default().insert(name, commit);
            return;
        }
        self.put(&repository, Changes::from([(name, commit)]));
    }

    /// At the first checkpoint of a stream, what is not there is gone: but only in a repository that gitmirror holds
    /// whole, since one that it must clone again has no refs for a while.
    async fn checkpoint(&self) -> Result<(), Status> {
        if self.state().initial.is_none() {
            return Ok(());
        }
        let listed = self.client.clone().list_repositories(ListRepositoriesRequest {}).await?.into_inner();
        let Some(mut initial) = self.state().initial.take() else { return Ok(()) };
        for repository in listed.repositories.into_iter().filter(|one| one.fetched_at.is_some()) {
            let there = initial.entry(repository.name.clone()).or_default();
            for (name, _) in self.ledger.corpus().await.refs(&repository.name) {
                there.entry(name.to_owned()).or_insert(None);
            }
        }
        for (repository, changes) in initial {
            self.put(&repository, changes);
        }
        self.sources.set_live(true);
        Ok(())
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
            retry: self.limits.retry,
        };
        self.tasks.service("import", importer.run(self.tasks.shutdown()));
    }
}
