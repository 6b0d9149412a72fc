//! Configuration in TOML, read so that EVERY error is found at once, each with file, line and column.
//!
//! A type reads itself from a [`Table`] by [`FromToml`]. Reading never stops: what is missing or wrong is recorded and
//! stands in as a placeholder, so that the rest is looked at too. The result is handed out only if nothing was recorded.

use std::path::Path;

mod errors;
mod nearest;
mod table;
mod value;
mod watch;

pub use errors::{Errors, Problem};
pub use table::{Mark, Table};
pub use value::{FromValue, Value};
pub use watch::{Reload, WatchError, watch};

use errors::Sink;

/// A part of a configuration that reads itself from a table.
pub trait FromToml: Sized {
    /// Reads every key it knows. Errors are recorded in the table; what is returned then is not used.
    fn from_toml(table: &mut Table<'_>) -> Self;
}

/// Reads a file.
pub fn load<T: FromToml>(path: &Path) -> Result<T, Errors> {
    load_with(path, T::from_toml)
}

/// Reads a file with a function, for a type that needs more than the table.
pub fn load_with<T>(path: &Path, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Errors> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse_with(&name, &text, read),
        Err(error) => Err(Errors::unreadable(&name, &error)),
    }
}

/// Reads a text; `name` is the file's name in errors.
pub fn parse<T: FromToml>(name: &str, text: &str) -> Result<T, Errors> {
    parse_with(name, text, T::from_toml)
}

/// Reads a text with a function, for a type that needs more than the table.
pub fn parse_with<T>(name: &str, text: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Errors> {
    let (document, broken) = toml::de::DeTable::parse_recoverable(text);
    let sink = Sink::new(name, text);
    for error in &broken {
        sink.record(error.span().map_or(0, |span| span.start), error.message().to_owned());
    }
    if !broken.is_empty() {
        // What is left of a broken document would give errors that are not the author's.
        return Err(sink.into_errors());
    }
    let mut table = Table::new(document.get_ref(), 0, String::new(), &sink);
    let value = read(&mut table);
    drop(table);
    if sink.is_empty() { Ok(value) } else { Err(sink.into_errors()) }
}

#[cfg(test)]
mod tests;
