//! A buildlet from its start to its end: what is wired to what, and who waits for whom.

use std::{
    fs::{File, OpenOptions, TryLockError},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use runtime::{Failure, Tasks};
use tokio_util::sync::CancellationToken;
use types::ExecId;

use crate::{
    Config, Contact, Isolation,
    cgroup::Groups,
    environment::BaseEnvironment,
    exec::{End, Exec, Limits},
    fetch::Fetcher,
    folder::WorkFolder,
    grpc,
    journal::{Journal, Past, PastExec},
    keeper::{Keeper, StopReason, View, end_marked},
    lease::Fencing,
    machine::{Machine, Parts},
    orphan::Presence,
    platform::{self, DrainAsked},
    renewal::Renewal,
    reverse::Dialling,
    spool::Spool,
};

/// How long tasks have to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long the keeper of a predecessor may take to end what it kept.
const PREDECESSOR: Duration = Duration::from_secs(20);

/// A buildlet that is ready to run.
pub struct Server {
    machine: Arc<Machine>,
    keeper: Keeper,
    tasks: Tasks,
    presence: Presence,
    bound: Option<rpc::Bound>,
    dialling: Option<(Dialling, rpc::Service)>,
    orphan_after: Duration,
    exit_when_orphaned: bool,
    state: PathBuf,
    _lock: File,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Server {
    /// Locks the state, starts the keeper, reports what an earlier buildlet left, and cleans up if nobody holds the
    /// machine.
    ///
    /// # Errors
    /// When a folder or the address cannot be used, or another buildlet does; each says what to do.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let tasks = Tasks::new(CancellationToken::new());
        let spool = config.state.join("spool");
        platform::make_private_folder(&spool).context("make the state folder")?;
        let lock = lock(&config.state).await?;
        let keeper = Keeper::spawn(&config)?;
        keeper.hold(&lock).await?;
        let (journal, past) = Journal::open(&config.state).context("read the journal")?;
        end_survivors(&past).await;
        let execs = restore(&spool, &past);
        let folder = WorkFolder::open(&config.work).context("open the work folder")?;
        let view = view(&keeper, config.isolation).await?;
        let own = |name: &str| std::env::var(name).ok();
        let parts = Parts {
            environment: BaseEnvironment::new(&view.work_folder, own, &config.environment),
            view,
            isolation: config.isolation,
            groups: if keeper.joins_groups() { Groups::find(&config.state) } else { Groups::default() },
            limits: Limits {
                memory_bytes: config.max_memory_bytes,
                processes: Some(config.max_processes),
                work_bytes: config.max_work_bytes,
            },
            reboot: config.reboot.clone(),
            power_off: config.power_off.clone(),
            folder: Arc::new(folder),
            spool,
            keeper: keeper.clone(),
            fetcher: Fetcher::new(config.contact.identity().cloned()),
            tasks: tasks.clone(),
            clock: config.clock.clone(),
            reuse: config.reuse,
            disk_floor_bytes: config.disk_floor_bytes,
        };
        let machine =
            Machine::new(parts, journal, Fencing::restored(past.highest, past.lease, past.next), execs);
        machine.make_ready().await;
        if let Err(error) = machine.clean_at_start().await {
            tracing::error!("{error}");
        }
        Self::connect(config, machine, keeper, tasks, lock).await
    }

    async fn connect(
        config: Config,
        machine: Arc<Machine>,
        keeper: Keeper,
        tasks: Tasks,
        lock: File,
    ) -> anyhow::Result<Self> {
        let presence = Presence::new();
        let service = grpc::service(grpc::Facts::of(&config), machine.clone(), presence.clone());
        let server = rpc::Server::new("buildlet", tasks.clone()).grpc(service);
        let (bound, dialling) = match config.contact {
            Contact::Dial { url, identity, keys, proxy } => {
                let renewal =
                    Renewal { credentials: identity.clone(), keys, url: url.clone(), proxy: proxy.clone() };
                tasks.job("renewal", renewal.run(config.clock.clone(), tasks.shutdown()));
                let (clock, supervised) = (config.clock.clone(), config.supervised);
                let dialling = Dialling { url, identity, proxy, clock, supervised };
                (None, Some((dialling, server.service())))
            }
            Contact::Listen { address, identity } => {
                let server = match &identity {
                    Some(identity) => server.tls(&identity.current()),
                    None => server.plain_loopback(),
                };
                let bound = server.bind(address).await.map_err(|error| Failure::Unavailable.of(error))?;
                (Some(bound), None)
            }
        };
        let (orphan_after, exit_when_orphaned) = (config.orphan_after, config.exit_when_orphaned);
        Ok(Self {
            machine,
            keeper,
            tasks,
            presence,
            bound,
            dialling,
            orphan_after,
            exit_when_orphaned,
            state: config.state,
            _lock: lock,
        })
    }

    /// Where it listens; none if it dials.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.bound.as_ref().map(rpc::Bound::addr)
    }

    /// Runs until `shutdown`, until it is drained or orphaned, or until it cannot go on. Then ends all execs.
    ///
    /// # Errors
    /// When the keeper died or the identity cannot be used.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let ours = self.tasks.shutdown();
        let forward = ours.clone();
        self.tasks.job("shutdown", async move {
            tokio::select! {
                () = shutdown.cancelled() => forward.cancel(),
                () = forward.cancelled() => {}
            }
        });
        if let Some(bound) = self.bound.take() {
            bound.start();
        }
        if let Some((dialling, service)) = self.dialling.take() {
            let (presence, shutdown) = (self.presence.clone(), ours.clone());
            self.tasks.service("reversed connection", async move {
                let ended = dialling.run(service, presence, shutdown).await;
                ended.map_err(|error| Failure::Configuration.of(error))
            });
        }
        self.drain_on_signal(&ours);
        self.watch_keeper(ours.clone());
        self.watch_limits(ours.clone());
        self.watch_presence(ours);
        let (machine, tasks) = (self.machine.clone(), self.tasks.clone());
        tasks.service("end of execs", {
            let shutdown = tasks.shutdown();
            async move {
                shutdown.cancelled().await;
                machine.stop_all(StopReason::BuildletDied).await;
                Ok(())
            }
        });
        let ended = tasks.finish(GRACE).await;
        self.machine.dismiss_keeper().await;
        ended
    }

    /// Without its keeper a buildlet can neither start nor end anything; whoever supervises it starts it again.
    fn watch_keeper(&self, shutdown: CancellationToken) {
        let keeper = self.keeper.clone();
        self.tasks.service("keeper", async move {
            tokio::select! {
                () = keeper.died() => Err(anyhow::anyhow!("the keeper died")),
                () = shutdown.cancelled() => Ok(()),
            }
        });
    }

    fn watch_limits(&self, shutdown: CancellationToken) {
        let machine = self.machine.clone();
        self.tasks.service("limits", async move {
            shutdown.run_until_cancelled(machine.watch_limits()).await;
            Ok(())
        });
    }

    fn watch_presence(&self, shutdown: CancellationToken) {
        let (machine, presence) = (self.machine.clone(), self.presence.clone());
        let (bound, exit) = (self.orphan_after, self.exit_when_orphaned);
        self.tasks.service("orphan watch", async move {
            loop {
                tokio::select! {
                    () = presence.lost_for(bound) => {}
                    () = shutdown.cancelled() => return Ok(()),
                }
                tracing::warn!("no coordinator for {bound:?}: ending what runs");
                machine.stop_all(StopReason::Abandoned).await;
                if exit {
                    shutdown.cancel();
                    return Ok(());
                }
                tokio::time::sleep(bound.max(Duration::from_secs(1))).await;
            }
        });
    }
}

