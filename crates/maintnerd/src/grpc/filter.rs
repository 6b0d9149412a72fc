//! What a reader asks to see, parsed once.

use api::maintner::{MutationFilter, MutationKind};
use maintner::log::{Filter, Kind};

/// The most names in one filter, so that deciding stays cheap.
const MAX_NAMES: usize = 1000;

/// A filter that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    #[error("{0} names are more than {MAX_NAMES}")]
    TooMany(usize),
    #[error("kind {0} of mutations is none that is known here")]
    UnknownKind(i32),
}

/// The filter of a request; without one, everything passes.
pub(super) fn parse(filter: Option<&MutationFilter>) -> Result<Filter, FilterError> {
    let Some(MutationFilter { repositories, projects, kinds }) = filter else { return Ok(Filter::default()) };
    let names = repositories.len() + projects.len();
    if names > MAX_NAMES {
        return Err(FilterError::TooMany(names));
    }
    let kinds = kinds.iter().map(|kind| parse_kind(*kind)).collect::<Result<Vec<_>, _>>()?;
    Ok(Filter::new(repositories.iter().map(String::as_str), projects.iter().map(String::as_str), kinds))
}

fn parse_kind(number: i32) -> Result<Kind, FilterError> {
    let unknown = FilterError::UnknownKind(number);
    match MutationKind::try_from(number).map_err(|_| unknown)? {
        MutationKind::Unspecified => Err(unknown),
        MutationKind::GithubIssue => Ok(Kind::GithubIssue),
        MutationKind::GitCommit => Ok(Kind::GitCommit),
        MutationKind::GithubRepository => Ok(Kind::GithubRepository),
        MutationKind::GerritProject => Ok(Kind::GerritProject),
        MutationKind::Repository => Ok(Kind::Repository),
        MutationKind::BuildResult => Ok(Kind::BuildResult),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_refused_rather_than_misunderstood() {
        let with = |kinds: &[i32], names: usize| {
            let repositories = vec!["one".to_owned(); names];
            parse(Some(&MutationFilter { repositories, projects: vec!["a/b".into()], kinds: kinds.into() }))
        };
        assert_eq!(with(&[0], 1), Err(FilterError::UnknownKind(0)));
        assert_eq!(with(&[1, 99], 1), Err(FilterError::UnknownKind(99)));
        assert_eq!(with(&[], MAX_NAMES), Err(FilterError::TooMany(MAX_NAMES + 1)));
        assert!(with(&[1, 2, 3, 4, 5, 6], MAX_NAMES - 1).is_ok());
        assert!(parse(None).unwrap().is_all());
        assert!(parse(Some(&MutationFilter::default())).unwrap().is_all());
    }
}
