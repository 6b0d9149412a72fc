//! Control groups that tests put agents into, and what an agent holds of memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A control group with a bound of memory; removed when dropped, with what still runs in it ended.
pub(crate) struct Group {
    folder: PathBuf,
}

/// A group that bounds memory, below the one of this process; none, said aloud, where none can be made.
pub(crate) fn with_memory(bytes: u64) -> Option<Group> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let made = ["memory", ""].into_iter().find_map(|controller| make(&own, controller, bytes));
    if made.is_none() {
        testkit::skipped(
            "an agent with little memory",
            "control group of its own",
            "run as root, or delegate one",
        );
    }
    made
}

fn make(own: &str, controller: &str, bytes: u64) -> Option<Group> {
    let line = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })?;
    let name = format!("farmer-test-{}-{}", std::process::id(), runtime::new_id());
    let folder = Path::new("/sys/fs/cgroup").join(controller).join(line.trim_start_matches('/')).join(name);
    fs::create_dir(&folder).ok()?;
    let group = Group { folder };
    let file = if controller.is_empty() { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(group.folder.join(file), bytes.to_string()).ok()?;
    Some(group)
}

impl Group {
    /// What a process writes its id to that joins the group.
    pub(crate) fn list(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Whether a process is in it, or in a group of its own below it.
    pub(crate) fn holds(&self, pid: u32) -> bool {
        let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        inside.contains(&*name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// What a process and those that came of it hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    /// What is theirs alone: written by them.
    pub(crate) own: u64,
    /// That, and their share of what several processes have mapped: the program itself above all.
    pub(crate) shared: u64,
}

/// What a process and those that came of it hold.
pub(crate) fn memory_of(pid: u32) -> Held {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0) << 10
    };
    let mut held = Held { own: field("Pss_Anon:"), shared: field("Pss:") };
    for child in children(pid) {
        let below = memory_of(child);
        held.own += below.own;
        held.shared += below.shared;
    }
    held
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
