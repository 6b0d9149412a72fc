//! `/status/reverse.json`, `/status/post-submit-active.json` and `/builders?mode=json`: machines, what they do, and what
//! there is to build with.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::State as Extract,
    http::{HeaderMap, Uri},
    response::Response,
};
use serde::Serialize;
use types::{BuilderName, CommitHash, HostType, MachineName, Timestamp};

use super::origin;
use crate::{
    respond::{self, Format},
    router::Shared,
    source::SourceError,
    view::{BuildersView, FarmView, MachineState, MachineView},
};

/// Machines by kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReverseStatus {
    host_types: BTreeMap<HostType, HostStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostStatus {
    host_type: HostType,
    connected: u64,
    expect: u64,
    idle: u64,
    busy: u64,
    waiters: u64,
    machines: BTreeMap<MachineName, MachineStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MachineStatus {
    name: MachineName,
    host_type: HostType,
    connected_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_sec: Option<f64>,
    version: String,
    busy: bool,
}

/// A build that has a machine.
#[derive(Debug, Serialize)]
struct ActiveBuild {
    builder: BuilderName,
    commit: CommitHash,
    #[serde(rename = "statusURL")]
    status: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configurations {
    builders: BTreeMap<BuilderName, BuilderConfiguration>,
    hosts: BTreeMap<HostType, HostConfiguration>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BuilderConfiguration {
    name: BuilderName,
    host_type: HostType,
    known_issues: Vec<u64>,
    notes: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfiguration {
    host_type: HostType,
    is_reverse: bool,
    expect_num: u64,
    owners: Vec<Person>,
    notes: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Person {
    name: String,
}

/// A time as the old documents write it.
pub(super) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds()).map(|time| time.to_string()).unwrap_or_default()
}

pub(crate) async fn reverse(Extract(shared): Extract<Shared>, headers: HeaderMap) -> Response {
    let both = async { Ok::<_, SourceError>((shared.source.farm().await?, shared.source.builders().await?)) };
    match both.await {
        Ok((farm, builders)) => {
            respond::json(&headers, &ReverseStatus::of(&farm, &builders, shared.options.clock.now()))
        }
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

pub(crate) async fn active(Extract(shared): Extract<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    match shared.source.farm().await {
        Ok(farm) => respond::json(&headers, &running(&farm, &origin(&headers, &uri))),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

/// `/builders?mode=json`.
pub(crate) async fn builders(shared: &Shared, headers: &HeaderMap) -> Response {
    match shared.source.builders().await {
        Ok(view) => respond::json(headers, &Configurations::of(view)),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

impl ReverseStatus {
    fn of(farm: &FarmView, builders: &BuildersView, now: Timestamp) -> Self {
        let host_types = builders.hosts.iter().map(|host| {
            let there = farm.machines.iter().filter(|machine| machine.state != MachineState::Lost);
            let machines: BTreeMap<_, _> = there
                .filter(|machine| machine.host_types.contains(&host.name))
                .map(|machine| (machine.name.clone(), MachineStatus::of(machine, &host.name, now)))
                .collect();
            let count =
                |is: fn(&MachineStatus) -> bool| machines.values().filter(|one| is(one)).count() as u64;
            let status = HostStatus {
                host_type: host.name.clone(),
                connected: machines.len() as u64,
                expect: host.expected,
                idle: count(|one| one.idle_sec.is_some()),
                busy: count(|one| one.busy),
                waiters: host.waiting,
                machines,
            };
            (host.name.clone(), status)
        });
        Self { host_types: host_types.collect() }
    }
}

impl MachineStatus {
    /// One that takes no work for now is neither idle nor busy.
    fn of(machine: &MachineView, host: &HostType, now: Timestamp) -> Self {
        let busy = match machine.state {
            MachineState::Leased | MachineState::Cleaning => true,
            MachineState::Draining => !machine.works_on.is_empty(),
            MachineState::Idle | MachineState::Broken | MachineState::Quarantined | MachineState::Lost => {
                false
            }
        };
        let lasts = now.since(machine.since).as_secs_f64();
        Self {
            name: machine.name.clone(),
            host_type: host.clone(),
            connected_sec: machine.connected.map_or(0.0, |since| now.since(since).as_secs_f64()),
            idle_sec: (machine.state == MachineState::Idle).then_some(lasts),
            busy_sec: busy.then_some(lasts),
            version: machine.version.clone(),
            busy,
        }
    }
}

/// Builds of commits, each once, however many machines it has.
fn running(farm: &FarmView, origin: &str) -> Vec<ActiveBuild> {
    let mut seen = BTreeSet::new();
    let builds = farm.leases.iter().filter(|lease| !lease.is_try).filter_map(|lease| {
        let build = lease.build.filter(|build| seen.insert(*build))?;
        Some(ActiveBuild {
            builder: lease.builder.clone()?,
            commit: lease.commit?,
            status: format!("{origin}/log/{build}"),
        })
    });
    builds.collect()
}

impl Configurations {
    /// Of builders that have a name in common, the first.
    fn of(view: BuildersView) -> Self {
        let mut builders = BTreeMap::new();
        for builder in view.builders {
            let issue = |issue: &String| {
                let digits = issue.rsplit(|char: char| !char.is_ascii_digit()).next().unwrap_or_default();
                digits.parse().ok()
            };
            let name = builder.name.clone();
            builders.entry(name).or_insert_with(|| BuilderConfiguration {
                known_issues: builder.known_issues.iter().filter_map(issue).collect(),
                name: builder.name,
                host_type: builder.host,
                notes: format!("builds {}", builder.repository),
            });
        }
        let hosts = view.hosts.into_iter().map(|host| {
            let configuration = HostConfiguration {
                host_type: host.name.clone(),
                is_reverse: host.pool == "reverse",
                expect_num: host.expected,
                owners: host.owners.into_iter().map(|name| Person { name }).collect(),
                notes: host.problem,
            };
            (host.name, configuration)
        });
        Self { builders, hosts: hosts.collect() }
    }
}
