//! The farm, and what there is to build with.

use std::collections::BTreeMap;

use pages::{
    SourceError,
    view::{
        BuilderView, BuildersView, Configuration, FarmView, HostView, LastBuild, LeaseView, MachineState,
        MachineView, PhaseStat, PoolView, Problem, QueueItem, RecentBuild, RepositoryStatus, Reuse,
        ServiceHealth, SessionView, Severity,
    },
};
use types::{BuildNumber, HostType, MachineName, Phase, Timestamp};

use super::{
    build::waiting,
    cell,
    source::{PagesSource, stopping, unread},
};
use crate::{
    core::{Machine, State},
    records::read,
};

/// How much of the queue is shown.
const QUEUE: usize = 200;
/// How many builds that ended lately are shown.
const RECENT: usize = 30;
/// How many steps durations are taken from.
const STEPS: usize = 3000;

/// What the page wants of the state, taken in one look.
struct Look {
    machines: Vec<MachineView>,
    queue: Vec<QueueItem>,
    queue_length: u64,
    leases: Vec<LeaseView>,
    sessions: Vec<SessionView>,
    /// By host type: how many builds wait.
    waiting: BTreeMap<HostType, u64>,
}

impl PagesSource {
    pub(super) async fn farm_view(&self) -> Result<FarmView, SourceError> {
        let farm = self.settings.farm();
        let now = self.clock.now();
        let pools: BTreeMap<HostType, String> =
            farm.hosts.iter().map(|host| (host.name.clone(), host.pool.clone())).collect();
        let mut look =
            self.viewer.handle.ask(move |state| look(state, &pools, now)).await.map_err(stopping)?;
        let recent = read::ended(&self.viewer.database, RECENT).await.map_err(unread)?;
        let (services, repositories) = self.services().await;
        let problems = self.problems(&look, &repositories);
        let mut sessions = std::mem::take(&mut look.sessions);
        sessions.extend(self.sessions_ended().await?);
        Ok(FarmView {
            environment: farm.environment.as_str().to_owned(),
            version: self.version.clone(),
            started: self.started,
            builds_ended: self.hub.ended(),
            problems,
            pools: self.pools(&look),
            machines: look.machines,
            queue: look.queue,
            queue_length: look.queue_length,
            leases: look.leases,
            sessions,
            recent: recent.into_iter().filter_map(recent_build).collect(),
            configuration: self.configuration(),
            phases: self.phases().await?,
            services,
            repositories,
        })
    }

    fn configuration(&self) -> Configuration {
        let wrong =
            self.hub.problems().into_iter().find(|(name, _)| name == "configuration").map(|(_, wrong)| wrong);
        Configuration {
            path: self.settings.path().map(|path| path.display().to_string()),
            loaded: self.started,
            errors: wrong.iter().flat_map(|wrong| wrong.text.lines().map(str::to_owned)).collect(),
            refused: wrong.map(|wrong| wrong.since),
        }
    }

