//! What goes over the wire.

use http::{StatusCode, header};
use pages::{
    testing::{self, FakeSource},
    view::{
        BuildView, BuilderHistory, BuildersView, ChangeView, FarmView, GridView, MachineHistory, TestHistory,
    },
};

use crate::support::{PAGES, Served, words};

fn more() -> std::sync::Arc<FakeSource> {
    let source = FakeSource::new();
    testing::show_more(&source);
    source
}

#[tokio::test]
async fn every_page_reads_without_scripts() {
    let farm = Served::start(more()).await;
    for (path, said) in [
        ("/", "example · main is red on 1 of 5 builders"),
        ("/", "TestPark: timed out waiting"),
        ("/?q=windows", "2 of 5 builders"),
        ("/build/48213", "Failed 1 test of 9,214 on linux-arm64"),
        ("/build/48213", "serve_test.go:419: second request: deadline 0s, want 30s"),
        ("/build/48218", "the only linux-s390x is busy with 48201.1"),
        ("/build/48220", "tests, 2 of 9 shards done, on linux-amd64"),
        ("/log/48213?line=4809", "--- FAIL: TestServeReuse (0.42s)"),
        ("/log/48213?find=deadline", "is in 2 lines"),
        ("/farm", "2 builds wait, 2 things are wrong"),
        ("/farm", "farm.toml:12:5: unknown key `hots`: did you mean `host`?"),
        ("/builders", "1 of 4 builders without a machine"),
        ("/machine/linux-amd64-1", "It failed 1 of its last 12 leases; others of its kind 3 of 250 (1.2 %)"),
        ("/machine/linux-amd64-1", "it runs version 0.0.0, the farm 0.0.1"),
        ("/builder/linux-s390x", "linux-s390x is red for 3 commits"),
        ("/builder/linux-s390x", "the only linux-s390x is busy with 48201.1"),
        ("/change/4711", "Patch set 3 is being tried: 1 of 3 builders to go, 1 failed"),
        ("/change/4711", "the only windows-amd64 is busy for"),
        ("/change/4711?repo=example", "To reviewers: begun: said"),
        ("/test/net/http", "net/http fails on linux-s390x, 1 of 3 builders"),
        ("/test/net/http", "3 of 24: 12.5 % (4.3 to 31.0)"),
    ] {
        let text = words(&farm.text(path).await);
        assert!(text.contains(said), "{path} does not say `{said}`: {text}");
    }
}

