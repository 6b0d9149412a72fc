//! What is wrong is said once, plainly, with the next step; nothing hangs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use testkit::{Farm, Options, Repository, farm};

use crate::{farmer_toml, simple};

fn up(arguments: &[&str], data: &Path) -> Output {
    up_command(arguments, data).output().expect("start farmer")
}

fn up_command(arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new(farm::binary("farmer"));
    command.arg("up").args(arguments).arg("--data").arg(data);
    command
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

#[test]
fn a_data_folder_of_a_newer_version_is_left_alone() {
    let repository = simple("true", "true");
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("version"), "99\n").unwrap();
    let output = up(&["--repo", repository.path().to_str().unwrap()], data.path());
    assert_eq!(output.status.code(), Some(69), "{}", words(&output));
    let words = words(&output);
    assert_eq!(words.trim_end().lines().count(), 1, "one line: {words}");
    for part in [data.path().to_str().unwrap(), "99", "--data"] {
        assert!(words.contains(part), "{part} is named: {words}");
    }
    assert_eq!(std::fs::read_to_string(data.path().join("version")).unwrap(), "99\n");
    assert!(!data.path().join("coordinator").exists(), "nothing was made in it");
}

#[test]
fn records_that_cannot_be_reached_or_understood_are_named_and_their_password_is_not() {
    let repository = simple("true", "true");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "opensesame\n").unwrap();
    // A port that nobody has: it was ours a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("postgres://farmer@127.0.0.1:{port}/farm");
    let cases = [
        (nobody.as_str(), password.clone(), 69, "postgres://127.0.0.1/farm"),
        ("postgres://farmer@127.0.0.1:port/farm", password.clone(), 78, "the URL of the records"),
        ("postgres://farmer:opensesame@127.0.0.1/farm", password, 78, "`url` holds a password"),
        (nobody.as_str(), folder.path().join("none"), 78, "the password of the records"),
    ];
    for (url, password, code, told) in cases {
        let rest = format!("[records]\nurl = {url:?}\npassword = {password:?}\n");
        let (_, arguments) = farm_toml(folder.path(), &repository, &rest);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = up(&arguments, &folder.path().join("data"));
        let words = words(&output);
        assert_eq!(output.status.code(), Some(code), "{url}: {words}");
        assert!(words.contains(told) && !words.contains("opensesame"), "{url}: {words}");
    }
}

#[test]
fn no_git_on_the_path_is_told() {
    let repository = simple("true", "true");
    let folder = tempfile::tempdir().unwrap();
    let output = up_command(&["--repo", repository.path().to_str().unwrap()], &folder.path().join("data"))
        .env("PATH", folder.path())
        .output()
        .expect("start farmer");
    assert_eq!(output.status.code(), Some(69), "{}", words(&output));
    let words = words(&output);
    assert_eq!(words.trim_end().lines().count(), 1, "one line: {words}");
    assert!(words.contains("`git`") && words.contains("install"), "{words}");
}

/// A farm.toml for a repository, and the arguments that use it.
fn farm_toml(folder: &Path, repository: &Repository, rest: &str) -> (PathBuf, Vec<String>) {
    let file = folder.join("farm.toml");
    let origin = repository.path().display();
    std::fs::write(&file, format!("[[repositories]]\nname = \"only\"\norigin = \"{origin}\"\n{rest}"))
        .expect("write a file");
    let arguments = vec!["--config".to_owned(), file.display().to_string()];
    (file, arguments)
}

#[tokio::test]
async fn a_wrong_edit_of_a_running_farms_file_keeps_what_applied_and_is_shown_until_it_is_mended() {
    let repository = simple("true", "echo ok");
    let folder = tempfile::tempdir().unwrap();
    let (file, arguments) = farm_toml(folder.path(), &repository, "");
    let farm = Farm::start(repository.path(), Options { arguments, ..Options::default() }).await;
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("environment = \"moon\"\nhots = 1\n{right}poll = \"soon\"\n")).unwrap();

    let told = ["farm.toml:1:15", "moon", "farm.toml:2:1", "hots", "farm.toml:6:8", "soon"];
    let page = farm.wait_for_page("/farm", |page| told.iter().all(|part| page.contains(part))).await;
    assert!(page.contains("mend the file"), "the next step is on the page: {page}");
    for part in told {
        assert!(farm.log().contains(part), "{part} is in the log: {}", farm.log());
    }
    let commit = repository.commit("second", &[("source", "2")]);
    let built = |builds: &[Value]| {
        builds.iter().any(|build| build["commit"] == commit.as_str() && build["outcome"] == "passed")
    };
    farm.wait_for_builds(built).await;

    std::fs::write(&file, &right).unwrap();
    farm.wait_for_page("/farm", |page| !page.contains("farm.toml:")).await;
}

