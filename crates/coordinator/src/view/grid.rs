//! Commits × builders.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use pages::{
    SourceError,
    view::{BranchChoice, Cell, CommitRef, GridBuilder, GridQuery, GridRow, GridView, State as Word},
};
use store::Row;
use types::{BuildNumber, BuilderName, CommitHash, RepositoryName};

use super::{
    cell,
    source::{PagesSource, stopping, unread},
};
use crate::core::State;

/// Commits at the most.
const MOST: usize = 500;

/// Cells of a commit, by builder.
type Cells = BTreeMap<CommitHash, BTreeMap<BuilderName, Cell>>;

impl PagesSource {
    pub(super) async fn grid_view(&self, query: &GridQuery) -> Result<GridView, SourceError> {
        let choices = self.choices().await?;
        let farm = self.settings.farm();
        let repository =
            query.repository.clone().or_else(|| farm.repositories.first().map(|first| first.name.clone()));
        let mut view = GridView { repository: repository.clone(), choices, ..GridView::default() };
        let Some(repository) = repository else { return Ok(view) };
        if farm.repository(&repository).is_none() {
            return Err(SourceError::NotFound(format!("There is no repository `{repository}`.")));
        }
        view.branch = query.branch.clone().unwrap_or_else(|| main_branch(&view.choices, &repository));
        let limit = query.limit.clamp(1, MOST);
        let git_ref = format!("refs/heads/{}", view.branch);
        let before = match &query.before {
            None => i64::MAX,
            Some(text) => text
                .parse()
                .map_err(|_| SourceError::Invalid("There is no such place in the grid.".to_owned()))?,
        };
        let (commits, older) = self.commits(&repository, &git_ref, before, limit).await?;
        view.older = older.map(|place| place.to_string());
        let cells = self.cells(&repository, &git_ref, before, limit).await?;
        self.fill(&mut view, &repository, commits, cells).await?;
        view.find_red();
        Ok(view)
    }

    /// Branches that have commits.
    async fn choices(&self) -> Result<Vec<BranchChoice>, SourceError> {
        let sql = "SELECT repository, git_ref FROM refs ORDER BY repository, git_ref";
        let rows = self.viewer.database.read(sql, vec![]).await.map_err(unread)?;
        let farm = self.settings.farm();
        let choice = |row: &Row| {
            let repository: RepositoryName = row.parse("repository").ok()?;
            let branch = row.text("git_ref").ok()?.strip_prefix("refs/heads/")?.to_owned();
            let built = farm.repository(&repository).is_some_and(|known| known.builds_branch(&branch));
            built.then_some(BranchChoice { repository, branch })
        };
        Ok(rows.iter().filter_map(choice).collect())
    }

    async fn commits(
        &self,
        repository: &RepositoryName,
        git_ref: &str,
        before: i64,
        limit: usize,
    ) -> Result<(Vec<CommitRef>, Option<i64>), SourceError> {
        let sql = "SELECT commit_hash, subject, author, time, place FROM commits WHERE repository = $1 \
                   AND git_ref = $2 AND place < $3 ORDER BY place DESC LIMIT $4";
        let args = vec![repository.into(), git_ref.into(), before.into(), (limit + 1).into()];
        let rows = self.viewer.database.read(sql, args).await.map_err(unread)?;
        let older = if rows.len() > limit { rows[limit - 1].int("place").ok() } else { None };
        let commit = |row: &Row| {
            Ok(CommitRef {
                hash: row.parse("commit_hash")?,
                subject: row.text("subject")?.to_owned(),
                author: row.text("author")?.to_owned(),
                time: row.time("time")?,
            })
        };
        let commits: Result<Vec<_>, store::ReadError> = rows.iter().take(limit).map(commit).collect();
        Ok((commits.map_err(unread)?, older))
    }

