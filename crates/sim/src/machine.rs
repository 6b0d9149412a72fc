//! A machine and its buildlet. Who may use it is decided by the buildlet's own [`Fencing`], and what outlives its process
//! by the buildlet's own journal; commands, files and the order of calls are a model of `buildlet::machine`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buildlet::testing::{self as real, Admission, Entry, Fencing, Past, Purpose};
use buildlet_client::{EndedByUs, Error, ExecEnd, ExecSpec, Fetched, How, Lease, Status};
use bytes::Bytes;
use runtime::Tasks;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use types::{ExecId, HostType, MachineName, Timestamp};

use crate::{
    command::{self, Script},
    context::lock,
    exec::{Exec, journaled},
    fault::Fault,
    judge::Invariant,
    planted::Planted,
    world::World,
};

/// A machine: what stays when its buildlet's process ends.
pub(crate) struct Machine {
    pub(crate) name: MachineName,
    pub(crate) host_types: Vec<HostType>,
    /// Every command fails on it.
    sick: AtomicBool,
    disk: Mutex<Disk>,
    process: Mutex<Option<Arc<Process>>>,
    pub(crate) network: Mutex<Network>,
}

/// How it is reached.
#[derive(Default)]
pub(crate) struct Network {
    /// Nothing comes through.
    pub(crate) cut: bool,
    /// The connection that is open.
    pub(crate) closed: Option<CancellationToken>,
}

#[derive(Default)]
struct Disk {
    journal: Past,
    /// What each command of the lease wrote.
    spools: BTreeMap<ExecId, (Bytes, u64)>,
    files: Files,
}

/// The work folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Files {
    /// The tree that was unpacked, or is being unpacked, and from where.
    from: Option<String>,
    /// All of it is there.
    whole: bool,
    /// The tree that was made.
    made: Option<String>,
}

/// A buildlet's process.
pub(crate) struct Process {
    machine: Arc<Machine>,
    world: Arc<World>,
    pub(crate) tasks: Tasks,
    state: Mutex<State>,
    gate: Arc<RwLock<()>>,
    starting: tokio::sync::Mutex<()>,
    /// Told when it has ended.
    pub(crate) ended: CancellationToken,
}

struct State {
    fencing: Fencing,
    execs: Vec<Arc<Exec>>,
    ending: CancellationToken,
}

type Call<T> = Result<T, Error>;

fn stale(refusal: &real::Refusal) -> Error {
    match refusal {
        real::Refusal::Stale { .. } => Error::StaleLease(refusal.to_string()),
        _ => Error::TakesNoLease(refusal.to_string()),
    }
}

fn ended() -> Error {
    Error::Other {
        code: "Aborted".to_owned(),
        reason: "LEASE_ENDED".to_owned(),
        message: "it ended".to_owned(),
    }
}

fn real(lease: Lease) -> real::Lease {
    real::Lease { id: lease.id, fence: lease.fence }
}

impl Machine {
    pub(crate) fn new(name: MachineName, host_types: Vec<HostType>) -> Arc<Self> {
        Arc::new(Self {
            name,
            host_types,
            sick: AtomicBool::new(false),
            disk: Mutex::default(),
            process: Mutex::default(),
            network: Mutex::default(),
        })
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }

    /// Starts the buildlet over what the last one left.
    pub(crate) fn boot(self: &Arc<Self>, world: &Arc<World>) -> Arc<Process> {
        let (fencing, execs) = {
            let mut disk = lock(&self.disk);
            let Past { highest, lease, next, .. } = disk.journal;
            let mut execs: Vec<Arc<Exec>> = Vec::new();
            let known: Vec<ExecId> = disk.journal.execs.keys().copied().collect();
            for id in known {
                let Some((output, written)) = disk.spools.get(&id).cloned() else { continue };
                let past = disk.journal.execs.get(&id).and_then(|exec| exec.end.clone());
                let end = past.unwrap_or_else(|| real::End::unwatched(written));
                disk.journal.apply(Entry::End { id, end: end.clone() });
                world.truth.end(id, written);
                execs.push(Exec::ended(id, output, &end));
            }
            if lease.is_none() {
                disk.files = Files::default();
                disk.spools.clear();
            }
            (Fencing::restored(highest, lease, next), execs)
        };
        let process = Arc::new(Process {
            machine: Arc::clone(self),
            world: Arc::clone(world),
            tasks: Tasks::new(CancellationToken::new()),
            state: Mutex::new(State { fencing, execs, ending: CancellationToken::new() }),
            gate: Arc::default(),
            starting: tokio::sync::Mutex::default(),
            ended: CancellationToken::new(),
        });
        *lock(&self.process) = Some(Arc::clone(&process));
        process
    }

