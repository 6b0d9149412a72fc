//! The coordinator without its listeners: state, shell, work finder, outbox. What the server runs over SQL and gRPC and
//! the simulator over parts in memory is made here, once.

use std::sync::Arc;

use runtime::{SharedClock, Tasks, clock::SteadyClock};
use store::Blobs;
use tokio_util::sync::CancellationToken;

use crate::{
    core::{Limits, State},
    find::{Finder, Planner},
    ports::{
        Changes, Commits, Found, Logs, MutationLog, NewId, Records, RecordsError, Reviews, Witness, Words,
    },
    review::Speaker,
    settings::Settings,
    shell::{Actor, Ground, Handle, Hub, Inbox, Machines, Outbox, Performer, Tuning, Worker},
};

/// The world as the engine sees it.
#[derive(Clone)]
pub struct Ports {
    /// The rows of the core.
    pub records: Arc<dyn Records>,
    /// What the work finder has stored.
    pub found: Arc<dyn Found>,
    /// The logs of commands.
    pub logs: Arc<dyn Logs>,
    /// Snapshots.
    pub blobs: Arc<dyn Blobs>,
    /// maintnerd.
    pub mutations: Arc<dyn MutationLog>,
    /// Changes, as maintnerd tells of them.
    pub changes: Arc<dyn Changes>,
    /// gitmirror.
    pub commits: Arc<dyn Commits>,
    /// What is to be said of changes.
    pub words: Arc<dyn Words>,
    /// Where it is said.
    pub reviews: Arc<dyn Reviews>,
    /// Wall time.
    pub clock: SharedClock,
    /// Names.
    pub new_id: NewId,
    /// Who sees the steps of the core.
    pub witness: Arc<dyn Witness>,
    /// Numbers.
    pub tuning: Tuning,
}

/// Where machines fetch what they need.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    /// gitmirror's, without a slash at the end.
    pub(crate) gitmirror: Arc<str>,
    /// Our own, as machines reach it.
    pub(crate) own: Arc<str>,
    /// The pages', where they are bound; `url` in `farm.toml` comes before it.
    pub(crate) pages: Arc<str>,
}

/// All parts, made and not yet running.
pub(crate) struct Engine {
    actor: Actor,
    finder: Finder,
    outbox: Outbox,
    speaker: Speaker,
}

/// What others use of a running engine.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) handle: Handle,
    pub(crate) machines: Machines,
    pub(crate) planner: Planner,
}

/// What was going on when the last engine ended.
pub(crate) async fn restore(ports: &Ports) -> Result<State, RecordsError> {
    let restored = ports.records.load().await?;
    if !restored.builds.is_empty() {
        let (builds, leases) = (restored.builds.len(), restored.leases.len());
        tracing::info!("{builds} builds go on, {leases} of them on machines");
    }
    let limits = Limits { mutation: ports.tuning.mutation, ..Limits::default() };
    Ok(State::restore(limits, restored, ports.clock.now()))
}

/// Makes the ways in, and what makes the engine once it is known where machines reach us.
pub(crate) fn ways(ports: &Ports, settings: &Settings, tasks: &Tasks) -> (Ways, Inbox) {
    let (handle, inbox) = Actor::channel();
    let machines = Machines::new(handle.clone(), tasks.clone());
    let planner = Planner::new(Arc::clone(&ports.commits), settings.clone());
    (Ways { handle, machines, planner }, inbox)
}

impl Engine {
    /// An engine over a restored state.
    pub(crate) fn new(
        ports: Ports,
        state: State,
        (ways, inbox): (Ways, Inbox),
        (settings, hub, urls): (Settings, Hub, Urls),
        tasks: &Tasks,
    ) -> Self {
        // Steps are taken in the order of their times, whatever happens to the machine's clock.
        let clock: SharedClock = Arc::new(SteadyClock::new(ports.clock));
        let worker = Worker {
            handle: ways.handle.clone(),
            records: Arc::clone(&ports.records),
            logs: ports.logs,
            blobs: ports.blobs,
            clock: clock.clone(),
            hub: hub.clone(),
            settings: settings.clone(),
            tuning: ports.tuning,
            gitmirror: urls.gitmirror,
            url: urls.own,
        };
        let performer = Performer::new(worker, tasks.clone());
        let ground = Ground {
            records: Arc::clone(&ports.records),
            clock: clock.clone(),
            new_id: ports.new_id,
            witness: ports.witness,
            mutation: ports.tuning.mutation,
        };
        let finder = Finder {
            mutations: Arc::clone(&ports.mutations),
            mirror: ports.commits,
            changes: ports.changes,
            planner: ways.planner,
            settings: settings.clone(),
            handle: ways.handle,
            found: ports.found,
            hub: hub.clone(),
            clock: clock.clone(),
            mutation: ports.tuning.mutation,
        };
        let speaker = Speaker {
            words: ports.words,
            reviews: ports.reviews,
            settings,
            pages: urls.pages,
            hub: hub.clone(),
            clock: clock.clone(),
            mutation: ports.tuning.mutation,
        };
        let outbox = Outbox {
            records: ports.records,
            mutations: ports.mutations,
            hub,
            clock,
            mutation: ports.tuning.mutation,
        };
        Self { actor: Actor::new(state, inbox, ground, performer), finder, outbox, speaker }
    }

    /// Has all parts run until shutdown.
    pub(crate) fn start(self, tasks: &Tasks, shutdown: &CancellationToken) {
        tasks.service("coordinator", self.actor.run(shutdown.clone()));
        tasks.service("work finder", self.finder.run(shutdown.clone()));
        tasks.service("outbox", self.outbox.run(shutdown.clone()));
        tasks.service("words to reviewers", self.speaker.run(shutdown.clone()));
    }
}
