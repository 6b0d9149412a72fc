//! `/test/NAME`: where does it fail, since when, and how often?

use askama::Template;
use axum::{
    extract::{Path, Query, State as Extract},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use types::{Share, Timestamp};

use crate::{
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    view::{Standing, TestHistory, TestLine, TestRun, TestVerdict},
    words,
};

/// How many runs the strip of a builder has.
const STRIP: usize = 60;

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match shared.source.test(&name).await {
        Ok(history) => respond::html(&headers, &shared.options, &draw(&shared, &history)),
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

/// What the address of the JSON says: a test may be called anything, `a.json` too.
#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    name: String,
}

pub(crate) async fn json(
    Extract(shared): Extract<Shared>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    match shared.source.test(&params.name).await {
        Ok(history) => respond::json(&headers, &history),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

#[derive(Template)]
#[template(path = "test.html")]
struct Document<'a> {
    history: &'a TestHistory,
    title: String,
    now: Timestamp,
}

impl Document<'_> {
    /// How it stands on a builder, and which run says so.
    fn standing(&self, line: &TestLine) -> Markup {
        let unclear = || line.runs.iter().take_while(|run| run.verdict() == TestVerdict::Unclear).last();
        let (said, run) = match line.standing() {
            Standing::Fails => ("fails since ", line.failing().last().copied()),
            Standing::MayFail => ("may fail since ", unclear()),
            Standing::Flakes => ("failed and passed at ", line.flake().map(|flake| flake.failed)),
            Standing::Passes => ("passes", None),
        };
        let mut out = Markup::default();
        out.raw(said);
        if let Some(run) = run {
            out.raw("<a class=mono href=\"/build/").number(run.build.0).raw("\" title=\"");
            out.text(&run.commit.subject).raw("\">").raw(&run.commit.hash.short());
            out.raw("</a>, ").raw(&words::ago_element(run.commit.time, self.now).0);
        }
        out
    }
}

/// One cell for each of the newest runs, the newest first.
fn strip(line: &TestLine) -> Markup {
    let mut out = Markup::default();
    for run in line.runs.iter().take(STRIP) {
        let (class, word) = look(run);
        out.raw("<a class=\"").raw(class).raw("\" href=\"/build/").number(run.build.0).raw("\" title=\"");
        out.raw(&run.commit.hash.short()).raw(" ").text(&run.commit.subject).raw(": ").raw(word);
        if run.verdict() == TestVerdict::Unclear {
            out.raw(", with ").number(run.among - 1).raw(" others in shard ").number(u64::from(run.shard));
        }
        out.raw("\">").raw(word).raw("</a>");
    }
    out
}

fn rate(line: &TestLine) -> String {
    let (passed, failed, unclear) = line.counts();
    let mut text = match passed + failed {
        0 => "no run says it".to_owned(),
        all => {
            let share = Share { of: failed, all };
            let (low, high) = share.interval();
            let percent = |share: f64| share * 100.0;
            format!(
                "{failed} of {all}: {:.1} % ({:.1} to {:.1})",
                percent(share.seen()),
                percent(low),
                percent(high)
            )
        }
    };
    if unclear > 0 {
        text = format!("{text}, {unclear} unclear");
    }
    text
}

fn median(line: &TestLine) -> String {
    let mut took: Vec<u64> = line.runs.iter().filter_map(|run| run.duration_ms).collect();
    took.sort_unstable();
    took.get(took.len() / 2).map(|ms| words::duration_ms(*ms)).unwrap_or_default()
}

fn look(run: &TestRun) -> (&'static str, &'static str) {
    match run.verdict() {
        TestVerdict::Passed => ("p", "passed"),
        TestVerdict::Failed => (show::class(run.state), run.state.word()),
        TestVerdict::Unclear => ("u", "its shard failed"),
    }
}

fn draw(shared: &Shared, history: &TestHistory) -> Page {
    let title = title(history);
    let template = Document { history, title: title.clone(), now: shared.options.clock.now() };
    Page {
        title,
        body: Markup(render(&template)),
        icon: match worst(history) {
            Standing::Fails | Standing::MayFail => Icon::Red,
            Standing::Flakes | Standing::Passes => Icon::Green,
        },
        ..Page::default()
    }
}

fn title(history: &TestHistory) -> String {
    let name = &history.name;
    let all = history.builders.len() as u64;
    let worst = worst(history);
    let lines: Vec<&TestLine> = history.builders.iter().filter(|line| line.standing() == worst).collect();
    let place = match lines.as_slice() {
        [one] if all == 1 => one.builder.to_string(),
        [one] => format!("{}, 1 of {}", one.builder, words::count(all, "builder")),
        some if some.len() as u64 == all => format!("all {}", words::count(all, "builder")),
        some => format!("{} of {}", some.len(), words::count(all, "builder")),
    };
    match worst {
        Standing::Fails => format!("{name} fails on {place}"),
        Standing::MayFail => format!("{name} may fail on {place}: the shard it shares failed"),
        Standing::Flakes => format!("{name} flakes on {place}"),
        Standing::Passes => format!("{name} passes on {place}"),
    }
}

fn worst(history: &TestHistory) -> Standing {
    history.builders.iter().map(TestLine::standing).min().unwrap_or(Standing::Passes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_sentence_says_where_it_fails() {
        let mut history = testing::test_history();
        assert_eq!(title(&history), "net/http fails on linux-s390x, 1 of 3 builders");
        history.builders.retain(|line| line.failing().is_empty());
        assert_eq!(title(&history), "net/http flakes on linux-amd64, 1 of 2 builders");
        history.builders.retain(|line| line.flake().is_none());
        assert_eq!(title(&history), "net/http passes on windows-amd64");
        history.builders[0].runs.drain(..5);
        assert_eq!(title(&history), "net/http may fail on windows-amd64: the shard it shares failed");
    }

    #[test]
    fn to_fail_and_to_be_mended_is_not_to_flake() {
        let mut history = testing::test_history();
        let line = &mut history.builders[0];
        let (failed, again) = (line.runs[30].clone(), line.runs[29].clone());
        assert_eq!(line.flake().map(|flake| flake.commits), Some(1));
        assert_eq!((failed.commit, failed.attempt), (again.commit.clone(), 1));
        line.runs.remove(29);
        assert_eq!(line.flake(), None);
    }

    #[test]
    fn a_shard_of_many_that_failed_blames_no_test() {
        let mut history = testing::test_history();
        let line = &mut history.builders[1];
        let (_, failed, unclear) = line.counts();
        line.runs[0].among = 9;
        assert_eq!(line.counts().1, failed - 1);
        assert_eq!(line.counts().2, unclear + 1);
    }
}
