//! Where the time went: one lane for each machine, drawn as SVG on the server, with titles on hover. The page has the
//! same data as a table.

use types::{Phase, Timestamp};

use crate::{
    grid::rows::class,
    html::Markup,
    view::{BuildView, State, StepView},
    words,
};

const LEFT: f64 = 168.0;
const RIGHT: f64 = 950.0;
const LANE: usize = 28;
/// Bars beyond this many are left to the JSON: nothing inline is unbounded.
pub(crate) const MAX_STEPS: usize = 400;

struct Lane<'a> {
    title: String,
    steps: Vec<&'a StepView>,
}

/// The timeline, or nothing if nothing was done yet.
pub(crate) fn draw(build: &BuildView, now: Timestamp) -> Option<Markup> {
    let steps = &build.steps[..build.steps.len().min(MAX_STEPS)];
    let start = steps.iter().map(|step| step.started).min()?;
    let end = steps.iter().map(|step| step.ended.unwrap_or(now)).max()?.max(start);
    let total_ms = (end.since(start).as_millis() as f64).max(1.0);
    let lanes = lanes(build, steps);
    let height = lanes.len() * LANE;
    let mut out = Markup::default();
    out.raw(&format!(
        "<svg class=gantt viewBox=\"0 0 960 {}\" role=img aria-label=\"Timeline by machine, {} long\"><defs>\
         <pattern id=h width=6 height=6 patternUnits=userSpaceOnUse patternTransform=\"rotate(45)\">\
         <rect class=hatch width=2 height=6 /></pattern></defs>",
        height + 20,
        words::duration_ms(total_ms as u64),
    ));
    let scale = (RIGHT - LEFT) / total_ms;
    draw_ticks(&mut out, total_ms, scale, height);
    for (row, lane) in lanes.iter().enumerate() {
        let top = row * LANE;
        out.raw(&format!("<text class=lab x=0 y={}>", top + 18))
            .text(&clipped(&lane.title, 26))
            .raw("</text>");
        for step in &lane.steps {
            let from = step.started.since(start).as_millis() as f64 * scale + LEFT;
            let to = step.ended.unwrap_or(now).since(start).as_millis() as f64 * scale + LEFT;
            draw_bar(&mut out, step, top, from, (to - from).max(2.0), now);
        }
    }
    out.raw("</svg>");
    Some(out)
}

/// The main machine first, then helpers in the order in which they came; what no machine has stays above all.
fn lanes<'a>(build: &BuildView, steps: &'a [StepView]) -> Vec<Lane<'a>> {
    let mut lanes: Vec<(Option<&str>, Lane<'a>)> = Vec::new();
    for step in steps {
        let machine = step.machine.as_ref().map(types::MachineName::as_str);
        if let Some((_, lane)) = lanes.iter_mut().find(|(name, _)| *name == machine) {
            lane.steps.push(step);
            continue;
        }
        let role = build.machines.iter().find(|one| Some(one.name.as_str()) == machine);
        let title = match (machine, role) {
            (None, _) => "waiting".to_owned(),
            (Some(name), Some(role)) if role.main => format!("main · {name}"),
            (Some(name), Some(_)) => format!("helper · {name}"),
            (Some(name), None) => name.to_owned(),
        };
        lanes.push((machine, Lane { title, steps: vec![step] }));
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

fn draw_ticks(out: &mut Markup, total_ms: f64, scale: f64, height: usize) {
    const STEPS_MS: [f64; 16] = [
        10.0, 50.0, 100.0, 500.0, 1e3, 2e3, 5e3, 10e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3,
        14_400e3,
    ];
    let every = STEPS_MS.into_iter().find(|step| total_ms / step <= 7.0).unwrap_or(86_400e3);
    let mut at = 0.0;
    while at <= total_ms {
        let x = LEFT + at * scale;
        out.raw(&format!(
            "<path class=tick d=\"M{x:.0} 0V{height}\" /><text class=lab x={:.0} y={}>",
            x + 3.0,
            height + 14
        ));
        out.raw(&tick_label(at as u64, every as u64)).raw("</text>");
        at += every;
    }
}

fn tick_label(ms: u64, every: u64) -> String {
    let seconds = ms / 1000;
    match (every, seconds) {
        (..1000, _) => format!("{}.{:02} s", seconds, ms % 1000 / 10),
        (_, 3600..) => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        _ => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}

fn draw_bar(out: &mut Markup, step: &StepView, top: usize, x: f64, width: f64, now: Timestamp) {
    let label = label(step);
    let class = match (step.phase, step.state) {
        (Phase::Queued, _) => "q",
        (_, state) => class(state),
    };
    let took = words::duration(step.ended.unwrap_or(now).since(step.started));
    out.raw(&format!("<g class={class}><title>"))
        .text(&label)
        .raw(": ")
        .raw(&took)
        .raw(", ")
        .raw(step.state.word());
    if !step.detail.is_empty() {
        out.raw(", ").text(&step.detail);
    }
    // Two pixels less than its time, so that bars side by side can be told apart.
    let drawn = (width - 2.0).max(2.0);
    out.raw(&format!("</title><rect x={x:.0} y={} width={drawn:.0} height=20 rx=3 />", top + 4));
    let room = ((width - 10.0) / 6.2).max(0.0) as usize;
    let mark = if step.state.is_red() || step.state == State::Infrastructure {
        format!("{} {label}", step.state.glyph())
    } else {
        label
    };
    if room >= 2 && (room >= mark.chars().count() || room >= 4) {
        out.raw(&format!("<text x={:.0} y={}>", x + 5.0, top + 18))
            .text(&clipped(&mark, room))
            .raw("</text>");
    }
    out.raw("</g>");
}

/// What a step is called.
pub(crate) fn label(step: &StepView) -> String {
    let phase = phase(step.phase);
    match step.shard {
        Some(shard) if step.phase == Phase::Test => format!("shard {shard}"),
        Some(shard) => format!("{phase}, shard {shard}"),
        None => phase.to_owned(),
    }
}

/// A phase in words.
pub(crate) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "wait",
        Phase::Source => "source",
        Phase::SnapshotFetch => "fetch snapshot",
        Phase::Make => "make",
        Phase::SnapshotStore => "store snapshot",
        Phase::List => "list tests",
        Phase::Test => "tests",
        Phase::Finish => "finish",
    }
}

fn clipped(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn there_is_a_lane_for_each_machine() {
        let build = testing::failed_build();
        let svg = draw(&build, testing::NOW).unwrap().0;
        assert_eq!(svg.matches("class=lab x=0").count(), 4, "{svg}");
        assert!(svg.contains("main · linux-arm64-7"), "{svg}");
        assert!(svg.contains("<g class=f><title>shard 3: 55 s, failed"), "{svg}");
    }

    #[test]
    fn a_build_that_has_done_nothing_has_no_timeline() {
        let build = BuildView { steps: Vec::new(), ..testing::failed_build() };
        assert_eq!(draw(&build, testing::NOW), None);
    }

    #[test]
    fn ticks_are_as_fine_as_the_build_is_short() {
        assert_eq!(tick_label(250, 50), "0.25 s");
        assert_eq!(tick_label(90_000, 30_000), "1:30");
        assert_eq!(tick_label(3_690_000, 600_000), "1:01:30");
    }
}
