//! The example bot in Python, which knows the contracts in `proto/` only.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use api::maintpb::{GerritMutation, GitCommit, GitRef, Mutation};
use maintner::Log;
use tokio::sync::mpsc;

use crate::{
    World,
    results::{append, result},
};

struct Bot {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Bot {
    fn start(python: &str, world: &World, place: &Path) -> Self {
        let certificates = world.certificates();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python/bot.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(world.addr.to_string())
            .arg("--ca")
            .arg(certificates.join("ca.pem"))
            .arg("--certificate")
            .arg(certificates.join("bot.pem"))
            .arg("--key")
            .arg(certificates.join("bot.key"))
            .arg("--place")
            .arg(place)
            .arg("--all")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, lines) = mpsc::channel(100);
        std::thread::spawn(move || out.map_while(Result::ok).try_for_each(|line| say.blocking_send(line)));
        Self { child, lines }
    }

    async fn says(&mut self, expected: &str) {
        let said = crate::within(self.lines.recv()).await;
        assert_eq!(said.as_deref(), Some(expected));
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What Gerrit writes when somebody votes twice, and where the change stands then: commits come by themselves.
fn votes() -> [Mutation; 3] {
    let gerrit = |gerrit: GerritMutation| {
        let project = "go.googlesource.com/go".into();
        Mutation { gerrit: Some(GerritMutation { project, ..gerrit }), ..Default::default() }
    };
    let state = |digit: &str, parent: &str, label: &str| {
        let raw = format!(
            "tree 0\nparent {}\nauthor Ada <1@x> 1 +0000\ncommitter Gerrit <g@x> 1 +0000\n\n\
             Update patch set 2\n\nPatch-set: 2\nLabel: {label}, 0123456789abcdef\n",
            parent.repeat(40)
        );
        let commit = GitCommit { sha1: digit.repeat(40), raw: raw.into(), diff_tree: None };
        gerrit(GerritMutation { commits: vec![commit], ..Default::default() })
    };
    let stands = GitRef { r#ref: "refs/changes/45/12345/meta".into(), sha1: "b".repeat(40) };
    [
        state("a", "0", "Run-TryBot=+1"),
        state("b", "a", "Code-Review=-2"),
        gerrit(GerritMutation { refs: vec![stands], ..Default::default() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_in_python_prints_votes_and_goes_on_where_it_stopped() {
    if !testkit::skip::long(2) {
        return;
    }
    let Some(python) = testkit::skip::python("the bot in Python, at maintnerd") else { return };
    let mut world = World::start().await;
    world.stop_maintnerd().await;
    let log = Log::open(&world.log_dir(), maintner::Options::default()).unwrap();
    log.append(&votes()).await.unwrap();
    log.close().await;
    world.start_maintnerd().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    let mut bot = Bot::start(&python, &world, &place);
    bot.says("vote go.googlesource.com/go 12345 Run-TryBot=+1").await;
    bot.says("vote go.googlesource.com/go 12345 Code-Review=-2").await;
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    bot.says("build 1.1 one passed").await;
    append(&world, vec![result(2, 1, "failed")]).await.unwrap();
    bot.says("build 2.1 one failed").await;
    drop(bot);
    append(&world, vec![result(3, 1, "passed")]).await.unwrap();
    let mut bot = Bot::start(&python, &world, &place);
    // At least once: what it was told last may come again if it was killed before it wrote its place.
    let mut said = crate::within(bot.lines.recv()).await.unwrap();
    if said == "build 2.1 one failed" {
        said = crate::within(bot.lines.recv()).await.unwrap();
    }
    assert_eq!(said, "build 3.1 one passed");
    drop(bot);
    world.end().await;
}
