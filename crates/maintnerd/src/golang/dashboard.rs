//! What the dashboard of the builds shows: commits of a branch, and next to those of other projects the commits of Go
//! that they are built with. So the dashboard needs no history of its own.

use std::{cmp::Reverse, collections::BTreeMap};

use api::apipb::{DashCommit, DashRepoHead, DashboardRequest, DashboardResponse, GoRelease};
use maintner::{Commit, Corpus, core::Project};

use super::{DEVELOPMENT, MAIN, branches, project, projects, releases::released, work::email};

/// Stands for all branches together.
const MIXED: &str = "mixed";
const USUAL_COMMITS: usize = 30;
const USUAL_MIXED_COMMITS: usize = 500;
const MOST_COMMITS: usize = 1000;
/// Nobody looks further back than this page by page.
const MOST_SKIPPED: usize = 10_000;
/// How many releases are shown beside the development branch.
const RELEASES: usize = 2;
/// Projects whose import path is not `golang.org/x/` and their name.
const OTHER_PATHS: &[(&str, &str)] = &[("golang.org/dl", "dl"), ("google.golang.org/protobuf", "protobuf")];

/// A dashboard that cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DashboardError {
    #[error("`{0}` is no repository of the Go project that the log knows")]
    UnknownRepository(String),
    #[error("`{repository}` has no branch `{branch}`")]
    UnknownBranch { repository: String, branch: String },
    #[error("max_commits is negative")]
    NegativeCommits,
    #[error("page is negative")]
    NegativePage,
    #[error("mixed branches have one page only")]
    MixedPage,
    #[error("mixed branches need max_commits of {0}, one for each branch")]
    TooFewForMixed(usize),
    #[error("pages do not reach back further than {MOST_SKIPPED} commits")]
    TooFarBack,
}

/// Which commits of a branch.
struct Page {
    skip: usize,
    size: usize,
}

/// A commit, and the branch that it was found on.
#[derive(Clone, Copy)]
struct Row<'a> {
    commit: Commit<'a>,
    branch: &'a str,
}

/// What is asked for. Takes time in proportion to the commits that are shown and skipped, and for another project than
/// Go to the commits of Go since the oldest of them.
pub(crate) fn dashboard(
    corpus: &Corpus,
    request: &DashboardRequest,
) -> Result<DashboardResponse, DashboardError> {
    let name = repository(&request.repo)?;
    let unknown = || DashboardError::UnknownRepository(request.repo.clone());
    let shown = project(corpus, name).ok_or_else(unknown)?;
    let tips: BTreeMap<&str, Commit<'_>> =
        branches(&shown).filter_map(|(branch, hash)| Some((branch, corpus.commit(&hash)?))).collect();
    let page = page(request, tips.len())?;
    let (rows, before, truncated) = match request.branch.as_str() {
        MIXED => {
            let (rows, truncated) = mixed(corpus, &tips, page.size);
            (rows, None, truncated)
        }
        branch => {
            let branch = if branch.is_empty() { DEVELOPMENT } else { branch };
            let unknown =
                || DashboardError::UnknownBranch { repository: name.to_owned(), branch: branch.to_owned() };
            let (branch, tip) = tips.get_key_value(branch).ok_or_else(unknown)?;
            one_branch(corpus, branch, *tip, &page)
        }
    };
    let mut commits: Vec<DashCommit> = rows.iter().map(render).collect();
    if name != MAIN {
        add_toolchains(corpus, &rows, before, &mut commits);
    }
    Ok(DashboardResponse {
        commits,
        repo_heads: heads(corpus),
        branches: tips.keys().map(|branch| (*branch).to_owned()).collect(),
        releases: shown_releases(corpus),
        commits_truncated: truncated,
    })
}

/// The name of the project with this import path.
fn repository(path: &str) -> Result<&str, DashboardError> {
    let other = OTHER_PATHS.iter().find(|(other, _)| *other == path).map(|(_, name)| *name);
    match path {
        "" | MAIN => Ok(MAIN),
        _ => other
            .or_else(|| path.strip_prefix("golang.org/x/"))
            .ok_or_else(|| DashboardError::UnknownRepository(path.to_owned())),
    }
}

