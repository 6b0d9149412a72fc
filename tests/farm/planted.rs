//! Four kinds of bad luck in one farm: a machine where everything fails, a test that flakes, a regression, and machines that
//! die under a build. Each is classified rightly, and `farmer why` says so on one screen.

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Farm, Options, Repository, farm};

use crate::why::{flaky, why};

/// How a build is found to be what it is.
const BOUND: Duration = Duration::from_secs(90);

struct Story {
    farm: Farm,
    repository: Repository,
    flags: tempfile::TempDir,
}

/// A builder of tests that are scripts of the repository, on machines that can take over from each other. What it runs fails
/// on the machine that the file `hole` names; a commit with a file `wait` waits for long, and says where in `runs`.
fn build_file(flags: &std::path::Path) -> String {
    let (hole, runs) = (flags.join("hole"), flags.join("runs"));
    let (hole, runs) = (hole.display(), runs.display());
    let fails =
        format!("if [ -e {hole} ] && [ $(cat {hole}) = $FARMER_MACHINE ]; then echo cc: broken; exit 1; fi");
    let waits = format!("if [ -e wait ]; then echo $FARMER_MACHINE > {runs}; sleep 600; fi");
    let tests = "cat product > /dev/null && for t in {tests}; do echo begin $t; sh tests/$t || \
                 { echo \"--- FAIL: $t\"; exit 1; }; done";
    let run = format!("{fails}; {tests}");
    format!(
        "[[builders]]\nname = \"planted\"\nhost = \"local\"\nmake = [{fails:?}, {waits:?}, \"echo made > product\"]\n\
         snapshot = {{ movable = true }}\n[builders.tests]\n\
         list = \"for t in $(ls tests); do echo $t; done\"\nrun = {run:?}\nshard_seconds = 1\nhelpers = 1\n"
    )
}

impl Story {
    async fn begin() -> Self {
        let flags = tempfile::tempdir().expect("make a folder for flags");
        let toml = build_file(flags.path());
        let repository = Repository::with(&[("farmer.toml", toml.as_str()), ("tests/steady", "sleep 1.2")]);
        let farm = Farm::start(repository.path(), Options { buildlets: Some(3), ..Options::default() }).await;
        Self { farm, repository, flags }
    }

    fn flag(&self, name: &str) -> PathBuf {
        self.flags.path().join(name)
    }

    /// The build of a commit once it has ended.
    async fn ended(&self, commit: &str) -> Value {
        let is = |build: &Value| build["commit"] == commit && !build["ended"].is_null();
        farm::wait_until("the build ends", BOUND, || self.farm.builds().iter().any(is)).await;
        self.farm.builds().into_iter().find(is).expect("it has ended")
    }

    /// Commits, and the build of that.
    async fn built(&self, message: &str, files: &[(&str, &str)]) -> Value {
        let commit = self.repository.commit(message, files);
        self.ended(&commit).await
    }

    /// What `farmer why` says of a build: all of it, and of the first failure.
    fn why(&self, build: &Value) -> (String, Value) {
        let (text, told) = why(&self.farm, &self.repository, &build["number"].to_string());
        (text, told["failures"][0].clone())
    }

    async fn machine(&self, name: &str) -> Value {
        self.farm.json(&format!("/machine/{name}.json")).await["machine"].clone()
    }

    /// Plants a machine where everything fails; answers its name, and the builds that it harmed.
    async fn black_hole(&self) -> (String, Vec<Value>) {
        let mut last = Value::Null;
        for number in 0..6 {
            last = self.built("well", &[("source", &number.to_string())]).await;
            assert_eq!((&last["outcome"], &last["flakes"]), (&"passed".into(), &0.into()), "{last:#}");
        }
        // One that is given work.
        let page = self.farm.json(&format!("/build/{}.json", last["number"])).await;
        let sick = page["machines"][0]["name"].as_str().expect("it was built somewhere").to_owned();
        std::fs::write(self.flag("hole"), &sick).expect("plant it");
        let mut victims = Vec::new();
        for number in 6..40 {
            let build = self.built("well", &[("source", &number.to_string())]).await;
            assert_eq!(build["outcome"], "passed", "no commit is blamed: {build:#}");
            if build["flakes"].as_u64() > Some(0) {
                victims.push(build);
            }
            if self.machine(&sick).await["state"] == "quarantined" {
                return (sick, victims);
            }
        }
        panic!("`{sick}` is not found: {:#}", self.machine(&sick).await);
    }

