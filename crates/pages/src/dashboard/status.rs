//! `/?mode=json` and `/?mode=failures`: what builders say of commits, as log tools read it.

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
};

use axum::{
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use types::{BuilderName, CommitHash, RepositoryName, Timestamp};

use super::origin;
use crate::{
    respond::{self, Format},
    router::Shared,
    source::{Source, SourceError},
    view::{Cell, GridQuery, GridView, State},
};

/// How many commits a page has.
const COMMITS: usize = 30;
/// The last page there is.
const LAST_PAGE: usize = 33;
/// How many commits are read at once.
const ROWS: usize = 200;
/// The branch that stands for all of them.
const MIXED: &str = "mixed";

/// Which document is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Json,
    Failures,
}

/// What is asked.
pub(crate) struct Asked<'a> {
    /// `json` or `failures`.
    pub(crate) mode: &'a str,
    /// A repository, also by the import path that ends with its name; the farm's first if empty.
    pub(crate) repository: &'a str,
    /// A branch, or `mixed`; the main one if empty.
    pub(crate) branch: &'a str,
    /// From 0.
    pub(crate) page: usize,
}

#[derive(Debug, Serialize)]
struct BuildStatus {
    builders: Vec<BuilderName>,
    revisions: Vec<Revision>,
}

#[derive(Debug, Serialize)]
struct Revision {
    repo: String,
    #[serde(rename = "revision")]
    commit: CommitHash,
    date: String,
    branch: String,
    author: String,
    desc: String,
    /// One for each builder: nothing, `ok`, or where the log of the failure is.
    results: Vec<String>,
    #[serde(skip)]
    time: Timestamp,
}

/// Answers in the mode that is asked for.
pub(crate) async fn answer(shared: &Shared, asked: Asked<'_>, headers: &HeaderMap, uri: &Uri) -> Response {
    let mode = match asked.mode {
        "json" => Mode::Json,
        "failures" => Mode::Failures,
        other => {
            let error = SourceError::Invalid(format!("there is no mode `{other}`: `json` or `failures`"));
            return respond::error(&shared.options, Format::Text, &error);
        }
    };
    match (read(&*shared.source, &asked, &origin(headers, uri)).await, mode) {
        (Ok(status), Mode::Json) => respond::json(headers, &status),
        (Ok(status), Mode::Failures) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], status.failures()).into_response()
        }
        (Err(error), Mode::Json) => respond::error(&shared.options, Format::Json, &error),
        (Err(error), Mode::Failures) => respond::error(&shared.options, Format::Text, &error),
    }
}

async fn read(source: &dyn Source, asked: &Asked<'_>, origin: &str) -> Result<BuildStatus, SourceError> {
    if asked.page > LAST_PAGE {
        return Err(SourceError::Invalid(format!("there are {LAST_PAGE} pages and a first: ask for builds")));
    }
    let wanted = (asked.page + 1) * COMMITS;
    let branch = Some(asked.branch).filter(|branch| !branch.is_empty() && *branch != MIXED);
    let mut grids = of_repository(source, asked.repository, branch, wanted).await?;
    let shown =
        grids.first().map(|grid| (grid.repository.clone(), grid.branch.clone(), grid.choices.clone()));
    if asked.branch == MIXED
        && let Some((repository, main, choices)) = shown
    {
        for other in
            choices.iter().filter(|one| Some(&one.repository) == repository.as_ref() && one.branch != main)
        {
            grids.extend(of_branch(source, repository.as_ref(), Some(&other.branch), wanted).await?);
        }
    }
    let mut status = BuildStatus::of(&grids, origin);
    if asked.branch == MIXED {
        status.revisions.sort_by_key(|revision| std::cmp::Reverse(revision.time));
    }
    status.revisions.drain(..status.revisions.len().min(wanted - COMMITS));
    status.revisions.truncate(COMMITS);
    Ok(status)
}

/// The newest rows of a repository, also if it is named by a longer path.
async fn of_repository(
    source: &dyn Source,
    name: &str,
    branch: Option<&str>,
    wanted: usize,
) -> Result<Vec<GridView>, SourceError> {
    if name.is_empty() {
        return of_branch(source, None, branch, wanted).await;
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let mut error = SourceError::NotFound(format!("there is no repository `{name}`"));
    for name in [name, last] {
        match name.parse::<RepositoryName>() {
            Ok(repository) => match of_branch(source, Some(&repository), branch, wanted).await {
                Err(SourceError::NotFound(text)) => error = SourceError::NotFound(text),
                answer => return answer,
            },
            Err(wrong) => error = SourceError::Invalid(wrong.to_string()),
        }
    }
    Err(error)
}

/// The newest rows of a branch, in pieces.
async fn of_branch(
    source: &dyn Source,
    repository: Option<&RepositoryName>,
    branch: Option<&str>,
    wanted: usize,
) -> Result<Vec<GridView>, SourceError> {
    let (mut grids, mut left, mut before) = (Vec::new(), wanted, None);
    loop {
        let query = GridQuery {
            repository: repository.cloned(),
            branch: branch.map(ToOwned::to_owned),
            limit: left.min(ROWS),
            before,
        };
        let grid = source.grid(&query).await?;
        left = left.saturating_sub(grid.rows.len());
        let more = !grid.rows.is_empty() && left > 0;
        before = grid.older.clone().filter(|_| more);
        grids.push(grid);
        if before.is_none() {
            return Ok(grids);
        }
    }
}

impl BuildStatus {
    /// What grids say together, each commit once.
    fn of(grids: &[GridView], origin: &str) -> Self {
        let names: BTreeSet<&BuilderName> =
            grids.iter().flat_map(|grid| &grid.builders).map(|builder| &builder.name).collect();
        let builders: Vec<BuilderName> = names.into_iter().cloned().collect();
        let mut seen = HashSet::new();
        let mut revisions = Vec::new();
        for grid in grids {
            let columns: Vec<Option<usize>> = builders
                .iter()
                .map(|name| grid.builders.iter().position(|builder| builder.name == *name))
                .collect();
            for row in grid.rows.iter().filter(|row| seen.insert(row.commit.hash)) {
                let said = |column: &Option<usize>| column.and_then(|column| row.cells.get(column));
                let results = columns.iter().map(|column| said(column).map(|cell| result(cell, origin)));
                revisions.push(Revision {
                    repo: grid.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
                    commit: row.commit.hash,
                    date: super::farm::rfc3339(row.commit.time),
                    branch: grid.branch.clone(),
                    author: row.commit.author.clone(),
                    desc: row.commit.subject.clone(),
                    results: results.map(Option::unwrap_or_default).collect(),
                    time: row.commit.time,
                });
            }
        }
        Self { builders, revisions }
    }

    /// A line for each failure: commit, builder, log.
    fn failures(&self) -> String {
        let mut text = String::new();
        for revision in &self.revisions {
            let results = self.builders.iter().zip(&revision.results);
            for (builder, result) in results.filter(|(_, result)| !matches!(result.as_str(), "" | "ok")) {
                let _ = writeln!(text, "{} {builder} {result}", revision.commit);
            }
        }
        text
    }
}

/// A fault of the farm says nothing of a commit: such a cell is empty, as if it had not run.
fn result(cell: &Cell, origin: &str) -> String {
    match (cell.state, cell.build) {
        (State::Passed | State::Flaky, _) => "ok".to_owned(),
        (State::Failed | State::TimedOut, Some(build)) => format!("{origin}/log/{build}.txt"),
        _ => String::new(),
    }
}
