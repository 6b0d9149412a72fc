//! `/`: commits and builders. Is it green?

mod columns;
mod filter;
pub(crate) mod rows;
mod verdict;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, Uri},
    response::Response,
};
use serde::Deserialize;

use self::{columns::Group, filter::Filter, verdict::Verdict};
use crate::{
    dashboard::status::{self, Asked},
    html::{Markup, url_encode},
    respond::{self, Format},
    router::Shared,
    shell::{Page, render},
    show,
    source::SourceError,
    view::{self, GridQuery, GridRow, GridView},
    words,
};

/// What the address of the grid may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    repo: Option<String>,
    branch: Option<String>,
    #[serde(default)]
    q: String,
    before: Option<String>,
    limit: Option<usize>,
    /// `json` or `failures`: a document of the old dashboard.
    #[serde(default)]
    mode: String,
    /// Of such a document: 30 commits each, from 0.
    #[serde(default)]
    page: usize,
}

const DEFAULT_ROWS: usize = 30;
const MAX_ROWS: usize = 200;
/// So many rows fill any screen.
const SCREEN: usize = 40;
/// How many commits a filter looks through when it chooses among them.
const FILTERED_ROWS: usize = 200;
/// Up to so many builders there is room for words in the cells.
const ROOMY: usize = 6;

impl Params {
    fn query(&self, filter: &Filter) -> Result<GridQuery, SourceError> {
        let repository = match self.repo.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(name.parse().map_err(|error| SourceError::Invalid(format!("{error}")))?),
            None => None,
        };
        let limit = if filter.chooses_rows() { FILTERED_ROWS } else { self.limit.unwrap_or(DEFAULT_ROWS) };
        Ok(GridQuery {
            repository,
            branch: self.branch.clone().filter(|branch| !branch.is_empty()),
            limit: limit.clamp(1, MAX_ROWS),
            before: self.before.clone().filter(|before| !before.is_empty()),
        })
    }
}

