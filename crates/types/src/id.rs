//! Numbers and identifiers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A build's number, in the order of acceptance, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildNumber(pub u64);

/// One attempt of a build, written `48213.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The build.
    pub build: BuildNumber,
    /// From 1.
    pub attempt: u32,
}

/// One shard of an attempt, written `48213.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The attempt.
    pub attempt: AttemptId,
    /// From 1.
    pub shard: u32,
}

/// The fencing token of a lease: a later lease of a machine has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// Not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

fn parse<T: FromStr>(text: &str, whole: &str, expected: &'static str) -> Result<T, ParseIdError> {
    let error = || ParseIdError { text: whole.chars().take(64).collect(), expected };
    if text.is_empty() || text.starts_with(['+', '0']) {
        return Err(error());
    }
    text.parse().map_err(|_| error())
}

impl FromStr for BuildNumber {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text, text, "the number of a build").map(Self)
    }
}

impl fmt::Display for BuildNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "an attempt, such as `48213.2`";
        let (build, attempt) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self {
            build: BuildNumber(parse(build, text, expected)?),
            attempt: parse(attempt, text, expected)?,
        })
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.build, self.attempt)
    }
}

impl FromStr for ShardId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "a shard, such as `48213.2.7`";
        let (attempt, shard) = text.rsplit_once('.').unwrap_or((text, ""));
        let attempt =
            attempt.parse().map_err(|_| ParseIdError { text: text.chars().take(64).collect(), expected })?;
        Ok(Self { attempt, shard: parse(shard, text, expected)? })
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.shard)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! uuid_id {
    ($name:ident, $doc:literal, $expected:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse()
                    .map(Self)
                    .map_err(|_| ParseIdError { text: text.chars().take(64).collect(), expected: $expected })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    ExecId,
    "A command on a buildlet: named before it is started, so that starting it twice starts it once.",
    "an exec's UUID"
);
uuid_id!(LeaseId, "The right of one piece of work to use one machine.", "a lease's UUID");
uuid_id!(
    SessionId,
    "A debugging session: whoever asks for one names it so, once and for all.",
    "a session's UUID"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_they_were_written() {
        let shard: ShardId = "48213.2.7".parse().unwrap();
        assert_eq!(shard.to_string(), "48213.2.7");
        assert_eq!(shard.attempt.to_string(), "48213.2");
        assert_eq!("48213.2".parse::<AttemptId>().unwrap(), shard.attempt);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "0", "+1", "01", "1.", ".1", "1.2.3.4", "-1", "1 "] {
            assert!(text.parse::<BuildNumber>().is_err(), "{text}");
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
            assert!(text.parse::<ShardId>().is_err(), "{text}");
        }
    }
}
