//! Stories of a whole farm, one file each, told with the real binary.

mod bad_input;
mod bisect;
mod bot;
mod commands;
mod first_build;
mod gerrit;
mod go;
mod gomote;
mod mutation_log;
mod planted;
mod postgres;
mod replicas;
mod restart;
mod shards;
mod sick;
mod ssh;
mod tries;
mod why;

use testkit::Repository;

/// A repository whose builder makes with one shell command and tests with another.
fn simple(make: &str, test: &str) -> Repository {
    Repository::with(&[("farmer.toml", &farmer_toml(make, test)), ("source", "1")])
}

fn farmer_toml(make: &str, test: &str) -> String {
    format!(
        "[[builders]]\nname = \"simple\"\nhost = \"local\"\nmake = [{make:?}]\n[builders.tests]\nrun = {test:?}\n"
    )
}
