//! Which columns the grid has, and how they are grouped: by the operating system that a builder's name speaks of.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::view::GridBuilder;

/// Systems in the order in which people look for them; others follow by name.
const SYSTEMS: &[&str] = &[
    "linux",
    "windows",
    "darwin",
    "macos",
    "freebsd",
    "openbsd",
    "netbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "aix",
    "plan9",
    "android",
    "ios",
    "js",
    "wasip1",
    "wasm",
    "fuchsia",
];

/// A column, by its place among [`crate::view::GridView::builders`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Column {
    pub index: usize,
    /// The builder's name without what the group says.
    pub label: String,
    pub name: String,
}

/// Columns of one system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub title: String,
    pub columns: Vec<Column>,
}

impl Group {
    /// How many columns it has, as classes that add up: ` n20 n3`. The style sheet makes a width of them, so that a
    /// browser need not look into a group that is out of sight.
    pub(crate) fn width_classes(&self) -> String {
        let count = self.columns.len();
        let digits = [(100, count / 100), (10, count / 10 % 10), (1, count % 10)];
        let class = |(unit, digit): (usize, usize)| format!(" n{}", unit * digit);
        digits.into_iter().filter(|(_, digit)| *digit > 0).map(class).collect()
    }
}

/// A name's system, if it speaks of one, and the rest in words: `linux-amd64-race` is linux, `amd64 race`.
fn parse(name: &str) -> (Option<&'static str>, String) {
    let mut rest: Vec<&str> = name.split('-').collect();
    let system = rest.iter().position(|part| SYSTEMS.contains(part)).map(|at| {
        let part = rest.remove(at);
        SYSTEMS.iter().find(|system| **system == part).copied().unwrap_or_default()
    });
    (system, rest.join(" "))
}

/// The builders whose place `keep` admits, grouped and sorted. A system with one builder does not make a group of its
/// own where others are like it: it goes to the others, under its full name.
pub(crate) fn group(builders: &[GridBuilder], keep: impl Fn(usize) -> bool) -> Vec<Group> {
    let mut by_system: Vec<Vec<Column>> = vec![Vec::new(); SYSTEMS.len()];
    let mut others = Vec::new();
    for (index, builder) in builders.iter().enumerate().filter(|(index, _)| keep(*index)) {
        let name = builder.name.as_str().to_owned();
        let (system, label) = parse(&name);
        match system.and_then(|system| SYSTEMS.iter().position(|one| *one == system)) {
            Some(at) => {
                let label = if label.is_empty() { name.clone() } else { label };
                by_system[at].push(Column { index, label, name });
            }
            None => others.push(Column { index, label: name.replace('-', " "), name }),
        }
    }
    let lonely = by_system.iter().filter(|columns| columns.len() == 1).count();
    let named = by_system.iter().filter(|columns| !columns.is_empty()).count();
    if lonely > 1 && named > 3 {
        for columns in by_system.iter_mut().filter(|columns| columns.len() == 1) {
            others.extend(
                columns.drain(..).map(|column| Column { label: column.name.replace('-', " "), ..column }),
            );
        }
    }
    let mut groups: Vec<Group> = by_system
        .into_iter()
        .zip(SYSTEMS)
        .filter(|(columns, _)| !columns.is_empty())
        .map(|(columns, system)| Group { title: (*system).to_owned(), columns })
        .collect();
    if !others.is_empty() {
        let title = if groups.is_empty() { "builders" } else { "others" };
        groups.push(Group { title: title.to_owned(), columns: others });
    }
    for group in &mut groups {
        group.columns.sort_by(|a, b| natural(&a.label).cmp(&natural(&b.label)));
    }
    groups
}

/// Variants follow what they vary: `amd64`, `amd64 race`, `arm64`.
fn natural(label: &str) -> (bool, &str) {
    // amd64 is where most people look first.
    (!label.starts_with("amd64"), label)
}

/// Tells apart layouts of columns, for the cache of rendered rows.
pub(crate) fn fingerprint(groups: &[Group]) -> u64 {
    let mut hasher = DefaultHasher::new();
    groups.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str]) -> Vec<String> {
        let builders: Vec<_> = names
            .iter()
            .map(|name| GridBuilder {
                name: name.parse().unwrap(),
                owners: Vec::new(),
                known_issues: Vec::new(),
            })
            .collect();
        let labels =
            |group: &Group| group.columns.iter().map(|c| c.label.clone()).collect::<Vec<_>>().join(", ");
        group(&builders, |_| true).iter().map(|group| format!("{}: {}", group.title, labels(group))).collect()
    }

    #[test]
    fn builders_are_grouped_by_system() {
        assert_eq!(
            shown(&["windows-amd64", "linux-arm64", "linux-amd64-race", "linux-amd64", "windows-386"]),
            ["linux: amd64, amd64 race, arm64", "windows: amd64, 386"]
        );
    }

    #[test]
    fn the_classes_of_a_group_add_up_to_its_width() {
        let group = |count: usize| {
            let column = Column { index: 0, label: String::new(), name: String::new() };
            Group { title: String::new(), columns: vec![column; count] }.width_classes()
        };
        assert_eq!([group(3), group(20), group(47), group(208)], [" n3", " n20", " n40 n7", " n200 n8"]);
    }

    #[test]
    fn systems_with_one_builder_share_a_group() {
        assert_eq!(
            shown(&["linux-amd64", "linux-386", "plan9-386", "aix-ppc64", "darwin-arm64", "darwin-amd64"]),
            ["linux: amd64, 386", "darwin: amd64, arm64", "others: aix ppc64, plan9 386"]
        );
    }

    #[test]
    fn names_without_a_system_are_just_builders() {
        assert_eq!(shown(&["unit", "lint"]), ["builders: lint, unit"]);
        assert_eq!(shown(&["linux", "lint"]), ["linux: linux", "others: lint"]);
        assert_eq!(shown(&["cargo-linux-amd64"]), ["linux: cargo amd64"]);
    }
}
