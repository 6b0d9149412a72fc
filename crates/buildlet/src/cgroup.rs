//! Control groups: the kernel's own bounds for the processes and the memory of an exec.
//!
//! Version 2 where it may be used, else version 1, else none: then [`crate::machine`] looks at the processes now and
//! then. A group is joined through a descriptor that was opened here, so it does not matter what an exec sees of the
//! machine's files.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{exec::Limits, keeper::StopReason};

/// Where the system has its groups.
const ROOT: &str = "/sys/fs/cgroup";

/// The groups that this buildlet may make.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    memory: Option<Place>,
    processes: Option<Place>,
    /// How many groups were made: their names are numbers.
    made: AtomicU64,
}

/// Where groups of a kind are made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group of one exec; removed when it is dropped, which is after the last process has gone.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    memory: Option<Place>,
    processes: Option<Place>,
}

impl Groups {
    /// What the system lets this process do. The state folder must be this buildlet's alone: groups are named after it, so
    /// that none of another buildlet is taken for what is left of one of this.
    pub(crate) fn find(state: &Path) -> Self {
        let Ok(state) = fs::metadata(state) else { return Self::default() };
        let name = &format!("{:x}-{:x}", state.dev(), state.ino());
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let place = |controller: &str| usable(&place(Path::new(ROOT), &own, controller)?, controller, name);
        Self { memory: place("memory"), processes: place("pids"), made: AtomicU64::default() }
    }

    /// Leaves nothing behind. Called when nothing runs any more.
    pub(crate) fn remove(&self) {
        for place in self.memory.iter().chain(&self.processes) {
            remove_below(&place.folder);
            let _ = fs::remove_dir(&place.folder);
        }
    }

    /// What bounds execs, as the status tells it; none if these groups do not.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match (&self.memory, &self.processes) {
            (Some(memory), Some(_)) if memory.version == Version::Two => Some("cgroup v2"),
            (Some(_), Some(_)) => Some("cgroup v1"),
            _ => None,
        }
    }

    /// A group of what limits bound; none if that is nothing, or there is nothing to bound it with.
    pub(crate) fn make(&self, limits: &Limits) -> io::Result<Option<Group>> {
        let name = self.made.fetch_add(1, Ordering::Relaxed).to_string();
        let mut group = Group { name, memory: None, processes: None };
        self.extend(&mut group, limits)?;
        Ok((group.memory.is_some() || group.processes.is_some()).then_some(group))
    }

    /// Has a group bound what limits bound, if it does not yet.
    pub(crate) fn extend(&self, group: &mut Group, limits: &Limits) -> io::Result<()> {
        let (Some(memory), Some(processes)) = (&self.memory, &self.processes) else { return Ok(()) };
        if limits.memory_bytes.is_some() && group.memory.is_none() {
            group.memory = Some(memory.make(&group.name)?);
        }
        if limits.processes.is_some() && group.processes.is_none() {
            group.processes = Some(processes.make(&group.name)?);
        }
        Ok(())
    }
}

impl Place {
    fn make(&self, name: &str) -> io::Result<Self> {
        let folder = self.folder.join(name);
        make_folder(&folder)?;
        Ok(Self { folder, version: self.version })
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn set(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::write(folder.join(file), value)
}

/// This process's group of a controller, from the text of `/proc/self/cgroup`.
fn place(root: &Path, own: &str, controller: &str) -> Option<Place> {
    let mut two = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        if names.split(',').any(|name| name == controller) {
            return Some(Place { folder: root.join(controller).join(path), version: Version::One });
        }
        if number == "0" && names.is_empty() {
            two = Some(Place { folder: root.join(path), version: Version::Two });
        }
    }
    two
}

/// A folder of our own in that place, if groups can be made there.
fn usable(place: &Place, controller: &str, name: &str) -> Option<Place> {
    if place.version == Version::Two {
        delegate(&place.folder, controller).ok()?;
    }
    let folder = place.folder.join(format!("farmer-{name}"));
    make_folder(&folder).ok()?;
    // Of a buildlet that was killed.
    remove_below(&folder);
    if place.version == Version::Two {
        fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).ok()?;
    }
    let probe = folder.join("probe");
    make_folder(&probe).ok()?;
    let counts = if controller == "pids" { "pids.max" } else { "cgroup.procs" };
    let works = File::open(probe.join(counts)).is_ok();
    let _ = fs::remove_dir(probe);
    works.then_some(Place { folder, version: place.version })
}

