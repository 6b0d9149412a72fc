//! What was tried of a change under review.

use std::collections::BTreeMap;

use pages::{
    SourceError,
    view::{ChangeView, State as Word, TriedBuild, TryState, TryView, Waiting, WordView},
};
use types::{BuildNumber, RepositoryName};

use super::{
    build, cell,
    source::{PagesSource, stopping, unread},
};
use crate::{
    core::{State, TryEnd, TrySet},
    records::{
        read::{self, BuildRecord},
        tries,
    },
};

/// How many tries of a change are shown.
const TRIES: usize = 20;

/// A build that has not ended: how it stands, and what it waits for.
type Standing = (pages::view::Cell, Option<Waiting>);

impl PagesSource {
    pub(crate) async fn change_view(
        &self,
        number: u32,
        repository: Option<&RepositoryName>,
    ) -> Result<ChangeView, SourceError> {
        let sets = tries::of_change(&self.viewer.database, number, repository, TRIES).await;
        let sets = sets.map_err(super::ViewError::from)?;
        let unknown = || SourceError::NotFound(format!("Nothing of a change {number} was tried."));
        let repository = sets.first().ok_or_else(unknown)?.change.repository.clone();
        if let Some(other) = sets.iter().find(|set| set.change.repository != repository) {
            let text = format!(
                "`{repository}` has a change {number}, and so has `{}`: say which, as in `?repo={repository}`.",
                other.change.repository
            );
            return Err(SourceError::Invalid(text));
        }
        let mut views = Vec::with_capacity(sets.len());
        for set in &sets {
            views.push(self.try_view(set).await?);
        }
        let farm = self.settings.farm();
        let project = farm.repository(&repository).and_then(|repository| repository.gerrit.clone());
        let review = project.map(|project| format!("{}/c/{}/+/{number}", project.url, project.project));
        Ok(ChangeView { repository, number, review: review.unwrap_or_default(), tries: views })
    }

    async fn try_view(&self, set: &TrySet) -> Result<TryView, SourceError> {
        let (database, repository) = (&self.viewer.database, &set.change.repository);
        let records = read::of_commit(database, repository, set.commit).await.map_err(unread)?;
        let records: BTreeMap<BuildNumber, BuildRecord> =
            records.into_iter().map(|record| (record.number, record)).collect();
        let at_base = match set.base {
            Some(base) => tries::outcomes(database, repository, base).await.map_err(unread)?,
            None => crate::ports::Outcomes::new(),
        };
        let active = self.standings(set).await?;
        let builds = set.builds.iter().map(|tried| {
            let record = records.get(&tried.number);
            let ended = record.and_then(|record| Some(cell::word(record.outcome?, record.flakes)));
            let standing = active.get(&tried.number).filter(|_| ended.is_none());
            let shown = standing.map(|(cell, _)| cell);
            TriedBuild {
                number: tried.number,
                builder: tried.builder.clone(),
                state: ended.or(shown.map(|cell| cell.state)).unwrap_or(Word::Waiting),
                percent: shown.and_then(|cell| cell.percent),
                reason: record.map(|record| record.reason.clone()).unwrap_or_default(),
                waiting: standing.and_then(|(_, waiting)| waiting.clone()),
                at_base: at_base.get(&tried.builder).map(|outcome| Word::from(*outcome)),
            }
        });
        let subject = set.builds.iter().find_map(|tried| records.get(&tried.number));
        Ok(TryView {
            patch_set: set.patch_set,
            commit: set.commit,
            subject: subject.map(|record| record.subject.clone()).unwrap_or_default(),
            base: set.base,
            state: state(set),
            begun: set.begun,
            ended: set.end.map(|(ended, _)| ended),
            builds: builds.collect(),
            notes: set.notes.clone(),
            words: self.words_of(set).await?,
        })
    }

    /// How the builds of a set stand that have not ended.
    async fn standings(&self, set: &TrySet) -> Result<BTreeMap<BuildNumber, Standing>, SourceError> {
        let pending: Vec<BuildNumber> = set.pending().collect();
        if pending.is_empty() {
            return Ok(BTreeMap::new());
        }
        let look = move |state: &State| {
            let standing = |number: BuildNumber| {
                let found = state.build(number)?;
                let cell = cell::active(state, found);
                let waits = cell.state == Word::Waiting;
                let reason = state.wait_reason(number).filter(|_| waits);
                let waiting = reason.map(|reason| build::waiting(&reason, Some(state.position(number))));
                Some((number, (cell, waiting)))
            };
            pending.into_iter().filter_map(standing).collect()
        };
        self.viewer.handle.ask(look).await.map_err(stopping)
    }

    async fn words_of(&self, set: &TrySet) -> Result<Vec<WordView>, SourceError> {
        let words = tries::words(&self.viewer.database, set.id).await.map_err(unread)?;
        let view = |(word, said, note)| WordView { word, said, note };
        Ok(words.into_iter().map(view).collect())
    }
}

fn state(set: &TrySet) -> TryState {
    match set.end {
        None => TryState::Running,
        Some((_, TryEnd::Passed)) => TryState::Passed,
        Some((_, TryEnd::Failed)) => TryState::Failed,
        Some((_, TryEnd::Unfinished)) => TryState::Unfinished,
        Some((_, TryEnd::Superseded)) => TryState::Superseded,
    }
}
