//! The farm as pages see it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use pages::{
    LogSource, Source, SourceError,
    view::{
        BuildView, BuilderHistory, BuildersView, ChangeView, FarmView, GridQuery, GridView, LiveEvent,
        LogInfo, LogPosition, LogSection, MachineHistory, State as Word, TestHistory,
    },
};
use runtime::SharedClock;
use tokio::sync::broadcast;
use tracing::error;
use types::{BuildNumber, BuilderName, MachineName, Outcome, RepositoryName, Timestamp};

use super::{Viewer, cell, full::ViewError};
use crate::{
    core::Event,
    find::{Mirror, Planner},
    records::{read, tries},
    settings::Settings,
    shell::{Hub, Stopped},
};

/// What pages ask. Clones see the same farm.
#[derive(Clone)]
pub(crate) struct PagesSource {
    pub(crate) viewer: Viewer,
    pub(crate) planner: Planner,
    pub(crate) mirror: Mirror,
    pub(crate) settings: Settings,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
    pub(crate) started: Timestamp,
    pub(crate) version: String,
    /// Since when and where this coordinator leads, in words; empty if there can be no other.
    pub(crate) leads: String,
}

impl From<ViewError> for SourceError {
    fn from(error: ViewError) -> Self {
        match &error {
            ViewError::UnknownBuild(_) | ViewError::UnknownAttempt(_) => Self::NotFound(error.to_string()),
            ViewError::Stopped(_) => Self::Unavailable("The coordinator is restarting.".to_owned()),
            ViewError::Load(source) => {
                error!("a page cannot be made: {source}");
                Self::Unavailable("The farm's database cannot be read.".to_owned())
            }
            ViewError::Log(source) => {
                error!("a page cannot be made: {source}");
                Self::Unavailable("The log cannot be read.".to_owned())
            }
        }
    }
}

pub(super) fn unread(error: store::ReadError) -> SourceError {
    ViewError::from(error).into()
}

pub(super) fn stopping(stopped: Stopped) -> SourceError {
    ViewError::from(stopped).into()
}

#[async_trait]
impl LogSource for PagesSource {
    async fn log(&self, number: BuildNumber, attempt: Option<u32>) -> Result<LogInfo, SourceError> {
        let record = read::build(&self.viewer.database, number).await.map_err(unread)?;
        let record = record.ok_or_else(|| SourceError::from(ViewError::UnknownBuild(number)))?;
        let log = self.viewer.log(number, attempt).await?;
        let state =
            record.outcome.map_or(if log.is_some() { Word::Running } else { Word::Waiting }, |outcome| {
                cell::word(outcome, record.flakes)
            });
        let mut info = LogInfo {
            build: number,
            attempt: attempt.unwrap_or(1),
            attempts: record.attempts.max(1),
            builder: record.builder.clone(),
            repository: record.repository.clone(),
            commit: super::build::commit(&record),
            state,
            bytes: 0,
            lines: 0,
            finished: record.outcome.is_some(),
            sections: Vec::new(),
            failure_line: None,
        };
        let Some(log) = log else { return Ok(info) };
        info.attempt = log.attempt.attempt;
        info.attempts = info.attempts.max(info.attempt);
        info.bytes = log.len();
        info.finished = log.finished;
        info.lines = self.lines(&log).await?;
        for (part, _, before) in log.placed() {
            info.sections.push(LogSection {
                name: part.name.clone(),
                first_line: before + 1,
                lines: part.line_ends.max(u64::from(part.bytes > 0)),
                state: part.outcome.map_or(Word::Running, Word::from),
                duration_ms: part.millis,
            });
        }
        info.failure_line = super::build::failure_line(&self.viewer.logs, &log).await?;
        Ok(info)
    }

    async fn line_position(
        &self,
        number: BuildNumber,
        attempt: u32,
        line: u64,
    ) -> Result<LogPosition, SourceError> {
        let Some(log) = self.viewer.log(number, Some(attempt)).await? else {
            return Ok(LogPosition { line: 1, byte: 0 });
        };
        let (line, byte) = log.line(&self.viewer.logs, line).await.map_err(ViewError::from)?;
        Ok(LogPosition { line, byte })
    }

    async fn byte_position(
        &self,
        number: BuildNumber,
        attempt: u32,
        byte: u64,
    ) -> Result<LogPosition, SourceError> {
        let Some(log) = self.viewer.log(number, Some(attempt)).await? else {
            return Ok(LogPosition { line: 1, byte: 0 });
        };
        let (line, byte) = log.line_at(&self.viewer.logs, byte).await.map_err(ViewError::from)?;
        Ok(LogPosition { line, byte })
    }

    async fn bytes(
        &self,
        number: BuildNumber,
        attempt: u32,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        let Some(log) = self.viewer.log(number, Some(attempt)).await? else { return Ok(Bytes::new()) };
        Ok(log.bytes(&self.viewer.logs, range).await.map_err(ViewError::from)?)
    }
}

impl PagesSource {
    /// How many lines there are; a last one without its end counts.
    pub(super) async fn lines(&self, log: &super::MergedLog) -> Result<u64, SourceError> {
        let len = log.len();
        let last = log.bytes(&self.viewer.logs, len.saturating_sub(1)..len).await.map_err(ViewError::from)?;
        Ok(log.line_ends() + u64::from(last.first().is_some_and(|byte| *byte != b'\n')))
    }
}

#[async_trait]
impl Source for PagesSource {
    async fn grid(&self, query: &GridQuery) -> Result<GridView, SourceError> {
        self.grid_view(query).await
    }

    async fn build(&self, number: BuildNumber, attempt: Option<u32>) -> Result<BuildView, SourceError> {
        self.build_view(number, attempt).await
    }

    async fn farm(&self) -> Result<FarmView, SourceError> {
        self.farm_view().await
    }

    async fn builders(&self) -> Result<BuildersView, SourceError> {
        self.builders_view().await
    }

    async fn machine(&self, name: &MachineName) -> Result<MachineHistory, SourceError> {
        self.machine_history(name).await
    }

    async fn builder(
        &self,
        name: &BuilderName,
        repository: Option<&RepositoryName>,
    ) -> Result<BuilderHistory, SourceError> {
        self.builder_history(name, repository).await
    }

    async fn test(&self, name: &str) -> Result<TestHistory, SourceError> {
        self.test_history(name).await
    }

    async fn change(
        &self,
        number: u32,
        repository: Option<&RepositoryName>,
    ) -> Result<ChangeView, SourceError> {
        self.change_view(number, repository).await
    }

    async fn change_of(&self, commit: &str) -> Result<ChangeView, SourceError> {
        let found = tries::change_of(&self.viewer.database, commit).await.map_err(unread)?;
        let unknown = || SourceError::NotFound(format!("Nothing of a commit `{commit}` was tried."));
        let (number, repository) = found.ok_or_else(unknown)?;
        self.change_view(number, Some(&repository)).await
    }

    fn subscribe(&self) -> broadcast::Receiver<LiveEvent> {
        self.hub.live()
    }

    async fn cancel(&self, number: BuildNumber, by: &str) -> Result<(), SourceError> {
        let known = read::build(&self.viewer.database, number).await.map_err(unread)?;
        if known.is_none() {
            return Err(ViewError::UnknownBuild(number).into());
        }
        let event = Event::Cancel { number, reason: format!("called off by {by}") };
        self.viewer.handle.tell(event).await.map_err(stopping)?;
        self.viewer.handle.ask(|_| ()).await.map_err(stopping)
    }
}

/// Whether an outcome is worth opening a log at.
pub(super) fn is_failure(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Infrastructure))
}
