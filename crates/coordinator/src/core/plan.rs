//! What a build is to do: the builder as it was when the build was accepted, so that a later edit changes nothing.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, HostType};

use super::BuildKey;

/// The frozen definition of a builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The builder.
    pub builder: BuilderName,
    /// The host type that it runs on.
    pub host: HostType,
    /// Shell commands that make what is tested.
    pub make: Vec<String>,
    /// How it is tested; a build without tests ends after make.
    pub tests: Option<TestPlan>,
    /// Added to the environment of every command.
    pub environment: Vec<(String, String)>,
    /// Names of secrets: each becomes a variable of that name.
    pub secrets: Vec<String>,
    /// Where commands run, beneath the work folder.
    pub folder: String,
    /// Where the source is unpacked, beneath the work folder.
    pub source_folder: String,
    /// How long make and the list may take.
    pub make_seconds: u64,
    /// How long one shard may take.
    pub test_seconds: u64,
    /// Machines asked for beside the main one.
    pub helpers: u32,
    /// Run all shards though one has failed.
    pub keep_going: bool,
    /// How the state after make is kept; none if it is not.
    pub snapshot: Option<SnapshotPlan>,
}

/// How a build is tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPlan {
    /// A shell command that prints one test a line; without one `run` is the only shard.
    pub list: Option<String>,
    /// A shell command that runs tests; `{tests}` stands for their quoted names.
    pub run: String,
    /// A zero byte stands between names, not a line's end.
    pub nul: bool,
    /// How long a shard should take, in milliseconds.
    pub shard_millis: u64,
    /// The most shards.
    pub max_shards: usize,
    /// Only tests that match one of these globs; empty means all.
    pub patterns: Vec<String>,
}

/// How the state after make is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    /// Paths beneath the work folder that are left out.
    pub exclude: Vec<String>,
    /// The output may be used under another work folder's path.
    pub movable: bool,
}

impl Plan {
    /// Whether the tests are split over machines.
    pub fn is_sharded(&self) -> bool {
        self.tests.as_ref().is_some_and(|tests| tests.list.is_some())
    }

    /// What every command of a build sees beside what its host adds. Secrets come on top.
    pub fn variables(&self, key: &BuildKey, build: BuildNumber) -> Vec<(String, String)> {
        let mut all = vec![
            ("WORK".to_owned(), "$WORK".to_owned()),
            ("FARMER_BUILDER".to_owned(), key.builder.to_string()),
            ("FARMER_REPOSITORY".to_owned(), key.repository.to_string()),
            ("FARMER_COMMIT".to_owned(), key.commit.to_string()),
            ("FARMER_BUILD".to_owned(), build.to_string()),
        ];
        all.extend(self.environment.iter().cloned());
        all
    }

    /// All that makes, as one script. Each part has its own shell, so that a `cd` or `set` of one is not felt by the
    /// next.
    pub fn make_script(&self) -> String {
        match self.make.as_slice() {
            [one] => one.clone(),
            all => all.iter().map(|script| format!("(\n{script}\n)")).collect::<Vec<_>>().join("\n"),
        }
    }
}