/// What execs will see of the machine. One whose owner wants them apart must be able to keep them so.
async fn view(keeper: &Keeper, isolation: Isolation) -> anyhow::Result<View> {
    let view = keeper.view().await?;
    match (&view.open, isolation) {
        (None, _) => {}
        (Some(why), Isolation::Namespaces) => {
            let error = anyhow::anyhow!("`--isolation namespaces` does not work on this machine: {why}");
            return Err(Failure::Configuration.of(error));
        }
        (Some(why), Isolation::None) => {
            tracing::warn!("builds could read this machine's key, if their user can: {why}");
        }
    }
    Ok(view)
}

impl Server {
    /// What stage0 asks for: no further lease, and the end once there is none.
    fn drain_on_signal(&self, shutdown: &CancellationToken) {
        let (machine, shutdown) = (self.machine.clone(), shutdown.clone());
        let Ok(mut asked) = DrainAsked::listen(&self.state) else { return };
        self.tasks.job("drain", async move {
            tokio::select! {
                () = asked.wait() => machine.drain(),
                () = shutdown.cancelled() => {}
            }
        });
    }
}

/// Takes the state folder for this process and its keeper. A keeper of a buildlet that died is waited for.
async fn lock(state: &Path) -> anyhow::Result<File> {
    let path = state.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = platform::with_mode(&mut options, 0o600).open(&path);
    let file = file.with_context(|| format!("open `{}`", path.display()))?;
    let holder = state.join("pid");
    let begin = tokio::time::Instant::now();
    while let Err(error) = file.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(error).with_context(|| format!("lock `{}`", path.display()));
        }
        if let Some(pid) = living(&holder) {
            let folder = state.display();
            let error =
                anyhow::anyhow!("`{folder}` is used by the buildlet with process id {pid}: end it first");
            return Err(Failure::Unavailable.of(error));
        }
        if begin.elapsed() > PREDECESSOR {
            let error = anyhow::anyhow!("`{}` is held by what an earlier buildlet left", path.display());
            return Err(Failure::Unavailable.of(error));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::write(&holder, std::process::id().to_string())
        .with_context(|| format!("write `{}`", holder.display()))?;
    Ok(file)
}