    /// From now on every command fails on it, or none for that reason.
    pub(crate) fn sicken(&self, sick: bool) {
        self.sick.store(sick, Ordering::Relaxed);
    }

    /// The buildlet's process ends at once; what it ran ends with it.
    pub(crate) fn kill(&self) {
        let process = lock(&self.process).take();
        if let Some(process) = process {
            process.tasks.kill();
            process.ended.cancel();
            let mut disk = lock(&self.disk);
            for exec in &lock(&process.state).execs {
                if let Some(spool) = disk.spools.get_mut(&exec.id) {
                    spool.1 = exec.written();
                }
            }
        }
        if let Some(closed) = lock(&self.network).closed.take() {
            closed.cancel();
        }
    }

    /// Another machine takes the name: nothing is on its disk.
    pub(crate) fn replace(&self) {
        self.kill();
        *lock(&self.disk) = Disk::default();
    }
}

impl Process {
    pub(crate) fn status(&self) -> Status {
        let state = lock(&self.state);
        Status {
            machine: self.machine.name.clone(),
            host_types: self.machine.host_types.clone(),
            version: "0".to_owned(),
            platform: "linux/amd64".to_owned(),
            work_folder: format!("/work/{}", self.machine.name),
            lease: state.fencing.lease().map(|lease| Lease { id: lease.id, fence: lease.fence }),
            execs: state.execs.iter().map(|exec| exec.status()).collect(),
            reuse: "wiped".to_owned(),
            free_disk_bytes: 1 << 40,
            load: 0.0,
            pid: 1,
            cpus: 4,
            memory_bytes: 1 << 34,
            started: Timestamp(0),
            draining: state.fencing.draining,
            broken: state.fencing.broken.clone().unwrap_or_default(),
            isolation: "none".to_owned(),
            key_exposed: String::new(),
            limits: "sampling".to_owned(),
            clock: None,
        }
    }

    /// Whether it holds nothing and would take a lease.
    pub(crate) fn is_free(&self) -> bool {
        let state = lock(&self.state);
        state.fencing.lease().is_none() && state.fencing.broken.is_none() && !state.fencing.draining
    }

    /// Takes no further lease, and ends once it has none.
    pub(crate) fn drain(&self) {
        lock(&self.state).fencing.draining = true;
        self.leave_if_drained();
    }

    fn leave_if_drained(&self) {
        let state = lock(&self.state);
        if state.fencing.draining && state.fencing.lease().is_none() {
            self.ended.cancel();
        }
    }

    fn note(&self, entry: Entry) {
        lock(&self.machine.disk).journal.apply(entry);
    }

    fn admit(&self, state: &State, lease: Lease, purpose: Purpose) -> Call<Admission> {
        let unfenced = self.world.planted == Some(Planted::DropFencing);
        if unfenced && state.fencing.lease() != Some(real(lease)) {
            return Ok(if state.fencing.lease().is_some() { Admission::Holder } else { Admission::Next });
        }
        state.fencing.admit(real(lease), purpose).map_err(|refusal| stale(&refusal))
    }

    /// Lets a call under a lease in, taking the machine over if the lease is newer than all before.
    async fn enter(
        self: &Arc<Self>,
        purpose: Purpose,
        lease: Lease,
    ) -> Call<(CancellationToken, tokio::sync::OwnedRwLockReadGuard<()>)> {
        loop {
            let gate = Arc::clone(&self.gate).read_owned().await;
            {
                let state = lock(&self.state);
                if self.admit(&state, lease, purpose)? == Admission::Holder {
                    return Ok((state.ending.clone(), gate));
                }
            }
            drop(gate);
            self.take_over(purpose, lease).await?;
        }
    }

    async fn take_over(self: &Arc<Self>, purpose: Purpose, lease: Lease) -> Call<()> {
        {
            let mut state = lock(&self.state);
            if self.admit(&state, lease, purpose)? == Admission::Holder {
                return Ok(());
            }
            state.fencing.expect(real(lease));
            state.ending.cancel();
        }
        let _alone = self.gate.write().await;
        let previous = {
            let state = lock(&self.state);
            if self.admit(&state, lease, purpose)? == Admission::Holder {
                return Ok(());
            }
            state.fencing.lease()
        };
        if previous.is_some() {
            self.note(Entry::Next(real(lease)));
            self.clean().await?;
        }
        self.note(Entry::Lease(real(lease)));
        let mut state = lock(&self.state);
        state.fencing.take(real(lease));
        state.ending = CancellationToken::new();
        Ok(())
    }

