//! What `ListCommits` delivers.

use std::fmt::Write;

use api::{gitmirror::ListCommitsRequest, maintpb::GitCommit};
use tonic::{Code, Status};

use crate::world::{Origin, World, git_in};

pub(crate) async fn list(
    world: &World,
    repository: &str,
    include: &[&str],
    exclude: &[&str],
    limit: u32,
) -> Result<Vec<GitCommit>, Status> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let request = ListCommitsRequest {
        repository: repository.to_owned(),
        include: texts(include),
        exclude: texts(exclude),
        limit,
    };
    let mut stream = world.client().list_commits(request).await?.into_inner();
    let mut commits = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!((1..=500).contains(&message.commits.len()));
        commits.extend(message.commits);
    }
    Ok(commits)
}

fn names(commits: &[GitCommit]) -> Vec<&str> {
    commits.iter().map(|commit| commit.sha1.as_str()).collect()
}

/// A history with everything in it that is hard to diff.
fn history() -> Origin {
    let origin = Origin::new();
    origin.commit("a file with spaces", "1\n2\n3\n");
    origin.commit("dir/ünï\tcode \"q\"", "x\n");
    origin.commit("binary", [0_u8, 1, 2, 255, 0]);
    origin.git(["mv", "README", "RENAMED"]);
    origin.write("dir/deep/er", "1\n");
    origin.commit_all("rename");
    origin.git(["checkout", "--quiet", "-b", "side", "HEAD~2"]);
    origin.commit("side", "s\n");
    origin.git(["checkout", "--quiet", "main"]);
    origin.git(["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    origin.git(["rm", "--quiet", "a file with spaces"]);
    origin.commit_all("removed");
    origin.commit_all("nothing changed");
    origin
}

#[tokio::test]
async fn commits_are_what_git_says_they_are() {
    let origin = history();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 2).await;
    let commits = list(&world, "one", &[&origin.head()], &[], 0).await.unwrap();
    let expected = origin.git(["rev-list", "--reverse", "--topo-order", "HEAD"]);
    assert_eq!(names(&commits), expected.lines().collect::<Vec<_>>());
    for commit in &commits {
        let raw = git_in(origin.path(), ["cat-file", "commit", &commit.sha1]);
        assert_eq!(String::from_utf8_lossy(&commit.raw).trim_end(), raw);
        let expected = origin.git(["diff-tree", "--numstat", &commit.sha1]);
        let expected: Vec<_> = expected.lines().filter(|line| *line != commit.sha1).collect();
        let files = commit.diff_tree.as_ref().unwrap().file.iter();
        let shown: Vec<_> = files
            .map(|file| {
                if file.binary {
                    format!("-\t-\t{}", file.file)
                } else {
                    format!("{}\t{}\t{}", file.added, file.deleted, file.file)
                }
            })
            .collect();
        assert_eq!(shown, expected, "{raw}");
    }
    let changed = commits.iter().filter(|commit| !commit.diff_tree.as_ref().unwrap().file.is_empty()).count();
    assert_eq!(changed, commits.len() - 3, "the root, the merge and the empty one have no files");
}

#[tokio::test]
async fn what_is_excluded_is_left_out_and_the_newest_are_counted() {
    let origin = history();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 2).await;
    let head = origin.head();
    let ask = |arguments: &[&str]| {
        let all = ["rev-list", "--reverse", "--topo-order"].into_iter().chain(arguments.iter().copied());
        origin.git(all).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let at = |name: &str| origin.git(["rev-parse", name]);
    let cases = [
        (vec![head.clone()], vec![at("HEAD~1")], 0),
        (vec![head.clone()], vec![at("HEAD~2")], 0),
        (vec![head.clone()], vec![at("HEAD~2")], 1),
        (vec![head.clone()], vec![head.clone()], 0),
        (vec![head.clone()], vec![at("side")], 0),
        (vec![head.clone()], vec![at("side"), at("HEAD~3")], 0),
        (vec![head.clone()], vec![], 3),
        (vec![at("side"), at("HEAD~3")], vec![at("HEAD~5")], 0),
        (vec![at("side~1")], vec![at("side")], 0),
        (vec![at("HEAD~1")], vec![head.clone()], 0),
    ];
    for (include, exclude, limit) in cases {
        let not: Vec<_> = exclude.iter().map(|commit| format!("^{commit}")).collect();
        let mut arguments: Vec<_> = include.iter().chain(&not).map(String::as_str).collect();
        let count = format!("--max-count={limit}");
        if limit > 0 {
            arguments.push(&count);
        }
        let texts = |list: &[String]| list.iter().map(String::clone).collect::<Vec<_>>();
        let (include, exclude) = (texts(&include), texts(&exclude));
        let include: Vec<_> = include.iter().map(String::as_str).collect();
        let mut exclude: Vec<_> = exclude.iter().map(String::as_str).collect();
        let found = list(&world, "one", &include, &exclude, limit).await.unwrap();
        assert_eq!(names(&found), ask(&arguments), "{include:?} {exclude:?} {limit}");
        // Ones that the mirror does not know change nothing.
        let strange = "1".repeat(40);
        exclude.push(&strange);
        let again = list(&world, "one", &include, &exclude, limit).await.unwrap();
        assert_eq!(names(&again), names(&found));
    }
}

#[tokio::test]
async fn long_histories_come_in_messages() {
    let origin = Origin::new();
    let mut input = String::new();
    for number in 1..=1200 {
        let from = if number > 1 { format!("from :{}\n", number - 1) } else { String::new() };
        let (time, size) = (1_700_000_000 + number, number.to_string().len() + 1);
        writeln!(input, "commit refs/heads/long\nmark :{number}").unwrap();
        write!(input, "committer C <c@example.com> {time} +0000\ndata 2\nx\n{from}").unwrap();
        writeln!(input, "M 644 inline f\ndata {size}\n{number}\n").unwrap();
    }
    let import = origin.path().join("import");
    std::fs::write(&import, input).unwrap();
    let mut command = crate::world::git_command(origin.path());
    let file = std::fs::File::open(&import).unwrap();
    assert!(command.args(["fast-import", "--quiet"]).stdin(file).status().unwrap().success());
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 2).await;
    let tip = origin.git(["rev-parse", "long"]);
    let commits = list(&world, "one", &[&tip], &[], 0).await.unwrap();
    assert_eq!(commits.len(), 1200);
    assert_eq!(commits[1199].sha1, tip);
    assert_eq!(commits[1199].diff_tree.as_ref().unwrap().file.len(), 1);
}

