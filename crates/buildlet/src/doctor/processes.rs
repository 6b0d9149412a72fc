//! Programs of somebody else that work while the machine should be idle: updaters, indexers, forgotten jobs. They make
//! timings worthless and time-outs frequent.

use std::{collections::HashMap, fs, time::Duration};

use super::Finding;

/// How long is looked.
const LOOK: Duration = Duration::from_secs(1);
/// More than this part of one processor is work.
const WORK: f64 = 0.2;

/// The kernel counts in hundredths of a second, on every architecture that we build for.
const TICKS: f64 = 100.0;

/// What a process has used so far.
struct Use {
    name: String,
    parent: u32,
    ticks: u64,
}

/// Looks twice, a second apart.
pub(super) async fn busy() -> Finding {
    let before = processes();
    if before.is_empty() {
        return Finding::ok("processes", "not looked at: this system has no /proc");
    }
    tokio::time::sleep(LOOK).await;
    let after = processes();
    let part = |pid: &u32, used: &Use| {
        let ticks = used.ticks.saturating_sub(before.get(pid)?.ticks);
        Some(ticks as f64 / TICKS / LOOK.as_secs_f64())
    };
    let mut foreign: Vec<(f64, &str)> = after
        .iter()
        .filter(|(pid, _)| !is_ours(**pid, &after))
        .filter_map(|(pid, used)| Some((part(pid, used)?, used.name.as_str())))
        .filter(|(part, _)| *part > WORK)
        .collect();
    foreign.sort_by(|one, other| other.0.total_cmp(&one.0));
    judge(&foreign)
}

fn judge(foreign: &[(f64, &str)]) -> Finding {
    if foreign.is_empty() {
        return Finding::ok("processes", "nothing else works here");
    }
    let names: Vec<_> = foreign
        .iter()
        .take(5)
        .map(|(part, name)| format!("{name} ({:.0}% of a processor)", part * 100.0))
        .collect();
    let todo = "end them, or give them times when nothing is built: updaters and indexers are the usual ones";
    Finding::warn("processes", names.join(", "), todo)
}

/// Whether a process is a buildlet, or came from one, or from this doctor.
fn is_ours(pid: u32, all: &HashMap<u32, Use>) -> bool {
    let mut next = Some(pid);
    for _ in 0..64 {
        let Some(pid) = next.filter(|pid| *pid > 1) else { return false };
        let Some(process) = all.get(&pid) else { return false };
        if pid == std::process::id() || process.name == "buildlet" || process.name == "farmer" {
            return true;
        }
        next = Some(process.parent);
    }
    false
}

fn processes() -> HashMap<u32, Use> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
    };
    entries.filter_map(one).collect()
}

/// `PID (NAME) STATE PARENT … UTIME STIME …`; the name may hold anything, brackets too.
fn parse(stat: &str) -> Option<Use> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let rest: Vec<&str> = stat[end + 1..].split_whitespace().collect();
    let number = |index: usize| rest.get(index)?.parse::<u64>().ok();
    Some(Use {
        name: stat.get(begin + 1..end)?.to_owned(),
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn what_burns_the_processor_is_named_unless_it_is_ours() {
        let stat = "12 (apt (x) y) R 7 12 12 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        let found = parse(stat).unwrap();
        assert_eq!((found.name.as_str(), found.parent, found.ticks), ("apt (x) y", 7, 200));
        assert!(parse("12 (apt").is_none() && parse("").is_none());
        let of = |name: &str, parent| Use { name: name.to_owned(), parent, ticks: 0 };
        let all =
            HashMap::from([(5, of("buildlet", 1)), (6, of("cc", 5)), (7, of("apt", 1)), (8, of("loop", 8))]);
        assert!(is_ours(6, &all) && !is_ours(7, &all) && !is_ours(8, &all));
        assert!(judge(&[(0.9, "apt")]).found.contains("apt (90% of a processor)"));
        assert_eq!(judge(&[]).level, Level::Ok);
        assert!(processes().contains_key(&std::process::id()));
    }
}
