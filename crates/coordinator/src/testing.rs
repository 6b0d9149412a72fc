//! The coordinator as the simulator runs it: the production engine over whatever ports it is given, without listeners,
//! and with a way to kill it between any two of its steps.

use std::{sync::Arc, time::Duration};

use buildspec::Farm;
use runtime::Tasks;
use store::Database;
use tokio_util::sync::CancellationToken;
use types::{BuildNumber, HostType, MachineName};

use crate::{
    core::{Accept, Event},
    engine::{self, Engine, Urls, Ways},
    ports::{Buildlet, Records, RecordsError},
    records::SqlRecords,
    settings::Settings,
    shell::{Hub, Stopped},
};
pub use crate::{engine::Ports, records::MIGRATIONS, shell::Tuning};

/// Records in a database that has [`MIGRATIONS`].
pub fn sql_records(database: Database) -> Arc<dyn Records> {
    Arc::new(SqlRecords(database))
}

/// A coordinator that runs.
#[derive(Clone)]
pub struct Coordinator {
    tasks: Tasks,
    ways: Ways,
}

/// It runs no more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the coordinator does not run")]
pub struct NotRunning;

impl From<Stopped> for NotRunning {
    fn from(_: Stopped) -> Self {
        Self
    }
}

impl Coordinator {
    /// Takes up what was going on, and runs.
    pub async fn start(ports: Ports, farm: Farm) -> Result<Self, RecordsError> {
        let tasks = Tasks::new(CancellationToken::new());
        let state = engine::restore(&ports).await?;
        let settings = Settings::new(farm, None);
        let (ways, inbox) = engine::ways(&ports, &settings, &tasks);
        let urls = Urls {
            gitmirror: Arc::from("gitmirror"),
            own: Arc::from("coordinator"),
            pages: Arc::from("http://farm"),
        };
        let parts = (settings, Hub::new(0), urls);
        let engine = Engine::new(ports, state, (ways.clone(), inbox), parts, &tasks);
        engine.start(&tasks, &tasks.shutdown());
        Ok(Self { tasks, ways })
    }

    /// A machine has connected.
    pub fn connect(
        &self,
        name: MachineName,
        host_types: Vec<HostType>,
        buildlet: Arc<dyn Buildlet>,
        closed: CancellationToken,
    ) {
        self.ways.machines.arrived(name, host_types, buildlet, closed);
    }

    /// Asks for builds; answers once they are durable.
    pub async fn accept(&self, accept: Accept) -> Result<Vec<BuildNumber>, NotRunning> {
        Ok(self.ways.handle.accept(accept).await?)
    }

    /// Tells what has happened.
    pub async fn tell(&self, event: Event) -> Result<(), NotRunning> {
        Ok(self.ways.handle.tell(event).await?)
    }

    /// Ends it as `kill -9` would.
    pub fn kill(&self) {
        self.tasks.kill();
    }

    /// Ends it as an operator would: what is pending is written.
    pub fn shut_down(&self) {
        self.tasks.shutdown().cancel();
    }

    /// Waits until it was shut down or has failed; the error is the first failure.
    pub async fn ended(&self) -> anyhow::Result<()> {
        self.tasks.clone().finish(Duration::from_secs(5)).await
    }
}