    /// Kills the machine that builds a commit each time, until the farm gives up.
    async fn killed(&self) -> Value {
        let commit = self.repository.commit("wait", &[("wait", ""), ("tests/steady", "sleep 1.2")]);
        for _ in 0..3 {
            let name = farm::line_in(&self.flag("runs")).await;
            std::fs::remove_file(self.flag("runs")).expect("remove the flag");
            let found = self.farm.buildlets().into_iter().find(|(buildlet, _)| *buildlet == name);
            farm::signal(found.expect("it has a process").1, Signal::KILL);
        }
        self.ended(&commit).await
    }
}

#[tokio::test]
async fn what_is_planted_is_classified_rightly_and_said_on_one_screen() {
    let story = Story::begin().await;
    let (sick, victims) = story.black_hole().await;
    let machine = story.machine(&sick).await;
    assert!(machine["problem"].as_str().unwrap().contains("passed elsewhere"), "{machine:#}");
    assert!(!victims.is_empty(), "it is put there for what failed there");
    let (text, failure) = story.why(&victims[0]);
    assert_eq!(failure["cause"], "infrastructure", "{text}");
    let said = failure["text"].as_str().unwrap();
    assert!(said.contains(&format!("failed on `{sick}` and passed on")), "{said}");
    assert!(said.contains("in quarantine") && text.contains("cc: broken"), "{text}");
    assert!(story.farm.page("/farm").await.contains("passed elsewhere"), "the farm's page says so");

    let shaky = flaky(&story.flag("shaky"));
    let flaked = story.built("add a test", &[("tests/shaky", &shaky)]).await;
    assert_eq!((&flaked["outcome"], &flaked["flakes"]), (&"passed".into(), &1.into()), "{flaked:#}");
    let (text, failure) = story.why(&flaked);
    assert_eq!((&failure["cause"], &failure["name"]), (&"flake".into(), &"shaky".into()), "{text}");

    let broken = story.built("break it", &[("tests/steady", "sleep 1.2; echo boom; exit 1")]).await;
    assert_eq!(broken["outcome"], "failed", "{broken:#}");
    let (text, failure) = story.why(&broken);
    assert_eq!((&failure["cause"], &failure["name"]), (&"commit".into(), &"steady".into()), "{text}");
    assert!(text.contains("boom") && text.contains("do it again: git checkout "), "{text}");

    let killed = story.killed().await;
    assert_eq!(killed["outcome"], "infrastructure", "{killed:#}");
    let (text, failure) = story.why(&killed);
    assert!(text.contains("infrastructure fault"), "{text}");
    assert!(failure.is_null() || failure["cause"] == "infrastructure", "{failure:#}");

    // What tools of the old dashboard read: only the regression is held against a commit.
    let status = story.farm.json("/?mode=json").await;
    let results: Vec<&str> = status["revisions"].as_array().unwrap()[..4]
        .iter()
        .map(|revision| revision["results"][0].as_str().unwrap())
        .collect();
    let log = format!("/log/{}.txt", broken["number"]);
    assert!(results[1].ends_with(&log), "{results:?}");
    assert_eq!([results[0], results[2], results[3]], ["", "ok", "ok"], "{status:#}");
    assert!(story.farm.page(&log).await.contains("boom"));
    assert!(story.farm.page("/?mode=failures").await.lines().count() == 1);

    std::fs::remove_file(story.flag("hole")).unwrap();
    let lifted = story.farm.command(story.repository.path(), &["machine", "lift", &sick]);
    assert!(lifted.status.success(), "{}", String::from_utf8_lossy(&lifted.stderr));
    story.farm.wait_for_page(&format!("/machine/{sick}"), |page| !page.contains("in quarantine")).await;
}
