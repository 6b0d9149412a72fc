//! Is it green? The sentence that the grid begins with.

use types::Timestamp;

use crate::{
    html::{Markup, escaped, url_encode},
    shell::Icon,
    view::{GridView, RedBuilder, State},
    words,
};

/// The first words of the grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The sentence.
    pub title: String,
    /// One line for each red builder, at most [`MAX_REDS`].
    pub reds: Vec<Markup>,
    /// How many red builders have no line.
    pub more_reds: usize,
    /// What is going on, parted by dots.
    pub facts: Markup,
    pub icon: Icon,
}

/// More would push the grid off the screen.
const MAX_REDS: usize = 4;

pub(crate) fn verdict(grid: &GridView, now: Timestamp) -> Verdict {
    let reds = grid.red.iter().take(MAX_REDS).map(|red| red_line(red, now)).collect();
    let icon = match (grid.red.is_empty(), grid.commits_in_work) {
        (false, _) => Icon::Red,
        (true, 0) => Icon::Green,
        (true, _) => Icon::Busy,
    };
    Verdict {
        title: title(grid),
        reds,
        more_reds: grid.red.len().saturating_sub(MAX_REDS),
        facts: facts(grid, now),
        icon,
    }
}

fn title(grid: &GridView) -> String {
    let Some(repository) = &grid.repository else { return "No repository yet".to_owned() };
    let place = if grid.branch.is_empty() {
        repository.to_string()
    } else {
        format!("{repository} · {}", grid.branch)
    };
    if grid.rows.is_empty() {
        return format!("{place} has no commits yet");
    }
    let all = grid.builders.len();
    if all == 0 {
        return format!("{place} has no builders yet");
    }
    let total = words::count(all as u64, "builder");
    if !grid.red.is_empty() {
        return format!("{place} is red on {} of {total}", grid.red.len());
    }
    let newest = |column: usize| {
        grid.rows
            .iter()
            .filter_map(|row| row.cells.get(column))
            .map(|cell| cell.state)
            .find(|state| state.is_verdict())
    };
    let green =
        (0..all).filter_map(newest).filter(|state| matches!(state, State::Passed | State::Flaky)).count();
    match (green, all - green) {
        (0, _) => format!("{place} has no results yet on {total}"),
        (_, 0) if all == 1 => format!("{place} is green on its builder"),
        (_, 0) => format!("{place} is green on all {total}"),
        (_, 1) => format!("{place} is green on {green} of {total}, 1 has no result yet"),
        (_, open) => format!("{place} is green on {green} of {total}, {open} have no result yet"),
    }
}

fn red_line(red: &RedBuilder, now: Timestamp) -> Markup {
    let mut out = Markup::default();
    let name = red.builder.as_str();
    match red.build {
        Some(build) => {
            out.raw("<a class=bad href=\"/build/").number(build.0).raw("\">").text(name).raw("</a>")
        }
        None => out.raw("<b class=bad>").text(name).raw("</b>"),
    };
    let since = &red.since;
    out.raw(if red.start_known { " since " } else { " since before " });
    out.raw("<a class=mono href=\"#").raw(&super::rows::anchor(since.hash)).raw("\" title=\"");
    out.text(&since.subject).raw("\">").raw(&since.hash.short()).raw("</a>, ");
    out.raw(&words::ago_element(since.time, now).0).raw(", ").raw(&words::count(red.commits, "commit"));
    for more in [&red.reason, &red.told] {
        if !more.is_empty() {
            out.raw(" · ").text(more);
        }
    }
    out
}

fn facts(grid: &GridView, now: Timestamp) -> Markup {
    let mut parts = vec![match grid.commits_in_work {
        0 => escaped("nothing in work"),
        some => escaped(&format!("{} in work", words::count(some, "commit"))),
    }];
    if let Some(last) = grid.last_result {
        parts.push(Markup(format!("last result {}", words::ago_element(last, now))));
    }
    if let Some(median) = grid.median_to_results_ms {
        parts.push(escaped(&format!("median commit to all results {}", words::duration_ms(median))));
    }
    parts.push(machines(grid.machines_up, grid.machines_expected));
    Markup(parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" · "))
}

fn machines(up: u64, expected: u64) -> Markup {
    let text = match (up, expected) {
        (0, _) => "no machine is up".to_owned(),
        (up, expected) if expected > up => {
            format!("{up} of {} up", words::count(expected, "machine"))
        }
        (up, _) => format!("{} up", words::count(up, "machine")),
    };
    let class = if up == 0 || up < expected { " class=warn" } else { "" };
    Markup(format!("<a href=\"/farm#machines\"{class}>{text}</a>"))
}

/// The address of a grid.
pub(crate) fn address(grid: &GridView, branch: &str, filter: &str, before: Option<&str>) -> String {
    let repository = grid.repository.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut parts = Vec::new();
    for (name, value) in
        [("repo", repository.as_str()), ("branch", branch), ("q", filter), ("before", before.unwrap_or(""))]
    {
        if !value.is_empty() {
            parts.push(format!("{name}={}", url_encode(value)));
        }
    }
    format!("/?{}", parts.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn text(markup: &Markup) -> String {
        let mut out = String::new();
        let mut inside = false;
        for char in markup.0.chars() {
            match char {
                '<' => inside = true,
                '>' => inside = false,
                _ if !inside => out.push(char),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn a_red_grid_says_where_since_when_and_what() {
        let grid = testing::small_grid();
        let verdict = verdict(&grid, testing::NOW);
        assert_eq!(verdict.title, "example · main is red on 1 of 5 builders");
        assert_eq!(verdict.icon, Icon::Red);
        let line = text(&verdict.reds[0]);
        let since = grid.rows[3].commit.hash.short();
        assert_eq!(
            line,
            format!("linux-s390x since {since}, 3 h ago, 3 commits · TestPark: timed out waiting")
        );
        assert_eq!(
            text(&verdict.facts),
            "1 commit in work · last result 8 s ago · median commit to all results 14 m · 41 of 44 machines up"
        );
    }

    #[test]
    fn a_green_grid_says_so() {
        let mut grid = testing::small_grid();
        for row in &mut grid.rows {
            row.cells.iter_mut().for_each(|cell| cell.state = State::Passed);
        }
        grid.find_red();
        assert_eq!(verdict(&grid, testing::NOW).title, "example · main is green on all 5 builders");
        for row in &mut grid.rows {
            row.cells[4].state = State::Waiting;
        }
        assert_eq!(
            verdict(&grid, testing::NOW).title,
            "example · main is green on 4 of 5 builders, 1 has no result yet"
        );
    }

    #[test]
    fn an_empty_farm_says_what_it_lacks() {
        let mut grid = GridView::default();
        assert_eq!(verdict(&grid, testing::NOW).title, "No repository yet");
        grid.repository = Some("example".parse().unwrap());
        grid.branch = "main".to_owned();
        assert_eq!(verdict(&grid, testing::NOW).title, "example · main has no commits yet");
        grid.rows = testing::small_grid().rows;
        assert_eq!(verdict(&grid, testing::NOW).title, "example · main has no builders yet");
    }

    #[test]
    fn a_builder_is_red_since_the_start_of_its_run() {
        let grid = testing::small_grid();
        let red = &grid.red[0];
        assert_eq!((red.commits, red.start_known), (3, true));
        assert_eq!(red.since, grid.rows[3].commit);
    }
}