    fn problems(&self, look: &Look, repositories: &[RepositoryStatus]) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .hub
            .problems()
            .into_iter()
            .map(|(name, problem)| Problem {
                severity: if name == "database" { Severity::Error } else { Severity::Warning },
                text: problem.text,
                next_step: problem.next_step,
                since: Some(problem.since),
            })
            .collect();
        let broken = look
            .machines
            .iter()
            .filter(|machine| matches!(machine.state, MachineState::Broken | MachineState::Quarantined));
        problems.extend(broken.map(|machine| Problem {
            severity: Severity::Warning,
            text: format!("machine {}: {}", machine.name, machine.problem),
            next_step: machine.next_step.clone(),
            since: Some(machine.since),
        }));
        let unreachable = repositories.iter().filter(|repository| !repository.problem.is_empty());
        problems.extend(unreachable.map(|repository| Problem {
            severity: Severity::Warning,
            text: format!("repository {}: {}", repository.name, repository.problem),
            next_step: String::new(),
            since: None,
        }));
        problems.sort_by_key(|problem| problem.severity);
        problems
    }

    fn pools(&self, look: &Look) -> Vec<PoolView> {
        let farm = self.settings.farm();
        let mut pools: BTreeMap<String, PoolView> = BTreeMap::new();
        for host in &farm.hosts {
            let pool = pools.entry(host.pool.clone()).or_insert_with(|| PoolView {
                name: host.pool.clone(),
                kind: match host.pool.as_str() {
                    "local" => "children of this farm's own process".to_owned(),
                    _ => "machines that dial in".to_owned(),
                },
                tier: host.tier.as_str().to_owned(),
                expected: 0,
                connected: 0,
                busy: 0,
                waiting: 0,
                problem: String::new(),
            });
            if pool.tier != host.tier.as_str() {
                "of each host".clone_into(&mut pool.tier);
            }
            pool.expected += u64::from(host.expected);
            pool.waiting += look.waiting.get(&host.name).copied().unwrap_or(0);
        }
        for machine in &look.machines {
            let Some(pool) = pools.get_mut(&machine.pool) else { continue };
            pool.connected += u64::from(machine.state != MachineState::Lost);
            pool.busy += u64::from(machine.state == MachineState::Leased);
        }
        for pool in pools.values_mut().filter(|pool| pool.connected < pool.expected) {
            pool.problem = format!("{} machines are missing", pool.expected - pool.connected);
        }
        pools.into_values().collect()
    }

    async fn phases(&self) -> Result<Vec<PhaseStat>, SourceError> {
        let sql = "SELECT phase, ended - started AS took FROM steps ORDER BY ended DESC LIMIT $1";
        let rows = self.viewer.database.read(sql, vec![STEPS.into()]).await.map_err(unread)?;
        let mut took: BTreeMap<Phase, Vec<u64>> = BTreeMap::new();
        for row in &rows {
            let phase: Phase = row.parse("phase").map_err(unread)?;
            took.entry(phase).or_default().push(row.int("took").map_err(unread)?.max(0) as u64 / 1000);
        }
        let stat = |(phase, mut took): (Phase, Vec<u64>)| {
            took.sort_unstable();
            let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
            PhaseStat { phase, count: took.len() as u64, median_ms: at(50), p95_ms: at(95) }
        };
        Ok(took.into_iter().map(stat).collect())
    }

    /// The services that we lean on, and the repositories that gitmirror knows.
    async fn services(&self) -> (Vec<ServiceHealth>, Vec<RepositoryStatus>) {
        let farm = self.settings.farm();
        let mirrored = self.mirror.repositories().await;
        let latest = self.planner.latest();
        let known: BTreeMap<String, _> = match &mirrored {
            Ok(known) => known.iter().map(|repository| (repository.name.clone(), repository)).collect(),
            Err(_) => BTreeMap::new(),
        };
        let repositories = farm
            .repositories
            .iter()
            .map(|repository| {
                let mirror = known.get(repository.name.as_str());
                RepositoryStatus {
                    name: repository.name.clone(),
                    origin: mirror.map_or_else(|| repository.origin.clone(), |mirror| mirror.origin.clone()),
                    fetched: mirror.and_then(|mirror| mirror.fetched_at.as_ref()).map(rpc::from_timestamp),
                    build_file: latest
                        .get(&repository.name)
                        .map(|(from, _)| from.clone())
                        .unwrap_or_default(),
                    problem: mirror.map(|mirror| mirror.error.clone()).unwrap_or_default(),
                }
            })
            .collect();
        let waiting = self.hub.problems().into_iter().find(|(name, _)| name == "outbox");
        let services = vec![
            ServiceHealth { name: "coordinator".to_owned(), up: true, detail: self.leads.clone() },
            ServiceHealth {
                name: "gitmirror".to_owned(),
                up: mirrored.is_ok(),
                detail: mirrored.err().map(|status| status.message().to_owned()).unwrap_or_default(),
            },
            ServiceHealth {
                name: "maintnerd".to_owned(),
                up: waiting.is_none(),
                detail: waiting.map(|(_, problem)| problem.text).unwrap_or_default(),
            },
        ];
        (services, repositories)
    }

    pub(super) async fn builders_view(&self) -> Result<BuildersView, SourceError> {
        let farm = self.settings.farm();
        let mut view = BuildersView::default();
        for (repository, (_, file)) in self.planner.latest() {
            for builder in &file.builders {
                let sql = "SELECT number, outcome, flakes, ended FROM builds WHERE builder = $1 AND repository = $2 \
                           AND outcome IS NOT NULL ORDER BY number DESC LIMIT 1";
                let args = vec![(&builder.name).into(), (&repository).into()];
                let last = self.viewer.database.read_first(sql, args).await.map_err(unread)?;
                view.builders.push(BuilderView {
                    name: builder.name.clone(),
                    repository: repository.clone(),
                    host: builder.host.clone(),
                    helpers: builder.tests.as_ref().map_or(0, |tests| tests.helpers),
                    owners: builder.owners.clone(),
                    known_issues: builder.known_issues.iter().map(|issue| format!("issue {issue}")).collect(),
                    last: last.as_ref().and_then(last_build),
                });
            }
        }
        view.builders.sort_by(|a, b| (&a.name, &a.repository).cmp(&(&b.name, &b.repository)));
        let names: Vec<HostType> = farm.hosts.iter().map(|host| host.name.clone()).collect();
        let connected = self.connected(names).await?;
        view.hosts = farm
            .hosts
            .iter()
            .zip(connected)
            .map(|(host, (connected, waiting))| HostView {
                name: host.name.clone(),
                pool: host.pool.clone(),
                tier: host.tier.as_str().to_owned(),
                reuse: reuse(host.reuse.as_str()),
                expected: u64::from(host.expected),
                connected,
                waiting,
                owners: host.owners.clone(),
                tags: host.tags.clone(),
                problem: if connected < u64::from(host.expected) {
                    format!(
                        "{} of {} machines are missing",
                        u64::from(host.expected) - connected,
                        host.expected
                    )
                } else {
                    String::new()
                },
            })
            .collect();
        view.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(view)
    }

    /// How many machines of each kind are connected, and how much waits for one.
    async fn connected(&self, hosts: Vec<HostType>) -> Result<Vec<(u64, u64)>, SourceError> {
        let look = move |state: &State| {
            let waits = waits(state);
            let up =
                |host: &HostType| state.machines_of(host).filter(|m| m.connection.is_some()).count() as u64;
            hosts.iter().map(|host| (up(host), waits.get(host).copied().unwrap_or(0))).collect::<Vec<_>>()
        };
        self.viewer.handle.ask(look).await.map_err(stopping)
    }
}

