//! The project that is built: its commits, what each is to make and test and how that ends in truth, and gitmirror
//! behind its port.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
};

use api::maintpb::GitCommit;
use async_trait::async_trait;
use coordinator::ports::{Commit, Commits, Files, MirrorError};
use tonic::Status;
use types::{CommitHash, RepositoryName, Timestamp};

use crate::{context::lock, coordinator::Life, fault::Fault, rng::Rng, world::World};

/// How a command of a commit ends when nothing disturbs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    Fails,
    Hangs,
    /// Now so, now so.
    Flakes,
}

/// A test of a commit.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) millis: u64,
    pub(crate) verdict: Verdict,
}

/// What a tree holds.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) make_millis: u64,
    pub(crate) make: Verdict,
    pub(crate) list: Verdict,
    pub(crate) tests: Vec<Test>,
    /// Its `farmer.toml`.
    pub(crate) file: String,
    /// The builders in it; none if it is wrong.
    pub(crate) builders: Vec<String>,
}

/// A commit of the project.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) commit: Commit,
    pub(crate) raw: GitCommit,
    pub(crate) tree: Arc<Tree>,
    pub(crate) tree_name: String,
    /// It was forced away.
    pub(crate) vanished: bool,
}

/// All commits.
#[derive(Default)]
pub(crate) struct Project {
    commits: Mutex<BTreeMap<CommitHash, Made>>,
}

/// The repository.
pub(crate) const REPOSITORY: &str = "example";
/// Its branch.
pub(crate) const BRANCH: &str = "refs/heads/main";

impl Project {
    pub(crate) fn find(&self, hash: CommitHash) -> Option<Made> {
        lock(&self.commits).get(&hash).cloned()
    }

    /// The tree of this name.
    pub(crate) fn tree(&self, hash: CommitHash) -> Option<Arc<Tree>> {
        lock(&self.commits).get(&hash).map(|made| Arc::clone(&made.tree))
    }

    pub(crate) fn vanish(&self, hash: CommitHash) {
        if let Some(made) = lock(&self.commits).get_mut(&hash) {
            made.vanished = true;
        }
    }

    /// Makes a commit on top of another. Now and then its tree is its parent's, as after an empty commit.
    pub(crate) fn make(&self, rng: &mut Rng, parent: Option<CommitHash>, time: i64) -> Made {
        let mut commits = lock(&self.commits);
        let number = commits.len() as u64 + 1;
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&rng.next().to_be_bytes());
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        let hash = CommitHash::from_bytes(bytes);
        let before = parent.and_then(|parent| commits.get(&parent)).filter(|_| rng.once_in(12));
        let (tree, tree_name) = match before {
            Some(before) => (Arc::clone(&before.tree), before.tree_name.clone()),
            None => (Arc::new(Tree::draw(rng)), hash.to_string()),
        };
        let parents: Vec<CommitHash> = parent.into_iter().collect();
        let line = parent.map(|parent| format!("parent {parent}\n")).unwrap_or_default();
        let raw = format!(
            "tree {tree_name}\n{line}author A <a@b> {time} +0000\ncommitter A <a@b> {time} +0000\n\nCommit {number}\n"
        );
        let made = Made {
            commit: Commit {
                hash,
                parents,
                author: "A".to_owned(),
                time: Timestamp::from_seconds(time),
                subject: format!("Commit {number}"),
            },
            raw: GitCommit { sha1: hash.to_string(), raw: raw.into_bytes().into(), diff_tree: None },
            tree,
            tree_name,
            vanished: false,
        };
        commits.insert(hash, made.clone());
        made
    }
}

impl Tree {
    fn draw(rng: &mut Rng) -> Self {
        let rare = |rng: &mut Rng, of| if rng.once_in(of) { Verdict::Fails } else { Verdict::Passes };
        let make = if rng.once_in(60) { Verdict::Hangs } else { rare(rng, 25) };
        let list = rare(rng, 60);
        let count = if rng.once_in(20) { 0 } else { rng.between(8, 44) };
        let tests = (0..count).map(|number| Test::draw(rng, number)).collect();
        let (file, builders) = build_file(rng);
        Self { make_millis: rng.between(500, 12_000), make, list, tests, file, builders }
    }

    /// How the tests of a shard end: the time they take, what they write, and the verdict; of one that flakes, by luck.
    pub(crate) fn run(&self, names: &[&str], luck: u64) -> (u64, String, Verdict) {
        let (mut millis, mut text, mut verdict) = (20, String::new(), Verdict::Passes);
        let all = names.is_empty();
        for test in self.tests.iter().filter(|test| all || names.contains(&test.name.as_str())) {
            millis += test.millis;
            let _ = writeln!(text, "ran {}", test.name);
            match test.verdict {
                Verdict::Hangs => return (u64::MAX, text, Verdict::Hangs),
                Verdict::Fails => verdict = Verdict::Fails,
                Verdict::Flakes if Rng::new(luck).once_in(2) => verdict = Verdict::Fails,
                Verdict::Passes | Verdict::Flakes => {}
            }
        }
        (millis, text, verdict)
    }
}