/// The process that a file names, if it lives. One that is dead, but not yet waited for, does not.
pub(crate) fn living(path: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (pid != std::process::id() && platform::is_alive(pid)).then_some(pid)
}

/// Ends processes of execs whose keeper and wardens were killed together with the buildlet.
async fn end_survivors(past: &Past) {
    let running = past.execs.iter().filter(|(_, exec)| exec.end.is_none());
    let marks: Vec<_> = running.map(|(id, _)| format!("FARMER_EXEC_ID={id}")).collect();
    if marks.is_empty() {
        return;
    }
    let ended = tokio::task::spawn_blocking(move || end_marked(&marks)).await.unwrap_or(0);
    if ended > 0 {
        tracing::warn!("ended {ended} processes that an earlier buildlet left");
    }
}

/// The execs of the lease as an earlier buildlet left them, all ended; spools of others are removed.
fn restore(spool: &Path, past: &Past) -> Vec<Arc<Exec>> {
    let listed = std::fs::read_dir(spool).into_iter().flatten().flatten();
    for path in listed.map(|entry| entry.path()) {
        if !belongs(&path, past) {
            let _ = std::fs::remove_file(path);
        }
    }
    past.execs.iter().filter_map(|(id, exec)| restore_one(spool, *id, exec)).collect()
}

fn belongs(path: &Path, past: &Past) -> bool {
    let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<ExecId>().ok());
    past.lease.is_some() && id.is_some_and(|id| past.execs.contains_key(&id))
}

fn restore_one(folder: &Path, id: ExecId, past: &PastExec) -> Option<Arc<Exec>> {
    let spool = Spool::reopen(folder, id, past.freed);
    let length = spool
        .length()
        .inspect_err(|error| tracing::warn!("the output of exec {id} is lost: {error}"))
        .ok()?;
    let end = past.end.clone().unwrap_or_else(|| End::unwatched(length));
    Some(Exec::ended(id, past.pid, spool, end))
}
