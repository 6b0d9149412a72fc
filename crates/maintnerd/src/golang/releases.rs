//! Which releases of Go are supported: the newest patch of each of the two newest that have a branch.

use std::{cmp::Reverse, collections::BTreeMap};

use api::apipb::GoRelease;
use maintner::Corpus;
use types::CommitHash;

use super::{MAIN, project};

/// How many releases are supported at a time.
const SUPPORTED: usize = 2;
/// From this release on, the first one of a branch is called `goX.Y.0` rather than `goX.Y`.
const FIRST_WITH_ZERO: (i32, i32) = (1, 21);

/// There are not as many releases as must be supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} releases of Go have a tag and a branch: {SUPPORTED} are needed")]
pub(crate) struct TooFewReleases(pub(super) usize);

/// The supported releases, the newest first.
pub(crate) fn supported(corpus: &Corpus) -> Result<Vec<GoRelease>, TooFewReleases> {
    let mut all = released(corpus);
    if all.len() < SUPPORTED {
        return Err(TooFewReleases(all.len()));
    }
    all.truncate(SUPPORTED);
    Ok(all)
}

/// The newest patch of each release that has a branch, the newest release first.
pub(super) fn released(corpus: &Corpus) -> Vec<GoRelease> {
    let Some(go) = project(corpus, MAIN) else { return Vec::new() };
    let mut tags: BTreeMap<(i32, i32), (i32, &str, CommitHash)> = BTreeMap::new();
    let mut branches: BTreeMap<(i32, i32), (&str, CommitHash)> = BTreeMap::new();
    for (name, commit) in go.refs() {
        if let Some(tag) = name.strip_prefix("refs/tags/")
            && let Some((major, minor, patch)) = parse_tag(tag)
        {
            let newest = tags.entry((major, minor)).or_insert((patch, tag, commit));
            if patch > newest.0 {
                *newest = (patch, tag, commit);
            }
        } else if let Some(branch) = name.strip_prefix("refs/heads/")
            && let Some(version) = parse_branch(branch)
        {
            branches.insert(version, (branch, commit));
        }
    }
    let mut all: Vec<GoRelease> = tags
        .into_iter()
        .filter_map(|((major, minor), (patch, tag, tag_commit))| {
            let (branch, branch_commit) = branches.get(&(major, minor))?;
            Some(GoRelease {
                major,
                minor,
                patch,
                tag_name: tag.to_owned(),
                tag_commit: tag_commit.to_string(),
                branch_name: (*branch).to_owned(),
                branch_commit: branch_commit.to_string(),
            })
        })
        .collect();
    all.sort_by_key(|release| Reverse((release.major, release.minor)));
    all
}

/// `goX`, `goX.Y` or `goX.Y.Z`, and nothing that only looks like it: no release candidate, no number with a zero before
/// it.
fn parse_tag(tag: &str) -> Option<(i32, i32, i32)> {
    let (major, minor, patch) = parse_version(tag.strip_prefix("go")?)?;
    let zero_minor = minor == Some(0) && patch.is_none();
    let zero_patch = patch == Some(0) && (major, minor.unwrap_or(0)) < FIRST_WITH_ZERO;
    (!zero_minor && !zero_patch).then_some((major, minor.unwrap_or(0), patch.unwrap_or(0)))
}

/// `release-branch.goX` or `release-branch.goX.Y`.
pub(super) fn parse_branch(branch: &str) -> Option<(i32, i32)> {
    match parse_version(branch.strip_prefix("release-branch.go")?)? {
        (_, Some(0), _) | (_, _, Some(_)) => None,
        (major, minor, None) => Some((major, minor.unwrap_or(0))),
    }
}

fn parse_version(text: &str) -> Option<(i32, Option<i32>, Option<i32>)> {
    let mut parts = text.split('.');
    let major = component(parts.next()?)?;
    let minor = parts.next().map(|part| component(part).ok_or(())).transpose().ok()?;
    let patch = parts.next().map(|part| component(part).ok_or(())).transpose().ok()?;
    (major != 0 && parts.next().is_none()).then_some((major, minor, patch))
}

/// A number from 0 to 999 as it is written if it is written right.
fn component(text: &str) -> Option<i32> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Fixture, *};

    #[test]
    fn only_tags_of_releases_are_releases() {
        for (tag, version) in [
            ("go1", Some((1, 0, 0))),
            ("go1.20", Some((1, 20, 0))),
            ("go1.20.7", Some((1, 20, 7))),
            ("go1.21.0", Some((1, 21, 0))),
            ("go1.0.1", Some((1, 0, 1))),
            ("go1.20.0", None),
            ("go1.0", None),
            ("go0.9", None),
            ("go1.21rc2", None),
            ("go1.021", None),
            ("go1.21.", None),
            ("go1.21.3.4", None),
            ("go1.1000", None),
            ("go1.+2", None),
            ("weekly.2012", None),
        ] {
            assert_eq!(parse_tag(tag), version, "{tag}");
        }
        for (branch, version) in [
            ("release-branch.go1.21", Some((1, 21))),
            ("release-branch.go2", Some((2, 0))),
            ("release-branch.go2.0", None),
            ("release-branch.go1.21.1", None),
            ("release-branch.r60", None),
        ] {
            assert_eq!(parse_branch(branch), version, "{branch}");
        }
    }

    #[test]
    fn the_newest_patch_of_the_two_newest_branches_is_supported() {
        let mut fixture = Fixture::default();
        assert_eq!(supported(&fixture.corpus), Err(TooFewReleases(0)));
        for tag in
            ["go1.20", "go1.20.11", "go1.20.9", "go1.21.0", "go1.21.2", "go1.22rc1", "go1.19.13", "go1.23"]
        {
            fixture.tag("go", tag);
        }
        for branch in ["release-branch.go1.19", "release-branch.go1.20"] {
            fixture.branch("go", branch);
        }
        fixture.branch("go", "release-branch.go1.21");
        let names: Vec<(String, String)> = supported(&fixture.corpus)
            .unwrap()
            .into_iter()
            .map(|release| (release.tag_name, release.branch_name))
            .collect();
        let expected = [("go1.21.2", "release-branch.go1.21"), ("go1.20.11", "release-branch.go1.20")];
        assert_eq!(names, expected.map(|(tag, branch)| (tag.to_owned(), branch.to_owned())));
    }
}
