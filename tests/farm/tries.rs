//! Changes are tried at a real Gerrit: people push and vote there, the farm builds, speaks and votes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "how soon things happen is a product of it")]

use std::{path::PathBuf, time::Duration};

use api::gitmirror::{TickleRequest, mirror_service_client::MirrorServiceClient};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Farm, Gerrit, Options, Repository, farm::PATIENCE, gerrit::ADMIN};
use tokio::time::Instant;

const PROJECT: &str = "demo";
const BOT: &str = "farmer";
const CHANGE_ID: &str = "I00000000000000000000000000000000000000a1";

/// Each make waits until it may go on; then it fails if the commit says so.
fn build_file(flags: &TempDir) -> String {
    let flags = flags.path().display();
    let make =
        format!("touch {flags}/$FARMER_BUILD; while [ ! -e {flags}/go ]; do sleep 0.02; done; [ ! -e fail ]");
    let builder = |name: &str, more: &str| {
        format!("[[builders]]\nname = {name:?}\nhost = \"local\"\nmake = [{make:?}]\n{more}\n")
    };
    [builder("alpha", ""), builder("beta", ""), builder("slow", "try = false")].concat()
}

struct World {
    gerrit: Gerrit,
    farm: Farm,
    /// Ada's clone.
    work: Repository,
    flags: TempDir,
    change: u64,
    _config: TempDir,
}

