//! Removing trees where the system offers no more than it must: folders that are not for writing are made so, and trees of
//! any depth go.

use std::{ffi::OsStr, io};

use cap_std::fs::{Dir, DirEntry};

use super::moved::{DEPTH, Moved, failed};

/// Removes all that lies in a folder, except some names directly in it.
pub(crate) fn empty(folder: &Dir, except: &[&str]) -> io::Result<()> {
    let mut wiping = Wiping { root: folder, moved: Moved::default() };
    wiping.children(folder, 0, except)?;
    wiping.finish()
}

/// Removes a file or a whole folder below a folder, if it is there. `name` must be one name.
pub(crate) fn remove(folder: &Dir, name: &OsStr) -> io::Result<()> {
    let mut wiping = Wiping { root: folder, moved: Moved::default() };
    wiping.entry(folder, name, 0)?;
    wiping.finish()
}

struct Wiping<'a> {
    root: &'a Dir,
    moved: Moved,
}

impl Wiping<'_> {
    /// Removes what lay too deep, which may hold what lies too deep again.
    fn finish(mut self) -> io::Result<()> {
        while let Some(name) = self.moved.take() {
            self.entry(self.root, OsStr::new(&name), 0)?;
        }
        Ok(())
    }

    fn children(&mut self, folder: &Dir, depth: usize, except: &[&str]) -> io::Result<()> {
        // All of them first: what is removed from a folder while it is listed may hide what follows.
        let names: Vec<_> = folder
            .entries()?
            .map(|entry| entry.map(|entry: DirEntry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        for name in names {
            let kept = depth == 0 && except.iter().any(|kept| name == **kept);
            if !kept {
                self.entry(folder, &name, depth)?;
            }
        }
        Ok(())
    }

    /// Removes one entry of a folder.
    fn entry(&mut self, folder: &Dir, name: &OsStr, depth: usize) -> io::Result<()> {
        let metadata = match folder.symlink_metadata(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The folder may not be searchable.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                make_writable(folder, OsStr::new("."));
                folder.symlink_metadata(name).map_err(|error| failed(name.display(), error))?
            }
            found => found.map_err(|error| failed(name.display(), error))?,
        };
        if !metadata.is_dir() {
            // Windows removes a link to a folder as a folder.
            let as_folder = cfg!(windows) && metadata.is_symlink();
            return insist(folder, name, || match folder.remove_file(name) {
                Err(_) if as_folder => folder.remove_dir(name),
                removed => removed,
            });
        }
        if depth >= DEPTH {
            return self.move_up(folder, name);
        }
        let opened = folder.open_dir(name).or_else(|_| {
            make_writable(folder, name);
            folder.open_dir(name)
        });
        self.children(&opened.map_err(|error| failed(name.display(), error))?, depth + 1, &[])?;
        insist(folder, name, || folder.remove_dir(name))
    }

    fn move_up(&mut self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        let root = self.root;
        self.moved.add(|to| {
            let free = root.symlink_metadata(to).is_err();
            if free {
                folder.rename(name, root, to).map_err(|error| failed(name.display(), error))?;
            }
            Ok(free)
        })
    }
}

/// Does it, and once more with what forbids it lifted.
fn insist(folder: &Dir, name: &OsStr, remove: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match remove() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder, OsStr::new("."));
            make_writable(folder, name);
            match remove() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(name.display(), error)),
                _ => Ok(()),
            }
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(name.display(), error)),
        _ => Ok(()),
    }
}

fn make_writable(folder: &Dir, name: &OsStr) {
    let Ok(metadata) = folder.symlink_metadata(name) else { return };
    // What a link leads to is not ours to change.
    if metadata.is_symlink() {
        return;
    }
    let mut permissions = metadata.permissions();
    #[cfg(unix)]
    cap_std::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
    #[cfg(windows)]
    permissions.set_readonly(false);
    let _ = folder.set_permissions(name, permissions);
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    use cap_std::ambient_authority;

    use super::*;

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, ambient_authority()).unwrap()
    }

    #[test]
    fn read_only_folders_and_links_go_and_what_links_lead_to_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("ro/in")).unwrap();
        fs::write(path.join("ro/in/x"), "").unwrap();
        fs::set_permissions(path.join("ro/in"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(path.join("ro"), Permissions::from_mode(0o555)).unwrap();
        symlink(outside.path(), path.join("link")).unwrap();
        fs::create_dir_all(path.join("home/x")).unwrap();
        empty(&open(path), &["home"]).unwrap();
        let left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["home"]);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn any_depth_goes() {
        let folder = tempfile::tempdir().unwrap();
        for way in [true, false] {
            let mut inner = open(folder.path());
            for _ in 0..1000 {
                inner.create_dir("d").unwrap();
                inner = inner.open_dir("d").unwrap();
            }
            drop(inner);
            let root = open(folder.path());
            if way { empty(&root, &[]) } else { remove(&root, OsStr::new("d")) }.unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        remove(&open(folder.path()), OsStr::new("none")).unwrap();
    }

    #[test]
    fn what_a_build_named_as_removals_do_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/".repeat(200))).unwrap();
        fs::write(folder.path().join(".wiping-1"), "mine").unwrap();
        remove(&open(folder.path()), OsStr::new("a")).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [".wiping-1"]);
    }
}
