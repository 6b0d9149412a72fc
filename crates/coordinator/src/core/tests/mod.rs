//! The rules of the core as sentences, and random lives of a farm with its invariants checked after every step.

mod order;
mod random;
mod rules;
mod second_run;
mod sessions;
mod sick;
mod tables;
mod tries;
mod world;
