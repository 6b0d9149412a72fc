//! What became of one machine, one builder, one test.

use std::collections::BTreeMap;

use pages::{
    SourceError,
    view::{
        BuilderHistory, BuilderRun, CommitRef, FaultRecord, FaultShare, LeaseRecord, MachineHistory,
        PhaseTime, Sibling, State as Word, TestHistory, TestLine, TestRun,
    },
};
use store::{ReadError, Row};
use types::{BuildNumber, BuilderName, HostType, MachineName, Outcome, Phase, RepositoryName, Timestamp};

use super::{
    build::{self, unended},
    cell, farm,
    source::{PagesSource, stopping, unread},
};
use crate::{
    core::{Build, Machine, State},
    records::{
        read,
        test_results::{self, KEPT_BUILDS, TestRecord},
    },
};

/// How many leases of a machine are shown.
const LEASES: usize = 50;
/// With how many machines of its kind one is compared.
const SIBLINGS: usize = 20;
/// How many builds of a builder are shown.
const BUILDS: usize = 60;
/// How much of a builder's queue is shown.
const QUEUE: usize = 20;
/// How many waiting builds of each kind of machine and class are looked through for it.
const LOOKED_THROUGH: usize = 500;
/// How many runs of a test are looked at, over all builders.
const RUNS: usize = 5000;
/// How many of them are shown of one builder.
const RUNS_OF_BUILDER: usize = 120;

impl PagesSource {
    pub(super) async fn machine_history(&self, name: &MachineName) -> Result<MachineHistory, SourceError> {
        let settings = self.settings.farm();
        let now = self.clock.now();
        let pools: BTreeMap<HostType, String> =
            settings.hosts.iter().map(|host| (host.name.clone(), host.pool.clone())).collect();
        let wanted = name.clone();
        let look = move |state: &State| {
            let found = state.machine(&wanted)?;
            let hosts = &found.info.host_types;
            let like = |other: &&Machine| {
                other.info.name != wanted && other.info.host_types.iter().any(|host| hosts.contains(host))
            };
            let shown = state.machines().filter(like).take(SIBLINGS);
            let siblings: Vec<_> = shown.map(|one| farm::machine(state, one, &pools, now)).collect();
            let count = state.machines().filter(like).count() as u64;
            Some((farm::machine(state, found, &pools, now), siblings, count))
        };
        let found = self.viewer.handle.ask(look).await.map_err(stopping)?;
        let (machine, others, sibling_count) = found
            .ok_or_else(|| SourceError::NotFound(format!("The farm has heard of no machine `{name}`.")))?;
        let mut siblings = Vec::with_capacity(others.len());
        for machine in others {
            let share = self.fault_share(&machine.name).await.map_err(unread)?;
            siblings.push(Sibling { machine, share });
        }
        let mut owners: Vec<String> = settings
            .hosts
            .iter()
            .filter(|host| machine.host_types.contains(&host.name))
            .flat_map(|host| host.owners.iter().cloned())
            .collect();
        owners.dedup();
        let leases = self.leases_of(name).await.map_err(unread)?;
        let oldest = leases.last().map_or(now, |lease| lease.since);
        let faults = self.faults_of(name, oldest).await.map_err(unread)?;
        let share = self.fault_share(name).await.map_err(unread)?;
        Ok(MachineHistory {
            machine,
            farm_version: self.version.clone(),
            owners,
            share,
            siblings,
            sibling_count,
            leases,
            sessions: self.sessions_of(name).await?,
            faults,
        })
    }

    /// Under how many of its newest leases the machine failed. Indexes find its leases and the steps of each.
    async fn fault_share(&self, name: &MachineName) -> Result<FaultShare, ReadError> {
        let sql = "SELECT COUNT(*) AS leases, COALESCE(SUM(CASE WHEN EXISTS (SELECT 1 FROM steps s \
                   WHERE s.build = l.build AND s.attempt = l.attempt AND s.machine = l.machine AND s.outcome = $2 \
                   AND s.started >= l.granted AND (l.ended IS NULL OR s.started <= l.ended)) THEN 1 ELSE 0 END), 0) \
                   AS faulty FROM (SELECT build, attempt, machine, granted, ended FROM leases WHERE machine = $1 \
                   ORDER BY granted DESC LIMIT $3) l";
        let args = vec![name.into(), Outcome::Infrastructure.into(), LEASES.into()];
        let row = self.viewer.database.read_first(sql, args).await?;
        row.map_or(Ok(FaultShare::default()), |row| {
            Ok(FaultShare { leases: row.number("leases")?, faulty: row.number("faulty")? })
        })
    }

