//! Resume tokens: a position in one history of one log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which history a log tells. Made with the log; a token of another history means nothing in this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HistoryId([u8; 16]);

impl HistoryId {
    pub(super) fn new() -> Self {
        Self(*runtime::id::new_id().as_bytes())
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for HistoryId {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseTokenError)?;
        let id = Self(bytes);
        // We write it in one way only: in another it is damaged.
        if id.to_string() == text { Ok(id) } else { Err(ParseTokenError) }
    }
}

impl TryFrom<String> for HistoryId {
    type Error = ParseTokenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HistoryId> for String {
    fn from(id: HistoryId) -> Self {
        id.to_string()
    }
}

/// Everything before this position was delivered. Opaque to those who hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken {
    /// The history it belongs to.
    pub history: HistoryId,
    /// How many mutations come before.
    pub position: u64,
}

/// Not a resume token of any log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the resume token is none of ours")]
pub struct ParseTokenError;

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m1.{}.{:x}", self.history, self.position)
    }
}

impl FromStr for ResumeToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("m1.").ok_or(ParseTokenError)?;
        let (history, position) = rest.split_once('.').ok_or(ParseTokenError)?;
        let token = Self {
            history: history.parse()?,
            position: u64::from_str_radix(position, 16).map_err(|_| ParseTokenError)?,
        };
        if token.to_string() == text { Ok(token) } else { Err(ParseTokenError) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_reads_back_as_it_was_written(history in any::<[u8; 16]>(), position in any::<u64>()) {
            let token = ResumeToken { history: HistoryId(history), position };
            prop_assert_eq!(token.to_string().parse::<ResumeToken>(), Ok(token));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,60}") {
            prop_assert!(text.parse::<ResumeToken>().is_err());
        }
    }

    #[test]
    fn a_token_has_one_spelling() {
        let history = "00112233445566778899aabbccddeeff";
        assert!(format!("m1.{history}.a").parse::<ResumeToken>().is_ok());
        for bad in ["0a", "A", "+a", "", "a ", "11111111111111111"] {
            assert!(format!("m1.{history}.{bad}").parse::<ResumeToken>().is_err(), "{bad}");
        }
        assert!(format!("m1.{}.a", history.to_uppercase()).parse::<ResumeToken>().is_err());
    }
}
