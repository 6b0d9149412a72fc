//! One file per story.
