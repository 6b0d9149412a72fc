//! One world: a farm with its project, machines and neighbours, drawn from a seed.

use std::sync::{Arc, Mutex};

use buildspec::Farm;
use coordinator::core::BuildKey;
use store::MemoryBlobs;
use types::{BuildNumber, CommitHash, MachineName};

use crate::{
    context::{Context, lock},
    coordinator::Seat,
    judge::Judge,
    logs::Stored,
    machine::Machine,
    maintnerd::Log,
    planted::Planted,
    project::{Project, REPOSITORY},
    reviews::Host,
    rng::Rng,
    tables::Tables,
    truth::Truth,
};

/// All parts of a world.
pub(crate) struct World {
    pub(crate) context: Arc<Context>,
    pub(crate) farm: Farm,
    pub(crate) tables: Arc<Mutex<Tables>>,
    pub(crate) logs: Stored,
    pub(crate) blobs: MemoryBlobs,
    pub(crate) log: Log,
    pub(crate) project: Project,
    pub(crate) host: Host,
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) seat: Seat,
    pub(crate) truth: Truth,
    /// The bug that was put in on purpose.
    pub(crate) planted: Option<Planted>,
    /// Commits that were pushed and must be built.
    pub(crate) pushed: Mutex<Vec<CommitHash>>,
    /// The log was another for a while: only the last commit is sure to be built.
    pub(crate) only_tip: Mutex<bool>,
    /// The next push is forced away at once.
    pub(crate) vanishing: Mutex<bool>,
    /// Builds that were accepted at once: their callers were told their numbers.
    pub(crate) promised: Mutex<Vec<BuildNumber>>,
    /// Machines that are in quarantine now.
    pub(crate) quarantined: Mutex<Vec<MachineName>>,
}

const FARM: &str = r#"
name = "Simulated"
[[repositories]]
name = "example"
origin = "/example"
gerrit = { url = "http://127.0.0.1" }
tries = { user = "farmer", password = "/none" }
[[hosts]]
name = "h1"
pool = "reverse"
[[hosts]]
name = "h2"
pool = "reverse"
"#;

impl World {
    /// Draws a world.
    pub(crate) fn draw(seed: u64, judge: Arc<Judge>, planted: Option<Planted>) -> Arc<Self> {
        let farm = runtime::config::parse::<Farm>("farm.toml", FARM).expect("our own file is right");
        let mut rng = Rng::new(seed ^ 0x6d61_6368);
        let count = rng.between(8, 14);
        let machines = (0..count).map(|number| {
            let name: MachineName = format!("m{number}").parse().expect("a plain word is a name");
            let hosts: &[&str] = match number {
                0 => &["h1"],
                1 => &["h2"],
                _ => [&["h1"][..], &["h2"], &["h1", "h2"]][rng.between(0, 3) as usize],
            };
            let hosts = hosts.iter().map(|host| host.parse().expect("a plain word is a host type"));
            Machine::new(name, hosts.collect())
        });
        let machines = machines.collect();
        Arc::new(Self {
            context: Context::new(seed, judge),
            farm,
            tables: Arc::default(),
            logs: Stored::default(),
            blobs: MemoryBlobs::default(),
            log: Log::default(),
            project: Project::default(),
            host: Host::default(),
            machines,
            seat: Seat::default(),
            truth: Truth::default(),
            planted,
            pushed: Mutex::default(),
            only_tip: Mutex::default(),
            vanishing: Mutex::default(),
            promised: Mutex::default(),
            quarantined: Mutex::default(),
        })
    }

    /// Whether somebody works, or is about to.
    pub(crate) fn is_busy(&self) -> bool {
        let free = |machine: &Arc<Machine>| machine.process().is_some_and(|process| process.is_free());
        !lock(&self.tables).is_done() || !self.machines.iter().all(free)
    }

    /// What is not as it will be once all is done; empty when the farm has come to rest.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let mut left = Vec::new();
        let tables = lock(&self.tables);
        left.extend(tables.active().map(|number| format!("build {number} has not ended")));
        left.extend(tables.outbox.iter().map(|id| format!("the result of {id} is in the outbox")));
        for number in tables.ends.keys() {
            if !self.log.has_result(*number) {
                left.push(format!("the result of {number} is not in the mutation log"));
            }
        }
        let pushed = lock(&self.pushed).clone();
        let sure = if *lock(&self.only_tip) { pushed.len().saturating_sub(1) } else { 0 };
        for commit in &pushed[sure..] {
            let Some(tree) = self.project.tree(*commit) else { continue };
            let expected =
                if tree.builders.is_empty() { vec!["farmer.toml".to_owned()] } else { tree.builders.clone() };
            for builder in expected {
                let key = BuildKey {
                    repository: REPOSITORY.parse().expect("a plain word is a name"),
                    builder: builder.parse().expect("a plain word is a name"),
                    commit: *commit,
                    variant: String::new(),
                };
                if tables.number(&key).is_none() {
                    left.push(format!("{builder} of {} was never accepted", commit.short()));
                }
            }
        }
        for number in lock(&self.promised).iter().filter(|number| !tables.has_build(**number)) {
            left.push(format!("build {number} was promised and is lost"));
        }
        let words = tables.unsaid(usize::MAX).into_iter();
        left.extend(
            words.map(|one| {
                format!("`{}` of change {} is not said", one.word.as_str(), one.set.change.number)
            }),
        );
        let unanswered = self.unanswered().into_iter();
        let unanswered = unanswered.filter(|(_, commit)| !tables.is_tried(*commit));
        left.extend(
            unanswered.map(|(number, _)| format!("change {number} asks for a try and has no answer")),
        );
        drop(tables);
        for machine in &self.machines {
            if !machine.process().is_some_and(|process| process.is_free()) {
                left.push(format!("machine {} is not idle", machine.name));
            }
        }
        left
    }
}
