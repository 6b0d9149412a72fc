//! Invented grids.

use types::BuildNumber;

use super::{Dice, before, commit, name};
use crate::view::{BranchChoice, Cell, GridBuilder, GridRow, GridView, State};

fn cell(state: State, build: u64, title: &str) -> Cell {
    let built = !matches!(state, State::NotBuilt | State::Skipped);
    Cell {
        state,
        percent: (state == State::Running).then_some((build * 7 % 90) as u8 + 5),
        build: built.then_some(BuildNumber(build)),
        title: title.to_owned(),
    }
}

fn grid_builder(builder: &str, owner: &str) -> GridBuilder {
    GridBuilder { name: name(builder), owners: vec![owner.to_owned()], known_issues: Vec::new() }
}

/// Eight commits, five builders; one of them is red for three commits.
pub fn small_grid() -> GridView {
    use State::{Failed, Flaky, Infrastructure, NotBuilt, Passed, Running, Waiting};
    let builders = ["linux-amd64", "linux-amd64-race", "linux-s390x", "windows-amd64", "windows-arm64"];
    let states = [
        [Running, Passed, Waiting, Passed, Passed],
        [Passed, Passed, Failed, Passed, Infrastructure],
        [Passed, Passed, Failed, Passed, Passed],
        [Passed, Flaky, Failed, Passed, Passed],
        [Passed, Passed, Passed, Passed, Passed],
        [Passed, Passed, Passed, NotBuilt, Passed],
        [Passed, Passed, Passed, Passed, Passed],
        [Passed, Passed, Passed, Passed, Passed],
    ];
    let title = |state| match state {
        Failed => "TestPark: timed out waiting",
        Infrastructure => "the machine was lost",
        Waiting => "the only machine of its kind is busy",
        _ => "",
    };
    let rows = states.iter().enumerate().map(|(row, states)| GridRow {
        commit: commit(row, 120 + 3600 * row as u64),
        version: 1,
        cells: states
            .iter()
            .enumerate()
            .map(|(column, state)| cell(*state, 48_220 - (row * 5 + column) as u64, title(*state)))
            .collect(),
    });
    let mut grid = GridView {
        repository: Some(name("example")),
        branch: "main".to_owned(),
        choices: ["main", "release-1"]
            .map(|branch| BranchChoice { repository: name("example"), branch: branch.to_owned() })
            .to_vec(),
        builders: builders
            .map(|one| grid_builder(one, if one.contains("s390x") { "mainframe team" } else { "builders" }))
            .to_vec(),
        rows: rows.collect(),
        red: Vec::new(),
        commits_in_work: 1,
        last_result: Some(before(8)),
        median_to_results_ms: Some(14 * 60_000),
        machines_up: 41,
        machines_expected: 44,
        stale: None,
        problem: None,
        older: None,
    };
    grid.find_red();
    grid
}

/// A grid of any size: mostly green, with each state somewhere.
pub fn generated_grid(builders: usize, commits: usize) -> GridView {
    const SYSTEMS: &[&str] =
        &["linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "plan9", "illumos", "aix", "android"];
    const ARCHITECTURES: &[&str] =
        &["amd64", "arm64", "386", "riscv64", "ppc64le", "s390x", "loong64", "arm", "mips64le"];
    const VARIANTS: &[&str] = &["", "-race", "-longtest", "-nocgo", "-noopt"];
    let names = SYSTEMS.iter().flat_map(|system| {
        ARCHITECTURES.iter().flat_map(move |architecture| {
            VARIANTS.iter().map(move |variant| format!("{system}-{architecture}{variant}"))
        })
    });
    let mut dice = Dice(7);
    let all: Vec<_> = names.collect();
    // Systems people have most of come first, each with a share that falls off.
    let mut chosen: Vec<&String> =
        all.iter().step_by((all.len() / builders.max(1)).max(1)).take(builders).collect();
    chosen.sort();
    let state_of = |row: usize, dice: &mut Dice| match (row, dice.roll(200)) {
        (0, roll) if roll % 10 < 6 => State::Running,
        (0, _) => State::Waiting,
        (1, roll) if roll % 10 == 0 => State::Running,
        (_, 0..3) => State::Infrastructure,
        (_, 3..6) => State::Flaky,
        (_, 6..9) => State::NotBuilt,
        (_, 9) => State::Failed,
        (_, 10) => State::TimedOut,
        _ => State::Passed,
    };
    let mut rows = Vec::new();
    for row in 0..commits {
        let cells = (0..chosen.len()).map(|column| {
            let broken = column % 37 == 8 && (1..7).contains(&row);
            let state = if broken { State::Failed } else { state_of(row, &mut dice) };
            let number = 100_000 - (row * chosen.len() + column) as u64;
            cell(state, number, if state == State::Failed { "TestPark: timed out waiting" } else { "" })
        });
        rows.push(GridRow {
            cells: cells.collect(),
            version: 1,
            commit: commit(row, 60 + 1500 * row as u64),
        });
    }
    let builders = chosen.into_iter().map(|one| grid_builder(one, "builders")).collect();
    let mut grid = GridView { builders, rows, red: Vec::new(), ..small_grid() };
    grid.find_red();
    grid
}
