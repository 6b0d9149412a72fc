//! Guesses how a repository without a `farmer.toml` is built, from the files at its root.
//!
//! The guess is a proposal for its owner to read, correct and commit; so it is text with comments.

use crate::preset;

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// What was recognised, for people: "a Cargo workspace or package".
    pub what: &'static str,
    /// The `farmer.toml`.
    pub text: &'static str,
}

/// A kind of project: what it is, the files that are all there, its `farmer.toml`.
struct Kind {
    what: &'static str,
    files: &'static [&'static str],
    text: &'static str,
}

/// The first that fits is taken: what is more particular comes first, Make last since much else has a Makefile too.
const KINDS: &[Kind] = &[
    Kind { what: "the Go distribution", files: &["src/make.bash", "VERSION"], text: preset::GO },
    Kind { what: "the Go distribution", files: &["src/make.bash", "src/cmd/dist/main.go"], text: preset::GO },
    Kind { what: "a Cargo package or workspace", files: &["Cargo.toml"], text: preset::CARGO },
    Kind { what: "a Go module", files: &["go.mod"], text: include_str!("detect/go_module.toml") },
    Kind { what: "an npm package", files: &["package.json"], text: include_str!("detect/npm.toml") },
    Kind { what: "a CMake project", files: &["CMakeLists.txt"], text: include_str!("detect/cmake.toml") },
    Kind { what: "a Makefile", files: &["Makefile"], text: include_str!("detect/make.toml") },
    Kind { what: "a Makefile", files: &["makefile"], text: include_str!("detect/make.toml") },
    Kind { what: "a Makefile", files: &["GNUmakefile"], text: include_str!("detect/make.toml") },
];

/// Recognises a project. `exists` says whether the repository has a file of this path.
pub fn detect(exists: &dyn Fn(&str) -> bool) -> Option<Detected> {
    let kind = KINDS.iter().find(|kind| kind.files.iter().all(|file| exists(file)))?;
    Some(Detected { what: kind.what, text: kind.text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildFile, Offer};

    fn detected(files: &[&str]) -> Option<&'static str> {
        detect(&|path| files.contains(&path)).map(|detected| detected.what)
    }

    #[test]
    fn the_most_particular_kind_is_recognised() {
        assert_eq!(detected(&["Makefile", "Cargo.toml"]), Some("a Cargo package or workspace"));
        assert_eq!(detected(&["VERSION", "src/make.bash", "go.env"]), Some("the Go distribution"));
        assert_eq!(detected(&["src/make.bash", "src/cmd/dist/main.go"]), Some("the Go distribution"));
        assert_eq!(detected(&["go.mod", "Makefile"]), Some("a Go module"));
        assert_eq!(detected(&["package.json", "CMakeLists.txt"]), Some("an npm package"));
        assert_eq!(detected(&["CMakeLists.txt"]), Some("a CMake project"));
        assert_eq!(detected(&["GNUmakefile"]), Some("a Makefile"));
        assert_eq!(detected(&["README"]), None);
    }

    #[test]
    fn every_proposal_is_a_farmer_toml_that_any_farm_takes() {
        for kind in KINDS {
            let file = BuildFile::parse("farmer.toml", kind.text, &Offer::local());
            assert!(file.is_ok(), "{}: {}", kind.what, file.unwrap_err());
        }
    }
}
