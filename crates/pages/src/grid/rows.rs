//! Draws the rows of the grid: append-only, because a page may have twenty thousand cells, and kept, because most of
//! them never change again.
//!
//! ARIA wants the children of a row to be cells, and axe wants no link to pretend to be one. So a row has one cell for
//! each group of builders, and in it plain links. That also is what folds on a narrow screen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use types::{CommitHash, Timestamp};

use super::columns::Group;
use crate::{
    html::Markup,
    view::{Cell, GridRow, State},
    words,
};

/// Which rendered cells: the commit, the version of its row, the layout of the columns.
type Key = (CommitHash, u64, u64);

/// Rendered cells, at most about 16 MiB of them. The oldest half goes when the newer one is full.
#[derive(Default)]
pub(crate) struct RowCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Arc<str>>,
    young_bytes: usize,
    old: HashMap<Key, Arc<str>>,
}

const GENERATION_BYTES: usize = 8 << 20;

impl RowCache {
    /// The cells of a row, drawn now unless they were before.
    pub(crate) fn cells(&self, row: &GridRow, groups: &[Group], layout: u64) -> Arc<str> {
        if row.version == 0 {
            return draw_cells(row, groups).0.into();
        }
        let key = (row.commit.hash, row.version, layout);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cells) = generations.young.get(&key) {
            return Arc::clone(cells);
        }
        let cells = match generations.old.remove(&key) {
            Some(cells) => cells,
            None => draw_cells(row, groups).0.into(),
        };
        generations.keep(key, Arc::clone(&cells));
        cells
    }
}

impl Generations {
    fn keep(&mut self, key: Key, cells: Arc<str>) {
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += cells.len();
        self.young.insert(key, cells);
    }
}

/// One letter for each state: its class in the style sheet.
pub(crate) const fn class(state: State) -> &'static str {
    match state {
        State::Passed => "p",
        State::Failed => "f",
        State::TimedOut => "t",
        State::Infrastructure => "i",
        State::Flaky => "k",
        State::Running => "r",
        State::Waiting => "w",
        State::Skipped => "s",
        State::Cancelled => "c",
        State::NotBuilt => "n",
    }
}

/// How much a state needs to be seen: the lowest stands for its group on a narrow screen. The script has the same order.
const fn urgency(state: State) -> u8 {
    match state {
        State::Failed => 0,
        State::TimedOut => 1,
        State::Infrastructure => 2,
        State::Running => 3,
        State::Waiting => 4,
        State::Flaky => 5,
        State::Passed => 6,
        State::Cancelled => 7,
        State::Skipped => 8,
        State::NotBuilt => 9,
    }
}

static NOT_BUILT: Cell = Cell::not_built();

fn draw_cells(row: &GridRow, groups: &[Group]) -> Markup {
    let columns: usize = groups.iter().map(|group| group.columns.len()).sum();
    let mut out = Markup(String::with_capacity(columns * 80));
    for group in groups {
        let cell = |index: usize| row.cells.get(index).unwrap_or(&NOT_BUILT);
        let worst =
            group.columns.iter().map(|column| cell(column.index).state).min_by_key(|state| urgency(*state));
        let mut marked = false;
        out.raw("<div role=cell class=\"g").raw(&group.width_classes()).raw("\">");
        for column in &group.columns {
            let cell = cell(column.index);
            let mark = !marked && Some(cell.state) == worst;
            marked |= mark;
            draw_cell(&mut out, &column.name, cell, mark);
        }
        out.raw("</div>");
    }
    out
}

/// One cell. The word is its text, the style sheet puts the glyph before it.
pub(crate) fn draw_cell(out: &mut Markup, builder: &str, cell: &Cell, worst: bool) {
    let state = cell.state;
    let tag = if cell.build.is_some() { "a" } else { "span" };
    out.raw("<").raw(tag).raw(" class=\"").raw(class(state));
    let percent = cell.percent.filter(|_| state == State::Running).map(|percent| u64::from(percent.min(99)));
    if let Some(percent) = percent {
        out.raw(" d").number(percent / 5 * 5);
    }
    if worst {
        out.raw(" x");
    }
    out.raw("\"");
    if let Some(percent) = percent {
        out.raw(" data-p=").number(percent);
    }
    if let Some(build) = cell.build {
        out.raw(" href=/build/").number(build.0);
    }
    out.raw(" title=\"").text(builder).raw(": ").raw(state.word());
    if !cell.title.is_empty() {
        out.raw(": ").text(&cell.title);
    }
    out.raw("\">").raw(state.word());
    if let Some(percent) = percent {
        out.raw(" ").number(percent).raw(" %");
    }
    out.raw("</").raw(tag).raw(">");
}

