//! The stateful fake of [`Source`].

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;
use types::{BuildNumber, BuilderName, MachineName, RepositoryName};

use super::data;
use crate::{
    source::{LogSource, Source, SourceError},
    view::{
        BuildView, BuilderHistory, BuildersView, Cell, ChangeView, FarmView, GridQuery, GridView, LiveEvent,
        LogInfo, LogPosition, LogSection, MachineHistory, State, TestHistory,
    },
};

#[derive(Debug, Clone)]
struct Log {
    text: Vec<u8>,
    /// Where each line begins.
    lines: Vec<usize>,
    finished: bool,
    failure_line: Option<u64>,
    sections: Vec<LogSection>,
}

impl Log {
    fn new(text: Vec<u8>, finished: bool) -> Self {
        let mut log = Self { text, lines: Vec::new(), finished, failure_line: None, sections: Vec::new() };
        log.index();
        log
    }

    fn index(&mut self) {
        let starts = memchr::memchr_iter(b'\n', &self.text).map(|at| at + 1);
        self.lines = std::iter::once(0).chain(starts).filter(|start| *start < self.text.len()).collect();
    }
}

#[derive(Debug)]
struct Farm {
    grid: GridView,
    builds: BTreeMap<BuildNumber, BuildView>,
    logs: BTreeMap<BuildNumber, Log>,
    overview: FarmView,
    builders: BuildersView,
    machine: MachineHistory,
    builder: BuilderHistory,
    test: TestHistory,
    change: ChangeView,
    cancelled: Vec<(BuildNumber, String)>,
}

/// A farm in memory. What a test changes is announced as the real farm would.
pub struct FakeSource {
    farm: Mutex<Farm>,
    events: broadcast::Sender<LiveEvent>,
}

impl FakeSource {
    /// A farm with a small red grid, one failed build with its log, machines and problems.
    pub fn new() -> Arc<Self> {
        let build = data::failed_build();
        let mut log = Log::new(data::log_text().into_bytes(), true);
        log.failure_line = Some(data::FAILURE_LINE);
        log.sections = data::sections();
        let farm = Farm {
            grid: data::small_grid(),
            logs: BTreeMap::from([(build.number, log)]),
            builds: BTreeMap::from([(build.number, build)]),
            overview: data::farm(),
            builders: data::builders(),
            machine: data::machine_history(),
            builder: data::builder_history(),
            test: data::test_history(),
            change: data::change(),
            cancelled: Vec::new(),
        };
        Arc::new(Self { farm: Mutex::new(farm), events: broadcast::channel(1024).0 })
    }

    /// A farm that has just been started, with nothing in it.
    pub fn empty() -> Arc<Self> {
        let source = Self::new();
        {
            let mut farm = source.state();
            farm.grid = GridView::default();
            farm.builds.clear();
            farm.logs.clear();
            farm.builders = BuildersView::default();
            farm.overview = data::empty_farm();
        }
        source
    }