    async fn leases_of(&self, name: &MachineName) -> Result<Vec<LeaseRecord>, ReadError> {
        let sql = "SELECT l.build, l.role, l.granted, l.ended AS released, l.reason AS why, b.builder, b.commit_hash, \
                   b.subject, b.author, b.commit_time, b.outcome, b.flakes, b.attempts FROM leases l \
                   JOIN builds b ON b.number = l.build WHERE l.machine = $1 ORDER BY l.granted DESC LIMIT $2";
        let rows = self.viewer.database.read(sql, vec![name.into(), LEASES.into()]).await?;
        let lease = |row: &Row| {
            Ok(LeaseRecord {
                build: BuildNumber(row.number("build")?),
                builder: row.parse("builder")?,
                commit: commit(row)?,
                state: word(row.opt_parse("outcome")?, row.number("flakes")?, row.number("attempts")?),
                main: row.text("role")? == "main",
                since: row.time("granted")?,
                ended: row.opt_time("released")?,
                reason: row.text("why")?.to_owned(),
            })
        };
        rows.iter().map(lease).collect()
    }

    /// What the machine could not do, of leases since a time.
    async fn faults_of(&self, name: &MachineName, since: Timestamp) -> Result<Vec<FaultRecord>, ReadError> {
        let sql = "SELECT s.build, s.phase, s.ended, s.detail FROM leases l JOIN steps s ON s.build = l.build \
                   AND s.attempt = l.attempt AND s.machine = l.machine AND s.started >= l.granted \
                   AND (l.ended IS NULL OR s.started <= l.ended) \
                   WHERE l.machine = $1 AND l.granted >= $2 AND s.outcome = $3 ORDER BY s.ended DESC LIMIT $4";
        let args = vec![name.into(), since.into(), Outcome::Infrastructure.into(), LEASES.into()];
        let rows = self.viewer.database.read(sql, args).await?;
        let fault = |row: &Row| {
            Ok(FaultRecord {
                build: BuildNumber(row.number("build")?),
                phase: row.parse("phase")?,
                at: row.time("ended")?,
                detail: row.text("detail")?.to_owned(),
            })
        };
        rows.iter().map(fault).collect()
    }

    pub(super) async fn builder_history(
        &self,
        name: &BuilderName,
        wanted: Option<&RepositoryName>,
    ) -> Result<BuilderHistory, SourceError> {
        let all = self.builders_view().await?;
        let definition = all
            .builders
            .into_iter()
            .find(|one| one.name == *name && wanted.is_none_or(|wanted| *wanted == one.repository));
        let repository = match (wanted, &definition) {
            (Some(wanted), _) => Some(wanted.clone()),
            (None, Some(definition)) => Some(definition.repository.clone()),
            (None, None) => self.last_repository(name).await.map_err(unread)?,
        };
        let unknown = || SourceError::NotFound(format!("There is no builder `{name}`."));
        let repository = repository.ok_or_else(unknown)?;
        let builds = self.builds_of(name, &repository).await.map_err(unread)?;
        if builds.is_empty() && definition.is_none() {
            return Err(unknown());
        }
        let (builder, of) = (name.clone(), repository.clone());
        let look = move |state: &State| {
            let own = |one: &Build| one.key.builder == builder && one.key.repository == of;
            let found = state.waiting(LOOKED_THROUGH).into_iter();
            let found = found.filter(|number| state.build(*number).is_some_and(own)).take(QUEUE);
            let queue: Vec<_> = found.filter_map(|number| farm::queue_item(state, number)).collect();
            let count = state
                .builds()
                .filter(|one| own(one) && (one.attempt().is_none() || one.needs_machine()))
                .count() as u64;
            (queue, count)
        };
        let (queue, queue_length) = self.viewer.handle.ask(look).await.map_err(stopping)?;
        let host =
            definition.as_ref().and_then(|one| all.hosts.into_iter().find(|host| host.name == one.host));
        Ok(BuilderHistory { name: name.clone(), repository, definition, host, queue, queue_length, builds })
    }

    /// Of which repository the newest build of a builder is.
    async fn last_repository(&self, name: &BuilderName) -> Result<Option<RepositoryName>, ReadError> {
        let sql = "SELECT repository FROM builds WHERE builder = $1 ORDER BY number DESC LIMIT 1";
        let row = self.viewer.database.read_first(sql, vec![name.into()]).await?;
        row.map(|row| row.parse("repository")).transpose()
    }

