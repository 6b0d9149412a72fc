#![doc = include_str!("../README.md")]

mod blobs;
mod command;
mod context;
mod coordinator;
mod coverage;
mod exec;
mod fault;
mod judge;
mod kinds;
mod line;
mod logs;
mod machine;
mod maintnerd;
mod misfortune;
mod people;
mod planted;
mod program;
mod project;
mod records;
mod reviews;
mod rng;
mod run;
mod seen;
mod tables;
mod truth;
mod world;

pub use coverage::Coverage;
pub use fault::Fault;
pub use judge::{Invariant, Violation};
pub use planted::Planted;
pub use program::{Args, main};
pub use run::{Report, run};