/// What a row is called: its anchor in the page.
pub(crate) fn anchor(commit: CommitHash) -> String {
    let mut name = commit.to_string();
    name.truncate(12);
    name.insert_str(0, "c-");
    name
}

/// A whole row: the commit, then its cells.
pub(crate) fn draw_row(out: &mut Markup, row: &GridRow, cells: &str, now: Timestamp) {
    let commit = &row.commit;
    let anchor = anchor(commit.hash);
    out.raw("<div role=row class=row id=")
        .raw(&anchor)
        .raw("><div role=rowheader class=commit><a class=mono href=\"#");
    out.raw(&anchor).raw("\" title=\"").raw(&commit.hash.to_string()).raw("\">").raw(&commit.hash.short());
    out.raw("</a><span class=subj title=\"").text(&commit.subject).raw("\">").text(&commit.subject);
    out.raw("</span><span class=who>").text(&commit.author).raw("</span>");
    out.raw(&words::age_element(commit.time, now).0).raw("</div>").raw(cells).raw("</div>\n");
}

#[cfg(test)]
mod tests {
    use types::BuildNumber;

    use super::*;
    use crate::{grid::columns, testing};

    fn drawn(cell: &Cell) -> String {
        let mut out = Markup::default();
        draw_cell(&mut out, "linux-amd64", cell, false);
        out.0
    }

    #[test]
    fn a_cell_says_its_state_in_a_word_and_leads_to_its_build() {
        let cell =
            Cell { state: State::Passed, percent: None, build: Some(BuildNumber(7)), title: String::new() };
        assert_eq!(drawn(&cell), "<a class=\"p\" href=/build/7 title=\"linux-amd64: passed\">passed</a>");
        assert_eq!(
            drawn(&Cell::not_built()),
            "<span class=\"n\" title=\"linux-amd64: not built\">not built</span>"
        );
    }

    #[test]
    fn a_running_cell_fills_up() {
        let cell = Cell {
            state: State::Running,
            percent: Some(43),
            build: Some(BuildNumber(7)),
            title: "shard 3 of 9".to_owned(),
        };
        assert_eq!(
            drawn(&cell),
            "<a class=\"r d40\" data-p=43 href=/build/7 title=\"linux-amd64: running: shard 3 of 9\">running 43 %</a>"
        );
    }

    #[test]
    fn a_hostile_title_stays_a_title() {
        let cell = Cell { title: "\"><script>".to_owned(), ..Cell::not_built() };
        assert!(drawn(&cell).contains("not built: &quot;&gt;&lt;script&gt;\""), "{}", drawn(&cell));
    }

    #[test]
    fn a_hostile_subject_stays_text() {
        let mut row = testing::small_grid().rows[0].clone();
        row.commit.subject = "<img src=x onerror=alert(1)>".to_owned();
        row.commit.author = "</span><b>".to_owned();
        let mut out = Markup::default();
        draw_row(&mut out, &row, "", row.commit.time);
        assert!(!out.0.contains("<img") && !out.0.contains("<b>"), "{}", out.0);
    }

    #[test]
    fn a_kept_row_is_drawn_again_when_its_version_or_the_columns_change() {
        let grid = testing::small_grid();
        let groups = columns::group(&grid.builders, |_| true);
        let cache = RowCache::default();
        let mut row = GridRow { version: 1, ..grid.rows[2].clone() };
        let first = cache.cells(&row, &groups, 1);
        row.cells[0].state = State::TimedOut;
        assert_eq!(cache.cells(&row, &groups, 1), first);
        assert_ne!(cache.cells(&row, &groups, 2), first);
        row.version = 2;
        assert_ne!(cache.cells(&row, &groups, 1), first);
    }

    #[test]
    fn the_worst_cell_stands_for_its_group() {
        let grid = testing::small_grid();
        let groups = columns::group(&grid.builders, |_| true);
        let red =
            grid.rows.iter().find(|row| row.cells.iter().any(|cell| cell.state == State::Failed)).unwrap();
        let drawn = draw_cells(red, &groups).0;
        assert_eq!(drawn.matches(" x\"").count(), groups.len());
        assert!(drawn.contains("<a class=\"f x\""), "{drawn}");
    }
}
