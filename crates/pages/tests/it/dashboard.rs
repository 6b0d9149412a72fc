//! The documents of the old dashboard, as tools that were written for it read them.

use std::collections::BTreeSet;

use http::{StatusCode, header};
use pages::{
    testing::{self, FakeSource},
    view::{MachineState, State},
};
use serde_json::{Value, json};

use crate::support::Served;

async fn read(farm: &Served, path: &str) -> Value {
    let answer = farm.get(path).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json", "{path}");
    answer.json().await.expect("it is JSON")
}

/// The names of an object's fields.
fn fields(of: &Value) -> BTreeSet<&str> {
    of.as_object().expect("it is an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_status_of_builds_has_the_fields_and_results_that_log_tools_read() {
    let farm = Served::start(FakeSource::new()).await;
    let status = read(&farm, "/?mode=json").await;
    assert_eq!(fields(&status), ["builders", "revisions"].into());
    let grid = testing::small_grid();
    assert_eq!(
        status["builders"],
        json!(["linux-amd64", "linux-amd64-race", "linux-s390x", "windows-amd64", "windows-arm64"])
    );
    let revisions = status["revisions"].as_array().unwrap();
    assert_eq!(revisions.len(), grid.rows.len());
    let second = &revisions[1];
    let names = ["author", "branch", "date", "desc", "repo", "results", "revision"];
    assert_eq!(fields(second), names.into());
    let commit = &grid.rows[1].commit;
    assert_eq!(
        (&second["repo"], &second["branch"], &second["revision"]),
        (&"example".into(), &"main".into(), &commit.hash.to_string().into())
    );
    let date: &str = second["date"].as_str().unwrap();
    assert_eq!(date.parse::<jiff::Timestamp>().unwrap().as_second(), commit.time.seconds());
    // Passed, passed, failed, passed, and a fault of the farm: that says nothing of the commit.
    let log = farm.url(&format!("/log/{}.txt", grid.rows[1].cells[2].build.unwrap()));
    assert_eq!(second["results"], json!(["ok", "ok", log, "ok", ""]));
    // It runs, passed, waits; what flaked has passed.
    assert_eq!(revisions[0]["results"][0], "");
    assert_eq!((grid.rows[3].cells[1].state, &revisions[3]["results"][1]), (State::Flaky, &"ok".into()));
}

#[tokio::test]
async fn its_logs_are_where_it_says_and_its_failures_are_lines() {
    let source = FakeSource::new();
    let mut grid = testing::small_grid();
    grid.rows[1].cells[2].build = Some(testing::failed_build().number);
    source.set_grid(grid.clone());
    let farm = Served::start(source).await;
    let status = read(&farm, "/?mode=json&repo=example&branch=main&page=0").await;
    let address = status["revisions"][1]["results"][2].as_str().unwrap();
    let log = farm.client.get(address).send().await.unwrap();
    assert_eq!(log.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(log.text().await.unwrap(), testing::log_text());
    let answer = farm.get("/?mode=failures").await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let text = answer.text().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], format!("{} linux-s390x {address}", grid.rows[1].commit.hash));
}

