//! A farm whose records are in PostgreSQL.

use serde_json::Value;
use testkit::{Farm, Options, Postgres};

use crate::simple;

#[tokio::test]
async fn a_farm_with_records_in_postgresql_builds_through_a_kill_and_shows_all_of_it() {
    let story = "a farm with records in PostgreSQL";
    if !testkit::long(2) {
        return testkit::skipped(story, "time", "`cargo xtask test --long` takes it");
    }
    let Some(server) = Postgres::start(story) else { return };
    let repository = simple("echo made", "echo tested");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("farm.toml");
    let text = format!(
        "[records]\nurl = {:?}\npassword = {:?}\nca = {:?}\n[[repositories]]\nname = \"only\"\norigin = {:?}\n",
        server.url,
        server.password,
        server.ca,
        repository.path(),
    );
    std::fs::write(&file, text).unwrap();
    let arguments = vec!["--config".to_owned(), file.display().to_string()];
    let mut farm = Farm::start(repository.path(), Options { arguments, ..Options::default() }).await;
    let passed =
        |builds: &[Value], count| builds.iter().filter(|build| build["outcome"] == "passed").count() == count;
    farm.wait_for_builds(|builds| passed(builds, 1)).await;

    farm.kill();
    repository.commit("second", &[("source", "2")]);
    farm.start_again().await;
    farm.wait_for_builds(|builds| passed(builds, 2)).await;

    for path in ["/", "/grid.json", "/farm.json", "/build/1", "/build/2", "/builders.json"] {
        assert!(!farm.page(path).await.is_empty(), "{path}");
    }
    let log = farm.page("/log/1.txt").await;
    assert!(log.contains("made\n") && log.contains("tested\n"), "{log}");
    assert!(!farm.data().join("coordinator/coordinator.db").exists(), "nothing is in SQLite");
    let password = std::fs::read_to_string(&server.password).unwrap();
    assert!(!farm.log().contains(password.trim()), "the log does not tell the password: {}", farm.log());
    // A second farm with the same records would wait: the first has given up the lead in order when it has ended.
    assert_eq!(farm.stop(), Some(0), "{}", farm.log());
}