    async fn builds_of(
        &self,
        builder: &BuilderName,
        repository: &RepositoryName,
    ) -> Result<Vec<BuilderRun>, ReadError> {
        let database = &self.viewer.database;
        let builds = read::of_builder(database, builder, repository, BUILDS).await?;
        let Some(oldest) = builds.last().map(|build| build.number) else { return Ok(Vec::new()) };
        // As the last attempt went; the primary key finds the steps of each build.
        let sql = "SELECT s.build, s.phase, MIN(s.started) AS started, MAX(s.ended) AS ended FROM builds b \
                   JOIN steps s ON s.build = b.number AND s.attempt = b.attempts WHERE b.builder = $1 \
                   AND b.repository = $2 AND b.is_try = 0 AND b.number >= $3 GROUP BY s.build, s.phase";
        let rows = database.read(sql, vec![builder.into(), repository.into(), oldest.into()]).await?;
        let mut spans: BTreeMap<BuildNumber, Vec<Span>> = BTreeMap::new();
        for row in &rows {
            let span = (row.time("started")?, row.time("ended")?, row.parse("phase")?);
            spans.entry(BuildNumber(row.number("build")?)).or_default().push(span);
        }
        let run = |record: read::BuildRecord| BuilderRun {
            number: record.number,
            commit: build::commit(&record),
            state: word(record.outcome, record.flakes, record.attempts),
            phases: partition(spans.remove(&record.number).unwrap_or_default()),
            reason: record.reason,
            ended: record.ended,
        };
        Ok(builds.into_iter().map(run).collect())
    }

    pub(crate) async fn test_history(&self, name: &str) -> Result<TestHistory, SourceError> {
        let mut lines: BTreeMap<(BuilderName, RepositoryName), Vec<TestRun>> = BTreeMap::new();
        for record in test_results::runs(&self.viewer.database, name, RUNS).await.map_err(unread)? {
            let told: Vec<TestRun> = test_runs(&record).collect();
            let runs = lines.entry((record.builder, record.repository)).or_default();
            if runs.len() < RUNS_OF_BUILDER {
                runs.extend(told);
            }
        }
        if lines.is_empty() {
            let text = format!("None of the last {KEPT_BUILDS} builds ran a test `{name}`.");
            return Err(SourceError::NotFound(text));
        }
        let line = |((builder, repository), runs)| TestLine { builder, repository, runs };
        Ok(TestHistory {
            name: name.to_owned(),
            builders: lines.into_iter().map(line).collect(),
            kept_builds: KEPT_BUILDS,
        })
    }
}

/// When a phase began and ended.
type Span = (Timestamp, Timestamp, Phase);

/// Phases one after another: what helpers do while the main machine is at something else takes no further time.
fn partition(mut spans: Vec<Span>) -> Vec<PhaseTime> {
    spans.sort_unstable();
    let mut at = Timestamp(i64::MIN);
    let mut phases = Vec::new();
    for (started, ended, phase) in spans {
        let ms = ended.since(started.max(at)).as_millis() as u64;
        at = at.max(ended);
        if ms > 0 {
            phases.push(PhaseTime { phase, ms });
        }
    }
    phases
}

fn commit(row: &Row) -> Result<CommitRef, ReadError> {
    Ok(CommitRef {
        hash: row.parse("commit_hash")?,
        subject: row.text("subject")?.to_owned(),
        author: row.text("author")?.to_owned(),
        time: row.time("commit_time")?,
    })
}

fn word(outcome: Option<Outcome>, flakes: u32, attempts: u32) -> Word {
    outcome.map_or_else(|| unended(attempts), |outcome| cell::word(outcome, flakes))
}

/// What a row tells of a test, the newest first: a shard that failed was run twice.
fn test_runs(record: &TestRecord) -> impl Iterator<Item = TestRun> {
    let run = |outcome: Outcome, machine: Option<MachineName>, duration_ms: Option<u64>| TestRun {
        build: record.build,
        attempt: record.attempt,
        shard: record.shard,
        commit: CommitRef {
            hash: record.commit,
            subject: record.subject.clone(),
            author: record.author.clone(),
            time: record.commit_time,
        },
        state: outcome.into(),
        among: record.among,
        machine,
        duration_ms,
        ended: record.ended,
    };
    let first = record.first.clone().map(|(outcome, machine)| run(outcome, Some(machine), None));
    std::iter::once(run(record.outcome, record.machine.clone(), record.millis)).chain(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_together_are_the_whole_also_where_they_overlap() {
        let at = |seconds| Timestamp::from_seconds(seconds);
        let spans = vec![
            (at(70), at(82), Phase::SnapshotFetch),
            (at(4), at(9), Phase::Source),
            (at(80), at(200), Phase::Test),
            (at(9), at(74), Phase::Make),
        ];
        let told: Vec<_> = partition(spans).iter().map(|one| (one.phase, one.ms / 1000)).collect();
        assert_eq!(
            told,
            [(Phase::Source, 5), (Phase::Make, 65), (Phase::SnapshotFetch, 8), (Phase::Test, 118)]
        );
    }
}