    pub(crate) async fn end_lease(self: &Arc<Self>, lease: Lease) -> Call<()> {
        if lock(&self.state).fencing.has_ended(real(lease)) {
            return Ok(());
        }
        drop(self.enter(Purpose::End, lease).await?);
        {
            let state = lock(&self.state);
            if state.fencing.lease() == Some(real(lease)) {
                state.ending.cancel();
            }
        }
        let _alone = self.gate.write().await;
        {
            let state = lock(&self.state);
            if state.fencing.has_ended(real(lease)) {
                return Ok(());
            }
            self.admit(&state, lease, Purpose::End)?;
        }
        self.clean().await?;
        self.leave_if_drained();
        Ok(())
    }

    /// Ends what runs, and empties the work folder. Called with the gate held alone.
    async fn clean(&self) -> Call<()> {
        let execs = std::mem::take(&mut lock(&self.state).execs);
        for exec in &execs {
            exec.stop(EndedByUs::Cancelled);
        }
        for exec in &execs {
            exec.wait().await;
        }
        self.world.context.pause(0, 200).await;
        if self.world.context.strikes(Fault::MachineNotClean, |weather| weather.not_clean) {
            let why = "a mount is left".to_owned();
            lock(&self.state).fencing.broken = Some(why.clone());
            return Err(Error::NotClean(why));
        }
        {
            let mut disk = lock(&self.machine.disk);
            disk.files = Files::default();
            disk.spools.clear();
        }
        self.note(Entry::Released);
        let mut state = lock(&self.state);
        state.fencing.release();
        state.fencing.broken = None;
        Ok(())
    }

    pub(crate) async fn start_exec(self: &Arc<Self>, lease: Lease, id: ExecId, spec: &ExecSpec) -> Call<()> {
        let _held = self.enter(Purpose::Work, lease).await?;
        let _one = self.starting.lock().await;
        if lock(&self.state).execs.iter().any(|exec| exec.id == id) {
            return Ok(());
        }
        let files = lock(&self.machine.disk).files.clone();
        let luck = id.0.as_u128();
        let luck = (luck >> 64) as u64 ^ luck as u64;
        let script = command::of(&self.world, spec, files.made.as_deref(), files.from.as_deref(), luck);
        let script = script.unwrap_or_else(|what| {
            self.world.context.judge.broken(Invariant::Truth, format!("{what}, on {}", self.machine.name));
            Script::default()
        });
        let script =
            if self.machine.sick.load(Ordering::Relaxed) { self.spoil(spec, &script) } else { script };
        self.judge_start(lease, id, &script);
        {
            let mut disk = lock(&self.machine.disk);
            disk.spools.insert(id, (script.output.clone(), 0));
            disk.journal.apply(Entry::Exec { id, pid: 1 });
        }
        let exec = Exec::new(id, script.output.clone());
        lock(&self.state).execs.push(Arc::clone(&exec));
        let process = Arc::clone(self);
        self.tasks.job("exec", async move { process.run(exec, script).await });
        Ok(())
    }

    /// What a command does on a sick machine.
    fn spoil(&self, spec: &ExecSpec, script: &Script) -> Script {
        self.world.context.judge.fault(Fault::MachineSick);
        let build = spec.environment.iter().find(|(name, _)| name == "FARMER_BUILD");
        if let Some(number) = build.and_then(|(_, number)| number.parse().ok()) {
            self.world.truth.harm(number);
        }
        let output = Bytes::from_static(b"cc: broken\n");
        Script { output, millis: script.millis.min(500), how: How::Exited(1) }
    }

    /// What must hold when a command starts.
    fn judge_start(&self, lease: Lease, id: ExecId, script: &Script) {
        let judge = &self.world.context.judge;
        let name = &self.machine.name;
        if let Err(what) = self.world.truth.start(id, (name, lease.id), script.output.clone()) {
            judge.broken(Invariant::Once, what);
        }
        match lock(&self.world.tables).exec(id) {
            None => judge.broken(Invariant::Durable, format!("command {id} runs and no row names it")),
            Some(row) if row.lease != lease.id => {
                judge.broken(
                    Invariant::Durable,
                    format!("command {id} runs under another lease than planned"),
                );
            }
            Some(_) => {}
        }
        let state = lock(&self.state);
        if state.fencing.lease() != Some(real(lease)) {
            let what = format!("lease {} started a command on {name}, which it does not hold", lease.id);
            judge.broken(Invariant::Lease, what);
        }
    }

