//! Commits: objects with their true names, people, and diffs.

use std::fmt::Write as _;

use api::maintpb::{GitCommit, GitDiffTree, GitDiffTreeFile, GitMutation, GitRepo, Mutation};
use sha1::{Digest as _, Sha1};

use super::{Generator, random::Random, text::line};

const NAMES: &[&str] =
    &["Ada Lovelace", "Rob Ünicode", "Grace Hopper", "Søren Æble", "Ken O'Neil", "Lin Wei", "Eve"];
const FOLDERS: &[&str] = &[
    "src/runtime",
    "src/net/http",
    "src/cmd/compile/internal/ssa",
    "src/go/types",
    "test",
    "doc",
    "misc/wasm",
];
const ZONES: &[&str] = &["+0000", "-0700", "+0200", "+0530", "-0330"];

/// Plain repositories that are pushed to without review.
#[derive(Debug, Clone, Default)]
pub(super) struct Git {
    tips: Vec<Vec<String>>,
}

/// A commit that is to be.
pub(super) struct Draft<'a> {
    pub(super) parents: &'a [String],
    pub(super) author: &'a str,
    pub(super) committer: &'a str,
    pub(super) time: i64,
    pub(super) message: &'a [u8],
}

impl Draft<'_> {
    /// The object and its name.
    pub(super) fn commit(&self, random: &mut Random) -> GitCommit {
        let mut raw = String::with_capacity(400 + self.message.len());
        let zone = random.pick(ZONES);
        let tree = random.next();
        writeln!(raw, "tree {tree:016x}{:016x}{:08x}", tree.rotate_left(17), tree as u32)
            .expect("text grows");
        for parent in self.parents {
            writeln!(raw, "parent {parent}").expect("text grows");
        }
        writeln!(raw, "author {} {} {zone}", self.author, self.time).expect("text grows");
        writeln!(raw, "committer {} {} {zone}", self.committer, self.time + 5).expect("text grows");
        if random.once_in(200) {
            raw.push_str(
                "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQEzBAABCAAdFiEE\n -----END PGP SIGNATURE-----\n",
            );
        }
        raw.push('\n');
        let mut raw = raw.into_bytes();
        raw.extend_from_slice(self.message);
        let mut hasher = Sha1::new();
        hasher.update(format!("commit {}\0", raw.len()));
        hasher.update(&raw);
        GitCommit { sha1: hex::encode(hasher.finalize()), raw: raw.into(), diff_tree: None }
    }
}

/// A developer, by number.
pub(super) fn person(number: usize) -> String {
    format!("{} <dev{number}@example.com>", NAMES[number % NAMES.len()])
}

/// What a commit changed: mostly few files, sorted; a rename is a file that went and one that came.
pub(super) fn diff(random: &mut Random) -> GitDiffTree {
    let mut names: Vec<String> = (0..=random.skewed(16))
        .map(|_| {
            let folder = FOLDERS[random.skewed(FOLDERS.len())];
            match random.below(40) {
                0 => format!("\"{folder}/gr\\303\\266\\303\\237e_{}.go\"", random.below(50)),
                1 => format!("{folder}/with space {}.txt", random.below(50)),
                _ => format!("{folder}/file_{}.go", random.skewed(800)),
            }
        })
        .collect();
    names.sort();
    names.dedup();
    let file = |name: String, random: &mut Random| {
        let binary = random.once_in(50);
        let (added, deleted) =
            if binary { (0, 0) } else { (random.skewed(400) as i64, random.skewed(200) as i64) };
        GitDiffTreeFile { file: name, added, deleted, binary }
    };
    let mut files: Vec<GitDiffTreeFile> = names.into_iter().map(|name| file(name, random)).collect();
    if random.once_in(12) {
        let lines = random.between(10, 300) as i64;
        let (from, to) = ("src/zz_old_name.go".into(), "src/zz_renamed.go".into());
        files.push(GitDiffTreeFile { file: from, added: 0, deleted: lines, binary: false });
        files.push(GitDiffTreeFile { file: to, added: lines, deleted: 0, binary: false });
    }
    GitDiffTree { file: files }
}

impl Generator {
    pub(super) fn begin_git(&mut self) {
        self.git.tips = vec![Vec::new(); 3];
    }

    /// The message of a commit of code.
    pub(super) fn commit_message(&mut self, footer: &str) -> Vec<u8> {
        let subject = line(&mut self.random, 5);
        let length = self.random.length(70);
        let body = self.text.some(&mut self.random, length).trim();
        let mut message = format!("src: {subject}\n\n{body}\n");
        match self.random.below(6) {
            0 => write!(message, "\nFixes #{}\n", self.random.between(1, 50_000)),
            1 => write!(message, "\nFor golang/go#{}.\n", self.random.between(1, 50_000)),
            2 => write!(message, "\nUpdates Golang/tools#{}\n", self.random.between(1, 900)),
            _ => Ok(()),
        }
        .expect("text grows");
        if !footer.is_empty() {
            write!(message, "\n{footer}\n").expect("text grows");
        }
        let mut message = message.into_bytes();
        if self.random.once_in(2000) {
            message.extend_from_slice(b"\nR\xe9sum\xe9 in Latin-1.\n");
        }
        message
    }

    /// Somebody pushes to a plain repository, sometimes a merge.
    pub(super) fn push(&mut self) {
        let which = self.random.skewed(self.git.tips.len());
        let tips = &mut self.git.tips[which];
        let mut parents: Vec<String> = tips.last().cloned().into_iter().collect();
        if tips.len() > 1 && self.random.once_in(10) {
            parents.push(tips[self.random.below(tips.len() - 1)].clone());
        }
        let message = self.commit_message("");
        let (author, committer) = (person(self.random.skewed(1500)), person(self.random.skewed(30)));
        let draft = Draft {
            parents: &parents,
            author: &author,
            committer: &committer,
            time: self.now,
            message: &message,
        };
        let mut commit = draft.commit(&mut self.random);
        if parents.len() == 1 {
            commit.diff_tree = Some(diff(&mut self.random));
        }
        let tips = &mut self.git.tips[which];
        tips.push(commit.sha1.clone());
        if tips.len() > 8 {
            tips.remove(0);
        }
        self.left.commits -= 1;
        let repo = Some(GitRepo { go_repo: ["go", "website", "wiki"][which].into() });
        let git = Some(GitMutation { repo, commit: Some(commit) });
        self.queue.push_back(Mutation { git, ..Mutation::default() });
    }
}