#[tokio::test]
async fn an_empty_farm_says_what_to_do_next() {
    let farm = Served::start(FakeSource::empty()).await;
    for (path, said) in
        [("/", "farmer up --repo PATH"), ("/farm", "No machine is connected"), ("/builders", "farmer init")]
    {
        let text = words(&farm.text(path).await);
        assert!(text.contains(said), "{path}: {text}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_404_in_the_format_asked_for() {
    let farm = Served::start(FakeSource::new()).await;
    for path in [
        "/nowhere",
        "/build/1",
        "/build/x",
        "/log/1",
        "/build/1.json",
        "/log/1.txt",
        "/?repo=other",
        "/machine/unheard",
        "/machine/A%20B",
        "/builder/unheard",
        "/builder/linux-s390x?repo=other",
        "/change/1",
        "/change/x",
        "/change/4711?repo=other",
        "/change/1.json",
        "/test/unheard",
        "/test.json?name=unheard",
    ] {
        let answer = farm.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert!(farm.text("/build/1").await.contains("there is no build 1"));
    assert_eq!(farm.text("/build/1.json").await, r#"{"error":"there is no build 1"}"#);
    assert_eq!(farm.text("/log/1.txt").await, "there is no build 1\n");
    assert_eq!(farm.get("/?repo=A%20B").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_json_of_a_page_is_its_view() {
    let farm = Served::start(FakeSource::new()).await;
    let grid: GridView = farm.get("/grid.json").await.json().await.unwrap();
    assert_eq!(grid, testing::small_grid());
    let build: BuildView = farm.get("/build/48213.json").await.json().await.unwrap();
    assert_eq!(build, testing::failed_build());
    let view: FarmView = farm.get("/farm.json").await.json().await.unwrap();
    assert_eq!(view, testing::farm());
    let view: BuildersView = farm.get("/builders.json").await.json().await.unwrap();
    assert_eq!(view, testing::builders());
    let view: MachineHistory = farm.get("/machine/linux-amd64-1.json").await.json().await.unwrap();
    assert_eq!(view, testing::machine_history());
    let view: BuilderHistory = farm.get("/builder/linux-s390x.json").await.json().await.unwrap();
    assert_eq!(view, testing::builder_history());
    let view: TestHistory = farm.get("/test.json?name=net/http").await.json().await.unwrap();
    assert_eq!(view, testing::test_history());
    let view: ChangeView = farm.get("/change/4711.json").await.json().await.unwrap();
    assert_eq!(view, testing::change());
    let narrowed: GridView = farm.get("/grid.json?q=windows%20author:ada").await.json().await.unwrap();
    assert_eq!(narrowed.builders.len(), 2);
    assert!(!narrowed.rows.is_empty() && narrowed.rows.iter().all(|row| row.cells.len() == 2));
    let log: serde_json::Value = farm.get("/log/48213.json?from=4809").await.json().await.unwrap();
    assert_eq!(log["lines"][0]["number"], 4809);
}

#[tokio::test]
async fn every_answer_has_the_security_headers_and_nothing_inline() {
    let farm = Served::start(more()).await;
    for path in PAGES {
        let answer = farm.get(path).await;
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let html = answer.text().await.unwrap();
        assert!(!html.contains(" style=") && !html.contains("<style"), "{path}");
        assert!(!html.contains(" onclick=") && !html.contains("<script>"), "{path}");
    }
}

#[tokio::test]
async fn another_host_name_is_not_answered() {
    let farm = Served::start(FakeSource::new()).await;
    let answer = farm.client.get(farm.url("/")).header(header::HOST, "evil.example").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_page_that_did_not_change_is_not_sent_again() {
    let farm = Served::start(FakeSource::new()).await;
    for path in ["/", "/build/48213", "/farm.json", "/log/48213.txt"] {
        let first = farm.get(path).await;
        let tag = first.headers()[header::ETAG].clone();
        let again = farm.client.get(farm.url(path)).header(header::IF_NONE_MATCH, tag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    let html = farm.text("/").await;
    let sheet = html
        .split("href=\"")
        .find_map(|part| part.split('"').next().filter(|one| one.contains(".css")))
        .unwrap();
    let answer = farm.get(sheet).await;
    assert!(answer.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    assert_eq!(farm.get("/static/farm.000000000000.css").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let farm = Served::start(FakeSource::new()).await;
    for path in ["/", "/build/48213", "/log/48213.txt"] {
        let answer = farm.client.head(farm.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert!(answer.text().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_raw_log_is_whole_and_has_ranges() {
    let farm = Served::start(FakeSource::new()).await;
    let whole = testing::log_text();
    assert_eq!(farm.text("/log/48213.txt").await, whole);
    let ranged = async |range: &str| {
        farm.client.get(farm.url("/log/48213.txt")).header(header::RANGE, range).send().await.unwrap()
    };
    let part = ranged("bytes=100000-250000").await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()[header::CONTENT_RANGE], format!("bytes 100000-250000/{}", whole.len()));
    assert_eq!(part.text().await.unwrap(), whole[100_000..=250_000]);
    let last = ranged("bytes=-10").await;
    assert_eq!(last.text().await.unwrap(), whole[whole.len() - 10..]);
    assert_eq!(ranged("bytes=999999999-").await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_failed_log_opens_at_its_failure() {
    let farm = Served::start(FakeSource::new()).await;
    let answer = farm.get("/log/48213").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()[header::LOCATION], "/log/48213?attempt=1&line=4809#L4809");
    let html = farm.text("/log/48213?attempt=1&line=4809").await;
    assert!(html.contains("<span id=L4809 class=hit>"), "the failure is marked");
    assert!(!html.contains("<span id=L1>"), "only a window is sent");
}

#[tokio::test]
async fn hostile_names_stay_text_on_every_page() {
    let source = FakeSource::new();
    let evil = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";
    let mut grid = testing::small_grid();
    for row in &mut grid.rows {
        row.commit.subject = evil.to_owned();
        row.commit.author = evil.to_owned();
        row.cells[2].title = evil.to_owned();
    }
    grid.find_red();
    grid.branch = evil.to_owned();
    grid.problem = Some(evil.to_owned());
    let mut build = testing::failed_build();
    build.commit = grid.rows[0].commit.clone();
    build.reason = evil.to_owned();
    build.notes = vec![evil.to_owned()];
    build.failures[0].name = evil.to_owned();
    build.failures[0].lines[0].text = evil.to_owned();
    build.failures[1].known =
        Some(pages::view::KnownIssue { text: evil.to_owned(), url: "javascript:alert(3)".to_owned() });
    build.shards[0].tests = vec![evil.to_owned()];
    build.steps[0].detail = evil.to_owned();
    source.set_grid(grid);
    source.set_log(build.number, format!("{evil}\n").into_bytes(), true);
    source.set_build(build);
    let mut view = testing::farm();
    view.problems[0].text = evil.to_owned();
    view.queue[0].waiting.text = evil.to_owned();
    view.recent[0].reason = evil.to_owned();
    source.set_farm(view);
    let mut machine = testing::machine_history();
    machine.leases[0].commit.subject = evil.to_owned();
    machine.faults[0].detail = evil.to_owned();
    machine.machine.problem = evil.to_owned();
    machine.machine.version = evil.to_owned();
    source.set_machine(machine);
    let mut builder = testing::builder_history();
    builder.builds[2].commit.subject = evil.to_owned();
    builder.builds[2].reason = evil.to_owned();
    source.set_builder(builder);
    let mut test = testing::test_history();
    for run in &mut test.builders[1].runs {
        run.commit.subject = evil.to_owned();
    }
    test.name = "<img src=x>".to_owned();
    source.set_test(test);
    let mut change = testing::change();
    change.review = "javascript:alert(4)".to_owned();
    change.tries[0].subject = evil.to_owned();
    change.tries[0].notes = vec![evil.to_owned()];
    change.tries[1].builds[1].reason = evil.to_owned();
    change.tries[1].words[0].note = evil.to_owned();
    source.set_change(change);
    let farm = Served::start(source).await;
    let encoded = "%22%3E%3Cimg%20src=x%3E%3Cscript%3E";
    let asked = [format!("/?q={encoded}"), format!("/log/48213?find={encoded}"), format!("/{encoded}")];
    let paths = [
        "/",
        "/build/48213",
        "/log/48213?from=1",
        "/farm",
        "/builders",
        "/machine/linux-amd64-1",
        "/builder/linux-s390x",
        "/change/4711",
        "/test/%3Cimg%20src=x%3E",
    ];
    let paths = paths.map(str::to_owned);
    for path in paths.iter().chain(&asked) {
        let html = farm.text(path).await;
        assert!(
            !html.contains("<img") && !html.contains("<script>") && !html.contains("href=\"javascript:"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_build_is_called_off_by_its_own_form_only() {
    let farm = Served::start(more()).await;
    let build = testing::waiting_build().number;
    let html = farm.text("/build/48218").await;
    assert!(html.contains(&format!("name=\"token\" value=\"{}\"", farm.token)), "{html}");
    let post = async |origin: String, token: &str| {
        let form = [("token", token)];
        let request =
            farm.client.post(farm.url("/build/48218/cancel")).header(header::ORIGIN, origin).form(&form);
        request.send().await.unwrap().status()
    };
    let own = format!("http://{}", farm.addr);
    assert_eq!(post("http://evil.example".to_owned(), &farm.token).await, StatusCode::FORBIDDEN);
    assert_eq!(post(own.clone(), "guess").await, StatusCode::FORBIDDEN);
    assert!(farm.source.cancelled().is_empty());
    assert_eq!(post(own, &farm.token).await, StatusCode::SEE_OTHER);
    assert_eq!(farm.source.cancelled()[0].0, build);
    assert!(words(&farm.text("/build/48218").await).contains("called off by somebody"));
}

#[tokio::test]
async fn a_finished_farm_ends_its_streams() {
    let farm = Served::start(FakeSource::new()).await;
    let stream = farm.get("/events?farm").await;
    assert_eq!(stream.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(farm.get("/events").await.status(), StatusCode::BAD_REQUEST);
    drop(farm);
    let rest = tokio::time::timeout(std::time::Duration::from_secs(20), stream.text()).await;
    assert!(rest.expect("the stream ends").unwrap().contains("event: beat"));
}