/// How much waits for a machine, by what kind.
fn waits(state: &State) -> BTreeMap<HostType, u64> {
    let mut waits = BTreeMap::new();
    let builds = state.builds().filter(|build| build.needs_machine()).map(|build| &build.plan.host);
    let sessions = state.sessions().filter(|session| session.seat.is_none()).map(|session| &session.host);
    for host in builds.chain(sessions) {
        *waits.entry(host.clone()).or_default() += 1;
    }
    waits
}

fn look(state: &State, pools: &BTreeMap<HostType, String>, now: Timestamp) -> Look {
    let held = state.machines().filter_map(|machine| Some((machine, state.holding(machine)?)));
    let mut leases: Vec<LeaseView> = held
        .map(|(machine, held)| LeaseView {
            id: held.lease,
            fence: held.fence,
            machine: machine.info.name.clone(),
            works_on: held.works_on,
            build: held.build,
            builder: held.build.and_then(|number| Some(state.build(number)?.key.builder.clone())),
            commit: held.build.and_then(|number| Some(state.build(number)?.key.commit)),
            is_try: held.build.and_then(|number| state.build(number)).is_some_and(|build| build.is_try),
            since: held.since,
            expires: held.expires,
        })
        .collect();
    leases.sort_by_key(|lease| (lease.since, lease.fence));
    Look {
        machines: state.machines().map(|found| machine(state, found, pools, now)).collect(),
        queue: state
            .waiting(QUEUE)
            .into_iter()
            .take(QUEUE)
            .filter_map(|number| queue_item(state, number))
            .collect(),
        queue_length: state.waiting_len() as u64,
        leases,
        sessions: state.sessions().map(|session| super::sessions::live(state, session)).collect(),
        waiting: waits(state),
    }
}

