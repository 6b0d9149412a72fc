//! The bot over a real stream, against a GitHub that keeps its contract in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fake_github;
mod fake_maintnerd;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use api::maintpb::{BuildResult, GitCommit, GitMutation, GitRef, Mutation, RepositoryMutation};
use fake_github::{FakeGithub, Fault};
use fake_maintnerd::FakeMaintnerd;
use gopherbot::{Config, DryRun, GithubHost, Host, Limits, Server};
use rpc::{Authority, Identity};
use runtime::{FakeClock, Tasks};
use tokio_util::sync::CancellationToken;
use types::Timestamp;

const PATIENCE: Duration = Duration::from_secs(20);
/// What the clock says when the bot begins.
const NOW: i64 = 1_700_000_000;

struct World {
    github: FakeGithub,
    maintnerd: FakeMaintnerd,
    clock: FakeClock,
    identity: Identity,
    others: Tasks,
    dir: tempfile::TempDir,
}

struct Running {
    tasks: Tasks,
    stop: CancellationToken,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.finish(PATIENCE).await.unwrap();
    }
}

impl World {
    async fn start() -> Self {
        runtime::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let identity = Authority::create(&dir.path().join("ca")).unwrap().issue_service("test").unwrap();
        let others = Tasks::new(CancellationToken::new());
        let clock = FakeClock::new(Timestamp::from_seconds(NOW));
        let github = FakeGithub::start(&others).await;
        let maintnerd = FakeMaintnerd::start(&others, &identity).await;
        Self { github, maintnerd, clock, identity, others, dir }
    }

    fn real(&self) -> Arc<dyn Host> {
        let token = self.dir.path().join("token");
        std::fs::write(&token, "token-of-the-bot\n").unwrap();
        Arc::new(GithubHost::new(&self.github.url, token, self.clock.shared(), Duration::ZERO).unwrap())
    }

