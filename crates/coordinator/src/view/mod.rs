//! What others see of the farm: one answer from the rows and the state together, for the protocol and for pages.

mod build;
pub(crate) mod cell;
mod farm;
mod full;
mod grid;
mod history;
mod log;
mod source;

pub(crate) use full::{Active, AttemptFull, Full, ViewError, Viewer};
pub(crate) use log::{LogPart, MergedLog};
pub(crate) use source::PagesSource;