/// Waits until all builds of a farm have ended, `count` of them.
async fn all_ended(farm: &Farm, count: usize) -> Vec<Value> {
    farm.wait_for_builds(|builds| {
        builds.len() == count && builds.iter().all(|build| !build["ended"].is_null())
    })
    .await
}

fn of<'b>(builds: &'b [Value], builder: &str) -> &'b Value {
    builds.iter().find(|build| build["builder"] == builder).expect("is built")
}

#[tokio::test]
async fn a_command_that_is_missing_hangs_or_leaves_daemons_ends_with_the_right_outcome() {
    // Nobody else's processes look like ours.
    let long = format!("sleep 30{}", std::process::id());
    let toml = format!(
        r#"
[[builders]]
name = "missing"
host = "local"
make = ["no-such-command-anywhere"]
[[builders]]
name = "slow"
host = "local"
make = ["echo begins; {long}"]
timeout = "1s"
[[builders]]
name = "deaf"
host = "local"
make = ["trap '' TERM INT HUP; printf begins; while :; do {long}; done"]
timeout = "1s"
[[builders]]
name = "daemon"
host = "local"
make = ["setsid sh -c '{long} & {long}' >/dev/null 2>&1 & echo started"]
"#
    );
    let repository = Repository::with(&[("farmer.toml", &toml)]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let builds = all_ended(&farm, 4).await;
    for (builder, outcome, told) in [
        ("missing", "failed", "no-such-command-anywhere"),
        ("slow", "timed_out", "begins\nfarmer: timed out after 1s\n"),
        ("deaf", "timed_out", "begins\nfarmer: timed out after 1s\n"),
        ("daemon", "passed", "started\nfarmer: ended "),
    ] {
        let build = of(&builds, builder);
        assert_eq!(build["outcome"], outcome, "{build:#}");
        let log = farm.page(&format!("/log/{}.txt", build["number"])).await;
        assert!(log.contains(told), "the log of {builder} tells: {log}");
    }
    let left = Command::new("pgrep").args(["-f", &long]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no process of a build is left");
}

#[tokio::test]
async fn a_command_that_prints_too_much_is_ended_and_fills_no_disk() {
    let toml = |make: &str| format!("[[builders]]\nname = \"loud\"\nhost = \"local\"\nmake = [{make:?}]\n");
    // Noise, which no log makes smaller.
    let much = "head -c 50000000 /dev/urandom";
    let repository = Repository::with(&[("farmer.toml", &toml(much))]);
    let folder = tempfile::tempdir().unwrap();
    let limit = "[[hosts]]\nname = \"local\"\nlimits = { output_bytes = 5_000_000 }\n";
    let (_, arguments) = farm_toml(folder.path(), &repository, limit);
    let farm = Farm::start(repository.path(), Options { arguments, buildlets: Some(1) }).await;
    for (number, make) in [(1, much), (2, "yes"), (3, "yes & yes")] {
        if number > 1 {
            repository.commit("next", &[("farmer.toml", &toml(make))]);
        }
        let build = all_ended(&farm, number).await.remove(0);
        assert_eq!(build["outcome"], "failed", "{build:#}");
        let (log, end) = (format!("/log/{number}.txt"), "\nfarmer: wrote more than 5000000 bytes\n");
        assert!(farm.raw(&log).await.ends_with(end.as_bytes()), "{make}: its log tells");
        assert!(farm.page(&format!("/build/{number}")).await.contains("wrote more than 5000000 bytes"));
    }
    repository.commit("quiet", &[("farmer.toml", &toml("echo ok; ls -A"))]);
    assert_eq!(all_ended(&farm, 4).await[0]["outcome"], "passed", "the machine builds the next");
    assert!(farm.disk() < 40_000_000, "{} bytes are on disk", farm.disk());
}

#[tokio::test]
async fn a_try_with_a_host_or_secret_that_is_not_offered_is_refused_with_the_line() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    let ours = farmer_toml("true", "true");
    for (change, told) in [
        (
            ours.replace("local", "mainframe"),
            "farmer.toml:3:8: this repository is not offered host `mainframe`",
        ),
        (
            ours.replace("[builders.tests]", "secrets = [\"DEPLOY_KEY\"]\n[builders.tests]"),
            "farmer.toml:5:12: this repository is not offered secret `DEPLOY_KEY`",
        ),
        ("[[builders]\n".to_owned(), "farmer.toml:1:"),
    ] {
        repository.write(&[("farmer.toml", &change)]);
        let output = farm.command(repository.path(), &["try"]);
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(words(&output).contains(told), "{}", words(&output));
    }
    assert_eq!(farm.builds().len(), 1, "no build was made");
}

#[tokio::test]
async fn a_builder_on_a_host_that_is_not_offered_is_refused_with_the_line() {
    let repository =
        Repository::with(&[("farmer.toml", &farmer_toml("true", "true").replace("local", "mainframe"))]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let told = |page: &str| page.contains("mainframe") && page.contains("farmer.toml:3:");
    farm.wait_for_page("/farm", told).await;
}
