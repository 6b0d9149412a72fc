//! The tree that is checked: its packages and its source files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use cargo_metadata::{Metadata, MetadataCommand, Package};

use super::tokens::Tokens;

/// A workspace on disk.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) metadata: Metadata,
    pub(super) crates: Vec<Crate>,
    /// Every text file with code, generated ones included.
    pub(super) files: Vec<File>,
}

/// A package of the workspace.
pub(super) struct Crate {
    pub(super) name: String,
    /// Relative to the root, with a slash at the end.
    pub(super) folder: String,
    pub(super) manifest: toml::Table,
}

/// A text file with code.
pub(super) struct File {
    /// Relative to the root.
    pub(super) path: String,
    /// The package it belongs to, if any.
    pub(super) package: Option<String>,
    pub(super) lines: usize,
    /// Of Rust files only.
    pub(super) tokens: Option<Tokens>,
}

/// What counts as code.
const CODE: &[&str] = &["rs", "proto", "html", "css", "js", "sql", "sh"];

impl Tree {
    pub(super) fn load(root: &Path) -> anyhow::Result<Self> {
        let metadata = MetadataCommand::new().current_dir(root).exec().context("ask cargo for metadata")?;
        let root = root.canonicalize().with_context(|| format!("find `{}`", root.display()))?;
        let crates = metadata.workspace_packages().into_iter();
        let mut crates = crates.map(|package| Crate::load(&root, package)).collect::<Result<Vec<_>, _>>()?;
        // The longest folder first, so that a file belongs to the innermost package.
        crates.sort_by_key(|package| std::cmp::Reverse(package.folder.len()));
        let mut tree = Self { root, metadata, crates, files: Vec::new() };
        for top in ["crates", "proto", "tests"] {
            let folder = tree.root.join(top);
            if folder.is_dir() {
                tree.walk(&folder)?;
            }
        }
        Ok(tree)
    }

    /// The Rust files with their tokens, without generated ones.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&File, &Tokens)> {
        let ours = self.files.iter().filter(|file| !file.is_generated());
        ours.filter_map(|file| Some((file, file.tokens.as_ref()?)))
    }

    /// The files of one package.
    pub(super) fn files_of<'t>(&'t self, package: &'t str) -> impl Iterator<Item = &'t File> {
        self.files.iter().filter(move |file| file.package.as_deref() == Some(package))
    }

    fn walk(&mut self, folder: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("read `{}`", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Fixtures are input of tests: they are what they have to be.
            let ours =
                !name.starts_with('.') && !["target", "node_modules", "fixtures"].contains(&name.as_str());
            if path.is_dir() && ours {
                self.walk(&path)?;
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| CODE.contains(&e)) {
                self.read(&path)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("read `{}`", path.display())),
        };
        let relative = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let tokens = is_rust.then(|| Tokens::parse(&text)).transpose();
        let file = File {
            package: self.package_of(&relative),
            lines: text.lines().count(),
            tokens: tokens.with_context(|| format!("parse `{relative}`"))?,
            path: relative,
        };
        self.files.push(file);
        Ok(())
    }

    fn package_of(&self, path: &str) -> Option<String> {
        let package = self.crates.iter().find(|package| path.starts_with(&package.folder))?;
        Some(package.name.clone())
    }
}

impl Crate {
    fn load(root: &Path, package: &Package) -> anyhow::Result<Self> {
        let path = package.manifest_path.as_std_path();
        let text = fs::read_to_string(path).with_context(|| format!("read `{}`", path.display()))?;
        let folder = path.parent().unwrap_or(path);
        let folder = folder.canonicalize().with_context(|| format!("find `{}`", folder.display()))?;
        Ok(Self {
            name: package.name.to_string(),
            folder: format!("{}/", folder.strip_prefix(root).unwrap_or(&folder).display()),
            manifest: text.parse().with_context(|| format!("parse `{}`", path.display()))?,
        })
    }

    pub(super) fn manifest_path(&self) -> String {
        format!("{}Cargo.toml", self.folder)
    }
}

impl File {
    pub(super) fn is_generated(&self) -> bool {
        self.path.contains("/src/gen/")
    }

    /// Whether this is a test or benchmark beside the code, not part of what runs.
    pub(super) fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/tests.rs"].iter().any(|part| self.path.contains(part))
            || self.path.starts_with("tests/")
    }
}
