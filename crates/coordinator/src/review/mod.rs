//! Says at the review host what the core has decided to say of a change, each word once. A word is a row before it is
//! said; before it is said the host is asked whether it was, since a call that was lost may have been heard. So a crash
//! at any moment neither loses a vote nor casts it twice.

mod gerrit;
mod place;
mod speaker;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use gerrit::GerritReviews;
pub use place::{Place, ReviewError, Saying, Standing};
pub(crate) use speaker::Speaker;