#[tokio::test]
async fn bad_questions_are_refused_with_a_reason() {
    let origin = Origin::new();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    let head = origin.head();
    let check = async |repository: &str, include: &[&str], exclude: &[&str]| {
        let status = list(&world, repository, include, exclude, 0).await.unwrap_err();
        (status.code(), rpc::reason(&status).unwrap_or_default())
    };
    let bad = (Code::InvalidArgument, "BAD_COMMIT".to_owned());
    assert_eq!(check("one", &[], &[]).await, bad);
    for text in ["HEAD", "--all", "", &head[..39], &head.to_uppercase(), "refs/heads/main"] {
        assert_eq!(check("one", &[text], &[]).await, bad, "{text}");
        assert_eq!(check("one", &[&head], &[text]).await, bad, "{text}");
    }
    assert_eq!(
        check("one", &["1".repeat(40).as_str()], &[]).await,
        (Code::NotFound, "UNKNOWN_COMMIT".into())
    );
    let tree = origin.git(["rev-parse", "HEAD^{tree}"]);
    assert_eq!(check("one", &[&tree], &[]).await, (Code::NotFound, "UNKNOWN_COMMIT".into()));
    for name in ["two", "", "..", "../one", "-x", "one.git"] {
        assert_eq!(check(name, &[&head], &[]).await, (Code::NotFound, "UNKNOWN_REPOSITORY".into()), "{name}");
    }
}
