//! Debugging sessions by the command line: a machine for a person.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use testkit::{Farm, Options, Repository, farm};

use crate::simple;

/// A command that must succeed; what it printed.
fn gomote(farm: &Farm, folder: &Path, arguments: &[&str]) -> String {
    let output = run(farm, folder, arguments);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "gomote {arguments:?}: {words}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn run(farm: &Farm, folder: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["gomote"];
    all.extend(arguments);
    farm.command(folder, &all)
}

async fn built(repository: &Repository, buildlets: u32) -> Farm {
    let farm =
        Farm::start(repository.path(), Options { buildlets: Some(buildlets), ..Options::default() }).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    farm
}

#[tokio::test]
async fn a_session_runs_commands_and_moves_files_and_is_given_back_clean() {
    let repository = simple("true", "true");
    let farm = built(&repository, 1).await;
    let here = tempfile::tempdir().unwrap();
    let listed = run(&farm, here.path(), &["create"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("simple"), "it lists what there is");
    let name = gomote(&farm, here.path(), &["create", "simple", "--owner", "ada"]);
    assert_eq!(name, "ada-simple-0");
    assert_eq!(gomote(&farm, here.path(), &["run", &name, "sh", "-c", "echo $FARMER_BUILDER"]), "simple");
    let failed = run(&farm, here.path(), &["run", &name, "sh", "-c", "echo no; exit 7"]);
    assert_eq!(failed.status.code(), Some(1), "a command that fails");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("exit status 7"));

    std::fs::create_dir(here.path().join("d")).unwrap();
    std::fs::write(here.path().join("d/one"), "1").unwrap();
    gomote(&farm, here.path(), &["put", &name, "d", "."]);
    assert!(gomote(&farm, here.path(), &["ls", "-R", &name]).contains("d/one"));
    gomote(&farm, here.path(), &["run", &name, "sh", "-c", "cat d/one d/one > two; ln -s two three"]);
    gomote(&farm, here.path(), &["get", &name, "two", "got"]);
    assert_eq!(std::fs::read_to_string(here.path().join("got/two")).unwrap(), "11");
    let archive = gomote(&farm, here.path(), &["gettar", &name]);
    gomote(&farm, here.path(), &["rm", &name, "."]);
    assert!(!gomote(&farm, here.path(), &["ls", &name]).contains("two"));
    gomote(&farm, here.path(), &["puttar", &name, &archive, "--dir", "back"]);
    assert_eq!(gomote(&farm, here.path(), &["run", &name, "cat", "back/three"]), "11");
    let outside = run(&farm, here.path(), &["ls", &name, "../.."]);
    assert_eq!(outside.status.code(), Some(2), "{}", String::from_utf8_lossy(&outside.stderr));

    let page = farm.page("/farm").await;
    assert!(page.contains("ada-simple-0"), "the farm shows it");
    gomote(&farm, here.path(), &["destroy", &name]);
    let gone = run(&farm, here.path(), &["run", &name, "true"]);
    assert_eq!(gone.status.code(), Some(2));
    let words = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(words.contains("has ended: it was given up"), "{words}");
    farm.wait_for_page("/farm", |page| page.contains("1 idle")).await;
}

#[tokio::test]
async fn a_push_sends_only_what_changed_and_keeps_what_was_built() {
    let repository = simple("true", "true");
    repository.write(&[(".gitignore", "*.o\n"), ("a", "1"), ("d/b", "2")]);
    let farm = built(&repository, 1).await;
    let name = gomote(&farm, repository.path(), &["create", "simple"]);
    let push =
        |farm: &Farm| String::from_utf8(run(farm, repository.path(), &["push", &name]).stderr).unwrap();
    let first = push(&farm);
    assert!(first.contains("5 to send"), "{first}");
    gomote(&farm, repository.path(), &["run", &name, "touch", "built.o", "stray"]);
    repository.write(&[("a", "changed"), ("e", "new")]);
    std::fs::remove_file(repository.path().join("d/b")).unwrap();
    let second = push(&farm);
    assert!(second.contains("2 to send"), "{second}");
    let there = gomote(&farm, repository.path(), &["run", &name, "sh", "-c", "echo *; cat a e"]);
    assert_eq!(there, "a built.o e farmer.toml home source tmp\nchangednew");
    let third = push(&farm);
    assert!(third.contains("0 to send (0 KiB), 0 to remove"), "{third}");
}

