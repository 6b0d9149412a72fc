//! How work ends, and what it does meanwhile.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($name:ident, $error:ident, $kind:literal, $doc:literal, { $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal,)* }) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[doc = $variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        #[doc = concat!("Not ", $kind, ".")]
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error("`{0}` is not {kind}", kind = $kind)]
        pub struct $error(String);

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it, as stored, logged and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($error(text.chars().take(64).collect())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(Outcome, ParseOutcomeError, "an outcome", "How something ended. Only an infrastructure fault is retried.", {
    /// All is well.
    Passed = "passed",
    /// A command failed.
    Failed = "failed",
    /// A command ran longer than it may.
    TimedOut = "timed_out",
    /// The farm could not do the work: says nothing about the commit.
    Infrastructure = "infrastructure",
    /// Policy says not to.
    Skipped = "skipped",
    /// Somebody, or a newer commit, called it off.
    Cancelled = "cancelled",
});

words!(Phase, ParsePhaseError, "a phase", "What a build does. A span of each is opened in exactly one place.", {
    /// It waits for a machine.
    Queued = "queued",
    /// The source is sent to the machine.
    Source = "source",
    /// A snapshot is sent to the machine in place of making.
    SnapshotFetch = "snapshot_fetch",
    /// The make step runs.
    Make = "make",
    /// What make left is stored.
    SnapshotStore = "snapshot_store",
    /// The tests are listed.
    List = "list",
    /// Tests run.
    Test = "test",
    /// The log is sealed and the result is written.
    Finish = "finish",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_they_were_written() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse::<Outcome>().unwrap(), *outcome);
        }
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse::<Phase>().unwrap(), *phase);
        }
        assert!("Passed".parse::<Outcome>().is_err());
    }
}
