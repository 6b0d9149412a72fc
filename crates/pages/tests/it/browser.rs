//! The pages in headless Chromium: they change by themselves, they can be walked by keys, and axe finds nothing.

use std::path::PathBuf;

use pages::{
    testing::{self, FakeSource},
    view::{Cell, GridRow, MachineState, State},
};
use serde_json::json;
use testkit::{
    browser::{self, Browser},
    skip::skipped,
};
use types::BuildNumber;

use crate::support::{self, PAGES, Served};

/// A farm and a browser, or nothing where there is no browser.
async fn opened(test: &str, source: std::sync::Arc<FakeSource>) -> Option<(Served, Browser)> {
    if !browser::available(test) {
        return None;
    }
    testing::show_more(&source);
    let farm = Served::start(source).await;
    let browser = Browser::start().await.expect("the browser starts");
    Some((farm, browser))
}

#[tokio::test]
async fn a_cell_changes_without_reload() {
    let Some((farm, browser)) = opened("a_cell_changes_without_reload", FakeSource::new()).await else {
        return;
    };
    browser.open(&farm.url("/")).await.unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    // The cell comes by the stream alone: reading the page again is made impossible.
    browser
        .run("window.sameDocument = true; window.read = fetch; window.fetch = () => Promise.reject()")
        .await
        .unwrap();
    let cell =
        Cell { state: State::Failed, percent: None, build: Some(BuildNumber(7)), title: String::new() };
    farm.source.set_cell(0, 0, cell);
    browser
        .wait_until("document.querySelector('#rows .row .g a.f')?.getAttribute('href') === '/build/7'")
        .await
        .unwrap();
    // The sentence above the grid follows once the page may be read again.
    browser.run("window.fetch = window.read").await.unwrap();
    farm.source.set_cell(1, 0, Cell::not_built());
    browser.wait_until("document.querySelector('h1').textContent.includes('red on 2 of 5')").await.unwrap();
    assert_eq!(browser.run("return window.sameDocument").await.unwrap(), true);
}

#[tokio::test]
async fn a_new_commit_appears_and_old_rows_stay_the_same_elements() {
    let name = "a_new_commit_appears_and_old_rows_stay_the_same_elements";
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    browser.open(&farm.url("/")).await.unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    browser.run("document.querySelector('#rows .row:last-child').mark = 1").await.unwrap();
    let mut grid = testing::small_grid();
    let mut row: GridRow = grid.rows[0].clone();
    row.commit.hash = "00112233445566778899aabbccddeeff00112233".parse().unwrap();
    grid.rows.insert(0, row);
    farm.source.set_grid(grid);
    browser.wait_until("document.querySelector('#c-001122334455')").await.unwrap();
    assert_eq!(browser.run("return document.querySelectorAll('#rows .row').length").await.unwrap(), 9);
    assert_eq!(browser.run("return document.querySelector('#rows .row:last-child').mark").await.unwrap(), 1);
}

#[tokio::test]
async fn the_tail_of_a_log_grows() {
    let Some((farm, browser)) = opened("the_tail_of_a_log_grows", FakeSource::new()).await else { return };
    browser.open(&farm.url("/log/48220")).await.unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    farm.source.append_log(testing::RUNNING, b"a first line\nand a <b>half");
    browser
        .wait_until("document.querySelector('#L801')?.textContent.includes('a first line')")
        .await
        .unwrap();
    browser.wait_until("document.querySelector('#rest').textContent === 'and a <b>half'").await.unwrap();
    farm.source.append_log(testing::RUNNING, b" line\n");
    browser
        .wait_until("document.querySelector('#L802')?.textContent.includes('and a <b>half line')")
        .await
        .unwrap();
    browser.wait_until("innerHeight + scrollY >= document.documentElement.scrollHeight - 4").await.unwrap();
    assert_eq!(browser.run("return document.querySelectorAll('#L801').length").await.unwrap(), 1);
}