#[tokio::test]
async fn a_group_runs_as_one_until_its_output_matches_and_is_collected() {
    let repository = simple("true", "true");
    let farm = built(&repository, 2).await;
    let here = tempfile::tempdir().unwrap();
    gomote(&farm, here.path(), &["create", "simple", "-n", "2", "-g", "rare", "--owner", "ada"]);
    let script = "echo x >> runs; wc -l < runs";
    let output =
        run(&farm, here.path(), &["run", "-g", "rare", "--until", "^3", "--collect", "sh", "-c", script]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("ada-simple-1: run 3 matches"), "{words}");
    for name in ["ada-simple-0", "ada-simple-1"] {
        assert_eq!(std::fs::read_to_string(here.path().join(format!("{name}.stdout"))).unwrap().trim(), "3");
        assert!(here.path().join(format!("{name}.tar.zst")).exists());
    }
    let all = gomote(&farm, here.path(), &["list", "--json", "-g", "rare"]);
    assert_eq!(all.lines().count(), 2);
    gomote(&farm, here.path(), &["destroy", "-g", "rare"]);
    assert_eq!(gomote(&farm, here.path(), &["list", "--json"]), "");
}

#[tokio::test]
async fn a_kill_of_the_farm_ends_no_session_and_breaks_no_command() {
    let flags = tempfile::tempdir().unwrap();
    let (pid, go) = (flags.path().join("pid"), flags.path().join("go"));
    let repository = simple("true", "true");
    let mut farm = built(&repository, 1).await;
    let name = gomote(&farm, flags.path(), &["create", "simple"]);
    gomote(&farm, flags.path(), &["run", &name, "touch", "kept"]);
    let script = format!(
        "echo one; echo $$ > {}; while [ ! -e {} ]; do sleep 0.05; done; echo two; ls kept",
        pid.display(),
        go.display()
    );
    let running = Command::new(farm::binary("farmer"))
        .args(["gomote", "run", &name, "sh", "-c", &script])
        .env("FARMER_DATA", farm.data())
        .current_dir(flags.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let before = farm::line_in(&pid).await;
    farm.kill();
    assert!(farm::alive(before.parse().unwrap()), "the command runs on");
    farm.start_again().await;
    std::fs::write(&go, "").unwrap();
    let output = running.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\nkept\n", "{words}");
    assert!(output.status.success(), "{words}");
}

#[tokio::test]
async fn a_session_takes_its_turn_among_builds_and_says_what_it_waits_for() {
    let flags = tempfile::tempdir().unwrap();
    let repository = simple("true", "true");
    let farm = built(&repository, 1).await;
    let first = gomote(&farm, flags.path(), &["create", "simple", "--owner", "ada"]);
    let second = gomote(&farm, flags.path(), &["create", "simple", "--owner", "bob", "--no-wait"]);
    let waiting = gomote(&farm, flags.path(), &["list", "--json", "--owner", "bob"]);
    assert!(waiting.contains("is held by session ada-simple-0"), "{waiting}");
    let early = run(&farm, flags.path(), &["run", &second, "true"]);
    assert_eq!(early.status.code(), Some(2), "{}", String::from_utf8_lossy(&early.stderr));
    gomote(&farm, flags.path(), &["destroy", &first]);
    gomote(&farm, flags.path(), &["ping", "--wait", &second]);
    assert_eq!(gomote(&farm, flags.path(), &["run", &second, "echo", "mine"]), "mine");
    let extended = gomote(&farm, flags.path(), &["extend", &second, "5h"]);
    assert!(extended.contains("in 4 h 59 m") || extended.contains("in 5 h 0 m"), "{extended}");
}

#[tokio::test]
async fn a_failed_shard_is_repeated_with_what_make_left() {
    let toml = r#"
[[builders]]
name = "sharded"
host = "local"
make = ["echo made > made.txt"]
environment = { COLOUR = "red" }
[builders.tests]
list = "printf 'good\nbad\n'"
run = "for t in {tests}; do cat made.txt; echo $t is $COLOUR; [ $t = good ] || exit 3; done"
shard_seconds = 0.001
max_shards = 2
[builders.snapshot]
movable = true
"#;
    let repository = Repository::with(&[("farmer.toml", toml)]);
    let farm = built(&repository, 2).await;
    assert_eq!(farm.build(1)["outcome"], "failed");
    let here = tempfile::tempdir().unwrap();
    let repeated = run(&farm, here.path(), &["repro", "1", "--run"]);
    let words = String::from_utf8_lossy(&repeated.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&repeated.stdout), "made\nbad is red\n", "{words}");
    assert_eq!(repeated.status.code(), Some(1), "it fails as it did: {words}");
    assert!(words.contains("what make left of"), "{words}");
    assert!(words.contains("1.1.2"), "it says which shard: {words}");
    let unknown = run(&farm, here.path(), &["repro", "1.1.9"]);
    assert_eq!(unknown.status.code(), Some(2));
}
