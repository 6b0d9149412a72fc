//! Reads a whole log and says everything that is wrong with it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::maintpb::Mutation;
use prost::Message as _;
use sha2::Digest as _;

use super::{
    OpenError, RecordError, file,
    index::scan,
    layout::{self, SegmentName},
    manifest::{Entry, Manifest},
};

/// What a log holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many segments, the growing one among them.
    pub segments: u64,
    /// How many whole records.
    pub mutations: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// Empty when all is well.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub path: PathBuf,
    /// Where in it, if at one place.
    pub offset: Option<u64>,
    /// What it is.
    pub what: String,
}

/// Checks every record, hash and count of the log in `dir`, which may be in use: what a living writer is about to
/// append is not a problem. A folder of Go's maintner has no manifest; its names are checked instead.
pub fn verify(dir: &Path) -> Result<Report, OpenError> {
    let manifest = Manifest::read(dir)?;
    let on_disk = layout::list(dir)?;
    let mut report = Report::default();
    let names: Vec<SegmentName> = match &manifest {
        Some(manifest) => {
            manifest.segments.iter().filter_map(|entry| SegmentName::parse(&entry.name)).collect()
        }
        None => layout::adopt(dir, &on_disk)?,
    };
    for (at, name) in names.iter().enumerate() {
        let entry = manifest.as_ref().and_then(|manifest| manifest.segments.get(at));
        verify_segment(dir, name, entry, &mut report)?;
    }
    if manifest.is_some() {
        for name in on_disk.iter().filter(|name| !names.contains(name)) {
            if *name == (SegmentName::Growing { number: names.len() as u32 }) {
                verify_segment(dir, name, None, &mut report)?;
            } else {
                let path = file(dir, &name.file_name());
                report.problems.push(Problem {
                    path,
                    offset: None,
                    what: "it is not in the manifest".into(),
                });
            }
        }
    }
    Ok(report)
}

fn verify_segment(
    dir: &Path,
    name: &SegmentName,
    entry: Option<&Entry>,
    report: &mut Report,
) -> Result<(), OpenError> {
    let path = file(dir, &name.file_name());
    let mut problems = Vec::new();
    let mut say = |offset, what: String| problems.push(Problem { path: path.clone(), offset, what });
    let opened = match File::open(&path) {
        Ok(opened) => opened,
        Err(error) => {
            say(None, format!("it cannot be opened: {error}"));
            report.problems.append(&mut problems);
            return Ok(());
        }
    };
    let io = |source| OpenError::Io { action: "look at", path: path.clone(), source };
    let len = opened.metadata().map_err(io)?.len();
    let scanned = scan(Arc::new(opened), &path, len, |offset, payload| {
        if let Err(error) = Mutation::decode(payload) {
            say(Some(offset), format!("the record is no mutation: {error}"));
        }
    });
    let growing = matches!(name, SegmentName::Growing { .. });
    match &scanned.error {
        None => {}
        Some(RecordError::Torn { .. }) if growing => {}
        Some(RecordError::Torn { offset, .. }) => say(Some(*offset), "the file ends inside a record".into()),
        Some(RecordError::Corrupt { offset, what, .. }) => say(Some(*offset), (*what).into()),
        Some(RecordError::Io { offset, source, .. }) => say(Some(*offset), format!("cannot read: {source}")),
    }
    let digest: layout::Digest = scanned.hasher.finalize().into();
    if let SegmentName::Frozen { digest: named, .. } = name
        && *named != digest
    {
        say(None, "its content has another hash than its name says".into());
    }
    if let Some(entry) = entry {
        if entry.sha224 != hex::encode(digest) {
            say(None, "its content has another hash than the manifest says".into());
        }
        if (entry.bytes, entry.mutations) != (scanned.bytes, scanned.mutations) {
            let (bytes, mutations) = (scanned.bytes, scanned.mutations);
            say(
                None,
                format!(
                    "it holds {mutations} mutations in {bytes} bytes, and the manifest says {} in {}",
                    entry.mutations, entry.bytes
                ),
            );
        }
    }
    report.segments += 1;
    report.mutations += scanned.mutations;
    report.bytes += scanned.bytes;
    report.problems.append(&mut problems);
    Ok(())
}
