//! The small language of the filter box: `linux -race red author:b owner:x`.
//!
//! Words are parts of a builder's name; `-` in front turns a term round; all terms must hold. States (`red`, `flaky`,
//! `infra`, `running`, `waiting`, `green`) choose builders by the rows shown. `author:`, `subject:` and `commit:` choose
//! rows, `owner:` chooses builders.

use crate::view::{GridRow, GridView, State};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Owner(String),
    Red,
    Green,
    Has(State),
    Author(String),
    Subject(String),
    Commit(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    negated: bool,
    kind: Kind,
}

/// A filter that somebody typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filter(Vec<Term>);

/// More terms than anybody types.
const MAX_TERMS: usize = 32;

impl Filter {
    /// Reads a filter. Nothing is an error: a word that fits nothing shows nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let words =
            text.split(|char: char| char.is_whitespace() || char == ',').filter(|word| !word.is_empty());
        Self(words.take(MAX_TERMS).filter_map(parse_term).collect())
    }

    /// True if it lets everything pass.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if it chooses among rows.
    pub(crate) fn chooses_rows(&self) -> bool {
        self.0.iter().any(|term| term.kind.is_of_row())
    }

    pub(crate) fn keeps_row(&self, row: &GridRow) -> bool {
        self.0.iter().filter(|term| term.kind.is_of_row()).all(|term| term.kind.fits_row(row) != term.negated)
    }

    pub(crate) fn keeps_column(&self, grid: &GridView, rows: &[&GridRow], column: usize) -> bool {
        self.0
            .iter()
            .filter(|term| !term.kind.is_of_row())
            .all(|term| term.kind.fits_column(grid, rows, column) != term.negated)
    }
}

fn parse_term(word: &str) -> Option<Term> {
    let (negated, word) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let word = word.to_lowercase();
    let kind = match word.split_once(':') {
        Some(("author", name)) => Kind::Author(name.to_owned()),
        Some(("owner", name)) => Kind::Owner(name.to_owned()),
        Some(("subject", text)) => Kind::Subject(text.to_owned()),
        Some(("commit", hash)) => Kind::Commit(hash.to_owned()),
        _ => match word.as_str() {
            "" => return None,
            "red" | "failed" => Kind::Red,
            "green" | "passed" => Kind::Green,
            "flaky" => Kind::Has(State::Flaky),
            "infra" | "infrastructure" => Kind::Has(State::Infrastructure),
            "running" => Kind::Has(State::Running),
            "waiting" => Kind::Has(State::Waiting),
            _ => Kind::Word(word),
        },
    };
    Some(Term { negated, kind })
}

impl Kind {
    fn is_of_row(&self) -> bool {
        matches!(self, Self::Author(_) | Self::Subject(_) | Self::Commit(_))
    }

    fn fits_row(&self, row: &GridRow) -> bool {
        let commit = &row.commit;
        match self {
            Self::Author(name) => commit.author.to_lowercase().contains(name),
            Self::Subject(text) => commit.subject.to_lowercase().contains(text),
            Self::Commit(hash) => commit.hash.to_string().starts_with(hash),
            _ => true,
        }
    }

    fn fits_column(&self, grid: &GridView, rows: &[&GridRow], column: usize) -> bool {
        let builder = &grid.builders[column];
        let has = |wanted: &dyn Fn(State) -> bool| {
            rows.iter().filter_map(|row| row.cells.get(column)).any(|cell| wanted(cell.state))
        };
        match self {
            Self::Word(word) => builder.name.as_str().contains(word),
            Self::Owner(name) => builder.owners.iter().any(|owner| owner.to_lowercase().contains(name)),
            Self::Red => has(&State::is_red),
            Self::Green => has(&State::is_verdict) && !has(&State::is_red),
            Self::Has(state) => has(&|one| one == *state),
            Self::Author(_) | Self::Subject(_) | Self::Commit(_) => true,
        }
    }
}

/// The filter with a word added, or taken away if it is there: where a chip leads.
pub(crate) fn toggled(filter: &str, word: &str) -> String {
    let words: Vec<&str> = filter.split_whitespace().collect();
    if words.contains(&word) {
        words.into_iter().filter(|one| *one != word).collect::<Vec<_>>().join(" ")
    } else {
        words.into_iter().chain([word]).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn columns(text: &str) -> Vec<String> {
        let grid = testing::small_grid();
        let filter = Filter::parse(text);
        let rows: Vec<_> = grid.rows.iter().filter(|row| filter.keeps_row(row)).collect();
        (0..grid.builders.len())
            .filter(|column| filter.keeps_column(&grid, &rows, *column))
            .map(|column| grid.builders[column].name.to_string())
            .collect()
    }

    #[test]
    fn words_choose_builders() {
        assert_eq!(columns("linux"), ["linux-amd64", "linux-amd64-race", "linux-s390x"]);
        assert_eq!(columns("linux -race, -s390x"), ["linux-amd64"]);
        assert_eq!(columns("nothing"), Vec::<String>::new());
        assert_eq!(columns("owner:mainframe"), ["linux-s390x"]);
    }

    #[test]
    fn states_choose_builders_by_what_is_shown() {
        assert_eq!(columns("red"), ["linux-s390x"]);
        assert_eq!(columns("linux -red"), ["linux-amd64", "linux-amd64-race"]);
        assert_eq!(columns("infra"), ["windows-arm64"]);
    }

    #[test]
    fn authors_choose_rows() {
        let grid = testing::small_grid();
        let kept = |text: &str| {
            let filter = Filter::parse(text);
            grid.rows.iter().filter(|row| filter.keeps_row(row)).count()
        };
        assert_eq!(kept(""), grid.rows.len());
        assert!(kept("author:ada") < grid.rows.len());
        assert_eq!(kept("author:ada") + kept("-author:ada"), grid.rows.len());
        assert_eq!(kept("author:nobody"), 0);
        let hash = grid.rows[1].commit.hash.short();
        assert_eq!(kept(&format!("commit:{hash}")), 1);
    }

    #[test]
    fn a_chip_adds_and_takes_away_its_word() {
        assert_eq!(toggled("", "red"), "red");
        assert_eq!(toggled("linux red -race", "red"), "linux -race");
    }
}