fn page(request: &DashboardRequest, branches: usize) -> Result<Page, DashboardError> {
    let mixed = request.branch == MIXED;
    let size = match usize::try_from(request.max_commits).map_err(|_| DashboardError::NegativeCommits)? {
        0 if mixed => USUAL_MIXED_COMMITS,
        0 => USUAL_COMMITS,
        size => size.min(MOST_COMMITS),
    };
    let page = usize::try_from(request.page).map_err(|_| DashboardError::NegativePage)?;
    if mixed && page != 0 {
        return Err(DashboardError::MixedPage);
    }
    if mixed && size < branches {
        return Err(DashboardError::TooFewForMixed(branches));
    }
    match page.checked_mul(size) {
        Some(skip) if skip < MOST_SKIPPED => Ok(Page { skip, size }),
        _ => Err(DashboardError::TooFarBack),
    }
}

/// A commit and what it was made on, as far back as the log knows.
fn first_parents<'a>(corpus: &'a Corpus, tip: Commit<'a>) -> impl Iterator<Item = Commit<'a>> {
    std::iter::successors(Some(tip), move |commit| corpus.commit(&commit.first_parent()?))
}

/// The rows of a page, the commit before them, and whether there are more after them.
fn one_branch<'a>(
    corpus: &'a Corpus,
    branch: &'a str,
    tip: Commit<'a>,
    page: &Page,
) -> (Vec<Row<'a>>, Option<Commit<'a>>, bool) {
    let mut commits = first_parents(corpus, tip);
    let before = page.skip.checked_sub(1).and_then(|last| commits.nth(last));
    let rows = commits.by_ref().take(page.size).map(|commit| Row { commit, branch }).collect();
    (rows, before, commits.next().is_some())
}

/// The newest commits of all branches, each under one of those that it is on: the development branch, if it is.
fn mixed<'a>(corpus: &'a Corpus, tips: &BTreeMap<&'a str, Commit<'a>>, size: usize) -> (Vec<Row<'a>>, bool) {
    let mut seen = BTreeMap::new();
    let mut truncated = false;
    let development = tips.get_key_value(DEVELOPMENT);
    let others = tips.iter().filter(|(branch, _)| **branch != DEVELOPMENT);
    for (branch, tip) in development.into_iter().chain(others) {
        for commit in first_parents(corpus, *tip) {
            let key = (Reverse(commit.committed()), commit.hash());
            let oldest = seen.last_key_value().map(|(oldest, _)| *oldest);
            if seen.contains_key(&key) {
                break; // all before it was seen too
            }
            if seen.len() >= size && oldest.is_some_and(|oldest| key > oldest) {
                truncated = true;
                break;
            }
            seen.insert(key, Row { commit, branch });
            if seen.len() > size {
                seen.pop_last();
                truncated = true;
            }
        }
    }
    (seen.into_values().collect(), truncated)
}

fn render(row: &Row<'_>) -> DashCommit {
    let author = row.commit.author();
    DashCommit {
        commit: row.commit.hash().to_string(),
        author_name: author.split_once('<').map_or(author, |(name, _)| name).trim().to_owned(),
        author_email: email(author).to_owned(),
        commit_time_sec: row.commit.committed().seconds(),
        title: row.commit.message().lines().next().unwrap_or_default().to_owned(),
        branch: row.branch.to_owned(),
        ..DashCommit::default()
    }
}

