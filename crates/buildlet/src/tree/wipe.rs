//! Removing trees, whatever a build left: read-only folders, odd names, immutable files, any depth, mounts.

use std::{
    ffi::{CStr, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, chmodat, fchmod, ioctl_getflags,
        ioctl_setflags, openat, renameat_with, unlinkat,
    },
    io::Errno,
    mount::MountFlags,
    path::Arg,
};

use super::moved::{DEPTH, Moved, failed};

/// Removes all that lies in a folder, except some names directly in it.
pub(crate) fn empty(folder: impl AsFd, except: &[&str]) -> io::Result<()> {
    let folder = readable(folder)?;
    let mut wiping = Wiping { root: folder.as_fd(), moved: Moved::default() };
    wiping.children(folder.as_fd(), 0, except)?;
    wiping.finish()
}

/// Removes a file or a whole folder below a folder, if it is there. `name` must be one name.
pub(crate) fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let folder = readable(folder)?;
    let mut wiping = Wiping { root: folder.as_fd(), moved: Moved::default() };
    wiping.entry(folder.as_fd(), &name.as_bytes().into_c_str()?, FileType::Unknown, 0)?;
    wiping.finish()
}

/// The same folder, opened for more than to stand in paths.
fn readable(folder: impl AsFd) -> io::Result<OwnedFd> {
    Ok(openat(folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

struct Wiping<'a> {
    root: BorrowedFd<'a>,
    moved: Moved,
}

impl Wiping<'_> {
    /// Removes what lay too deep, which may hold what lies too deep again.
    fn finish(mut self) -> io::Result<()> {
        while let Some(name) = self.moved.take() {
            self.entry(self.root, &name.into_c_str()?, FileType::Directory, 0)?;
        }
        Ok(())
    }

    fn children(&mut self, folder: BorrowedFd<'_>, depth: usize, except: &[&str]) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let kept = |kept: &&str| depth == 0 && kept.as_bytes() == name.to_bytes();
            if matches!(name.to_bytes(), b"." | b"..") || except.iter().any(kept) {
                continue;
            }
            self.entry(folder, name, entry.file_type(), depth)?;
        }
        Ok(())
    }

    /// Removes one entry of a folder.
    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> io::Result<()> {
        if kind != FileType::Directory {
            match unlink(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(failed(name.to_string_lossy(), error)),
            }
        }
        if depth >= DEPTH {
            return self.move_up(folder, name);
        }
        let opened = match open_folder(folder, name) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened.map_err(|error| failed(name.to_string_lossy(), error))?,
        };
        self.children(opened.as_fd(), depth + 1, &[])?;
        match unlink(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(name.to_string_lossy(), error)),
        }
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let root = self.root;
        self.moved.add(|to| match renameat_with(folder, name, root, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(failed(name.to_string_lossy(), error)),
        })
    }
}

/// Removes a name, lifting what forbids it if that is ours to lift.
fn unlink(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(folder, name, flags) {
        Err(Errno::ACCESS) => {
            let _ = fchmod(folder, Mode::RWXU);
            unlinkat(folder, name, flags)
        }
        Err(Errno::PERM) => {
            let nonblocking = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(file) = openat(folder, name, nonblocking, Mode::empty()) {
                make_mutable(&file);
            }
            make_mutable(folder);
            unlinkat(folder, name, flags)
        }
        result => result,
    }
}

fn open_folder(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // The folder itself may not be readable, or the one that it lies in not searchable.
            let _ = fchmod(folder, Mode::RWXU);
            let _ = chmodat(folder, name, Mode::RWXU, AtFlags::empty());
            openat(folder, name, flags, Mode::empty())
        }
        opened => opened,
    }
}

/// Lifts `chattr +i` and `+a`.
fn make_mutable(file: impl AsFd) {
    if let Ok(flags) = ioctl_getflags(&file) {
        let _ = ioctl_setflags(&file, flags & !(IFlags::IMMUTABLE | IFlags::APPEND));
    }
}

/// The mounts below a folder, deepest first, from the text of `/proc/self/mountinfo`.
pub(crate) fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<_> = points.filter(|point| point != folder && point.starts_with(folder)).collect();
    below.sort();
    below.reverse();
    below
}

/// All mounts with their flags, from the same text.
pub(crate) fn mounts_with_flags(mountinfo: &str) -> Vec<(PathBuf, MountFlags)> {
    let flag = |name: &str| match name {
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    };
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        let path = unescape(fields.next()?);
        Some((path, fields.next()?.split(',').map(flag).collect()))
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// Reads a mount point as the kernel writes it: blanks and backslashes as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(code) = code {
            bytes.push(code);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn read_only_folders_odd_names_and_links_go() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("ro/in")).unwrap();
        fs::write(path.join("ro/in/x"), "").unwrap();
        fs::set_permissions(path.join("ro/in"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(path.join("ro"), Permissions::from_mode(0o555)).unwrap();
        fs::write(path.join(OsStr::from_bytes(b"\xff\n * -rf")), "").unwrap();
        symlink(outside.path(), path.join("link")).unwrap();
        empty(File::open(path).unwrap(), &[]).unwrap();
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn any_depth_goes() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        for way in [true, false] {
            let mut inner =
                cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
            for _ in 0..1000 {
                inner.create_dir("d").unwrap();
                inner = inner.open_dir("d").unwrap();
            }
            drop(inner);
            if way { empty(open(), &[]) } else { remove(open(), OsStr::new("d")) }.unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_a_build_named_as_removals_do_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/".repeat(200))).unwrap();
        fs::write(folder.path().join(".wiping-1"), "mine").unwrap();
        remove(File::open(folder.path()).unwrap(), OsStr::new("a")).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [".wiping-1"]);
    }

    #[test]
    fn names_that_are_kept_are_kept_only_at_the_top() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("home/x")).unwrap();
        fs::create_dir_all(folder.path().join("a/home")).unwrap();
        empty(File::open(folder.path()).unwrap(), &["home"]).unwrap();
        assert!(folder.path().join("home/x").exists() && !folder.path().join("a").exists());
    }

    #[test]
    fn one_name_is_removed_and_its_absence_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("f"), "").unwrap();
        for name in ["a", "f", "none"] {
            remove(File::open(folder.path()).unwrap(), OsStr::new(name)).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn mounts_are_found_below_a_folder_only() {
        let info = "36 35 98:0 / /w rw - ext4 x rw\n\
                    37 36 98:0 / /w/a rw - tmpfs x rw\n\
                    38 37 98:0 / /w/a/b\\040c rw - tmpfs x rw\n\
                    39 35 98:0 / /ws rw - tmpfs x rw\n";
        let below = mounts_below(info, Path::new("/w"));
        assert_eq!(below, [Path::new("/w/a/b c"), Path::new("/w/a")]);
    }
}