#[tokio::test]
async fn a_lost_stream_says_so() {
    let Some((farm, browser)) = opened("a_lost_stream_says_so", FakeSource::new()).await else { return };
    browser.open(&farm.url("/farm")).await.unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    drop(farm);
    browser
        .wait_until("document.querySelector('#live').textContent.startsWith('not live since')")
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_lead_to_failures_and_the_filter_lives_in_the_address() {
    let name = "keys_lead_to_failures_and_the_filter_lives_in_the_address";
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    browser.open(&farm.url("/")).await.unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    browser.press("n").await.unwrap();
    browser.wait_until("document.activeElement.classList.contains('f')").await.unwrap();
    browser.press("/").await.unwrap();
    browser.press("windows").await.unwrap();
    browser.wait_until("document.querySelectorAll('#heads [data-b]').length === 2").await.unwrap();
    browser.wait_until("location.search.includes('q=windows')").await.unwrap();
    assert_eq!(browser.run("return document.activeElement.id").await.unwrap(), "q");
    browser.open(&farm.url("/log/48213")).await.unwrap();
    browser.wait_until("location.hash === '#L4809'").await.unwrap();
    let seen = "(() => { const box = document.querySelector('#L4809').getBoundingClientRect(); \
                return box.top > 0 && box.bottom < innerHeight })()";
    browser.wait_until(seen).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_is_lost_says_so_on_its_open_page() {
    let name = "a_machine_that_is_lost_says_so_on_its_open_page";
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    browser.open(&farm.url("/farm")).await.unwrap();
    browser.run("document.querySelector('#machines a[href^=\"/machine/\"]').click()").await.unwrap();
    browser
        .wait_until("document.querySelector('h1')?.textContent.includes('linux-amd64-1 works on')")
        .await
        .unwrap();
    browser.wait_until("document.querySelector('#live').textContent === 'live'").await.unwrap();
    browser.press("n").await.unwrap();
    browser.wait_until("document.activeElement.closest('#faults')").await.unwrap();
    let mut history = testing::machine_history();
    history.machine.state = MachineState::Lost;
    farm.source.set_machine(history);
    browser
        .wait_until("document.querySelector('h1').textContent.includes('is not connected')")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_builder_is_reached_from_its_column_and_its_bars_lead_to_builds() {
    let name = "a_builder_is_reached_from_its_column_and_its_bars_lead_to_builds";
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    browser.open(&farm.url("/")).await.unwrap();
    browser.run("document.querySelector('#heads [data-b=linux-s390x]').click()").await.unwrap();
    browser.wait_until("location.pathname === '/builder/linux-s390x'").await.unwrap();
    browser.wait_until("document.querySelector('#live')?.textContent === 'live'").await.unwrap();
    browser.press("n").await.unwrap();
    browser.wait_until("document.activeElement.closest('tr')?.textContent.includes('failed')").await.unwrap();
    let drawn = "const bars = [...document.querySelectorAll('.plot a')].map((one) => one.getBoundingClientRect()); \
                 return bars.length > 20 && bars.every((box) => box.width > 4 && box.height > 20)";
    assert_eq!(browser.run(drawn).await.unwrap(), true, "each bar can be seen and hit");
    let mut history = testing::builder_history();
    history.builds.retain(|run| !run.state.is_red());
    farm.source.set_builder(history);
    browser.wait_until("document.querySelector('h1').textContent.includes('is green')").await.unwrap();
}

#[tokio::test]
async fn a_test_is_reached_from_its_failure_and_its_strip_leads_to_builds() {
    let name = "a_test_is_reached_from_its_failure_and_its_strip_leads_to_builds";
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    browser.open(&farm.url("/build/48213")).await.unwrap();
    browser.run("document.querySelector('a[href=\"/test/net/http\"]').click()").await.unwrap();
    browser
        .wait_until("document.querySelector('h1')?.textContent.includes('fails on linux-s390x')")
        .await
        .unwrap();
    browser.press("n").await.unwrap();
    browser.wait_until("document.activeElement.matches('.strip > .t')").await.unwrap();
    let marks = "return ['.p', '.f', '.t', '.u'].map((one) => \
                 document.querySelectorAll('.strip > ' + one).length > 0).join()";
    assert_eq!(browser.run(marks).await.unwrap(), "true,true,true,true");
    browser.resize(390, 844).await.unwrap();
    let low =
        "return Math.max(...[...document.querySelectorAll('.strip')].map((one) => one.offsetHeight)) < 120";
    assert_eq!(browser.run(low).await.unwrap(), true, "a strip stays a strip on a narrow screen");
    browser.run("document.querySelector('.strip .f').click()").await.unwrap();
    browser.wait_until("location.pathname.startsWith('/build/')").await.unwrap();
}

#[tokio::test]
async fn a_failure_is_in_sight_with_scripts_off() {
    let Some((farm, browser)) = opened("a_failure_is_in_sight_with_scripts_off", FakeSource::new()).await
    else {
        return;
    };
    browser.allow_scripts(false).await.unwrap();
    browser.open(&farm.url("/log/48213")).await.unwrap();
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await.unwrap();
    assert!(tree.to_string().contains("--- FAIL: TestServeReuse"), "the failing lines are on the page");
    for (path, said) in [
        ("/machine/linux-amd64-1", "connection reset"),
        ("/builder/linux-s390x", "linux-s390x is red for 3 commits"),
        ("/test/net/http", "its shard failed"),
    ] {
        browser.open(&farm.url(path)).await.unwrap();
        let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await.unwrap().to_string();
        assert!(tree.contains(said), "{path} does not say `{said}`: {tree}");
    }
    browser.open(&farm.url("/")).await.unwrap();
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await.unwrap().to_string();
    assert!(
        tree.contains("main is red on 1 of 5 builders") && tree.contains("infrastructure fault"),
        "{tree}"
    );
}

#[tokio::test]
async fn groups_fold_to_their_worst_cell_on_a_narrow_screen() {
    let name = "groups_fold_to_their_worst_cell_on_a_narrow_screen";
    let source = FakeSource::new();
    source.set_grid(testing::generated_grid(30, 20));
    let Some((farm, browser)) = opened(name, source).await else { return };
    browser.resize(390, 844).await.unwrap();
    browser.open(&farm.url("/")).await.unwrap();
    let shown = "return [...document.querySelectorAll('#rows .row:first-child .g')].every((group) => \
                 [...group.children].filter((cell) => cell.offsetWidth > 0).length === 1)";
    assert_eq!(browser.run(shown).await.unwrap(), true);
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.run(fits).await.unwrap(), true, "only the grid scrolls sideways");
}

#[tokio::test]
async fn heads_stand_above_their_columns() {
    let source = FakeSource::new();
    source.set_grid(testing::generated_grid(60, 30));
    let Some((farm, browser)) = opened("heads_stand_above_their_columns", source).await else { return };
    for width in [1800, 1280, 820] {
        browser.resize(width, 800).await.unwrap();
        browser.open(&farm.url("/")).await.unwrap();
        let apart = "const heads = [...document.querySelectorAll('#heads [data-b]')]; \
            const cells = [...document.querySelectorAll('#rows .row:nth-child(2) .g > *')]; \
            return Math.max(...heads.map((head, at) => { const one = head.getBoundingClientRect(), \
            two = cells[at].getBoundingClientRect(); return Math.abs(one.x + one.width / 2 - two.x - two.width / 2) }))";
        let apart = browser.run(apart).await.unwrap().as_f64().unwrap();
        assert!(apart <= 1.0, "{apart} pixels apart at a width of {width}");
    }
}

/// What a plain table of 20,000 links took where the budgets were set: two cores with nothing else to do.
const PLAIN_MS: f64 = 1000.0;

#[tokio::test]
async fn the_large_grid_is_laid_out_in_time() {
    let source = FakeSource::new();
    source.set_grid(testing::generated_grid(200, 100));
    let Some((farm, browser)) = opened("the_large_grid_is_laid_out_in_time", source).await else { return };
    // How fast this machine is just now is what a plain table takes on it, so that neither a slow machine nor one that
    // compiles beside is told that pages have become slow.
    let plain = support::serve_plain_table(200, 100).await;
    let slowness = browser.work(&plain.url).await.unwrap() / PLAIN_MS;
    let large = browser.work(&farm.url("/?limit=100")).await.unwrap();
    let count = browser.run("return document.querySelectorAll('*').length").await.unwrap().as_u64().unwrap();
    let first = browser.work(&farm.url("/")).await.unwrap();
    eprintln!(
        "200 × 100: {large:.0} ms, {count} elements; the first 30 commits: {first:.0} ms; a plain table: {:.0} ms",
        slowness * PLAIN_MS
    );
    assert!(count <= 25_000, "{count} elements");
    assert!(
        large < 700.0 * slowness && first < 300.0 * slowness,
        "{large} ms and {first} ms, {slowness} × as slow"
    );
}

fn axe() -> Option<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let usual = home.map(|home| home.join(".cache/farmer-real/axe-core/axe.min.js"));
    let file = std::env::var_os("FARMER_AXE").map(PathBuf::from).or(usual)?;
    std::fs::read_to_string(file).ok()
}

#[tokio::test]
async fn axe_finds_nothing_on_any_page_light_or_dark() {
    let name = "axe_finds_nothing_on_any_page_light_or_dark";
    let Some(axe) = axe() else {
        return skipped(name, "axe-core", "npm install axe-core, and name its axe.min.js in FARMER_AXE");
    };
    let Some((farm, browser)) = opened(name, FakeSource::new()).await else { return };
    let empty = Served::start(FakeSource::empty()).await;
    let medium = FakeSource::new();
    medium.set_grid(testing::generated_grid(30, 30));
    let medium = Served::start(medium).await;
    let paths = PAGES.iter().map(|path| farm.url(path));
    let paths: Vec<String> = paths
        .chain(["/", "/farm", "/builders"].map(|path| empty.url(path)))
        .chain([medium.url("/")])
        .collect();
    // The page's policy lets no script in; the browser's own protocol may.
    for (dark, width) in [(false, 1280), (true, 1280), (false, 390)] {
        browser.prefer_dark(dark).await.unwrap();
        browser.resize(width, 800).await.unwrap();
        for url in &paths {
            browser.open(url).await.unwrap();
            browser.devtools("Runtime.evaluate", json!({ "expression": axe })).await.unwrap();
            let script = "const done = arguments[0]; axe.run().then((found) => done({ \
                rules: found.passes.length, violations: found.violations.map((one) => \
                one.id + ': ' + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + ' ' + \
                (node.any[0]?.message ?? '')).join(' | ')) }), (error) => done({ error: String(error) }))";
            let found = browser.run_async(script).await.unwrap();
            assert_eq!(found["violations"], json!([]), "{url}, dark: {dark}, width: {width}");
            assert!(found["rules"].as_u64() > Some(10), "axe looked at the page: {found}");
        }
    }
}
