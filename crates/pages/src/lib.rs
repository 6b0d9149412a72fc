#![doc = include_str!("../README.md")]

mod action;
mod assets;
mod build;
mod builder;
mod builders;
mod change;
mod dashboard;
mod events;
mod farm;
mod grid;
mod harden;
mod html;
mod log;
mod machine;
mod options;
mod respond;
mod router;
mod shell;
mod show;
mod source;
mod test_page;
#[doc(hidden)]
pub mod testing;
pub mod view;
mod words;

pub use assets::router_assets;
pub use harden::harden;
pub use html::{Markup, escaped};
pub use log::text::is_telling;
pub use options::{NavEntry, Options};
pub use router::router;
pub use shell::{Icon, Page, shell};
pub use source::{LogSource, Source, SourceError};