pub(super) fn queue_item(state: &State, number: BuildNumber) -> Option<QueueItem> {
    let build = state.build(number)?;
    let position = build.needs_machine().then(|| state.position(number));
    Some(QueueItem {
        build: number,
        work: number.to_string(),
        builder: build.key.builder.clone(),
        commit: build.key.commit,
        subject: build.subject.clone(),
        class: build.class.as_str().to_owned(),
        waiting: waiting(&state.wait_reason(number)?, position),
    })
}

pub(super) fn machine(
    state: &State,
    machine: &Machine,
    pools: &BTreeMap<HostType, String>,
    now: Timestamp,
) -> MachineView {
    let held = state.holding(machine);
    let found = match machine.state() {
        // It is suspected for a moment only, until it is known whether it is to blame.
        "idle" | "suspected" => MachineState::Idle,
        "leased" => MachineState::Leased,
        "cleaning" => MachineState::Cleaning,
        "broken" => MachineState::Broken,
        "draining" => MachineState::Draining,
        "quarantined" => MachineState::Quarantined,
        _ => MachineState::Lost,
    };
    MachineView {
        name: machine.info.name.clone(),
        pool: machine.info.host_types.iter().find_map(|host| pools.get(host)).cloned().unwrap_or_default(),
        host_types: machine.info.host_types.clone(),
        state: found,
        since: machine.since,
        works_on: held.as_ref().map(|held| held.works_on.clone()).unwrap_or_default(),
        build: held.and_then(|held| held.build),
        version: machine.info.version.clone(),
        platform: machine.info.platform.clone(),
        seen: if machine.connection.is_some() { now } else { machine.since },
        connected: machine.connection.map(|_| machine.connected),
        reuse: reuse(&machine.info.reuse),
        problem: if machine.problem.is_empty() {
            machine.quarantine.clone()
        } else {
            machine.problem.clone()
        },
        next_step: next_step(&machine.info.name, found),
    }
}

fn next_step(name: &MachineName, state: MachineState) -> String {
    match state {
        MachineState::Broken => format!("look at {name}, remove what is left, and start its buildlet again"),
        MachineState::Quarantined => {
            format!("look at {name}; once it is sound: farmer machine lift {name}")
        }
        MachineState::Lost => format!("start the buildlet of {name} again"),
        _ => String::new(),
    }
}

fn reuse(word: &str) -> Reuse {
    match word {
        "never" => Reuse::Never,
        "shared" => Reuse::Shared,
        _ => Reuse::Wiped,
    }
}

fn recent_build(record: read::BuildRecord) -> Option<RecentBuild> {
    let ended = record.ended?;
    Some(RecentBuild {
        number: record.number,
        builder: record.builder,
        commit: record.commit,
        subject: record.subject,
        state: cell::word(record.outcome?, record.flakes),
        reason: record.reason,
        ended,
        duration_ms: ended.since(record.started.unwrap_or(record.created)).as_millis() as u64,
    })
}

fn last_build(row: &store::Row) -> Option<LastBuild> {
    let outcome: types::Outcome = row.opt_parse("outcome").ok()??;
    let number = BuildNumber(row.number("number").ok()?);
    let state = cell::word(outcome, row.number("flakes").ok()?);
    Some(LastBuild { number, state, ended: row.opt_time("ended").ok()?? })
}