#[tokio::test]
async fn it_has_pages_and_branches_and_repositories_by_import_path() {
    let source = FakeSource::new();
    source.set_grid(testing::generated_grid(2, 70));
    let farm = Served::start(source).await;
    let grid = testing::generated_grid(2, 70);
    for (page, first, count) in [(0, 0, 30), (1, 30, 30), (2, 60, 10), (3, 0, 0)] {
        let status = read(&farm, &format!("/?mode=json&page={page}")).await;
        let revisions = status["revisions"].as_array().unwrap();
        assert_eq!(revisions.len(), count, "page {page}");
        if count > 0 {
            assert_eq!(revisions[0]["revision"], grid.rows[first].commit.hash.to_string());
        }
    }
    let name = grid.repository.unwrap();
    for path in [format!("/?mode=json&repo=golang.org/x/{name}"), "/?mode=json&branch=mixed".to_owned()] {
        assert_eq!(read(&farm, &path).await["revisions"].as_array().unwrap().len(), 30, "{path}");
    }
    let html = farm.get("/?mode=").await;
    assert_eq!(html.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    for (path, status) in [
        ("/?mode=xml", StatusCode::BAD_REQUEST),
        ("/?mode=json&page=34", StatusCode::BAD_REQUEST),
        ("/?mode=json&page=-1", StatusCode::BAD_REQUEST),
        ("/?mode=json&repo=other", StatusCode::NOT_FOUND),
        ("/?mode=failures&repo=golang.org/x/other", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(farm.get(path).await.status(), status, "{path}");
    }
    let posted = farm.client.post(farm.url("/?mode=json")).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn machines_are_told_by_kind_with_what_they_do() {
    let source = FakeSource::new();
    let mut overview = testing::farm();
    let host = &testing::builders().hosts[0].name;
    for (machine, state) in overview.machines.iter_mut().zip([MachineState::Leased, MachineState::Idle]) {
        (machine.state, machine.host_types) = (state, vec![host.clone()]);
    }
    source.set_farm(overview.clone());
    let farm = Served::start(source).await;
    let status = read(&farm, "/status/reverse.json").await;
    assert_eq!(fields(&status), ["HostTypes"].into());
    let hosts = &status["HostTypes"];
    assert_eq!(fields(hosts), ["linux-amd64", "linux-s390x", "windows-amd64"].into());
    let linux = &hosts["linux-amd64"];
    let names = ["Busy", "Connected", "Expect", "HostType", "Idle", "Machines", "Waiters"];
    assert_eq!(fields(linux), names.into());
    let counts = ["Connected", "Expect", "Idle", "Busy", "Waiters"].map(|name| linux[name].as_u64().unwrap());
    assert_eq!(counts, [2, 2, 1, 1, 0]);
    let busy = &linux["Machines"]["linux-amd64-1"];
    assert_eq!(
        fields(busy),
        ["Busy", "BusySec", "ConnectedSec", "HostType", "Name", "Version"].into(),
        "one that works is not idle"
    );
    assert_eq!((&busy["Busy"], busy["ConnectedSec"].as_f64()), (&true.into(), Some(7200.0)));
    let idle = &linux["Machines"]["linux-amd64-2"];
    assert!(idle["IdleSec"].as_f64().unwrap() > 0.0 && idle.get("BusySec").is_none(), "{idle}");
    // A machine that is lost is not connected, and its kind waits.
    let away = &hosts["linux-s390x"];
    assert_eq!((&away["Connected"], &away["Waiters"]), (&0.into(), &1.into()));
    assert_eq!(away["Machines"], json!({}));
}

#[tokio::test]
async fn builds_that_have_a_machine_are_told_once_and_tries_are_not() {
    let source = FakeSource::new();
    let mut overview = testing::farm();
    let lease = overview.leases[0].clone();
    let mut tried = lease.clone();
    (tried.is_try, tried.build) = (true, Some(testing::running_build().number));
    overview.leases.extend([lease.clone(), tried]);
    source.set_farm(overview);
    let farm = Served::start(source).await;
    let status = farm.url(&format!("/log/{}", lease.build.unwrap()));
    assert_eq!(
        read(&farm, "/status/post-submit-active.json").await,
        json!([{ "builder": "linux-arm64", "commit": lease.commit.unwrap(), "statusURL": status }])
    );
}

#[tokio::test]
async fn builders_and_hosts_are_told_by_name() {
    let farm = Served::start(FakeSource::new()).await;
    let status = read(&farm, "/builders?mode=json").await;
    assert_eq!(fields(&status), ["Builders", "Hosts"].into());
    let builder = &status["Builders"]["linux-amd64-race"];
    assert_eq!((&builder["Name"], &builder["HostType"]), (&"linux-amd64-race".into(), &"linux-amd64".into()));
    let host = &status["Hosts"]["linux-amd64"];
    assert_eq!((&host["IsReverse"], &host["ExpectNum"]), (&true.into(), &2.into()));
    assert_eq!(host["Owners"][0]["Name"], "builders");
}

#[tokio::test]
async fn a_try_is_found_by_how_its_commit_begins_from_any_page() {
    let farm = Served::start(FakeSource::new()).await;
    let tried = testing::change().tries[0].clone();
    let commit = tried.commit.to_string();
    let answer = farm.get(&format!("/try.json?commit={}", &commit[..8])).await;
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["success"], true);
    let payload = &told["payload"];
    assert_eq!(fields(payload), ["builds", "changeId", "commit"].into());
    assert_eq!((&payload["changeId"], &payload["commit"]), (&"4711".into(), &commit.clone().into()));
    let began = payload["builds"][0]["startTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(began.as_second(), tried.begun.seconds());
    let stands = |at: usize| {
        let build = &payload["builds"][at];
        (build["name"].as_str().unwrap().to_owned(), build["done"] == true, build["succeeded"] == true)
    };
    assert_eq!(stands(0), ("linux-amd64".to_owned(), true, true));
    assert_eq!(stands(1), ("linux-s390x".to_owned(), true, false));
    assert_eq!(stands(2), ("windows-amd64".to_owned(), false, false));
    let page = farm.get(&format!("/try?commit={commit}")).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert_eq!(page.headers()[header::LOCATION], "/change/4711?repo=example");
}

#[tokio::test]
async fn what_was_not_tried_is_404_and_browsers_may_ask_first() {
    let farm = Served::start(FakeSource::new()).await;
    for commit in ["0000000000", "abc", "", "no-commit"] {
        let answer = farm.get(&format!("/try.json?commit={commit}")).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "`{commit}`");
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["success"], false);
        assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{told}");
    }
    let options = farm.client.request(http::Method::OPTIONS, farm.url("/try.json"));
    let answer = options.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}
