//! The command line: many seeds on all processors, one seed with its trace, or all bugs that are put in on purpose.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use clap::Parser;

use crate::{
    context::lock,
    coverage::Coverage,
    judge::say,
    planted::Planted,
    run::{Report, run},
};

/// How many seeds a bug may take to be found.
const WITHIN: u64 = 1000;

/// Simulates whole farms.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask sim")]
pub struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Only this seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print all that happens in it.
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// Put each bug of the list in, and see that it is found.
    #[arg(long)]
    pub mutations: bool,
    /// Only the bug of this name; with a seed: put it in there.
    #[arg(long)]
    pub mutation: Option<String>,
    /// Write the list of transitions that this run took.
    #[arg(long)]
    pub write_transitions: bool,
    /// How many at a time; without: one for each processor.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Does what the arguments say. Fails if anything did that should not.
pub fn main(args: &Args) -> ExitCode {
    let named = |planted: &Planted| args.mutation.as_ref().is_none_or(|name| name_of(*planted) == *name);
    let right = if let Some(seed) = args.seed {
        let planted = Planted::all().into_iter().map(|(planted, _)| planted).find(named);
        one(seed, planted.filter(|_| args.mutation.is_some()), args.trace)
    } else if args.mutations || args.mutation.is_some() {
        let wanted = Planted::all().into_iter().filter(|(planted, _)| named(planted));
        // All are tried, also after one was not found.
        let found: Vec<bool> = wanted.map(|(planted, breaks)| hunt(args, planted, breaks)).collect();
        found.into_iter().all(|found| found)
    } else {
        many(args)
    };
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A bug's name on the command line.
fn name_of(planted: Planted) -> String {
    match planted {
        Planted::Coordinator(mutation) => format!("{mutation:?}"),
        Planted::DropFencing => format!("{planted:?}"),
    }
}

fn one(seed: u64, planted: Option<Planted>, trace: bool) -> bool {
    let report = run(seed, planted, trace);
    tell(&report);
    say(&format!(
        "seed {seed}: {} steps of the core, {} calls, {} builds, {} machines, {} faults of {} kinds, digest {:016x}",
        report.steps,
        report.calls,
        report.builds,
        report.machines,
        report.coverage.kinds().0,
        report.coverage.kinds().1,
        report.digest
    ));
    report.violation.is_none()
}

/// Says what a seed broke, and what happened last.
fn tell(report: &Report) {
    let Some(violation) = &report.violation else { return };
    for line in &report.last {
        say(line);
    }
    say(&format!(
        "seed {} breaks {:?} in step {}: {}",
        report.seed, violation.invariant, violation.step, violation.what
    ));
    say(&format!("again, with all that happens: cargo xtask sim --seed {} --trace", report.seed));
}

/// Runs seeds on threads and hands each report over, until `take` wants no more.
fn each(args: &Args, seeds: u64, planted: Option<Planted>, take: impl Fn(Report) -> bool + Sync) {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, enough) = (AtomicU64::new(args.first), AtomicBool::new(false));
    let end = args.first + seeds;
    std::thread::scope(|scope| {
        for _ in 0..args.threads.unwrap_or(processors) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || !take(run(seed, planted, false)) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[derive(Default)]
struct Sum {
    coverage: Coverage,
    failed: Vec<u64>,
    steps: Vec<u64>,
    calls: Vec<u64>,
    builds: Vec<u64>,
    machines: Vec<u64>,
    faults: Vec<u64>,
    kinds: Vec<u64>,
}

fn many(args: &Args) -> bool {
    let sum = Mutex::new(Sum::default());
    each(args, args.seeds, None, |report| {
        let mut sum = lock(&sum);
        if report.violation.is_some() {
            if sum.failed.is_empty() {
                tell(&report);
            } else if let Some(violation) = &report.violation {
                let what: String = violation.what.chars().take(200).collect();
                say(&format!("seed {} breaks {:?}: {what}", report.seed, violation.invariant));
            }
            sum.failed.push(report.seed);
        }
        let (faults, kinds) = report.coverage.kinds();
        sum.steps.push(report.steps);
        sum.calls.push(report.calls);
        sum.builds.push(report.builds);
        sum.machines.push(report.machines);
        sum.faults.push(faults);
        sum.kinds.push(kinds);
        sum.coverage.add(&report.coverage);
        sum.failed.len() < 20
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for line in sum.coverage.lines(args.seeds) {
        say(&line);
    }
    say(&format!(
        "median seed: {} steps of the core, {} calls, {} builds, {} machines, {} faults of {} kinds",
        median(&mut sum.steps),
        median(&mut sum.calls),
        median(&mut sum.builds),
        median(&mut sum.machines),
        median(&mut sum.faults),
        median(&mut sum.kinds)
    ));
    let (missing, new) = if args.write_transitions {
        write_transitions(&sum.coverage, args.seeds)
    } else {
        sum.coverage.gaps(args.seeds)
    };
    for name in &missing {
        say(&format!("not covered: {name}"));
    }
    for name in &new {
        say(&format!("new: {name}"));
    }
    sum.failed.sort_unstable();
    say(&format!("{} seeds from {}, failed: {:?}", sum.steps.len(), args.first, sum.failed));
    sum.failed.is_empty() && missing.is_empty()
}

/// What this run has taken is what is asked for from now on. Answers what is wrong, as [`Coverage::gaps`] does.
fn write_transitions(coverage: &Coverage, seeds: u64) -> (Vec<String>, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transitions.txt");
    let written = std::fs::write(&path, coverage.file(seeds));
    say(&format!("wrote `{}`: {written:?}", path.display()));
    (written.err().map(|error| error.to_string()).into_iter().collect(), Vec::new())
}

fn median(numbers: &mut [u64]) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Looks for a bug. It must be found within so many seeds, by an invariant that it breaks.
fn hunt(args: &Args, planted: Planted, breaks: &[crate::Invariant]) -> bool {
    let found: Mutex<Option<Report>> = Mutex::default();
    each(args, WITHIN, Some(planted), |report| {
        let Some(violation) = &report.violation else { return true };
        if breaks.contains(&violation.invariant) {
            let mut found = lock(&found);
            if found.as_ref().is_none_or(|found| found.seed > report.seed) {
                *found = Some(report);
            }
            return false;
        }
        true
    });
    let found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &found {
        Some(Report { seed, violation: Some(violation), .. }) => {
            let what: String = violation.what.chars().take(100).collect();
            say(&format!("{}: seed {seed} breaks {:?}: {what}", name_of(planted), violation.invariant));
        }
        _ => say(&format!("{}: not found in {WITHIN} seeds", name_of(planted))),
    }
    found.is_some()
}
