//! Presets: a `farmer.toml` for projects that have none of their own, kept in `deploy/presets/` as data.

pub(crate) const CARGO: &str = include_str!("../../../deploy/presets/cargo/farmer.toml");
pub(crate) const GO: &str = include_str!("../../../deploy/presets/go/farmer.toml");

/// The presets' names.
pub const PRESETS: &[&str] = &["cargo", "go"];

/// A preset's `farmer.toml`. Its builders name the host `local`.
pub fn preset(name: &str) -> Option<&'static str> {
    match name {
        "cargo" => Some(CARGO),
        "go" => Some(GO),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildFile, Offer};

    #[test]
    fn every_preset_is_a_farmer_toml_that_any_farm_takes() {
        for name in PRESETS {
            let file = BuildFile::parse(name, preset(name).unwrap(), &Offer::local());
            assert!(file.is_ok(), "{}", file.unwrap_err());
        }
        assert!(preset("cobol").is_none());
    }
}
