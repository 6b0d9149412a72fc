//! What a raw git commit says: its parents, its author, its time, its subject.

use api::maintpb::GitCommit;
use types::{CommitHash, Timestamp};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its hash.
    pub hash: CommitHash,
    /// Its parents, the first first.
    pub parents: Vec<CommitHash>,
    /// Who wrote it.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
    /// The first line of its message.
    pub subject: String,
}

impl Commit {
    /// Reads one; none if the hash is not one. What else is missing is left empty: git takes odd commits.
    pub(crate) fn parse(commit: &GitCommit) -> Option<Self> {
        let text = String::from_utf8_lossy(&commit.raw);
        let (header, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let field = |name: &'static str| header.lines().filter_map(move |line| line.strip_prefix(name));
        Some(Self {
            hash: commit.sha1.parse().ok()?,
            parents: field("parent ").filter_map(|parent| parent.trim().parse().ok()).collect(),
            author: field("author ").next().map(name).unwrap_or_default(),
            time: field("committer ").next().and_then(time).unwrap_or_default(),
            subject: message.lines().next().unwrap_or_default().chars().take(300).collect(),
        })
    }
}

/// `A U Thor <a@example.org> 1700000000 +0100`
fn name(line: &str) -> String {
    let name = line.split('<').next().unwrap_or_default().trim();
    name.chars().take(100).collect()
}

fn time(line: &str) -> Option<Timestamp> {
    let mut words = line.rsplit(' ');
    let _zone = words.next()?;
    let seconds: i64 = words.next()?.parse().ok()?;
    // A time that no clock shows would put the commit before or behind all others for ever.
    (0..=253_402_300_799).contains(&seconds).then(|| Timestamp::from_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Commit {
        Commit::parse(&GitCommit { sha1: "1".repeat(40), raw: raw.to_owned().into(), diff_tree: None })
            .unwrap()
    }

    #[test]
    fn a_commit_says_who_when_and_what() {
        let parent = "2".repeat(40);
        let commit = parse(&format!(
            "tree 3\nparent {parent}\nauthor A U Thor <a@b> 1 +0000\ncommitter C O <c@d> 1700000000 +0100\n\nSay hello\n\nMore.\n"
        ));
        assert_eq!(commit.parents, [parent.parse().unwrap()]);
        assert_eq!((commit.author.as_str(), commit.subject.as_str()), ("A U Thor", "Say hello"));
        assert_eq!(commit.time, Timestamp::from_seconds(1_700_000_000));
    }

    #[test]
    fn an_odd_commit_is_read_as_far_as_it_goes() {
        let commit = parse("tree 3\ncommitter x 99999999999999 +0000");
        assert_eq!((commit.time, commit.subject.as_str()), (Timestamp(0), ""));
        assert!(Commit::parse(&GitCommit { sha1: "x".to_owned(), ..GitCommit::default() }).is_none());
    }
}
