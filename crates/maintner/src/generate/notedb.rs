//! The messages of NoteDb commits, as Gerrit 3.10 writes them.

use std::fmt::Write as _;

use super::random::Random;

/// The server of the accounts.
const SERVER: &str = "62eb7196-b449-3ce5-99f1-c037f21e1705";
/// Who commits for the people.
pub(super) const COMMITTER: &str = "Gerrit Code Review <noreply-gerritcodereview@google.com>";

/// An account as it signs: never with the name that people see.
pub(super) fn account(number: usize) -> String {
    let id = 5000 + number;
    format!("Gerrit User {id} <{id}@{SERVER}>")
}

/// A message that grows: its text, then its footers.
pub(super) struct Message {
    text: String,
    footers: String,
}

impl Message {
    /// Of a change to this patch set.
    pub(super) fn new(title: &str, patch_set: usize) -> Self {
        Self { text: format!("{title}\n"), footers: format!("Patch-set: {patch_set}\n") }
    }

    /// What people are to read.
    pub(super) fn say(mut self, text: &str) -> Self {
        // A blank line ends the text where Gerrit's own does, so there is none within a paragraph's end.
        write!(self.text, "\n{}\n", text.trim()).expect("text grows");
        self
    }

    pub(super) fn footer(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        writeln!(self.footers, "{key}: {value}").expect("text grows");
        self
    }

    /// A vote; each has a name of its own.
    pub(super) fn vote(self, random: &mut Random, label: &str, value: i32) -> Self {
        let (first, second) = (random.next(), random.next());
        let value = format!("{label}={}, {first:016x}{second:016x}{:08x}", signed(value), first as u32);
        self.footer("Label", value)
    }

    /// Whose turn it is, and why.
    pub(super) fn attention(self, account: &str, add: bool, reason: &str) -> Self {
        let person = account.replace('<', "\\u003c").replace('>', "\\u003e");
        let operation = if add { "ADD" } else { "REMOVE" };
        let json = format!(r#"{{"person_ident":"{person}","operation":"{operation}","reason":"{reason}"}}"#);
        self.footer("Attention", json)
    }

    pub(super) fn build(self) -> Vec<u8> {
        format!("{}\n{}", self.text, self.footers).into_bytes()
    }
}

/// `+1`, `-1`, `0`.
pub(super) fn signed(value: i32) -> String {
    if value > 0 { format!("+{value}") } else { value.to_string() }
}