    fn state(&self) -> MutexGuard<'_, Farm> {
        self.farm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: LiveEvent) {
        // Nobody has a page open: nobody to tell.
        let _ = self.events.send(event);
    }

    /// How many pages listen.
    pub fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// Which builds were called off, and by whom.
    pub fn cancelled(&self) -> Vec<(BuildNumber, String)> {
        self.state().cancelled.clone()
    }

    /// Replaces the one machine that has a past.
    pub fn set_machine(&self, machine: MachineHistory) {
        self.state().machine = machine;
        self.tell(LiveEvent::Farm);
    }

    /// Replaces the one builder that has a past.
    pub fn set_builder(&self, builder: BuilderHistory) {
        self.state().builder = builder;
        self.tell(LiveEvent::Farm);
    }

    /// Replaces the one test that has a past.
    pub fn set_test(&self, test: TestHistory) {
        self.state().test = test;
    }

    /// Replaces the one change that was tried.
    pub fn set_change(&self, change: ChangeView) {
        self.state().change = change;
        self.tell(LiveEvent::Farm);
    }

    /// Replaces the grid.
    pub fn set_grid(&self, grid: GridView) {
        let repository = grid.repository.clone();
        self.state().grid = grid;
        if let Some(repository) = repository {
            self.tell(LiveEvent::Rows { repository });
        }
    }

    /// Changes a cell, by row and column.
    pub fn set_cell(&self, row: usize, column: usize, cell: Cell) {
        let event = {
            let mut farm = self.state();
            let grid = &mut farm.grid;
            let builder = grid.builders[column].name.clone();
            let changed = &mut grid.rows[row];
            changed.cells[column] = cell.clone();
            changed.version += u64::from(changed.version > 0);
            let commit = changed.commit.hash;
            grid.find_red();
            grid.repository.clone().map(|repository| LiveEvent::Cell { repository, commit, builder, cell })
        };
        if let Some(event) = event {
            self.tell(event);
        }
    }

    /// Adds or replaces a build.
    pub fn set_build(&self, build: BuildView) {
        let number = build.number;
        self.state().builds.insert(number, build);
        self.tell(LiveEvent::Build { number });
    }

    /// Replaces what `/farm` shows.
    pub fn set_farm(&self, farm: FarmView) {
        self.state().overview = farm;
        self.tell(LiveEvent::Farm);
    }

    /// Gives a build a log of one section.
    pub fn set_log(&self, number: BuildNumber, text: Vec<u8>, finished: bool) {
        let log = Log::new(text, finished);
        self.state().logs.insert(number, log);
        self.tell(LiveEvent::Log { number, attempt: 1 });
    }

    /// Adds to a log.
    pub fn append_log(&self, number: BuildNumber, text: &[u8]) {
        if let Some(log) = self.state().logs.get_mut(&number) {
            log.text.extend_from_slice(text);
            log.index();
        }
        self.tell(LiveEvent::Log { number, attempt: 1 });
    }

    /// Ends a log.
    pub fn finish_log(&self, number: BuildNumber) {
        if let Some(log) = self.state().logs.get_mut(&number) {
            log.finished = true;
        }
        self.tell(LiveEvent::Log { number, attempt: 1 });
    }

    fn with_log<T>(
        &self,
        number: BuildNumber,
        read: impl FnOnce(&Log, &BuildView) -> T,
    ) -> Result<T, SourceError> {
        let farm = self.state();
        match (farm.logs.get(&number), farm.builds.get(&number)) {
            (Some(log), Some(build)) => Ok(read(log, build)),
            _ => Err(unknown(number)),
        }
    }
}

fn unknown(number: BuildNumber) -> SourceError {
    SourceError::NotFound(format!("there is no build {number}"))
}

#[async_trait]
impl LogSource for FakeSource {
    async fn log(&self, number: BuildNumber, attempt: Option<u32>) -> Result<LogInfo, SourceError> {
        self.with_log(number, |log, build| LogInfo {
            build: number,
            attempt: attempt.unwrap_or(build.attempt),
            attempts: build.attempts.len() as u32,
            builder: build.builder.clone(),
            repository: build.repository.clone(),
            commit: build.commit.clone(),
            state: if log.finished { build.state } else { State::Running },
            bytes: log.text.len() as u64,
            lines: log.lines.len() as u64,
            finished: log.finished,
            sections: log.sections.clone(),
            failure_line: log.failure_line,
        })
    }

    async fn line_position(
        &self,
        number: BuildNumber,
        _: u32,
        line: u64,
    ) -> Result<LogPosition, SourceError> {
        self.with_log(number, |log, _| {
            let line = line.clamp(1, log.lines.len().max(1) as u64);
            LogPosition { line, byte: log.lines.get(line as usize - 1).copied().unwrap_or(0) as u64 }
        })
    }

    async fn byte_position(
        &self,
        number: BuildNumber,
        _: u32,
        byte: u64,
    ) -> Result<LogPosition, SourceError> {
        self.with_log(number, |log, _| {
            let line = log.lines.partition_point(|start| *start as u64 <= byte).max(1);
            LogPosition { line: line as u64, byte: log.lines.get(line - 1).copied().unwrap_or(0) as u64 }
        })
    }

