//! Lists in pages (AIP-158): sizes, and opaque tokens bound to the filter that made them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::status::status;

const CHECK: usize = 8;

/// A place in a list. Positions are the service's own text, such as the last name or number of a page.
#[derive(Debug)]
pub enum PageToken {}

impl PageToken {
    /// The token of the page after `position` in the list that the filter selects.
    pub fn encode(position: &str, filter_hash: u64) -> String {
        let mut bytes = check(position, filter_hash).to_vec();
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position of a token; none for the empty one, which asks for the first page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the reason `BAD_PAGE_TOKEN` for a token that is not ours or belongs to another filter.
    pub fn decode(text: &str, filter_hash: u64) -> Result<Option<String>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let position = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
            let (sum, position) = bytes.split_at_checked(CHECK)?;
            let position = std::str::from_utf8(position).ok()?;
            (sum == check(position, filter_hash)).then(|| position.to_owned())
        });
        let refused = || {
            let message = "the page token does not belong to this request: begin again without one";
            status(Code::InvalidArgument, "BAD_PAGE_TOKEN", message)
        };
        position.map(Some).ok_or_else(refused)
    }
}

/// A hash of everything in a request that selects or orders the list, but not of its page size.
pub fn filter_hash(parts: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer"))
}

/// How many entries to answer with: 0 means the default, more than the most means the most.
///
/// # Errors
/// `INVALID_ARGUMENT` with the reason `BAD_PAGE_SIZE` if it is negative.
pub fn size(requested: i32, default: usize, most: usize) -> Result<usize, Status> {
    match usize::try_from(requested) {
        Ok(0) => Ok(default.min(most)),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(status(Code::InvalidArgument, "BAD_PAGE_SIZE", "the page size is negative")),
    }
}

fn check(position: &str, filter_hash: u64) -> [u8; CHECK] {
    let digest = Sha256::new().chain_update(filter_hash.to_be_bytes()).chain_update(position).finalize();
    digest[..CHECK].try_into().expect("a digest is longer")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_read_back_for_their_filter_only(position in ".*", filter: u64, other: u64) {
            let token = PageToken::encode(&position, filter);
            prop_assert_eq!(PageToken::decode(&token, filter).unwrap(), Some(position));
            if other != filter {
                let refused = PageToken::decode(&token, other).unwrap_err();
                prop_assert_eq!(refused.code(), Code::InvalidArgument);
            }
        }

        #[test]
        fn foreign_tokens_are_refused(text in ".+") {
            prop_assert!(PageToken::decode(&text, 7).is_err());
        }
    }

    #[test]
    fn filters_differ_where_their_parts_do() {
        assert_ne!(filter_hash(&["ab", "c"]), filter_hash(&["a", "bc"]));
        assert_eq!(filter_hash(&["ab", "c"]), filter_hash(&["ab", "c"]));
    }

    #[test]
    fn sizes_are_clamped() {
        assert_eq!(size(0, 50, 100).unwrap(), 50);
        assert_eq!(size(7, 50, 100).unwrap(), 7);
        assert_eq!(size(1000, 50, 100).unwrap(), 100);
        assert_eq!(size(-1, 50, 100).unwrap_err().code(), Code::InvalidArgument);
    }
}