    /// Runs a command to its end.
    async fn run(&self, exec: Arc<Exec>, script: Script) {
        let context = &self.world.context;
        let full = context.strikes(Fault::MachineDiskFull, |weather| weather.disk_full);
        let begun = tokio::time::Instant::now();
        let total = script.output.len() as u64;
        let pieces = if total > 0 { 1 + total / 400 } else { 0 };
        let step = Duration::from_millis(script.millis / (pieces + 1));
        let mut written = 0;
        let mut how = None;
        for piece in 0..=pieces {
            if how.is_none() {
                how = exec.run_for(step).await;
            }
            if how.is_none() && full && piece == pieces {
                how = Some(EndedByUs::DiskFull);
            } else if how.is_none() && piece < pieces {
                written = (written + 400).min(total);
                exec.write(written);
            }
        }
        let how = how.map_or(script.how, How::Ended);
        let end = ExecEnd { how, output_bytes: written, elapsed: begun.elapsed(), leftover_processes: 0 };
        self.finish(&exec, end);
    }

    fn finish(&self, exec: &Exec, end: ExecEnd) {
        {
            let mut disk = lock(&self.machine.disk);
            if let Some(spool) = disk.spools.get_mut(&exec.id) {
                spool.1 = end.output_bytes;
            }
            if disk.journal.execs.contains_key(&exec.id) {
                disk.journal.apply(Entry::End { id: exec.id, end: journaled(&end) });
            }
            let made = exec.makes(&end).then(|| disk.files.from.clone()).flatten();
            if made.is_some() {
                disk.files.made = made;
            }
        }
        self.world.truth.end(exec.id, end.output_bytes);
        exec.finish(end);
    }

    pub(crate) fn find(&self, id: ExecId) -> Call<Arc<Exec>> {
        let found = lock(&self.state).execs.iter().find(|exec| exec.id == id).cloned();
        found.ok_or_else(|| Error::UnknownExec(format!("there is no exec `{id}`")))
    }

    pub(crate) fn acknowledge(&self, id: ExecId, offset: u64) -> Call<()> {
        self.find(id)?.acknowledge(offset);
        Ok(())
    }

    /// Fetches an archive and unpacks it.
    pub(crate) async fn fetch(self: &Arc<Self>, lease: Lease, url: &str) -> Call<Fetched> {
        let (ending, _held) = self.enter(Purpose::Work, lease).await?;
        let tree = command::fetched(&self.world, url).await;
        {
            let mut disk = lock(&self.machine.disk);
            if disk.files.from.as_ref().is_some_and(|from| tree.as_ref().is_ok_and(|tree| tree.name != *from))
            {
                let what = format!("{url} was unpacked over something else on {}", self.machine.name);
                self.world.context.judge.broken(Invariant::Truth, what);
            }
            if let Ok(tree) = &tree {
                disk.files = Files { from: Some(tree.name.clone()), whole: false, made: None };
            }
        }
        let millis = self.world.context.between(20, 1500);
        tokio::select! {
            biased;
            () = ending.cancelled() => return Err(ended()),
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
        let tree = tree?;
        let mut disk = lock(&self.machine.disk);
        disk.files.whole = true;
        disk.files.made = tree.made.then_some(tree.name);
        Ok(Fetched { bytes: 1000, entries: 10 })
    }

    /// What was made, as an archive.
    pub(crate) async fn read_tree(self: &Arc<Self>, lease: Lease) -> Call<Bytes> {
        let (ending, _held) = self.enter(Purpose::Work, lease).await?;
        let millis = self.world.context.between(20, 1500);
        tokio::select! {
            biased;
            () = ending.cancelled() => return Err(ended()),
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
        let made = lock(&self.machine.disk).files.made.clone().unwrap_or_default();
        Ok(made.into())
    }

    pub(crate) async fn empty(self: &Arc<Self>, lease: Lease) -> Call<()> {
        let _held = self.enter(Purpose::Work, lease).await?;
        lock(&self.machine.disk).files = Files::default();
        Ok(())
    }

    /// Ends all that runs: the coordinator was not heard from for too long.
    pub(crate) fn abandon(&self) {
        for exec in &lock(&self.state).execs {
            exec.stop(EndedByUs::Abandoned);
        }
    }
}