impl World {
    async fn start(story: &str) -> Option<Self> {
        let gerrit = Gerrit::start(story)?;
        for name in ["ada", "bob", BOT] {
            gerrit.account(name).await;
        }
        let branches = json!({ "create_empty_commit": true, "branches": ["main"] });
        gerrit.call(ADMIN, "PUT", &format!("projects/{PROJECT}"), &branches).await;
        let flags = tempfile::tempdir().unwrap();
        let admin = gerrit.clone_as(ADMIN, PROJECT);
        admin.git(&["config", "user.email", "admin@example.com"]);
        admin.commit("builders", &[("farmer.toml", &build_file(&flags))]);
        admin.git(&["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
        let work = gerrit.clone_as("ada", PROJECT);
        let config = tempfile::tempdir().unwrap();
        let password = config.path().join("password");
        std::fs::write(&password, "secret\n").unwrap();
        let text = format!(
            "environment = \"production\"\n[[repositories]]\nname = {PROJECT:?}\norigin = {:?}\npoll = \"1h\"\n\
             branches = [\"none\"]\ngerrit = {{ url = {:?} }}\ntries = {{ user = {BOT:?}, password = {:?} }}\n",
            gerrit.git_url(ADMIN, PROJECT),
            gerrit.url,
            password.display().to_string(),
        );
        let file = config.path().join("farm.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.display().to_string()];
        let farm = Farm::start(work.path(), Options { arguments, buildlets: Some(3) }).await;
        Some(Self { gerrit, farm, work, flags, change: 0, _config: config })
    }

    fn path(&self, rest: &str) -> String {
        format!("changes/{PROJECT}~{}{rest}", self.change)
    }

    async fn act(&self, user: &str, what: &str, body: Value) {
        self.gerrit.call(user, "POST", &self.path(&format!("/{what}")), &body).await;
    }

    async fn ask(&self, message: &str) {
        let review = json!({ "message": message, "labels": { "Run-TryBot": 1 } });
        self.act("bob", "revisions/current/review", review).await;
    }

    /// Pushes a patch set with this file.
    async fn push(&mut self, file: &str) {
        self.work.write(&[(file, file)]);
        self.work.git(&["add", "--all"]);
        let message = format!("a thing\n\nChange-Id: {CHANGE_ID}\n");
        let amend = if self.change == 0 {
            &["commit", "--quiet", "-m"][..]
        } else {
            &["commit", "--quiet", "--amend", "-m"]
        };
        self.work.git(&[amend, &[&message]].concat());
        self.work.git(&["push", "--quiet", "origin", "HEAD:refs/for/main"]);
        let path = format!("changes/{PROJECT}~main~{CHANGE_ID}");
        self.change = self.gerrit.get("ada", &path).await["_number"].as_u64().unwrap();
    }

    /// Tells gitmirror that there is something new: the wake that an event causes.
    async fn wake(&self) -> Instant {
        let data = self.farm.data();
        let identity = rpc::Authority::open(&data.join("ca")).unwrap().issue_service("test").unwrap();
        let ports: Value = serde_json::from_slice(&std::fs::read(data.join("ports.json")).unwrap()).unwrap();
        let address = format!("https://127.0.0.1:{}", ports["gitmirror"]);
        let mut client = MirrorServiceClient::new(rpc::connect(&address, Some(&identity)).unwrap());
        let woken = Instant::now();
        client.tickle(TickleRequest { repository: PROJECT.to_owned() }).await.unwrap();
        woken
    }

    /// What the farm said of a patch set, without the heads that Gerrit adds: tag and text.
    async fn said(&self, patch_set: u64) -> Vec<(String, String)> {
        let change = self.gerrit.get(ADMIN, &self.path("?o=MESSAGES&o=DETAILED_ACCOUNTS")).await;
        let ours = |message: &&Value| {
            message["author"]["username"] == BOT && message["_revision_number"] == patch_set
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = change["messages"].as_array().unwrap().iter().filter(ours);
        messages.map(|message| (text(&message["tag"]), text(&message["message"]))).collect()
    }

    /// The farm's vote that counts now.
    async fn vote(&self) -> Option<i64> {
        let change = self.gerrit.get(ADMIN, &self.path("?o=DETAILED_LABELS&o=DETAILED_ACCOUNTS")).await;
        let votes = change["labels"]["TryBot-Result"]["all"].as_array().cloned().unwrap_or_default();
        let mut ours =
            votes.iter().filter(|vote| vote["username"] == BOT).filter_map(|vote| vote["value"].as_i64());
        ours.rfind(|value| *value != 0)
    }

    /// Waits until the farm has said so many things of a patch set, and answers them.
    async fn wait_for_words(&self, patch_set: u64, count: usize) -> Vec<(String, String)> {
        let start = Instant::now();
        loop {
            let said = self.said(patch_set).await;
            if said.len() >= count {
                return said;
            }
            assert!(start.elapsed() < PATIENCE, "of {patch_set} was said: {said:#?}\n{}", self.farm.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until makes of these builds run; answers how soon after `since` the first of them did.
    async fn wait_for_makes(&self, builds: &[u64], since: Instant) -> Duration {
        let flag = |number: &u64| -> PathBuf { self.flags.path().join(number.to_string()) };
        let is_one = || builds.iter().any(|number| flag(number).exists());
        testkit::farm::wait_until("a make runs", PATIENCE, is_one).await;
        let first = since.elapsed();
        let all = || builds.iter().all(|number| flag(number).exists());
        testkit::farm::wait_until("all makes run", PATIENCE, all).await;
        first
    }

    fn gate(&self, open: bool) {
        let gate = self.flags.path().join("go");
        if open {
            std::fs::write(gate, "").unwrap();
        } else {
            std::fs::remove_file(gate).unwrap();
        }
    }

    /// Sees that a message names builds of the farm, which are there and ended so.
    async fn links_lead_to(&self, text: &str, outcomes: &[(&str, &str)]) {
        for (builder, outcome) in outcomes {
            let line = text
                .lines()
                .find(|line| line.contains(&format!("* {builder}:")))
                .unwrap_or_else(|| panic!("{text}"));
            let link = line.split(' ').next_back().unwrap();
            let path = link
                .strip_prefix(&self.farm.url)
                .unwrap_or_else(|| panic!("{link} is not at {}", self.farm.url));
            let page = self.farm.json(&format!("{path}.json")).await;
            assert!(page.to_string().contains(&format!("\"{outcome}\"")), "{outcome}: {page:#}");
        }
    }
}

#[tokio::test]
async fn changes_are_tried_and_voted_on_at_gerrit() {
    let story = "tries at Gerrit";
    if !testkit::long(3) {
        return testkit::skipped(story, "time", "`cargo xtask test --long` takes it");
    }
    let Some(mut world) = World::start(story).await else { return };
    world.push("one").await;
    world.wake().await;
    passes(&world).await;
    is_superseded(&mut world).await;
    fails_across_a_kill(&mut world).await;
    assert_eq!(world.farm.stop(), Some(0), "{}", world.farm.log());
}

/// A vote asks, names a builder and one that is not there; the end is a vote and a message with links.
async fn passes(world: &World) {
    world.ask("TRY=slow, plan9").await;
    let woken = world.wake().await;
    let first = world.wait_for_makes(&[1, 2, 3], woken).await;
    println!("tries: the first command ran {first:.0?} after the wake for the vote");
    let (tag, text) = world.wait_for_words(1, 1).await.remove(0);
    assert!(tag.starts_with("autogenerated:farmer~begun-"), "{tag}");
    for part in ["on 3 builders", "there is no builder `plan9`; there are alpha, beta, slow"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(world.vote().await, None);
    world.gate(true);
    let said = world.wait_for_words(1, 2).await;
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[1].1.contains("3 builds passed"), "{said:#?}");
    world.links_lead_to(&said[1].1, &[("alpha", "passed"), ("beta", "passed"), ("slow", "passed")]).await;
    assert_eq!(world.vote().await, Some(1));
    let page = world.farm.json(&format!("/change/{}.json", world.change)).await;
    assert_eq!(
        (&page["tries"][0]["state"], &page["tries"][0]["patch_set"]),
        (&"passed".into(), &1.into()),
        "{page:#}"
    );
    let why = world.farm.command(world.work.path(), &["why", &format!("{PROJECT}~{}", world.change)]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("Patch set 1 passed on 3 builders"), "{why}");
    world.gate(false);
}

/// A new patch set, pushed while the one before is tried, calls that off, and nothing more is said of it.
async fn is_superseded(world: &mut World) {
    world.push("two").await;
    world.ask("TRY=").await;
    let woken = world.wake().await;
    world.wait_for_makes(&[4, 5], woken).await;
    world.wait_for_words(2, 1).await;
    world.push("fail").await;
    let woken = world.wake().await;
    let cancelled = |builds: &[Value]| {
        let of = |number: u64| builds.iter().find(|build| build["number"] == number);
        [4, 5].iter().all(|number| of(*number).is_some_and(|build| build["outcome"] == "cancelled"))
    };
    world.farm.wait_for_builds(cancelled).await;
    println!("tries: what a new patch set replaces was called off {:.0?} after the wake", woken.elapsed());
    assert_eq!((world.said(2).await.len(), world.vote().await), (1, None));
}

/// The farm is killed while it tries, and started when all has ended: nothing is built, said or voted twice.
async fn fails_across_a_kill(world: &mut World) {
    world.ask("TRY=").await;
    let woken = world.wake().await;
    world.wait_for_makes(&[6, 7], woken).await;
    world.wait_for_words(3, 1).await;
    world.farm.kill();
    world.gate(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.farm.start_again().await;
    world.wake().await;
    let start = Instant::now();
    while world.vote().await.is_none() {
        assert!(start.elapsed() < PATIENCE, "no vote: {}", world.farm.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = world.said(3).await;
    let of = |word: &str| said.iter().filter(|(tag, _)| tag.contains(word)).collect::<Vec<_>>();
    assert_eq!((of("~begun-").len(), of("~ended-").len()), (1, 1), "{said:#?}");
    assert!(of("~failing-").len() <= 1, "{said:#?}");
    let text = &of("~ended-")[0].1;
    assert!(text.contains("2 of 2 builds failed"), "{text}");
    let builds = world.farm.builds();
    assert_eq!((world.vote().await, builds.len()), (Some(-1), 7), "{builds:#?}");
    assert_eq!(world.said(2).await.len(), 1);
}