pub(crate) async fn page(
    State(shared): State<Shared>,
    Query(params): Query<Params>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !params.mode.is_empty() {
        let asked = Asked {
            mode: &params.mode,
            repository: params.repo.as_deref().unwrap_or_default(),
            branch: params.branch.as_deref().unwrap_or_default(),
            page: params.page,
        };
        return status::answer(&shared, asked, &headers, &uri).await;
    }
    let filter = Filter::parse(&params.q);
    let found = match params.query(&filter) {
        Ok(query) => shared.source.grid(&query).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(grid) => respond::html(&headers, &shared.options, &draw(&shared, &params, &filter, &grid)),
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

pub(crate) async fn json(
    State(shared): State<Shared>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let filter = Filter::parse(&params.q);
    let found = match params.query(&filter) {
        Ok(query) => shared.source.grid(&query).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(grid) => respond::json(&headers, &narrowed(grid, &filter)),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

/// The view with only what the filter keeps.
fn narrowed(mut grid: GridView, filter: &Filter) -> GridView {
    if filter.is_empty() {
        return grid;
    }
    grid.rows.retain(|row| filter.keeps_row(row));
    let rows: Vec<_> = grid.rows.iter().collect();
    let keep: Vec<bool> = (0..grid.builders.len()).map(|at| filter.keeps_column(&grid, &rows, at)).collect();
    for row in &mut grid.rows {
        let mut at = 0..;
        row.cells.retain(|_| at.next().and_then(|at| keep.get(at)).copied().unwrap_or(false));
    }
    let mut at = 0..;
    grid.builders.retain(|_| at.next().is_some_and(|at| keep[at]));
    grid
}

struct Chip {
    title: String,
    address: String,
    on: bool,
}

#[derive(Template)]
#[template(path = "grid.html")]
struct Document<'a> {
    verdict: Verdict,
    stale: Option<(Markup, &'a str)>,
    problem: Option<&'a str>,
    repository: String,
    branch: &'a str,
    filter: &'a str,
    show_bar: bool,
    chips: Vec<Chip>,
    json: String,
    red_address: String,
    older: Option<String>,
    note: String,
    clear: String,
    show_grid: bool,
    /// How many lines the verdict has above the grid.
    above: usize,
    roomy: bool,
    groups: Vec<Group>,
    reds: Vec<&'a str>,
    rows: Markup,
    legend: Vec<(&'static str, &'static str)>,
    empty: (&'static str, String, String),
}

fn draw(shared: &Shared, params: &Params, filter: &Filter, grid: &GridView) -> Page {
    let now = shared.options.clock.now();
    let shown: Vec<&GridRow> = grid.rows.iter().filter(|row| filter.keeps_row(row)).collect();
    let groups = columns::group(&grid.builders, |column| filter.keeps_column(grid, &shown, column));
    let columns: usize = groups.iter().map(|group| group.columns.len()).sum();
    let layout = columns::fingerprint(&groups);
    let mut rows = Markup(String::with_capacity(shown.len() * (columns * 80 + 400)));
    for row in &shown {
        rows::draw_row(&mut rows, row, &shared.rows.cells(row, &groups, layout), now);
    }
    let verdict = verdict::verdict(grid, now);
    let (icon, title) = (verdict.icon, verdict.title.clone());
    let filter_text = params.q.trim();
    let above = verdict.reds.len() + usize::from(verdict.more_reds > 0);
    let template = Document {
        above,
        verdict,
        stale: grid.stale.as_ref().map(|stale| (words::ago_element(stale.since, now), stale.why.as_str())),
        problem: grid.problem.as_deref(),
        repository: grid.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
        branch: &grid.branch,
        filter: filter_text,
        show_bar: grid.repository.is_some(),
        chips: chips(grid, filter_text),
        json: verdict::address(grid, &grid.branch, filter_text, params.before.as_deref()).replacen(
            "/?",
            "/grid.json?",
            1,
        ),
        red_address: verdict::address(grid, &grid.branch, "red", None),
        older: grid
            .older
            .as_deref()
            .map(|older| verdict::address(grid, &grid.branch, filter_text, Some(older))),
        note: note(grid, filter, filter_text, shown.len(), columns),
        clear: verdict::address(grid, &grid.branch, "", None),
        show_grid: !grid.rows.is_empty() && !grid.builders.is_empty(),
        roomy: columns <= ROOMY,
        groups,
        reds: grid.red.iter().map(|red| red.builder.as_str()).collect(),
        rows,
        legend: view::State::ALL.iter().map(|state| (rows::class(*state), state.word())).collect(),
        empty: empty(grid),
    };
    let live = grid.repository.as_ref().map(|name| format!("/events?grid={}", url_encode(name.as_str())));
    Page {
        title,
        current: "/".to_owned(),
        body: Markup(render(&template)),
        icon,
        live: live.or(Some("/events?farm".into())),
        expect: shown
            .iter()
            .take(SCREEN)
            .next_back()
            .filter(|_| columns > 0)
            .map(|row| rows::anchor(row.commit.hash)),
    }
}

fn note(grid: &GridView, filter: &Filter, text: &str, rows: usize, columns: usize) -> String {
    if filter.is_empty() {
        return String::new();
    }
    let all = words::count(grid.builders.len() as u64, "builder");
    match (rows, columns) {
        (0, _) => format!("No commit of the newest {} fits “{text}”", grid.rows.len()),
        (_, 0) => format!("No builder of {} fits “{text}”", grid.builders.len()),
        _ if filter.chooses_rows() => {
            format!(
                "{rows} of the newest {} and {columns} of {all}",
                words::count(grid.rows.len() as u64, "commit")
            )
        }
        _ => format!("{columns} of {all}"),
    }
}

/// Some words of the filter, then the branches to go to.
fn chips(grid: &GridView, filter: &str) -> Vec<Chip> {
    let words = ["red", "flaky", "running"].into_iter().map(|word| Chip {
        title: word.to_owned(),
        address: verdict::address(grid, &grid.branch, &filter::toggled(filter, word), None),
        on: filter.split_whitespace().any(|one| one == word),
    });
    let many = grid.choices.iter().any(|choice| Some(&choice.repository) != grid.repository.as_ref());
    let branches = grid.choices.iter().filter(|_| grid.choices.len() > 1).map(|choice| {
        let here = Some(&choice.repository) == grid.repository.as_ref();
        let (repository, branch) = (&choice.repository, &choice.branch);
        Chip {
            title: if many { format!("{repository} · {branch}") } else { branch.clone() },
            address: format!("/?repo={}&branch={}", url_encode(repository.as_str()), url_encode(branch)),
            on: here && *branch == grid.branch,
        }
    });
    words.chain(branches).collect()
}

/// What to do when there is nothing to show: a title, a sentence, a command.
fn empty(grid: &GridView) -> (&'static str, String, String) {
    if grid.repository.is_none() {
        let text =
            "Start the farm with one, or name it in `farm.toml`. The farm builds its newest commit at once.";
        return ("Give the farm a repository", text.to_owned(), "farmer up --repo PATH".to_owned());
    }
    if grid.rows.is_empty() {
        let text = "The branch has no commit that the farm knows of. Make one: it shows up here by itself.";
        return ("Make a commit", text.to_owned(), "git commit --allow-empty -m 'Try the farm'".to_owned());
    }
    let text = "Nothing says how to build this repository. Write a proposal, look at it, commit it.";
    ("Say how to build it", text.to_owned(), "farmer init".to_owned())
}

/// The old address of the JSON of the grid, `/.json`, leads to the new.
pub(crate) async fn json_redirect(uri: Uri) -> axum::response::Redirect {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    axum::response::Redirect::permanent(&format!("/grid.json{query}"))
}
