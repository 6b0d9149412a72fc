//! Which changes are to be tried: people voted for it, and no try bot has voted yet.
//!
//! The original could not get the votes right from the log, and asked Gerrit instead. Here they are what the corpus
//! says, so an answer is as new as the log, and asking costs Gerrit nothing. What Gerrit says is compared with it beside
//! (`votes.rs`), and counts where they differ.

use std::iter;

use api::apipb::{GerritTryWorkItem, GoRelease, MajorMinor, TryVoteMessage};
use maintner::{
    Corpus,
    core::{Change, InlineComment, Project},
    tries,
};
use types::CommitHash;

use super::{
    DEVELOPMENT, MAIN, TooFewReleases, branches, project, projects, releases::parse_branch, supported,
};
use crate::votes::Verdicts;

/// The vote that asks for a try.
pub(crate) const ASKS: &str = "Run-TryBot";
/// The vote that says how it went.
pub(crate) const ANSWERS: &str = "TryBot-Result";

/// A branch of Go that another project is tested with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Toolchain {
    commit: String,
    branch: String,
    version: MajorMinor,
}

/// What is known of Go itself.
struct Go<'a> {
    main: Project<'a>,
    releases: Vec<GoRelease>,
}

/// The changes that are to be tried, by commit, and what is wrong with those that cannot be.
pub(crate) fn find_work(
    corpus: &Corpus,
    verdicts: &Verdicts,
) -> Result<(Vec<GerritTryWorkItem>, Vec<String>), TooFewReleases> {
    let mut waiting: Vec<(&str, Change<'_>)> = projects(corpus)
        .flat_map(|(name, project)| project.open_changes().map(move |change| (name, change)))
        .filter(|(_, change)| verdicts.of(change).unwrap_or_else(|| waits(change)))
        .collect();
    let releases = supported(corpus)?;
    let main = project(corpus, MAIN).ok_or(TooFewReleases(0))?;
    let go = Go { main, releases };
    waiting.sort_by_key(|(_, change)| change.commit().hash());
    let mut problems = Vec::new();
    let items = waiting.into_iter().filter_map(|(name, change)| match item(&go, name, &change) {
        Ok(item) => Some(item),
        Err(problem) => {
            problems.push(format!("{}~{}: {problem}", change.project().name(), change.number()));
            None
        }
    });
    let items = items.collect();
    Ok((items, problems))
}

/// Whether a change waits for a try, by the votes in the log.
pub(crate) fn waits(change: &Change<'_>) -> bool {
    tries::is_asked(ASKS, ANSWERS, change.votes().map(|vote| (vote.label, i32::from(vote.value))))
}

fn item(go: &Go<'_>, name: &str, change: &Change<'_>) -> Result<GerritTryWorkItem, String> {
    let branch = change.branch().strip_prefix("refs/heads/").unwrap_or(change.branch());
    let mut item = GerritTryWorkItem {
        project: name.to_owned(),
        branch: branch.to_owned(),
        change_id: change.change_id().ok_or("its latest patch set has no Change-Id")?,
        commit: change.commit().hash().to_string(),
        version: i32::try_from(change.version()).unwrap_or(i32::MAX),
        author_email: email(change.commit().author()).to_owned(),
        try_message: messages(change),
        ..GerritTryWorkItem::default()
    };
    if name == MAIN {
        let version = parse_branch(branch).map(|(major, minor)| MajorMinor { major, minor });
        item.go_version = vec![version.unwrap_or_else(|| development(go))];
        return Ok(item);
    }
    for toolchain in toolchains(go, name, branch)? {
        item.go_commit.push(toolchain.commit);
        item.go_branch.push(toolchain.branch);
        item.go_version.push(toolchain.version);
    }
    Ok(item)
}

/// The version that is being made.
fn development(go: &Go<'_>) -> MajorMinor {
    let latest = &go.releases[0];
    MajorMinor { major: latest.major, minor: latest.minor + 1 }
}

/// With which branches of Go a branch of another project is tested, the development branch first.
fn toolchains(go: &Go<'_>, name: &str, branch: &str) -> Result<Vec<Toolchain>, String> {
    let tip = |branch: &str| -> Result<String, String> {
        let found = branches(&go.main).find(|(other, _)| *other == branch);
        found
            .map(|(_, commit): (_, CommitHash)| commit.to_string())
            .ok_or_else(|| format!("Go has no branch `{branch}`"))
    };
    if let Some(release) = internal_branch(branch) {
        let (major, minor) = parse_branch(&release).ok_or_else(|| format!("`{branch}` names no release"))?;
        return Ok(vec![Toolchain {
            commit: tip(&release)?,
            branch: release,
            version: MajorMinor { major, minor },
        }]);
    }
    let mut all = vec![Toolchain {
        commit: tip(DEVELOPMENT)?,
        branch: DEVELOPMENT.to_owned(),
        version: development(go),
    }];
    let with_releases =
        branch == DEVELOPMENT || name == "tools" && branch.starts_with("gopls-release-branch.");
    if with_releases {
        all.extend(go.releases.iter().map(|release| Toolchain {
            commit: release.branch_commit.clone(),
            branch: release.branch_name.clone(),
            version: MajorMinor { major: release.major, minor: release.minor },
        }));
    }
    Ok(all)
}

/// `internal-branch.go1.21-vendor` is for `release-branch.go1.21`.
fn internal_branch(branch: &str) -> Option<String> {
    let (version, _) = branch.strip_prefix("internal-branch.")?.split_once('-')?;
    version.starts_with("go").then(|| format!("release-branch.{version}"))
}

/// What voters asked for in particular: lines `TRY=…` of the messages with which they voted, or of what they wrote on
/// the patch set as a whole with the same vote; only they can write these who may vote. The oldest first; what was said
/// of an earlier patch set than the one before it is outdated.
fn messages(change: &Change<'_>) -> Vec<TryVoteMessage> {
    let mut all: Vec<TryVoteMessage> = Vec::new();
    let mut written: Option<Vec<InlineComment>> = None;
    for meta in change.metas() {
        let Some(message) = meta.message() else { continue };
        if !tries::is_vote(&message.text, ASKS) {
            continue;
        }
        // A comment is written with a vote if both are of the same person and moment.
        let (who, when) = (meta.author(), meta.commit().committed().seconds());
        let with_vote = written.get_or_insert_with(|| change.comments()).iter().filter(|comment| {
            comment.file == "/PATCHSET_LEVEL" && comment.author == who && comment.written.seconds() == when
        });
        let version = i32::try_from(meta.patch_set()).unwrap_or(i32::MAX);
        let texts = iter::once(&*message.text).chain(with_vote.map(|one| one.message.as_str()));
        for wish in texts.filter_map(tries::line) {
            let account = who.split_once('@').and_then(|(account, _)| account.parse().ok());
            if all.last().is_none_or(|last| last.version <= version) {
                let message = wish.to_owned();
                all.push(TryVoteMessage { message, author_id: account.unwrap_or(0), version });
            }
        }
    }
    all
}

/// What is between the brackets of `Name <email>`.
pub(super) fn email(person: &str) -> &str {
    person.rsplit_once('<').map_or("", |(_, email)| email.trim_end_matches('>'))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Fixture, *};

    fn fixture() -> Fixture {
        let mut fixture = Fixture::default();
        for project in ["go", "tools", "net"] {
            fixture.branch(project, "master");
        }
        for release in ["go1.20", "go1.21"] {
            fixture.tag("go", &format!("{release}.1"));
            fixture.branch("go", &format!("release-branch.{release}"));
        }
        fixture
    }

    fn work(fixture: &Fixture) -> Vec<GerritTryWorkItem> {
        let (items, problems) = find_work(&fixture.corpus, &Verdicts::default()).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        items
    }

    #[test]
    fn a_change_waits_from_the_vote_that_asks_to_the_vote_that_answers() {
        let mut fixture = fixture();
        fixture.change("go", 5, "refs/heads/master");
        assert_eq!(work(&fixture), []);
        fixture.say("go", 5, "Patch Set 1: Run-TryBot+1", "Label: Run-TryBot=+1");
        let [item] = &work(&fixture)[..] else { panic!("it does not wait") };
        assert_eq!((&*item.project, &*item.branch, item.version), ("go", "master", 1));
        assert_eq!(item.go_version, [MajorMinor { major: 1, minor: 22 }]);
        assert_eq!((item.go_commit.len(), &*item.author_email), (0, "ada@example.com"));
        fixture.say("go", 5, "Patch Set 1: TryBot-Result-1", "Label: TryBot-Result=-1");
        assert_eq!(work(&fixture), []);
        fixture.say("go", 5, "Removed TryBot-Result-1", "Label: -TryBot-Result");
        assert_eq!(work(&fixture).len(), 1);
        fixture.say("go", 5, "Removed Run-TryBot+1", "Label: -Run-TryBot");
        assert_eq!(work(&fixture), []);
    }

    #[test]
    fn a_new_patch_set_is_seen_without_another_vote() {
        let mut fixture = fixture();
        fixture.change("go", 5, "refs/heads/master");
        fixture.say("go", 5, "Patch Set 1: Run-TryBot+1", "Label: Run-TryBot=+1");
        let before = work(&fixture)[0].commit.clone();
        fixture.patch_set("go", 5, 2);
        assert!(
            work(&fixture).iter().all(|item| item.commit != before),
            "the outdated commit would be tried"
        );
    }

    #[test]
    fn each_branch_is_tested_with_the_branches_of_go_that_it_is_for() {
        let mut fixture = fixture();
        for (number, project, branch) in [
            (1, "tools", "master"),
            (2, "tools", "gopls-release-branch.0.14"),
            (3, "net", "internal-branch.go1.21-vendor"),
            (4, "net", "dev.next"),
            (5, "go", "release-branch.go1.20"),
            (6, "net", "internal-branch.go1.7-vendor"),
        ] {
            fixture.change(project, number, &format!("refs/heads/{branch}"));
            fixture.say(project, number, "Patch Set 1: Run-TryBot+1", "Label: Run-TryBot=+1");
        }
        let (mut items, problems) = find_work(&fixture.corpus, &Verdicts::default()).unwrap();
        items.sort_by_key(|item| (item.project.clone(), item.branch.clone()));
        let branches: Vec<Vec<&str>> =
            items.iter().map(|item| item.go_branch.iter().map(String::as_str).collect()).collect();
        let all = ["master", "release-branch.go1.21", "release-branch.go1.20"];
        assert_eq!(
            branches,
            [vec![], vec!["master"], vec!["release-branch.go1.21"], all.to_vec(), all.to_vec()]
        );
        assert_eq!(items[0].go_version, [MajorMinor { major: 1, minor: 20 }]);
        assert_eq!(problems, ["go.googlesource.com/net~6: Go has no branch `release-branch.go1.7`"]);
    }

    #[test]
    fn what_voters_ask_for_is_handed_on_unless_it_is_outdated() {
        let mut fixture = fixture();
        fixture.change("go", 5, "refs/heads/master");
        fixture.say("go", 5, "Patch Set 1: Run-TryBot+1\n\nTRY=longtest", "Label: Run-TryBot=+1");
        fixture.say("go", 5, "Patch Set 1:\n\nTRY=by-a-stranger", "");
        fixture.say(
            "go",
            5,
            "Patch Set 1: Run-TryBot+1\n\nsee there\nTRY= freebsd, plan9",
            "Label: Run-TryBot=+1",
        );
        let said: Vec<String> = work(&fixture)[0].try_message.iter().map(|one| one.message.clone()).collect();
        assert_eq!(said, ["longtest", "freebsd, plan9"]);
        assert_eq!(work(&fixture)[0].try_message[0].author_id, 7);
    }

    #[test]
    fn a_wish_may_be_written_on_the_patch_set_with_the_vote() {
        let mut fixture = fixture();
        fixture.change("go", 5, "refs/heads/master");
        let before = fixture.say("go", 5, "Patch Set 1:\n\n(1 comment)", "");
        fixture.write("go", 5, "7@62eb7196", before, "TRY=without-a-vote");
        let vote = fixture.say("go", 5, "Patch Set 1: Run-TryBot+1\n\n(2 comments)", "Label: Run-TryBot=+1");
        fixture.write("go", 5, "7@62eb7196", vote, "please\n\nTRY=longtest, plan9 ");
        fixture.write("go", 5, "8@62eb7196", vote, "TRY=by-a-stranger");
        let said: Vec<String> = work(&fixture)[0].try_message.iter().map(|one| one.message.clone()).collect();
        assert_eq!(said, ["longtest, plan9"]);
    }
}