    async fn bot(&self, host: Arc<dyn Host>, most_an_hour: usize) -> Running {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            identity: self.identity.clone(),
            maintnerd: format!("https://{}", self.maintnerd.addr),
            pages: "https://farm.example/".into(),
            data: Path::new(self.dir.path()).join("bot"),
            clock: self.clock.shared(),
            tasks: vec!["green-to-red".into()],
            repositories: BTreeMap::from([("one".parse().unwrap(), ("owner".into(), "name".into()))]),
            host,
            limits: Limits {
                most_an_hour,
                retry: Duration::from_millis(5),
                longest_retry: Duration::from_millis(20),
            },
            telemetry: runtime::telemetry::Config::default(),
        };
        let server = Server::bind(config).await.unwrap();
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        tasks.service("gopherbot", server.run(stop.clone()));
        Running { tasks, stop }
    }

    async fn end(self) {
        self.others.shutdown().cancel();
        self.others.finish(PATIENCE).await.unwrap();
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

fn hash(n: u64) -> String {
    format!("{n:040x}")
}

/// A line of commits 1 to `count` on main.
fn line(count: u64) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    for n in 1..=count {
        let parent = if n > 1 { format!("parent {}\n", hash(n - 1)) } else { String::new() };
        let raw =
            format!("tree {}\n{parent}author A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nc {n}\n", hash(0));
        let commit = GitCommit { sha1: hash(n), raw: raw.into(), diff_tree: None };
        let git = Some(GitMutation { repo: None, commit: Some(commit) });
        mutations.push(Mutation { git, ..Default::default() });
    }
    let refs = vec![GitRef { r#ref: "refs/heads/main".into(), sha1: hash(count) }];
    let repository = RepositoryMutation { repository: "one".into(), refs, deleted_refs: Vec::new() };
    mutations.push(Mutation { repository: Some(repository), ..Default::default() });
    mutations
}

fn built(n: u64, outcome: &str, ended: i64) -> Mutation {
    let result = BuildResult {
        build: n,
        attempt: 1,
        builder: "linux".into(),
        repository: "one".into(),
        commit: hash(n),
        outcome: outcome.into(),
        ended: Some(prost_types::Timestamp { seconds: ended, nanos: 0 }),
        ..Default::default()
    };
    Mutation { build_result: Some(result), ..Default::default() }
}

/// A line on which each even commit breaks what the one before passed.
fn breaking(count: u64) -> Vec<Mutation> {
    let outcome = |n: u64| if n.is_multiple_of(2) { "failed" } else { "passed" };
    line(count).into_iter().chain((1..=count).map(|n| built(n, outcome(n), NOW + 10))).collect()
}

#[tokio::test]
async fn a_commit_that_turns_a_builder_red_gets_one_comment() {
    let world = World::start().await;
    let bot = world.bot(world.real(), 20).await;
    world.maintnerd.append(breaking(2));
    until("the comment", || world.github.comments(&hash(2)).len() == 1).await;
    let comment = world.github.comments(&hash(2)).remove(0);
    assert!(comment.contains("`linux` failed at this commit on `main`"), "{comment}");
    assert!(comment.contains("https://farm.example/build/2"), "{comment}");
    bot.end().await;
    let bot = world.bot(world.real(), 20).await;
    world.maintnerd.append(vec![built(3, "passed", NOW + 20)]);
    until("the whole log", || world.maintnerd.delivered() > 2 * 5).await;
    bot.end().await;
    assert_eq!(world.github.comments(&hash(2)).len(), 1, "a restart repeats nothing");
    world.end().await;
}

#[tokio::test]
async fn a_comment_whose_answer_was_lost_is_found_and_not_repeated() {
    let world = World::start().await;
    world.github.fault(Fault::FailAfterPosting);
    world.github.fill(&hash(2), 230);
    let bot = world.bot(world.real(), 20).await;
    world.maintnerd.append(breaking(4));
    until("the other comment", || world.github.comments(&hash(4)).len() == 1).await;
    bot.end().await;
    assert_eq!(world.github.comments(&hash(2)).len(), 231, "it looked at every page of comments");
    world.end().await;
}

#[tokio::test]
async fn limits_are_waited_for_and_gone_commits_hold_up_no_other() {
    let world = World::start().await;
    world.github.fault(Fault::Secondary);
    world.github.gone(&hash(2));
    world.github.refuse(&hash(4));
    let bot = world.bot(world.real(), 20).await;
    world.maintnerd.append(breaking(6));
    until("the comment", || world.github.comments(&hash(6)).len() == 1).await;
    bot.end().await;
    let asked = world.github.requests();
    let bot = world.bot(world.real(), 20).await;
    until("the whole log", || world.maintnerd.delivered() >= 2 * 13).await;
    bot.end().await;
    assert_eq!(world.github.requests(), asked, "what is gone or refused is not tried again");
    assert!(world.github.asked_too_early().is_none(), "{:?}", world.github.asked_too_early());
    world.end().await;
}

#[tokio::test]
async fn a_storm_is_held() {
    let world = World::start().await;
    let bot = world.bot(world.real(), 3).await;
    world.maintnerd.append(breaking(40));
    until("the first comments", || world.github.total() >= 3).await;
    until("the whole log", || world.maintnerd.delivered() >= 81).await;
    bot.end().await;
    world.clock.advance(Duration::from_hours(2));
    let bot = world.bot(world.real(), 3).await;
    let more: Vec<Mutation> = line(42)
        .into_iter()
        .chain([built(41, "passed", NOW + 7200), built(42, "failed", NOW + 7200)])
        .collect();
    world.maintnerd.append(more);
    until("the comment after the storm", || world.github.comments(&hash(42)).len() == 1).await;
    bot.end().await;
    assert_eq!(world.github.total(), 4, "what was held stays unsaid");
    world.end().await;
}

#[tokio::test]
async fn the_past_is_left_alone() {
    let world = World::start().await;
    let mut past = line(4);
    past.extend([built(1, "passed", NOW - 20), built(2, "failed", NOW - 10)]);
    world.maintnerd.append(past);
    let bot = world.bot(world.real(), 20).await;
    world.maintnerd.append(vec![built(3, "passed", NOW + 1), built(4, "failed", NOW + 2)]);
    until("the comment", || world.github.comments(&hash(4)).len() == 1).await;
    assert_eq!(world.github.total(), 1);
    bot.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_dry_run_says_nothing_and_what_it_rehearsed_is_not_said_later() {
    let world = World::start().await;
    let dry = DryRun::default();
    let bot = world.bot(Arc::new(dry.clone()), 20).await;
    world.maintnerd.append(breaking(2));
    until("the rehearsal", || dry.comments().len() == 1).await;
    assert_eq!(dry.comments()[0].0.to_string(), "owner/name@00000000");
    bot.end().await;
    let bot = world.bot(world.real(), 20).await;
    until("the whole log", || world.maintnerd.delivered() >= 2 * 5).await;
    bot.end().await;
    assert_eq!((world.github.total(), world.github.requests()), (0, 0));
    world.end().await;
}
