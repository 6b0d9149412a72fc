//! What commands see of the machine's files.
//!
//! The keeper, and with it every command, lives in namespaces of its own where the system allows that: the folders with
//! the machine's key, the buildlet's state and whatever else its owner hides are covered, and the work folder lies at the
//! same path on every machine, so that what one built with its path in it serves another. Nobody there can lift the
//! covers: commands never have the right to mount in that namespace, and in one that they make themselves they find the
//! covers locked. All this is done once when the buildlet starts, so it costs an exec nothing.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use super::fork;
use crate::{Args, Isolation, keeper::contract::View};
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{Pid, WaitOptions, WaitStatus, chdir, getpid, getuid, pivot_root, waitpid},
    thread::UnshareFlags,
};

/// Where commands find the work folder.
pub(crate) const WORK: &str = "/farmer/work";

/// What is to be hidden from commands, and how they are kept apart.
#[derive(Debug, Clone)]
pub(crate) struct Sealing {
    /// The work folder.
    work: PathBuf,
    /// The buildlet's own state.
    state: PathBuf,
    /// Files and folders that commands may not see.
    hidden: Vec<PathBuf>,
    /// All but the work folder is read-only.
    read_only: bool,
}

/// How the work folder is found again when another one has taken its place.
#[derive(Debug)]
pub(super) struct Way {
    /// The folder above it. It is covered, so commands come to it by no path, and may not look into the keeper.
    above: OwnedFd,
    name: OsString,
    read_only: bool,
}

impl Way {
    fn to(work: &Path, root: &Path, read_only: bool) -> io::Result<Option<Self>> {
        let (Some(above), Some(name)) = (work.parent(), work.file_name()) else { return Ok(None) };
        // What lies in the machine's root is laid out once, each by itself.
        let Some(above) = above.strip_prefix("/").ok().filter(|above| !above.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = open(root.join(above), flags, Mode::empty())?;
        Ok(Some(Self { above, name: name.to_owned(), read_only }))
    }

    /// Shows commands the folder that is the work folder now.
    pub(super) fn follow(&self) -> io::Result<()> {
        let work = tree_at(&self.above, &self.name)?;
        unmount(WORK, UnmountFlags::DETACH)?;
        attach(&work, Path::new(WORK))?;
        if self.read_only {
            let table = fs::read_to_string("/proc/self/mountinfo")?;
            let mounts = crate::tree::mounts_with_flags(&table);
            let found = mounts.iter().find(|(path, _)| path == Path::new(WORK));
            let flags = found.map_or(MountFlags::empty(), |(_, flags)| *flags);
            mount_remount(WORK, flags | MountFlags::BIND, c"")?;
        }
        Ok(())
    }
}

impl Sealing {
    /// As the command line has it. The buildlet that started the keeper has made the folders.
    pub(crate) fn of(args: &Args) -> Self {
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let mut hidden = key_places(&args.identity);
        // A key enrols any number of machines.
        hidden.extend(args.hide.iter().chain(&args.key).map(real));
        Self {
            work: args.work.as_ref().map(real).unwrap_or_default(),
            state: args.state.as_ref().map(real).unwrap_or_default(),
            hidden,
            read_only: args.isolation == Isolation::Namespaces,
        }
    }

    /// Seals this process and all that it will start, or says why that cannot be.
    pub(super) fn enter(&self) -> (View, Option<Way>) {
        match self.try_out().and_then(|()| self.seal()) {
            Ok(way) => (View { work_folder: WORK.to_owned(), open: None, follows: way.is_some() }, way),
            Err(error) => {
                let (work_folder, open) = (self.work.display().to_string(), Some(error.to_string()));
                (View { work_folder, open, follows: true }, None)
            }
        }
    }

    /// Does it all in a child first: half of it would be worse than nothing.
    fn try_out(&self) -> io::Result<()> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let child = fork::fork(|| {
            if let Err(error) = self.seal() {
                let _ = rustix::io::write(&writer, error.to_string().as_bytes());
            }
        })?;
        drop(writer);
        let mut why = String::new();
        io::Read::read_to_string(&mut fs::File::from(reader), &mut why)?;
        wait(child)?;
        if why.is_empty() { Ok(()) } else { Err(io::Error::other(why)) }
    }

    fn seal(&self) -> io::Result<Option<Way>> {
        if Path::new("/farmer").exists() {
            return Err(io::Error::other("`/farmer` is taken on this machine"));
        }
        become_root_of_namespace().map_err(step("make namespaces"))?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
            .map_err(step("part from the machine's mounts"))?;
        let work = tree(&self.work).map_err(step("take the work folder along"))?;
        let parts = Parts::of_root().map_err(step("take the machine's folders along"))?;
        let root = &self.state;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", root, "tmpfs", flags, c"size=1m,mode=755").map_err(step("make a root"))?;
        parts.place(root).map_err(step("lay the machine's folders out"))?;
        let inside = root.join(&WORK[1..]);
        fs::create_dir_all(&inside).map_err(step("lay the work folder out"))?;
        attach(&work, &inside).map_err(step("lay the work folder out"))?;
        let way = Way::to(&self.work, root, self.read_only).map_err(step("find the work folder"))?;
        for hidden in self.hidden.iter().chain([&self.state]) {
            cover(root, hidden).map_err(step("hide what is not for builds"))?;
        }
        if self.read_only {
            make_read_only(root, &inside).map_err(step("make the machine read-only"))?;
        }
        mount_remount(root, MountFlags::BIND | MountFlags::RDONLY | flags, c"")
            .map_err(step("seal the root"))?;
        chdir(root)?;
        pivot_root(".", ".").map_err(step("change the root"))?;
        unmount(".", UnmountFlags::DETACH).map_err(step("leave the old root"))?;
        chdir("/")?;
        Ok(way)
    }
}

fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error: io::Error = error.into();
        io::Error::new(error.kind(), format!("cannot {what}: {error}"))
    }
}

/// New user and mount namespaces, in which all users are who they are outside.
fn become_root_of_namespace() -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let parent = getpid();
    // Only who stays outside may say which users are in.
    let child = fork::fork(|| {
        let mut byte = [0];
        let told = rustix::io::read(&reader, &mut byte).is_ok_and(|read| read == 1);
        if !told || map_users(parent).is_err() {
            // The keeper then sees that it is nobody.
            std::process::abort();
        }
    })?;
    fork::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    rustix::io::write(&writer, b"x")?;
    match wait(child)? {
        Some(status) if status.exit_status() == Some(0) => Ok(()),
        _ => Err(io::Error::other("the users of a namespace cannot be named")),
    }
}

fn wait(child: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            waited => return Ok(waited?.map(|(_, status)| status)),
        }
    }
}

/// Maps every user and group that there is to itself, if that is ours to say; else only our own.
fn map_users(of: Pid) -> io::Result<()> {
    let file = |name: &str| format!("/proc/{}/{name}", of.as_raw_nonzero());
    if getuid().is_root() {
        for name in ["uid_map", "gid_map"] {
            fs::write(file(name), identity(&fs::read_to_string(format!("/proc/self/{name}"))?))?;
        }
        return Ok(());
    }
    let (user, group) = (getuid().as_raw(), rustix::process::getgid().as_raw());
    fs::write(file("setgroups"), "deny")?;
    fs::write(file("uid_map"), format!("{user} {user} 1\n"))?;
    fs::write(file("gid_map"), format!("{group} {group} 1\n"))
}

/// A map of all that another maps, to themselves.
fn identity(map: &str) -> String {
    let same = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    };
    map.lines().filter_map(same).collect()
}

/// What lies in the machine's root: folders with all that is mounted below them, links, files.
struct Parts(Vec<(PathBuf, Part)>);

enum Part {
    Tree(OwnedFd, bool),
    Link(PathBuf),
}

impl Parts {
    fn of_root() -> io::Result<Self> {
        let mut parts = Vec::new();
        for entry in fs::read_dir("/")? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let part = if kind.is_symlink() {
                Part::Link(fs::read_link(entry.path())?)
            } else if kind.is_dir() || kind.is_file() {
                Part::Tree(tree(&entry.path())?, kind.is_dir())
            } else {
                continue;
            };
            parts.push((entry.file_name().into(), part));
        }
        Ok(Self(parts))
    }

    fn place(&self, root: &Path) -> io::Result<()> {
        for (name, part) in &self.0 {
            let path = root.join(name);
            match part {
                Part::Link(target) => std::os::unix::fs::symlink(target, path)?,
                Part::Tree(tree, true) => {
                    fs::create_dir(&path)?;
                    attach(tree, &path)?;
                }
                Part::Tree(tree, false) => {
                    fs::write(&path, "")?;
                    attach(tree, &path)?;
                }
            }
        }
        Ok(())
    }
}

/// A copy of what is mounted at and below a path.
fn tree(path: &Path) -> io::Result<OwnedFd> {
    tree_at(CWD, path)
}

fn tree_at(folder: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(folder, path.as_ref(), flags)?)
}

fn attach(tree: impl AsFd, path: &Path) -> io::Result<()> {
    Ok(move_mount(tree, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Puts something empty in the place of a file or folder below a new root.
fn cover(root: &Path, path: &Path) -> io::Result<()> {
    let path = root.join(path.strip_prefix("/").unwrap_or(path));
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            Ok(mount("tmpfs", &path, "tmpfs", flags, c"size=4k,mode=0")?)
        }
        Ok(_) => Ok(mount_bind("/dev/null", &path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Everything mounted below a folder but what lies in another one becomes read-only.
fn make_read_only(root: &Path, except: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for (path, flags) in crate::tree::mounts_with_flags(&table) {
        if path.starts_with(root) && path != root && !path.starts_with(except) {
            let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
            match mount_remount(&path, flags, c"") {
                // Covered by another mount, so nobody sees it.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// What hides the files with the machine's key: their folder, if it is for its owner only, or each of them. A folder
/// hides also what will lie there after the certificate was renewed.
fn key_places(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for file in files {
        let file = file.canonicalize().unwrap_or_else(|_| file.clone());
        let private = |folder: &Path| folder.metadata().is_ok_and(|found| found.mode().trailing_zeros() >= 6);
        let place = file.parent().filter(|folder| private(folder)).map_or(file.clone(), Path::to_owned);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn users_are_mapped_to_themselves() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn a_private_folder_is_hidden_whole_and_a_public_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let files = [path.join("m.pem"), path.join("m.key")];
        for file in &files {
            fs::write(file, "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(key_places(&files), std::slice::from_ref(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(key_places(&files), files);
    }
}
