//! What others see of the farm: one answer from the rows and the state together, for the protocol and for pages.

mod build;
mod cause;
pub(crate) mod cell;
mod change;
mod explain;
mod farm;
mod full;
mod grid;
mod history;
mod log;
mod past;
mod sessions;
mod signature;
mod source;

pub(crate) use cause::Cause;
pub(crate) use explain::{Explained, Tip};
pub(crate) use full::{Active, AttemptFull, Full, ViewError, Viewer};
pub(crate) use log::{LogPart, MergedLog};
pub(crate) use past::Said;
pub(crate) use source::PagesSource;
