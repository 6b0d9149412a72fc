//! Does one task of one lease, and says how it ended. Every task may be done again from the start, or re-attached to.

use std::time::Duration;

use buildlet_client::{Error, ExecSpec, Fetched, Lease};
use buildspec::script::{self, Separator};
use bytes::Bytes;
use futures_util::StreamExt;
use pages::view::LiveEvent;
use tracing::warn;
use types::{CommitHash, ExecId, Outcome, RepositoryName};

use super::{
    command::{self, Broken},
    perform::{Line, Worker},
    snapshots,
};
use crate::core::{Assignment, Event, ListedTest, SnapshotKey, Task, TaskResult, TestPlan};

/// Pauses between tries of what may succeed later.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// Does a task. When the connection goes, it ends without a word: the machine's own event decides.
pub(super) async fn run(worker: Worker, line: Line, assignment: Assignment) {
    let runner = Runner { worker, line, assignment };
    let result = match runner.task().await {
        Ok(result) => result,
        Err(Broken::Gone) => return,
        Err(broken) => {
            if runner.line.is_closing(&broken).await {
                return;
            }
            runner.check_fitness(&broken).await;
            TaskResult::Fault { reason: describe(&broken), of_machine: broken.is_of_machine() }
        }
    };
    let Runner { worker, assignment, .. } = runner;
    let (number, attempt) = (assignment.attempt.build, assignment.attempt.attempt);
    worker.hub.tell(|| LiveEvent::Log { number, attempt });
    // Shutting down: the machine goes on, and the next coordinator asks.
    let _ =
        worker.handle.tell(Event::TaskEnded { lease: assignment.lease, task: assignment.task, result }).await;
}