/// Names for each row the newest commit of Go when it was committed, and the newest when the row above it was: so each
/// row has one commit of Go at least, and none is left out between two rows. `before` is the row above the first.
fn add_toolchains(corpus: &Corpus, rows: &[Row<'_>], before: Option<Commit<'_>>, commits: &mut [DashCommit]) {
    let go = project(corpus, MAIN).and_then(|go| go.find_ref("refs/heads/master"));
    let Some(tip) = go.and_then(|hash| corpus.commit(&hash)) else { return };
    let mut walk = Walk { rest: Box::new(first_parents(corpus, tip)), passed: Vec::new() };
    // Rows of several branches may have the same time, and clocks of committers differ: each is looked up by itself.
    let mut above = before.map(|commit| commit.committed());
    for (row, commit) in rows.iter().zip(commits) {
        let own = row.commit.committed();
        let at_time = walk.newest_before(own);
        let latest = above.map_or_else(|| at_time.clone(), |above| walk.newest_before(above));
        commit.go_commit_at_time = at_time;
        commit.go_commit_latest = latest;
        above = Some(own);
    }
}

/// Go's history, as far as it was looked at.
struct Walk<'a> {
    rest: Box<dyn Iterator<Item = Commit<'a>> + 'a>,
    /// The newest first. Times may go up and down a little: each is at most that of the one after it.
    passed: Vec<(types::Timestamp, Commit<'a>)>,
}

impl Walk<'_> {
    /// The newest commit that is older than a time; empty if there is none.
    fn newest_before(&mut self, time: types::Timestamp) -> String {
        while self.passed.last().is_none_or(|(oldest, _)| *oldest >= time) {
            let Some(commit) = self.rest.next() else { break };
            // A commit whose clock was ahead is no newer than what was made on it.
            let committed =
                self.passed.last().map_or(commit.committed(), |(newer, _)| commit.committed().min(*newer));
            self.passed.push((committed, commit));
        }
        let at = self.passed.partition_point(|(committed, _)| *committed >= time);
        self.passed.get(at).map(|(_, commit)| commit.hash().to_string()).unwrap_or_default()
    }
}

fn head(corpus: &Corpus, project: &Project<'_>) -> Option<DashCommit> {
    let commit = corpus.commit(&project.find_ref("refs/heads/master")?)?;
    Some(render(&Row { commit, branch: DEVELOPMENT }))
}

/// Where the development branch of each project stands, by name.
fn heads(corpus: &Corpus) -> Vec<DashRepoHead> {
    let head = |(name, project): (&str, Project<'_>)| {
        Some(DashRepoHead { gerrit_project: name.to_owned(), commit: Some(head(corpus, &project)?) })
    };
    projects(corpus).filter_map(head).collect()
}