    /// All cells of those commits in one query; what is active is as of now.
    async fn cells(
        &self,
        repository: &RepositoryName,
        git_ref: &str,
        before: i64,
        limit: usize,
    ) -> Result<Cells, SourceError> {
        let sql = "SELECT b.number, b.commit_hash, b.builder, b.outcome, b.reason, b.flakes FROM builds b JOIN \
                   (SELECT commit_hash FROM commits WHERE repository = $1 AND git_ref = $2 AND place < $3 \
                   ORDER BY place DESC LIMIT $4) c ON b.commit_hash = c.commit_hash \
                   WHERE b.repository = $1 AND b.variant = '' ORDER BY b.number";
        let args = vec![repository.into(), git_ref.into(), before.into(), limit.into()];
        let rows = self.viewer.database.read(sql, args).await.map_err(unread)?;
        let mut cells = Cells::new();
        let mut open: BTreeMap<BuildNumber, (CommitHash, BuilderName)> = BTreeMap::new();
        for row in &rows {
            let number = BuildNumber(row.number("number").map_err(unread)?);
            let commit: CommitHash = row.parse("commit_hash").map_err(unread)?;
            let builder: BuilderName = row.parse("builder").map_err(unread)?;
            let outcome: Option<types::Outcome> = row.opt_parse("outcome").map_err(unread)?;
            let shown = if let Some(outcome) = outcome {
                let flakes = row.number("flakes").map_err(unread)?;
                cell::ended(number, (outcome, flakes), row.text("reason").map_err(unread)?)
            } else {
                open.insert(number, (commit, builder.clone()));
                Cell { state: Word::Running, percent: None, build: Some(number), title: String::new() }
            };
            cells.entry(commit).or_default().insert(builder, shown);
        }
        let numbers: Vec<BuildNumber> = open.keys().copied().collect();
        let look = move |state: &State| -> Vec<(BuildNumber, Cell)> {
            let active = |number| Some((number, cell::active(state, state.build(number)?)));
            numbers.into_iter().filter_map(active).collect()
        };
        for (number, shown) in self.viewer.handle.ask(look).await.map_err(stopping)? {
            if let Some((commit, builder)) = open.remove(&number) {
                cells.entry(commit).or_default().insert(builder, shown);
            }
        }
        Ok(cells)
    }

    async fn fill(
        &self,
        view: &mut GridView,
        repository: &RepositoryName,
        commits: Vec<CommitRef>,
        mut cells: Cells,
    ) -> Result<(), SourceError> {
        let latest = self.planner.latest().remove(repository).map(|(_, file)| file);
        let mut names: BTreeSet<BuilderName> = cells.values().flat_map(|row| row.keys().cloned()).collect();
        names.extend(latest.iter().flat_map(|file| file.builders.iter().map(|builder| builder.name.clone())));
        view.builders = names
            .iter()
            .map(|name| {
                let builder = latest.as_ref().and_then(|file| file.builder(name));
                GridBuilder {
                    name: name.clone(),
                    owners: builder.map(|builder| builder.owners.clone()).unwrap_or_default(),
                    known_issues: builder
                        .map(|builder| {
                            builder.known_issues.iter().map(|issue| format!("issue {issue}")).collect()
                        })
                        .unwrap_or_default(),
                }
            })
            .collect();
        for commit in commits {
            let mut known = cells.remove(&commit.hash).unwrap_or_default();
            let row: Vec<Cell> =
                names.iter().map(|name| known.remove(name).unwrap_or_else(Cell::not_built)).collect();
            view.commits_in_work += u64::from(row.iter().any(|cell| cell.state.is_active()));
            view.rows.push(GridRow { commit, version: version(&row), cells: row });
        }
        let farm = self.settings.farm();
        view.machines_expected = farm.hosts.iter().map(|host| u64::from(host.expected)).sum();
        let up =
            |state: &State| state.machines().filter(|machine| machine.connection.is_some()).count() as u64;
        view.machines_up = self.viewer.handle.ask(up).await.map_err(stopping)?;
        let last = "SELECT MAX(ended) AS ended FROM builds WHERE outcome IS NOT NULL";
        let last = self.viewer.database.read_first(last, vec![]).await.map_err(unread)?;
        view.last_result = last.and_then(|row| row.opt_time("ended").ok().flatten());
        let problem = format!("builders of {repository}");
        view.problem = self
            .hub
            .problems()
            .into_iter()
            .find(|(name, _)| *name == problem)
            .map(|(_, problem)| problem.text);
        Ok(())
    }
}

/// Changes when a cell does.
fn version(cells: &[Cell]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for cell in cells {
        (cell.state, cell.percent, cell.build.map(|build| build.0), &cell.title).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// The branch that is shown first: `main` or `master` if there is one.
fn main_branch(choices: &[BranchChoice], repository: &RepositoryName) -> String {
    let branches: Vec<&str> = choices
        .iter()
        .filter(|choice| choice.repository == *repository)
        .map(|choice| choice.branch.as_str())
        .collect();
    let known = ["main", "master"].into_iter().find(|name| branches.contains(name));
    known.or(branches.first().copied()).unwrap_or("main").to_owned()
}