    async fn bytes(&self, number: BuildNumber, _: u32, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.with_log(number, |log, _| {
            let end = (range.end as usize).min(log.text.len());
            let start = (range.start as usize).min(end);
            // As a real store may: never more than so many at once.
            Bytes::copy_from_slice(&log.text[start..end.min(start + 100_000)])
        })
    }
}

#[async_trait]
impl Source for FakeSource {
    async fn grid(&self, query: &GridQuery) -> Result<GridView, SourceError> {
        let farm = self.state();
        let wanted = query.repository.as_ref();
        if wanted.is_some() && wanted != farm.grid.repository.as_ref() {
            let name = wanted.map(ToString::to_string).unwrap_or_default();
            return Err(SourceError::NotFound(format!("there is no repository `{name}`")));
        }
        let mut grid = farm.grid.clone();
        let skipped =
            query.before.as_deref().and_then(|before| before.parse().ok()).unwrap_or(0).min(grid.rows.len());
        grid.rows.drain(..skipped);
        if grid.rows.len() > query.limit {
            grid.rows.truncate(query.limit);
            grid.older = Some((skipped + query.limit).to_string());
        }
        Ok(grid)
    }

    async fn build(&self, number: BuildNumber, _: Option<u32>) -> Result<BuildView, SourceError> {
        self.state().builds.get(&number).cloned().ok_or_else(|| unknown(number))
    }

    async fn farm(&self) -> Result<FarmView, SourceError> {
        Ok(self.state().overview.clone())
    }

    async fn builders(&self) -> Result<BuildersView, SourceError> {
        Ok(self.state().builders.clone())
    }

    async fn machine(&self, name: &MachineName) -> Result<MachineHistory, SourceError> {
        let history = self.state().machine.clone();
        let found = Some(history).filter(|history| history.machine.name == *name);
        found.ok_or_else(|| SourceError::NotFound(format!("there is no machine `{name}`")))
    }

    async fn builder(
        &self,
        name: &BuilderName,
        repository: Option<&RepositoryName>,
    ) -> Result<BuilderHistory, SourceError> {
        let history = self.state().builder.clone();
        let fits = history.name == *name && repository.is_none_or(|wanted| *wanted == history.repository);
        Some(history)
            .filter(|_| fits)
            .ok_or_else(|| SourceError::NotFound(format!("there is no builder `{name}`")))
    }

    async fn test(&self, name: &str) -> Result<TestHistory, SourceError> {
        let history = self.state().test.clone();
        let found = Some(history).filter(|history| history.name == name);
        found.ok_or_else(|| SourceError::NotFound(format!("no build knows a test `{name}`")))
    }

    async fn change(
        &self,
        number: u32,
        repository: Option<&RepositoryName>,
    ) -> Result<ChangeView, SourceError> {
        let change = self.state().change.clone();
        let fits = change.number == number && repository.is_none_or(|wanted| *wanted == change.repository);
        Some(change)
            .filter(|_| fits)
            .ok_or_else(|| SourceError::NotFound(format!("nothing of a change {number} was tried")))
    }

    async fn change_of(&self, commit: &str) -> Result<ChangeView, SourceError> {
        let change = self.state().change.clone();
        let fits = change.tries.iter().any(|tried| tried.commit.to_string().starts_with(commit));
        Some(change)
            .filter(|_| fits)
            .ok_or_else(|| SourceError::NotFound(format!("nothing of `{commit}` was tried")))
    }

    fn subscribe(&self) -> broadcast::Receiver<LiveEvent> {
        self.events.subscribe()
    }

    async fn cancel(&self, number: BuildNumber, by: &str) -> Result<(), SourceError> {
        {
            let mut farm = self.state();
            let build = farm.builds.get_mut(&number).ok_or_else(|| unknown(number))?;
            build.can_cancel = false;
            build.state = State::Cancelled;
            build.waiting = None;
            build.notes.push(format!("called off by {by}"));
            farm.cancelled.push((number, by.to_owned()));
        }
        self.tell(LiveEvent::Build { number });
        Ok(())
    }
}