/// The development branch as if it were a release, and the newest releases.
fn shown_releases(corpus: &Corpus) -> Vec<GoRelease> {
    let master = project(corpus, MAIN).and_then(|go| go.find_ref("refs/heads/master"));
    let development = master.map(|commit| GoRelease {
        branch_name: DEVELOPMENT.to_owned(),
        branch_commit: commit.to_string(),
        ..GoRelease::default()
    });
    development.into_iter().chain(released(corpus).into_iter().take(RELEASES)).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Fixture, *};

    fn request(repo: &str, branch: &str, page: i32, max_commits: i32) -> DashboardRequest {
        DashboardRequest { page, repo: repo.into(), branch: branch.into(), max_commits }
    }

    fn titles(fixture: &Fixture, request: &DashboardRequest) -> (Vec<String>, bool) {
        let answer = dashboard(&fixture.corpus, request).unwrap();
        (answer.commits.into_iter().map(|commit| commit.title).collect(), answer.commits_truncated)
    }

    #[test]
    fn a_branch_is_shown_page_by_page_from_its_tip() {
        let mut fixture = Fixture::default();
        for number in 1..=5 {
            fixture.commit_at("go", "master", number * 100, &format!("c{number}"));
        }
        assert_eq!(titles(&fixture, &request("", "", 0, 2)), (vec!["c5".into(), "c4".into()], true));
        assert_eq!(titles(&fixture, &request("go", "master", 2, 2)), (vec!["c1".into()], false));
        assert_eq!(titles(&fixture, &request("go", "", 9, 2)).0, Vec::<String>::new());
        let first = &dashboard(&fixture.corpus, &request("", "", 0, 1)).unwrap().commits[0];
        assert_eq!(
            (&*first.author_name, &*first.author_email, first.commit_time_sec, &*first.branch),
            ("Ada", "ada@example.com", 500, "master")
        );
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let mut fixture = Fixture::default();
        fixture.commit_at("go", "master", 1, "one");
        fixture.commit_at("go", "dev.x", 2, "two");
        let refused = |request: &DashboardRequest| dashboard(&fixture.corpus, request).unwrap_err();
        assert_eq!(refused(&request("", "", 0, -1)), DashboardError::NegativeCommits);
        assert_eq!(refused(&request("", "", -1, 0)), DashboardError::NegativePage);
        assert_eq!(refused(&request("", "mixed", 1, 0)), DashboardError::MixedPage);
        assert_eq!(refused(&request("", "mixed", 0, 1)), DashboardError::TooFewForMixed(2));
        assert_eq!(refused(&request("", "", 10, 5000)), DashboardError::TooFarBack);
        assert_eq!(refused(&request("", "", i32::MAX, 5000)), DashboardError::TooFarBack);
        assert!(matches!(refused(&request("", "none", 0, 0)), DashboardError::UnknownBranch { .. }));
        for unknown in ["golang.org/x/none", "example.com/go"] {
            assert!(matches!(refused(&request(unknown, "", 0, 0)), DashboardError::UnknownRepository(_)));
        }
    }

    #[test]
    fn mixed_branches_are_merged_by_time() {
        let mut fixture = Fixture::default();
        fixture.commit_at("go", "master", 10, "m10");
        fixture.fork("go", "master", "dev.x");
        fixture.commit_at("go", "dev.x", 25, "x25");
        for time in [20, 30, 40] {
            fixture.commit_at("go", "master", time, &format!("m{time}"));
        }
        let all = ["m40", "m30", "x25", "m20", "m10"].map(String::from);
        assert_eq!(titles(&fixture, &request("", "mixed", 0, 0)), (all.to_vec(), false));
        assert_eq!(titles(&fixture, &request("", "mixed", 0, 3)), (all[..3].to_vec(), true));
        let answer = dashboard(&fixture.corpus, &request("", "mixed", 0, 0)).unwrap();
        assert_eq!(answer.commits[4].branch, "master", "a commit of several branches is the first one's");
        assert_eq!(answer.branches, ["dev.x", "master"]);
    }

    #[test]
    fn commits_of_another_project_have_the_commits_of_go_between_them() {
        let mut fixture = Fixture::default();
        let go: Vec<String> =
            [10, 20, 30, 40].map(|time| fixture.commit_at("go", "master", time, "go")).into();
        for time in [15, 18, 35] {
            fixture.commit_at("tools", "master", time, &format!("t{time}"));
        }
        let tools = "golang.org/x/tools";
        let pairs = |page: i32, size: i32| -> Vec<(String, String)> {
            let answer = dashboard(&fixture.corpus, &request(tools, "", page, size)).unwrap();
            answer.commits.into_iter().map(|one| (one.go_commit_at_time, one.go_commit_latest)).collect()
        };
        let pair = |at_time: usize, latest: usize| (go[at_time].clone(), go[latest].clone());
        assert_eq!(pairs(0, 3), [pair(2, 2), pair(0, 2), pair(0, 0)]);
        assert_eq!(pairs(1, 1), [pair(0, 2)], "a page begins where the one before it ended");
    }

    #[test]
    fn heads_and_releases_are_those_of_the_whole_project() {
        let mut fixture = Fixture::default();
        fixture.commit_at("go", "master", 1, "go");
        fixture.commit_at("tools", "master", 1, "tools");
        fixture.tag("go", "go1.21.0");
        fixture.branch("go", "release-branch.go1.21");
        let answer = dashboard(&fixture.corpus, &request("", "", 0, 0)).unwrap();
        let heads: Vec<&str> = answer.repo_heads.iter().map(|head| &*head.gerrit_project).collect();
        assert_eq!(heads, ["go", "tools"]);
        let releases: Vec<&str> = answer.releases.iter().map(|release| &*release.branch_name).collect();
        assert_eq!(releases, ["master", "release-branch.go1.21"]);
    }
}
