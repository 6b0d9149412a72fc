//! Process trees: who descends from us, and how all of them are ended.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Read,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, WaitStatus, getpgid, getpid, kill_process, kill_process_group, wait,
    },
};
use tokio::time::Instant;

use crate::keeper::contract::Usage;

/// How long processes that got SIGKILL may take to go. Longer means that they hang in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    /// Dead, only not yet waited for.
    zombie: bool,
    /// Dying: its files may be closed while its children are still its own.
    exiting: bool,
}

/// The kernel's flag for that (`PF_EXITING`).
const EXITING: u32 = 4;

/// What the system says of a process, if it is there still. A line is short, so one read has all that is asked of it.
fn stat(pid: i32) -> Option<Stat> {
    let mut line = [0; 512];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse_stat(&line[..length])
}

/// Reads the part of a stat line that follows the name, which may hold any byte, `)` too.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&line[end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(4)?.parse().ok()?;
    let zombie = matches!(state, "Z" | "X" | "x");
    Some(Stat { parent, zombie, exiting: zombie || flags & EXITING != 0 })
}

/// All processes as they are now, by parent; with each whether it is a zombie.
fn by_parent() -> HashMap<i32, Vec<(i32, bool)>> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat.zombie));
        }
    }
    children
}

/// Children of this process, which has one thread: all that are there until they are waited for, the dead too. None if the
/// system does not list them. Costs as much as there are children; the list of all processes is much longer.
///
/// Whatever descends from this process descends from a child that is in the list: it is a subreaper, and no child leaves
/// it but by being waited for, which happens in the same thread.
pub(super) fn children() -> Option<Vec<Pid>> {
    let list = fs::read_to_string("/proc/thread-self/children").ok()?;
    Some(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect())
}

/// All living processes below this one, except some children and what is below those.
pub(super) fn descendants(except: &HashSet<Pid>) -> Vec<Pid> {
    let mut children = by_parent();
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        for (pid, zombie) in children.remove(&parent).unwrap_or_default() {
            let Some(process) = Pid::from_raw(pid).filter(|process| !except.contains(process)) else {
                continue;
            };
            parents.push(pid);
            if !zombie {
                found.push(process);
            }
        }
    }
    found
}

/// What all processes below the parent of a command use: its warden, that is, which inherits whatever it loses.
pub(super) fn usage(command: u32) -> Usage {
    let Some(warden) = stat(command as i32).map(|stat| stat.parent) else { return Usage::default() };
    let mut children = by_parent();
    let mut usage = Usage::default();
    let mut parents = vec![warden];
    while let Some(parent) = parents.pop() {
        for (pid, _) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            usage.processes += 1;
            usage.memory_bytes += resident(pid);
        }
    }
    usage
}

fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
    kib << 10
}

/// Sends a signal to each process, or, for SIGKILL, to their groups: no member of a group can fork its way out of that.
pub(super) fn signal_all(processes: &[Pid], signal: Signal) {
    let own_group = getpgid(None).ok();
    let mut groups = HashSet::new();
    for process in processes {
        if signal == Signal::KILL
            && let Ok(group) = getpgid(Some(*process))
            && Some(group) != own_group
            && groups.insert(group)
        {
            // Only descendants can be in it: a group lies within a session, and we began the session they are in.
            let _ = kill_process_group(group, signal);
        }
        let _ = kill_process(*process, signal);
    }
}

/// Whether a process is dying or dead, but not yet waited for.
pub(crate) fn is_exiting(process: Pid) -> bool {
    stat(process.as_raw_nonzero().get()).is_some_and(|stat| stat.exiting)
}

/// What has died.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reaped {
    /// A child, and how.
    Child(Pid, WaitStatus),
    /// Nothing now; some live.
    Nothing,
    /// No child is left, so no descendant either: this process is a subreaper.
    NoneLeft,
}

/// Waits for one child, if one is dead.
pub(super) fn reap() -> Reaped {
    loop {
        return match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => Reaped::Child(pid, status),
            Ok(None) => Reaped::Nothing,
            Err(Errno::INTR) => continue,
            Err(_) => Reaped::NoneLeft,
        };
    }
}

/// Ends all descendants, except some children and what is below those, and waits until they are gone. Tells `reaped` who
/// died; returns how many could not be ended.
pub(super) fn kill_all(mut reaped: impl FnMut(Pid, WaitStatus), spare: &HashSet<Pid>) -> u32 {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let living = descendants(spare);
        signal_all(&living, Signal::KILL);
        loop {
            match reap() {
                Reaped::Child(pid, status) => reaped(pid, status),
                Reaped::NoneLeft => return 0,
                Reaped::Nothing => break,
            }
        }
        if living.is_empty() && !spare.is_empty() {
            return 0;
        }
        if begin.elapsed() > KILL_TIMEOUT {
            return living.len() as u32;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Ends all processes that have one of these lines in the environment that they began with, and what they become while
/// that is done. Returns how many there were.
pub(crate) fn end_marked(marks: &[String]) -> usize {
    let begin = Instant::now();
    let mut ended = HashSet::new();
    loop {
        let found = marked(marks);
        if found.is_empty() || begin.elapsed() > KILL_TIMEOUT {
            return ended.len();
        }
        for process in found {
            let _ = kill_process(process, Signal::KILL);
            ended.insert(process);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn marked(marks: &[String]) -> Vec<Pid> {
    let own = getpid();
    let mut found = Vec::new();
    for pid in by_parent().into_values().flatten().filter(|(_, zombie)| !zombie).map(|(pid, _)| pid) {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let has = |line: &[u8]| marks.iter().any(|mark| mark.as_bytes() == line);
        if environment.split(|byte| *byte == 0).any(has) {
            found.extend(Pid::from_raw(pid).filter(|process| *process != own));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_what_marks_them() {
        let mark = format!("FARMER_EXEC_ID=test-{}", std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("FARMER_EXEC_ID", format!("test-{}", std::process::id()))
            .spawn()
            .unwrap();
        // Until it runs `sleep`, the child has our environment.
        let begin = Instant::now();
        while marked(std::slice::from_ref(&mark)).is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(5), "it is not found");
        }
        let waiting = std::thread::spawn(move || child.wait().unwrap());
        assert_eq!(end_marked(&[mark]), 1);
        assert!(!waiting.join().unwrap().success());
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_mislead() {
        let line = b"4242 (a) R 1 (b) S 77 4242 4242 0 -1 4194304 1 2";
        assert_eq!(parse_stat(line), Some(Stat { parent: 77, zombie: false, exiting: false }));
        let dead = parse_stat(b"1 (x) Z 9 1 1 0 -1 4194564 1").unwrap();
        assert_eq!(dead, Stat { parent: 9, zombie: true, exiting: true });
        assert!(parse_stat(b"1 (x) R 9 1 1 0 -1 4194308 1").unwrap().exiting);
        assert_eq!(parse_stat(b"1 x Z 9 0"), None);
    }
}
