//! The mutation log from the command line.

use std::{fs, process::Output};

use api::maintner::{GetStatisticsRequest, query_service_client::QueryServiceClient};
use testkit::{Farm, Options};

use crate::simple;

fn lines(output: &Output) -> Vec<String> {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn the_log_of_a_farm_is_watched_checked_and_imported() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    let run = |arguments: &[&str]| farm.command(repository.path(), &[&["maintner"], arguments].concat());

    let all = lines(&run(&["watch", "--once"]));
    assert!(all.iter().any(|line| line.starts_with("commit  ")), "{all:?}");
    let refs = lines(&run(&["watch", "--once", "--kind", "refs"]));
    assert!(!refs.is_empty() && refs.iter().all(|line| line.starts_with("refs    ")), "{refs:?}");

    let sources = lines(&run(&["status"]));
    assert!(sources.iter().any(|line| line.trim_start().starts_with("git/")), "{sources:?}");
    let source = lines(&run(&["status", "--json"]));
    let source: serde_json::Value = serde_json::from_str(&source[0]).unwrap();
    assert_eq!((&source["error"], &source["repaired"]), (&"".into(), &0.into()), "{source}");

    let log = farm.data().join("maintnerd/log");
    // What the farm says is what is in the folder.
    let stats = |arguments: &[&str]| -> serde_json::Value {
        let printed = lines(&run(&[&["stats", "--json"], arguments].concat()));
        serde_json::from_str(&printed[0]).unwrap()
    };
    let (asked, read) = (stats(&[]), stats(&[log.to_str().unwrap()]));
    assert_eq!(asked["objects"], read["objects"]);
    assert!(read["objects"]["commits"].as_u64() > Some(0) && read["elapsed_ms"].as_f64() > Some(0.0));

    let commit = all.iter().find_map(|line| line.strip_prefix("commit  ")).unwrap();
    let (name, _) = commit.split_once(' ').unwrap();
    let refs = lines(&run(&["query", "refs", name, "refs/heads/"]));
    let (tip, _) = refs[0].split_once(' ').unwrap();
    let shown = lines(&run(&["query", "--json", "commit", tip]));
    let shown: serde_json::Value = serde_json::from_str(&shown[0]).unwrap();
    assert_eq!(shown["commit"], tip);
    let itself = lines(&run(&["query", "has-ancestor", tip, tip]));
    assert_eq!(itself, ["no"]);
    assert_eq!(run(&["query", "refs", "none"]).status.code(), Some(2));

    let checked = lines(&run(&["verify", log.to_str().unwrap()]));
    assert!(checked[0].ends_with("all is well"), "{checked:?}");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let (from, to) = (log.to_str().unwrap(), copy.to_str().unwrap());
    let imported = lines(&run(&["import", from, to]));
    assert!(imported[0].ends_with("all is well"), "{imported:?}");
    assert_eq!(run(&["import", from, to]).status.code(), Some(2), "the folder is not empty any more");

    let growing = copy.join("0000.growing.mutlog");
    let mut bytes = fs::read(&growing).unwrap();
    bytes[0] = b'r';
    fs::write(&growing, bytes).unwrap();
    let damaged = run(&["verify", to]);
    assert_eq!(damaged.status.code(), Some(1));
    let text = String::from_utf8_lossy(&damaged.stdout);
    assert!(text.contains("0000.growing.mutlog at 0: it does not begin with `REC@`"), "{text}");
}

/// Bots ask at the address of the farm, with its token.
#[tokio::test]
async fn a_question_is_answered_at_the_address_of_the_farm() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    runtime::install_crypto();
    let token = fs::read_to_string(farm.data().join("token")).unwrap();
    let channel = rpc::connect(&farm.url, None).unwrap();
    let ask = |channel: rpc::Channel| async {
        QueryServiceClient::new(channel).get_statistics(GetStatisticsRequest {}).await
    };
    let answer = ask(channel.clone().with_bearer(token.trim())).await.unwrap().into_inner();
    assert!(answer.objects.iter().any(|one| one.name == "commits" && one.count > 0), "{answer:?}");
    let refused = ask(channel).await.unwrap_err();
    assert_eq!(rpc::reason(&refused).as_deref(), Some("BAD_TOKEN"));
    // So do the commands, from anywhere; also the questions of Go's programs.
    let token = farm.data().join("token");
    let nowhere = tempfile::tempdir().unwrap();
    let elsewhere = |question: &[&str]| {
        let farm = ["--farm", &farm.url, "--token-file", token.to_str().unwrap()];
        std::process::Command::new(testkit::farm::binary("farmer"))
            .args([&["maintner", question[0]], &farm[..], &question[1..]].concat())
            .env_remove("FARMER_DATA")
            .current_dir(nowhere.path())
            .output()
            .unwrap()
    };
    let commit = lines(&elsewhere(&["watch", "--once"]));
    let commit = commit.iter().find_map(|line| line.strip_prefix("commit  ")).unwrap();
    let (name, _) = commit.split_once(' ').unwrap();
    let refs = lines(&elsewhere(&["query", "refs", name, "refs/heads/"]));
    let (tip, _) = refs[0].split_once(' ').unwrap();
    assert_eq!(lines(&elsewhere(&["query", "has-ancestor", tip, tip])), ["no"]);
}

#[tokio::test]
async fn a_bot_gets_a_certificate_with_which_it_may_follow() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    // So that there is something to follow.
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = lines(&farm.command(repository.path(), &["maintner", "certificate", &path("")]));
    let address = said[0].strip_prefix("good for ").and_then(|rest| rest.split(';').next()).unwrap();
    let url = format!("https://{address}");
    let (ca, certificate, key) = (path("ca.pem"), path("bot.pem"), path("bot.key"));
    let elsewhere = ["--maintnerd", &url, "--ca", &ca, "--certificate", &certificate, "--key", &key];
    let arguments = [&["maintner", "watch", "--once"], &elsewhere[..]].concat();
    let output = std::process::Command::new(testkit::farm::binary("farmer"))
        .args(arguments)
        .env_remove("FARMER_DATA")
        .output()
        .unwrap();
    assert!(!lines(&output).is_empty());
}
