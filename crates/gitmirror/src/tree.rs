//! Reads git's tree and commit objects. What is in them came from strangers: names that would lead out of a folder are
//! refused here, once for all.

use bytes::Bytes;
use types::CommitHash;

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedError {
    /// Not a tree.
    #[error("a tree is malformed")]
    Tree,
    /// A tree with a name that no checkout may have.
    #[error("a tree holds an entry with the forbidden name `{0}`")]
    Name(String),
    /// Not a commit.
    #[error("a commit is malformed")]
    Commit,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    File,
    Executable,
    Link,
    Submodule,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) name: Bytes,
    pub(crate) object: CommitHash,
}

/// The entries of a tree, in git's order.
pub(crate) fn entries(tree: &Bytes) -> Result<Vec<Entry>, MalformedError> {
    let mut list = Vec::new();
    let mut at = 0;
    while at < tree.len() {
        let rest = &tree[at..];
        let space = rest.iter().position(|byte| *byte == b' ').ok_or(MalformedError::Tree)?;
        let end = space + rest[space..].iter().position(|byte| *byte == 0).ok_or(MalformedError::Tree)?;
        let object = rest.get(end + 1..end + 21).and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
        let name = tree.slice(at + space + 1..at + end);
        check(&name)?;
        list.push(Entry {
            kind: kind(&rest[..space])?,
            name,
            object: CommitHash::from_bytes(object.ok_or(MalformedError::Tree)?),
        });
        at += end + 21;
    }
    Ok(list)
}

fn kind(mode: &[u8]) -> Result<EntryKind, MalformedError> {
    let mode = mode.iter().try_fold(0_u32, |value, digit| match digit {
        b'0'..=b'7' if value < 0o1_000_000 => Some(value * 8 + u32::from(digit - b'0')),
        _ => None,
    });
    let mode = mode.ok_or(MalformedError::Tree)?;
    Ok(match mode & 0o170_000 {
        0o040_000 => EntryKind::Folder,
        0o120_000 => EntryKind::Link,
        0o160_000 => EntryKind::Submodule,
        0o100_000 if mode & 0o100 != 0 => EntryKind::Executable,
        0o100_000 => EntryKind::File,
        _ => return Err(MalformedError::Tree),
    })
}

fn check(name: &[u8]) -> Result<(), MalformedError> {
    let forbidden = name.is_empty()
        || name == b"."
        || name == b".."
        || name.eq_ignore_ascii_case(b".git")
        || name.contains(&b'/');
    if forbidden { Err(MalformedError::Name(String::from_utf8_lossy(name).into_owned())) } else { Ok(()) }
}

/// What we need of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: CommitHash,
    pub(crate) parents: Vec<CommitHash>,
    /// When it was committed, seconds since 1970.
    pub(crate) time: i64,
}

/// Reads the head of a commit.
pub(crate) fn commit(raw: &[u8]) -> Result<Commit, MalformedError> {
    let mut found = (None, Vec::new(), None);
    for line in raw.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
        if let Some(hash) = line.strip_prefix(b"tree ") {
            found.0 = Some(parse_hash(hash)?);
        } else if let Some(hash) = line.strip_prefix(b"parent ") {
            found.1.push(parse_hash(hash)?);
        } else if let Some(person) = line.strip_prefix(b"committer ") {
            found.2 = seconds(person);
        }
    }
    // A commit without a readable time is still a commit: its files are then as old as time.
    Ok(Commit { tree: found.0.ok_or(MalformedError::Commit)?, parents: found.1, time: found.2.unwrap_or(0) })
}

/// The time in `Name <email> SECONDS ZONE`, read from the right as names hold anything.
fn seconds(person: &[u8]) -> Option<i64> {
    let word = person.rsplit(|byte| *byte == b' ').nth(1)?;
    str::from_utf8(word).ok()?.parse().ok()
}

fn parse_hash(text: &[u8]) -> Result<CommitHash, MalformedError> {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(MalformedError::Commit)
}

#[cfg(test)]
mod tests {
    use super::{
        EntryKind::{Executable, File, Folder, Link, Submodule},
        *,
    };

    fn tree(list: &[(&str, &str)]) -> Bytes {
        let mut bytes = Vec::new();
        for (mode, name) in list {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(&[7; 20]);
        }
        bytes.into()
    }

    #[test]
    fn every_kind_of_entry_is_known() {
        let read = entries(&tree(&[
            ("100644", "a"),
            ("100755", "b"),
            ("120000", "c"),
            ("40000", "d"),
            ("160000", "e"),
            ("100664", "old"),
        ]))
        .unwrap();
        let kinds: Vec<_> = read.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [File, Executable, Link, Folder, Submodule, File]);
        assert_eq!(read[0].name, "a");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", ".git", ".GIT", "a/b", "../x", "/etc"] {
            assert!(matches!(entries(&tree(&[("100644", name)])), Err(MalformedError::Name(_))), "{name}");
        }
        assert!(entries(&tree(&[("100644", "..."), ("100644", "-rf")])).is_ok());
    }

    #[test]
    fn a_cut_or_odd_tree_is_refused() {
        let whole = tree(&[("100644", "a")]);
        for end in 1..whole.len() {
            assert!(entries(&whole.slice(..end)).is_err(), "{end}");
        }
        assert!(entries(&tree(&[("10064x", "a")])).is_err());
        assert!(entries(&tree(&[("060000", "a")])).is_err());
    }

    #[test]
    fn a_commit_is_read_whatever_its_people_are_called() {
        let (tree, parent) = ("1".repeat(40), "2".repeat(40));
        let raw = format!(
            "tree {tree}\nparent {parent}\nauthor A <a@b> 1 +0000\ncommitter x > 9 <<> 1700000000 -0700\n\nparent no\n"
        );
        let read = commit(raw.as_bytes()).unwrap();
        assert_eq!((read.tree.to_string(), read.parents.len(), read.time), (tree, 1, 1_700_000_000));
        assert_eq!(commit(b"tree xyz\n"), Err(MalformedError::Commit));
        assert_eq!(commit(b"\n\n"), Err(MalformedError::Commit));
    }
}
