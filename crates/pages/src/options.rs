//! What the pages of one farm have in common.

use runtime::{clock::SharedClock, id};
use tokio_util::sync::CancellationToken;

/// An entry of the navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NavEntry {
    /// What it says.
    pub title: String,
    /// Where it leads, for example `/recent`.
    pub path: String,
}

impl NavEntry {
    /// An entry.
    pub fn new(title: impl Into<String>, path: impl Into<String>) -> Self {
        Self { title: title.into(), path: path.into() }
    }
}

/// What the pages of one farm have in common.
#[derive(Clone)]
pub struct Options {
    /// What the farm is called, at the top left of every page.
    pub farm_name: String,
    /// What the navigation has beside the pages of this crate. Name only what exists.
    pub nav: Vec<NavEntry>,
    /// Ages are told by it.
    pub clock: SharedClock,
    /// Host names that a request may ask for, without port; any if empty. Keeps a page of somebody else's from
    /// reaching a loopback farm by a name that it resolves itself.
    pub hosts: Vec<String>,
    /// What a form must carry, so that only pages of this farm can act on it. Lives as long as the process does.
    pub form_token: String,
    /// Ends live streams, so that a server that stops is not kept waiting by open pages.
    pub shutdown: CancellationToken,
}

impl Options {
    /// Options of a farm on loopback: no further pages, a new form token.
    pub fn new(farm_name: impl Into<String>, clock: SharedClock, shutdown: CancellationToken) -> Self {
        Self {
            farm_name: farm_name.into(),
            nav: Vec::new(),
            clock,
            hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
            form_token: id::random_token(),
            shutdown,
        }
    }

    /// With one more entry in the navigation.
    pub fn with_nav(mut self, entry: NavEntry) -> Self {
        self.nav.push(entry);
        self
    }

    /// All that the navigation shows, in order.
    pub(crate) fn navigation(&self) -> Vec<NavEntry> {
        let own = [("Commits", "/"), ("Builders", "/builders"), ("Farm", "/farm")];
        own.into_iter().map(|(title, path)| NavEntry::new(title, path)).chain(self.nav.clone()).collect()
    }
}