impl Test {
    fn draw(rng: &mut Rng, number: u64) -> Self {
        let verdict = match rng.between(0, 500) {
            0 => Verdict::Hangs,
            1..4 => Verdict::Fails,
            4..8 => Verdict::Flakes,
            _ => Verdict::Passes,
        };
        let millis = if rng.once_in(10) { rng.between(2000, 9000) } else { rng.between(20, 1500) };
        Self { name: format!("t{number}"), millis, verdict }
    }
}

const PLAIN: &str = r#"
[[builders]]
name = "plain"
host = "h1"
make = ["simulate make"]
timeout = "30s"
[builders.tests]
run = "simulate test"
timeout = "180s"
"#;

const BARE: &str = r#"
[[builders]]
name = "bare"
host = "h2"
make = ["simulate make"]
timeout = "30s"
"#;

const SHARDED: &str = r#"
[[builders]]
name = "NAME"
host = "HOST"
make = ["simulate make"]
timeout = "30s"
keep_going = GOING
[builders.tests]
list = "simulate list"
run = "simulate test"
timeout = "180s"
shard_seconds = 0.3
max_shards = 30
helpers = HELPERS
[builders.snapshot]
enabled = SNAPSHOT
movable = MOVABLE
"#;

fn build_file(rng: &mut Rng) -> (String, Vec<String>) {
    if rng.once_in(40) {
        return ("[[builders]]\nname = 'linux'\nhost = 'moon'\n".to_owned(), Vec::new());
    }
    let (mut file, mut names) = (String::new(), Vec::new());
    let sharded = |name: &str, host: &str, rng: &mut Rng| {
        let keeps = !rng.once_in(5);
        SHARDED
            .replace("NAME", name)
            .replace("HOST", host)
            .replace("GOING", if rng.once_in(3) { "true" } else { "false" })
            .replace("HELPERS", &if keeps { rng.between(0, 4) } else { 0 }.to_string())
            .replace("SNAPSHOT", if keeps { "true" } else { "false" })
            .replace("MOVABLE", if rng.once_in(3) { "false" } else { "true" })
    };
    for (name, of) in [("plain", 2), ("bare", 3), ("linux", 1), ("race", 2)] {
        if rng.once_in(of) {
            names.push(name.to_owned());
            file.push_str(&match name {
                "plain" => PLAIN.to_owned(),
                "bare" => BARE.to_owned(),
                "linux" => sharded(name, "h1", rng),
                _ => sharded(name, if rng.once_in(2) { "h1" } else { "h2" }, rng),
            });
        }
    }
    (file, names)
}

pub(crate) struct SimCommits {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl SimCommits {
    async fn find(&self, repository: &RepositoryName, commit: CommitHash) -> Result<Made, MirrorError> {
        let context = &self.world.context;
        context.judge.call();
        context.pause(0, 20).await;
        self.life.check().await;
        if context.weather().mirror_down > 0 {
            return Err(MirrorError::Failed(Status::unavailable("gitmirror does not run")));
        }
        let made = self.world.project.find(commit).filter(|made| !made.vanished);
        made.ok_or_else(|| {
            context.judge.fault(Fault::CommitVanished);
            MirrorError::UnknownCommit { repository: repository.clone(), commit }
        })
    }
}

#[async_trait]
impl Commits for SimCommits {
    async fn files(
        &self,
        repository: &RepositoryName,
        commit: CommitHash,
        paths: Vec<String>,
    ) -> Result<Files, MirrorError> {
        let made = self.find(repository, commit).await?;
        let files = paths.into_iter().filter(|path| path == "farmer.toml");
        let files = files.map(|path| (path, made.tree.file.clone().into())).collect();
        Ok(Files { tree: made.tree_name, files })
    }

    async fn commits(
        &self,
        repository: &RepositoryName,
        include: CommitHash,
        exclude: &[CommitHash],
        limit: u32,
    ) -> Result<Vec<Commit>, MirrorError> {
        let mut next = Some(self.find(repository, include).await?);
        let mut found = Vec::new();
        let mut hidden = std::collections::BTreeSet::new();
        for hash in exclude {
            let mut at = Some(*hash);
            while let Some(hash) = at
                && hidden.insert(hash)
            {
                at = self.world.project.find(hash).and_then(|made| made.commit.parents.first().copied());
            }
        }
        while let Some(made) = next.take() {
            if found.len() == limit as usize || hidden.contains(&made.commit.hash) {
                break;
            }
            let parent = made.commit.parents.first().copied();
            found.push(made.commit);
            next = parent.and_then(|parent| self.world.project.find(parent));
        }
        Ok(found)
    }
}
