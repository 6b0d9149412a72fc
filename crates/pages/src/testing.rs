//! A farm that exists only in memory, for the tests of this crate, its demo, and tests of whoever serves these pages.

mod data;
mod fake;

pub use data::{
    NOW, RUNNING, builder_history, builders, change, failed_build, farm, generated_grid, log_text,
    machine_history, numbered_lines, running_build, show_more, small_grid, test_history, waiting_build,
};
pub use fake::FakeSource;
