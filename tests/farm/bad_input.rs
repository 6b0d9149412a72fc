//! What is wrong is said once, plainly, with the next step; nothing hangs.

use std::{
    path::Path,
    process::{Command, Output},
};

use testkit::{Farm, Options, Repository, farm};

use crate::{farmer_toml, simple};

fn up(arguments: &[&str], data: &Path) -> Output {
    Command::new(farm::binary("farmer"))
        .arg("up")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .expect("start farmer")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn all_configuration_errors_are_told_at_once_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("farm.toml");
    std::fs::write(&config, "environment = \"moon\"\nhots = 1\n[[hosts]]\nname = \"A B\"\n").unwrap();
    let data = folder.path().join("data");
    let output = up(&["--config", config.to_str().unwrap()], &data);
    assert_eq!(output.status.code(), Some(78), "{}", words(&output));
    for part in ["farm.toml:1:", "moon", "farm.toml:2:", "hots", "farm.toml:4:", "A B"] {
        assert!(words(&output).contains(part), "{part} is named: {}", words(&output));
    }
    assert!(!data.join("running.json").exists());
}

#[test]
fn an_unreachable_repository_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = up(&["--repo", "/no/such/repository"], &folder.path().join("data"));
    assert_eq!(output.status.code(), Some(69), "{}", words(&output));
    assert!(words(&output).contains("/no/such/repository"));
}

#[tokio::test]
async fn a_held_data_folder_and_a_taken_port_are_named() {
    let repository = simple("true", "true");
    let farm = Farm::start(repository.path(), Options::default()).await;
    let repo = repository.path().to_str().unwrap();
    let held = up(&["--repo", repo], farm.data());
    assert_eq!(held.status.code(), Some(69), "{}", words(&held));
    assert!(words(&held).contains(&farm.pid().to_string()));

    let other = tempfile::tempdir().unwrap();
    let address = farm.url.trim_start_matches("http://");
    let taken = up(&["--repo", repo, "--listen", address], other.path());
    assert_eq!(taken.status.code(), Some(69), "{}", words(&taken));
    assert!(words(&taken).contains(address));
}

#[tokio::test]
async fn a_missing_command_a_timeout_and_a_daemon_end_with_the_right_outcome() {
    let toml = "[[builders]]\nname = \"missing\"\nhost = \"local\"\nmake = [\"no-such-command-anywhere\"]\n\
        [[builders]]\nname = \"slow\"\nhost = \"local\"\nmake = [\"sleep 300\"]\ntimeout = \"1s\"\n\
        [[builders]]\nname = \"daemon\"\nhost = \"local\"\nmake = [\"setsid sh -c 'sleep 301 & sleep 302' >/dev/null 2>&1 & echo started\"]\n";
    let repository = Repository::with(&[("farmer.toml", toml)]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let builds = farm
        .wait_for_builds(|builds| builds.len() == 3 && builds.iter().all(|build| !build["ended"].is_null()))
        .await;
    let outcome = |name: &str| {
        builds.iter().find(|build| build["builder"] == name).expect("is built")["outcome"].clone()
    };
    assert_eq!(outcome("missing"), "failed");
    assert_eq!(outcome("slow"), "timed_out");
    assert_eq!(outcome("daemon"), "passed");
    let left = Command::new("pgrep").args(["-f", "sleep 30[0-2]"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no process of a build is left");
}

#[tokio::test]
async fn a_builder_on_a_host_that_is_not_offered_is_refused_with_the_line() {
    let repository =
        Repository::with(&[("farmer.toml", &farmer_toml("true", "true").replace("local", "mainframe"))]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let start = tokio::time::Instant::now();
    loop {
        let page = farm.page("/farm").await;
        if page.contains("mainframe") && page.contains("farmer.toml:3:") {
            break;
        }
        assert!(start.elapsed() < farm::PATIENCE, "the farm's page does not tell: {page}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
