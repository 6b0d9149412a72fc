//! `FarmService`.

use api::coordinator::{
    self as wire, GetFarmRequest, GetFarmResponse, ListBuildersRequest, ListBuildersResponse,
    farm_service_server::FarmService,
};
use tonic::{Request, Response, Status};
use types::{BuildNumber, Timestamp};

use super::{convert, stopping, unread};
use crate::{
    core::{Machine, State},
    find::Planner,
    records::read,
    settings::Settings,
    shell::Hub,
    view::Viewer,
};

/// How much of the queue is answered.
const QUEUE: usize = 1000;

/// The farm itself.
#[derive(Clone)]
pub(crate) struct Farmland {
    pub(crate) viewer: Viewer,
    pub(crate) planner: Planner,
    pub(crate) settings: Settings,
    pub(crate) hub: Hub,
    pub(crate) started: Timestamp,
    pub(crate) clock: runtime::SharedClock,
}

#[tonic::async_trait]
impl FarmService for Farmland {
    async fn get_farm(&self, _: Request<GetFarmRequest>) -> Result<Response<GetFarmResponse>, Status> {
        let farm = self.settings.farm();
        let now = self.clock.now();
        let look = move |state: &State| {
            let machines: Vec<wire::Machine> =
                state.machines().map(|found| machine(state, found, now)).collect();
            let queue: Vec<BuildNumber> = state.waiting(QUEUE).into_iter().take(QUEUE).collect();
            (machines, queue, state.waiting_len())
        };
        let (machines, waiting, queue_length) = self.viewer.handle.ask(look).await.map_err(stopping)?;
        let active = self.viewer.active(waiting.clone()).await.map_err(stopping)?;
        let mut queue = Vec::with_capacity(waiting.len());
        for number in waiting {
            // What has been served in between waits no more.
            let Some(active) = active.get(&number) else { continue };
            let record = read::build(&self.viewer.database, number).await.map_err(|error| unread(&error))?;
            queue.extend(record.map(|record| convert::build(&record, Some(active))));
        }
        let mut repositories: Vec<String> =
            farm.repositories.iter().map(|known| known.name.to_string()).collect();
        repositories.sort();
        Ok(Response::new(GetFarmResponse {
            environment: farm.environment.as_str().to_owned(),
            machines,
            queue,
            queue_length: queue_length as u64,
            problems: self.hub.problems().into_iter().map(|(_, problem)| problem.text).collect(),
            repositories,
            started: Some(rpc::timestamp(self.started)),
            builds_ended: self.hub.ended(),
        }))
    }

    async fn list_builders(
        &self,
        _: Request<ListBuildersRequest>,
    ) -> Result<Response<ListBuildersResponse>, Status> {
        let farm = self.settings.farm();
        let mut builders: Vec<wire::Builder> = Vec::new();
        for (repository, (_, file)) in self.planner.latest() {
            builders.extend(file.builders.iter().map(|builder| wire::Builder {
                name: builder.name.to_string(),
                host_type: builder.host.to_string(),
                repository: repository.to_string(),
                helpers: builder.tests.as_ref().map_or(0, |tests| tests.helpers),
                owners: builder.owners.clone(),
                known_issues: builder.known_issues.iter().map(ToString::to_string).collect(),
            }));
        }
        builders.sort_by(|a, b| (&a.name, &a.repository).cmp(&(&b.name, &b.repository)));
        let names: Vec<types::HostType> = farm.hosts.iter().map(|host| host.name.clone()).collect();
        let look = move |state: &State| {
            let connected = |host| state.machines_of(host).filter(|m| m.connection.is_some()).count() as u32;
            names.iter().map(connected).collect::<Vec<u32>>()
        };
        let connected = self.viewer.handle.ask(look).await.map_err(stopping)?;
        let mut hosts: Vec<wire::Host> = farm
            .hosts
            .iter()
            .zip(connected)
            .map(|(host, connected)| wire::Host {
                name: host.name.to_string(),
                reuse: host.reuse.as_str().to_owned(),
                expected: host.expected,
                connected,
                owners: host.owners.clone(),
                tags: host.tags.clone(),
            })
            .collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(ListBuildersResponse { builders, hosts }))
    }
}

fn machine(state: &State, machine: &Machine, now: Timestamp) -> wire::Machine {
    let held = state.holding(machine);
    // While it is connected it is heard of every few seconds.
    let seen = if machine.connection.is_some() { now } else { machine.since };
    wire::Machine {
        name: machine.info.name.to_string(),
        host_type: machine.info.host_types.first().map(ToString::to_string).unwrap_or_default(),
        state: machine.state().to_owned(),
        works_on: held.as_ref().map(|held| held.works_on.clone()).unwrap_or_default(),
        version: machine.info.version.clone(),
        platform: machine.info.platform.clone(),
        seen: Some(rpc::timestamp(seen)),
        since: Some(rpc::timestamp(machine.since)),
        reuse: machine.info.reuse.clone(),
        problem: if machine.problem.is_empty() {
            machine.quarantine.clone()
        } else {
            machine.problem.clone()
        },
        lease: held.as_ref().map(|held| held.lease.to_string()).unwrap_or_default(),
        fence: held.map_or(0, |held| held.fence.0),
        pid: machine.info.pid,
    }
}
