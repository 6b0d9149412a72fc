//! How long builds took, a bar for each, the newest at the left, parted by phase. The page has the same as a table.

use types::Phase;

use crate::{
    build,
    grid::rows::class,
    html::Markup,
    view::{BuilderRun, State},
    words,
};

const WIDTH: usize = 960;
const LEFT: usize = 64;
const HEIGHT: usize = 160;
/// A bar and the space beside it.
const STEP: usize = 14;
/// More bars than these do not fit.
const MOST: usize = (WIDTH - LEFT) / STEP;

/// How long a build took, its wait included.
pub(super) fn total_ms(run: &BuilderRun) -> u64 {
    run.phases.iter().map(|phase| phase.ms).sum()
}

/// The same in numbers: the whole, waiting, make, tests, the rest.
pub(super) fn row(run: &BuilderRun) -> [u64; 5] {
    let of = |class| run.phases.iter().filter(|one| phase_class(one.phase) == class).map(|one| one.ms).sum();
    [total_ms(run), of("q"), of("make"), of("test"), of("rest")]
}

/// The plot, or nothing where there is nothing to see.
pub(super) fn draw(builds: &[BuilderRun]) -> Option<Markup> {
    let shown: Vec<&BuilderRun> = builds.iter().filter(|run| total_ms(run) > 0).take(MOST).collect();
    let longest = shown.iter().map(|run| total_ms(run)).max().filter(|_| shown.len() > 1)?;
    let top = round(longest);
    let mut out = Markup::default();
    out.raw(&format!(
        "<svg class=\"gantt plot\" viewBox=\"0 0 {WIDTH} {}\" role=group aria-label=\"How long the last {} took, at most {}\">\
         <defs><pattern id=h width=6 height=6 patternUnits=userSpaceOnUse patternTransform=\"rotate(45)\">\
         <rect class=hatch width=2 height=6 /></pattern></defs>",
        HEIGHT + 28,
        words::count(shown.len() as u64, "build"),
        words::duration_ms(longest),
    ));
    for part in 0..=2 {
        let y = 8 + HEIGHT - HEIGHT * part / 2;
        out.raw(&format!("<path class=tick d=\"M{LEFT} {y}H{WIDTH}\" /><text class=lab x=0 y={}>", y + 4));
        out.raw(&words::duration_ms(top * part as u64 / 2)).raw("</text>");
    }
    for (at, run) in shown.iter().enumerate() {
        draw_bar(&mut out, run, LEFT + at * STEP, top);
    }
    out.raw("</svg>");
    Some(out)
}

fn draw_bar(out: &mut Markup, run: &BuilderRun, x: usize, top: u64) {
    out.raw("<a href=\"/build/").number(run.number.0).raw("\"><title>").number(run.number.0).raw(", ");
    out.raw(run.state.word()).raw(": ").raw(&words::duration_ms(total_ms(run)));
    for phase in &run.phases {
        out.raw(", ").raw(build::phase(phase.phase)).raw(" ").raw(&words::duration_ms(phase.ms));
    }
    out.raw("</title>");
    let scale = HEIGHT as f64 / top.max(1) as f64;
    let mut bottom = (8 + HEIGHT) as f64;
    for phase in &run.phases {
        let height = phase.ms as f64 * scale;
        bottom -= height;
        out.raw(&format!(
            "<g class={}><rect x={x} y={bottom:.1} width={} height={height:.1} /></g>",
            phase_class(phase.phase),
            STEP - 3
        ));
    }
    // The state under the bar: a glyph as everywhere.
    out.raw(&format!(
        "<g class={}><rect x={x} y={} width={} height=12 /><text x={} y={} text-anchor=middle>{}</text></g></a>",
        class(run.state),
        HEIGHT + 12,
        STEP - 3,
        x as f64 + (STEP - 3) as f64 / 2.0,
        HEIGHT + 22,
        glyph(run.state),
    ));
}

const fn glyph(state: State) -> &'static str {
    state.glyph()
}

/// Waiting is hatched, making and testing differ, all else is between.
const fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "q",
        Phase::Make => "make",
        Phase::Test => "test",
        _ => "rest",
    }
}

/// The next round number of milliseconds above.
fn round(ms: u64) -> u64 {
    const ROUND: [u64; 18] = [
        100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000, 120_000, 300_000, 600_000, 1_200_000,
        3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000,
    ];
    ROUND.into_iter().find(|round| *round >= ms).unwrap_or(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_bar_leads_to_its_build_and_says_what_took_how_long() {
        let history = testing::builder_history();
        let drawn = draw(&history.builds).unwrap().0;
        assert_eq!(
            drawn.matches("<a href=").count(),
            history.builds.iter().filter(|run| total_ms(run) > 0).count()
        );
        assert!(drawn.contains("failed: "), "{drawn}");
        assert!(drawn.contains("make 1 m 5 s"), "{drawn}");
    }

    #[test]
    fn the_numbers_of_a_row_add_up() {
        let [whole, parts @ ..] = row(&testing::builder_history().builds[3]);
        assert_eq!(parts[..2], [4000, 65_000]);
        assert_eq!(whole, parts.iter().sum::<u64>());
    }

    #[test]
    fn one_build_is_no_plot() {
        assert_eq!(draw(&testing::builder_history().builds[..1]), None);
        assert_eq!(draw(&[]), None);
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        assert_eq!([round(7), round(61_000), round(3_600_000)], [100, 120_000, 3_600_000]);
    }
}
