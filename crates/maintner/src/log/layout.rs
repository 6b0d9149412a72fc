//! The names of the files of a log.
//!
//! Ours, and those of the two kinds of folder that Go's maintner writes: a file for each day, and numbered segments
//! with their hash in the name. All are read as they are; other files are left alone.

use std::{fmt::Write as _, path::Path};

use super::{OpenError, file};

/// A SHA-224 digest.
pub(super) type Digest = [u8; 28];

/// The manifest of the log.
pub(super) const MANIFEST: &str = "manifest.json";
/// Locked by whoever writes the log.
pub(super) const LOCK: &str = "lock";

/// A file that holds records. The order is that of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SegmentName {
    /// `maintner-2006-01-02.mutlog`: complete when the day is over. The text is the date.
    Daily(String),
    /// `0042.<sha224>.mutlog`: never changes.
    Frozen { number: u32, digest: Digest },
    /// `0043.growing.mutlog`: records are appended to it.
    Growing { number: u32 },
}

impl SegmentName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".mutlog")?;
        if let Some(date) = stem.strip_prefix("maintner-") {
            return is_date(date).then(|| Self::Daily(date.into()));
        }
        let (number, rest) = stem.split_once('.')?;
        let digits = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || (number.len() > 4 && number.starts_with('0')) {
            return None;
        }
        let number = number.parse().ok()?;
        if rest == "growing" {
            return Some(Self::Growing { number });
        }
        let mut digest = [0; 28];
        hex::decode_to_slice(rest, &mut digest).ok()?;
        let lower = !rest.bytes().any(|byte| byte.is_ascii_uppercase());
        lower.then_some(Self::Frozen { number, digest })
    }

    /// The name of the file.
    pub(super) fn file_name(&self) -> String {
        match self {
            Self::Daily(date) => format!("maintner-{date}.mutlog"),
            Self::Frozen { number, digest } => {
                let mut name = format!("{number:04}.");
                write!(name, "{}.mutlog", hex::encode(digest)).expect("text grows");
                name
            }
            Self::Growing { number } => format!("{number:04}.growing.mutlog"),
        }
    }
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Whether a file of this name holds a part of a log, or says what its parts are.
pub fn is_log_file(name: &str) -> bool {
    name == MANIFEST || SegmentName::parse(name).is_some()
}

/// All segments in `dir`, sorted.
pub(super) fn list(dir: &Path) -> Result<Vec<SegmentName>, OpenError> {
    let io = |source| OpenError::Io { action: "list", path: dir.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let is_file = entry.file_type().map_err(io)?.is_file();
        names.extend(entry.file_name().to_str().filter(|_| is_file).and_then(SegmentName::parse));
    }
    names.sort();
    Ok(names)
}

/// Puts the segments of a folder without a manifest in order: days first, then numbers without a gap.
///
/// The numbers begin at 0 in a folder of Go's, and at the number of days in one of ours.
pub(super) fn adopt(dir: &Path, names: &[SegmentName]) -> Result<Vec<SegmentName>, OpenError> {
    let mut ordered: Vec<SegmentName> =
        names.iter().filter(|name| matches!(name, SegmentName::Daily(_))).cloned().collect();
    let problem =
        |name: &SegmentName, what: String| OpenError::Segment { path: file(dir, &name.file_name()), what };
    let mut rest: Vec<_> = names.iter().filter(|name| !matches!(name, SegmentName::Daily(_))).collect();
    rest.sort_by_key(|name| (number(name), matches!(name, SegmentName::Growing { .. })));
    for (at, name) in rest.iter().enumerate() {
        let expected = ordered.len() as u32;
        if number(name) != Some(expected) {
            return Err(problem(name, format!("is not segment {expected}, which should come here")));
        }
        if matches!(name, SegmentName::Growing { .. }) && at + 1 < rest.len() {
            return Err(problem(name, "grows, but others come after it".into()));
        }
        ordered.push((*name).clone());
    }
    Ok(ordered)
}

pub(super) fn number(name: &SegmentName) -> Option<u32> {
    match name {
        SegmentName::Daily(_) => None,
        SegmentName::Frozen { number, .. } | SegmentName::Growing { number } => Some(*number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_written() {
        let digest = "0123456789abcdef0123456789abcdef0123456789abcdef01234567";
        for name in [
            "maintner-2024-02-29.mutlog".to_owned(),
            "0000.growing.mutlog".to_owned(),
            format!("0042.{digest}.mutlog"),
            format!("12345.{digest}.mutlog"),
        ] {
            assert_eq!(SegmentName::parse(&name).unwrap().file_name(), name);
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let upper = "0000.0123456789ABCDEF0123456789abcdef0123456789abcdef01234567.mutlog";
        for name in [
            "maintner-2024-2-29.mutlog",
            "000.growing.mutlog",
            "00001.growing.mutlog",
            "0000.mutlog",
            "0000.ab.mutlog",
            "manifest.json",
            "lock",
            upper,
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn days_come_first_and_numbers_go_on_from_their_count() {
        let names = |list: &[&str]| -> Vec<SegmentName> {
            list.iter().map(|name| SegmentName::parse(name).unwrap()).collect()
        };
        let dir = Path::new("log");
        let adopted = adopt(
            dir,
            &names(&["0002.growing.mutlog", "maintner-2024-01-02.mutlog", "maintner-2024-01-01.mutlog"]),
        );
        assert!(adopted.is_ok());
        let gap = adopt(dir, &names(&["maintner-2024-01-01.mutlog", "0002.growing.mutlog"]));
        let message = gap.unwrap_err().to_string();
        assert_eq!(message, "`log/0002.growing.mutlog` is not segment 1, which should come here");
    }
}