pub(super) fn describe(broken: &Broken) -> String {
    let mut text = broken.to_string();
    let mut source = std::error::Error::source(broken);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Line {
    /// Has the machine fetch an archive. What a server cannot give now is asked for again a few times.
    pub(super) async fn fetch(&self, lease: Lease, url: &str, folder: &str) -> Result<Fetched, Broken> {
        let mut pauses = PAUSES.iter();
        loop {
            match self.buildlet.fetch_tree(lease, url, folder).await {
                Ok(fetched) => return Ok(fetched),
                Err(error @ Error::FetchFailed(_)) => match pauses.next() {
                    Some(pause) => tokio::select! {
                        biased;
                        () = self.closed.cancelled() => return Err(Broken::Gone),
                        () = tokio::time::sleep(*pause) => {}
                    },
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether an error is the connection's end, which is noticed a moment before or after the error.
    pub(super) async fn is_closing(&self, broken: &Broken) -> bool {
        let lost = matches!(broken, Broken::Machine(error) if error.is_connection_loss());
        lost && tokio::time::timeout(Duration::from_secs(8), self.closed.cancelled()).await.is_ok()
    }
}

impl Worker {
    /// Where machines fetch the source of a commit.
    pub(super) fn source_url(&self, repository: &RepositoryName, commit: CommitHash) -> String {
        format!("{}/archive/{repository}/{commit}.tar", self.gitmirror)
    }

    /// Where machines fetch a snapshot.
    pub(super) fn snapshot_url(&self, key: &SnapshotKey) -> String {
        format!("{}/snapshot/{}.tar.zst", self.url, key.0)
    }
}

struct Runner {
    worker: Worker,
    line: Line,
    assignment: Assignment,
}

impl Runner {
    async fn task(&self) -> Result<TaskResult, Broken> {
        match &self.assignment.task {
            Task::Source { clean } => self.source(*clean).await,
            Task::SnapshotFetch(key) => self.snapshot_fetch(key).await,
            Task::Make(exec) => self.make(*exec).await,
            Task::SnapshotStore(key) => self.snapshot_store(key).await,
            Task::List(exec) => self.list(*exec).await,
            Task::Shard(_, exec) => self.shard(*exec).await,
            Task::Wait => Err(Broken::Gone),
        }
    }

    fn lease(&self) -> Lease {
        Lease { id: self.assignment.lease, fence: self.assignment.fence }
    }

    async fn source(&self, clean: bool) -> Result<TaskResult, Broken> {
        let Assignment { key, plan, .. } = &self.assignment;
        if clean {
            self.line.buildlet.empty(self.lease()).await?;
        }
        let url = self.worker.source_url(&key.repository, key.commit);
        self.fetch(&url, &plan.source_folder).await
    }

    async fn snapshot_fetch(&self, key: &SnapshotKey) -> Result<TaskResult, Broken> {
        let url = self.worker.snapshot_url(key);
        self.fetch(&url, "").await
    }

    async fn fetch(&self, url: &str, folder: &str) -> Result<TaskResult, Broken> {
        let fetched = self.line.fetch(self.lease(), url, folder).await?;
        let detail = format!("{} in {} files and folders", size(fetched.bytes), fetched.entries);
        Ok(TaskResult::Done { detail, bytes: fetched.bytes })
    }

    async fn make(&self, exec: ExecId) -> Result<TaskResult, Broken> {
        let whole = self.assignment.plan.make_script();
        let ended = self.command(exec, script::shell(&whole), self.assignment.plan.make_seconds).await?;
        Ok(ended.result(self.has_folder(), self.worker.tuning.mutation))
    }

    async fn list(&self, exec: ExecId) -> Result<TaskResult, Broken> {
        let Some(plan) = &self.assignment.plan.tests else { return Err(Broken::Gone) };
        let list = plan.list.as_deref().unwrap_or_default();
        let ended = self.command(exec, script::list(list), self.assignment.plan.make_seconds).await?;
        let result = ended.result(self.has_folder(), self.worker.tuning.mutation);
        if !matches!(result, TaskResult::Command { outcome: Outcome::Passed, .. }) {
            return Ok(result);
        }
        // What the command wrote, without a last line of ours.
        let output = self.worker.logs.read(exec, 0..ended.end.output_bytes).await?;
        let failed =
            |reason: String| TaskResult::Command { outcome: Outcome::Failed, reason, ended: ended.at };
        match script::parse_list(&output, separator(plan)) {
            Ok(names) => match plan.select(names) {
                Ok(names) => Ok(TaskResult::Listed(self.pack(plan, names).await)),
                Err(reason) => Ok(failed(reason)),
            },
            Err(error) => Ok(failed(error.to_string())),
        }
    }

    /// Packs tests into shards by how long they lately took, for as many machines as the build asks for.
    async fn pack(&self, plan: &TestPlan, names: Vec<String>) -> Vec<Vec<ListedTest>> {
        let builder = &self.assignment.key.builder;
        let known = self.worker.records.timings(builder).await.unwrap_or_else(|error| {
            warn!(builder.name = %builder, "past timings of {builder} cannot be read: {error}");
            std::collections::BTreeMap::new()
        });
        let seconds = |name: &str| known.get(name).map(|millis| *millis as f64 / 1000.0);
        let limits = buildspec::plan::Limits {
            target_seconds: plan.shard_millis as f64 / 1000.0,
            max_shards: plan.max_shards,
            machines: self.assignment.plan.helpers as usize + 1,
            max_bytes: script::max_bytes(&plan.run),
        };
        let expected = buildspec::plan::expected(&names, &seconds);
        let shards = buildspec::plan::shards(&names, &expected, limits);
        let test = |index: usize| ListedTest {
            name: names[index].clone(),
            // `as` keeps within what fits.
            millis: ((expected[index] * 1000.0).round() as u32).max(1),
        };
        shards.into_iter().map(|shard| shard.into_iter().map(test).collect()).collect()
    }

    async fn shard(&self, exec: ExecId) -> Result<TaskResult, Broken> {
        let Some(plan) = &self.assignment.plan.tests else { return Err(Broken::Gone) };
        let command = if plan.list.is_some() {
            let names: Vec<&str> = self.assignment.tests.iter().map(String::as_str).collect();
            script::run(&plan.run, &names, separator(plan))
        } else {
            script::shell(&plan.run)
        };
        let ended = self.command(exec, command, self.assignment.plan.test_seconds).await?;
        Ok(ended.result(self.has_folder(), self.worker.tuning.mutation))
    }

    /// Stores what make left. Nothing is visible before it is whole and its digest is right.
    async fn snapshot_store(&self, key: &SnapshotKey) -> Result<TaskResult, Broken> {
        let exclude = self.assignment.plan.snapshot.as_ref().map_or(&[][..], |plan| &plan.exclude);
        let mut chunks = self.line.buildlet.read_tree(self.lease(), exclude).await?;
        let keep = |error: store::BlobError| Broken::Log(error.into());
        let mut writer = self.worker.blobs.writer(&snapshots::blob(&key.0)).await.map_err(keep)?;
        while let Some(chunk) = chunks.next().await {
            writer.write(chunk?).await.map_err(keep)?;
        }
        let bytes = writer.commit().await.map_err(keep)?;
        Ok(TaskResult::Done { detail: size(bytes), bytes })
    }

    async fn command(
        &self,
        exec: ExecId,
        command: script::Command,
        seconds: u64,
    ) -> Result<command::Ended, Broken> {
        let plan = &self.assignment.plan;
        let spec = ExecSpec {
            argv: command.argv,
            environment: self.environment(),
            folder: plan.folder.clone(),
            stdin: Bytes::from(command.stdin),
            timeout: Some(Duration::from_secs(seconds)),
            max_output_bytes: self.worker.settings.output_bytes(&plan.host),
            submitted: !self.assignment.is_try,
            ..ExecSpec::default()
        };
        command::run(&self.worker, &self.line, self.lease(), exec, &spec).await
    }

    /// What every command sees. Secrets are for what was submitted: a try runs what nobody has reviewed.
    fn environment(&self) -> Vec<(String, String)> {
        let Assignment { plan, key, attempt, is_try, machine, .. } = &self.assignment;
        let mut all = self.worker.settings.host_environment(&plan.host);
        all.push(("FARMER_MACHINE".to_owned(), machine.to_string()));
        all.extend(plan.variables(key, attempt.build));
        if !is_try {
            all.extend(self.worker.settings.secrets(&plan.secrets));
        }
        all
    }

    fn has_folder(&self) -> bool {
        let plan = &self.assignment.plan;
        !plan.folder.is_empty() && plan.folder != plan.source_folder
    }

    /// Asks a machine that refuses work whether it will take any.
    async fn check_fitness(&self, broken: &Broken) {
        let machine = &self.assignment.machine;
        warn!(machine.name = %machine, "task of {} on {machine} failed: {}", self.assignment.attempt, describe(broken));
        if !matches!(broken, Broken::Machine(_)) {
            return;
        }
        if let Ok(status) = self.line.buildlet.status().await
            && (status.draining || !status.broken.is_empty())
        {
            let unfit = Event::Unfit { machine: machine.clone(), problem: status.broken };
            let _ = self.worker.handle.tell(unfit).await;
        }
    }
}

impl TestPlan {
    /// The tests that were asked for.
    fn select(&self, names: Vec<String>) -> Result<Vec<String>, String> {
        if self.patterns.is_empty() {
            return Ok(names);
        }
        let globs: Vec<buildspec::Glob> =
            self.patterns.iter().filter_map(|pattern| pattern.parse().ok()).collect();
        let chosen: Vec<String> =
            names.into_iter().filter(|name| globs.iter().any(|glob| glob.matches(name))).collect();
        if chosen.is_empty() {
            return Err(format!("no test matches {}", self.patterns.join(", ")));
        }
        Ok(chosen)
    }
}

fn separator(plan: &TestPlan) -> Separator {
    if plan.nul { Separator::Nul } else { Separator::Line }
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
