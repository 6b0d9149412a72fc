//! Names that people give: of builders, host types, machines, repositories and sessions.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a {kind}: {rule}")]
pub struct ParseNameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

const RULE: &str = "1 to 64 of a-z, 0-9, `.`, `_` and `-`, the first a letter or digit";
const RULE_WITH_SLASH: &str =
    "1 to 64 of a-z, 0-9, `.`, `_`, `-` and `/`, each part beginning with a letter or digit";

fn is_name(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= 64
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

macro_rules! name {
    ($name:ident, $doc:literal, $kind:literal, $rule:ident, $check:expr) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseNameError { text: text.chars().take(80).collect(), kind: $kind, rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    BuilderName,
    "A named way to build and test, for example `linux-amd64-race`.",
    "builder",
    RULE,
    is_name
);
name!(HostType, "A kind of machine.", "host type", RULE, is_name);
name!(MachineName, "One machine.", "machine", RULE, is_name);
name!(
    SessionName,
    "A debugging session, for example `ada-linux-amd64-0`. A live one has it alone; later ones may have it again.",
    "session",
    RULE,
    is_name
);
name!(
    RepositoryName,
    "A repository as the farm calls it, for example `go` or `x/tools`.",
    "repository",
    RULE_WITH_SLASH,
    |text| text.len() <= 64 && text.split('/').all(is_name)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        assert_eq!("linux-amd64".parse::<BuilderName>().unwrap().as_str(), "linux-amd64");
        assert_eq!("x/tools".parse::<RepositoryName>().unwrap().as_str(), "x/tools");
        for text in ["", "-a", "a b", "A", "a/b", "../a", &"a".repeat(65)] {
            assert!(text.parse::<BuilderName>().is_err(), "{text}");
        }
        for text in ["", "a/", "/a", "a//b", "a/../b", "a/.b"] {
            assert!(text.parse::<RepositoryName>().is_err(), "{text}");
        }
    }
}