/// Removes groups that nothing runs in.
fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
}

/// Lets the groups below this one be bounded. Version 2 wants no process in a group with such below it, so this one
/// moves into a group of its own, as a service to which the machine's owner has delegated its group may.
fn delegate(folder: &Path, controller: &str) -> io::Result<()> {
    let control = folder.join("cgroup.subtree_control");
    if fs::read_to_string(&control)?.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    let enable = || fs::write(&control, format!("+{controller}"));
    if enable().is_ok() {
        return Ok(());
    }
    let leaf = folder.join("buildlet");
    make_folder(&leaf)?;
    for process in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
        fs::write(leaf.join("cgroup.procs"), process)?;
    }
    enable()
}

impl Group {
    /// Sets the limits.
    pub(crate) fn bound(&self, limits: &Limits) -> io::Result<()> {
        if let (Some(Place { folder, version }), Some(bytes)) = (&self.memory, limits.memory_bytes) {
            let bytes = bytes.to_string();
            // Without a bound of swap, what is too much would go there.
            match version {
                Version::One => {
                    set(folder, "memory.limit_in_bytes", &bytes)?;
                    let _ = set(folder, "memory.memsw.limit_in_bytes", &bytes);
                }
                Version::Two => {
                    set(folder, "memory.max", &bytes)?;
                    let _ = set(folder, "memory.swap.max", "0");
                }
            }
        }
        if let (Some(Place { folder, .. }), Some(count)) = (&self.processes, limits.processes) {
            set(folder, "pids.max", &count.to_string())?;
        }
        Ok(())
    }

    /// What a process writes to that joins it.
    pub(crate) fn lists(&self) -> io::Result<Vec<OwnedFd>> {
        let mut folders: Vec<_> = self.folders().collect();
        folders.dedup();
        let list = |folder: PathBuf| OpenOptions::new().write(true).open(folder.join("cgroup.procs"));
        folders.into_iter().map(|folder| list(folder).map(OwnedFd::from)).collect()
    }

    /// Which limit was hit.
    pub(crate) fn hit(&self) -> Option<StopReason> {
        let count = |folder: &Path, file: &str, name: &str| {
            counter(&fs::read_to_string(folder.join(file)).unwrap_or_default(), name)
        };
        if let Some(Place { folder, version }) = &self.memory {
            let file = if *version == Version::One { "memory.oom_control" } else { "memory.events" };
            if count(folder, file, "oom_kill") > 0 {
                return Some(StopReason::OutOfMemory);
            }
        }
        let folder = &self.processes.as_ref()?.folder;
        (count(folder, "pids.events", "max") > 0).then_some(StopReason::TooManyProcesses)
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.memory.iter().chain(&self.processes).map(|place| place.folder.clone())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in self.folders() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A number by its name, from lines of a name and a number.
fn counter(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_its_groups() {
        let root = Path::new("/g");
        let one = "8:pids:/\n4:memory,x:/a/b\n0::/\n";
        let found = |own: &str, controller: &str| {
            place(root, own, controller).map(|place| (place.folder, place.version))
        };
        assert_eq!(found(one, "memory"), Some(("/g/memory/a/b".into(), Version::One)));
        assert_eq!(found(one, "pids"), Some(("/g/pids/".into(), Version::One)));
        assert_eq!(found("0::/user.slice\n", "pids"), Some(("/g/user.slice".into(), Version::Two)));
        assert_eq!(found("", "pids"), None);
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((counter(text, "oom_kill"), counter(text, "none")), (3, 0));
    }
}
