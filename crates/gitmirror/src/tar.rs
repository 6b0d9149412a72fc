//! Headers of tar archives (POSIX ustar, with pax records where it is too small), the same bytes for the same input.

/// The size of a header, and what contents are padded to.
pub(crate) const BLOCK: usize = 512;
/// The end of an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What stands in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Executable,
    Link,
}

impl Kind {
    fn flag(self) -> u8 {
        match self {
            Self::Folder => b'5',
            Self::File | Self::Executable => b'0',
            Self::Link => b'2',
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::File => 0o644,
            Self::Folder | Self::Executable => 0o755,
            Self::Link => 0o777,
        }
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind,
    /// The size of the content that follows; 0 for folders and links.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) time: i64,
    /// Where a link points to.
    pub(crate) target: &'a [u8],
}

/// How many zeros follow a content.
pub(crate) fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Appends the header of an entry, and before it a pax one if something does not fit.
pub(crate) fn append(out: &mut Vec<u8>, header: &Header<'_>) {
    let split = split(header.path);
    let mut records = Vec::new();
    if split.is_none() {
        record(&mut records, "path", header.path);
    }
    if header.target.len() > 100 {
        record(&mut records, "linkpath", header.target);
    }
    if header.size > MAX_OCTAL {
        record(&mut records, "size", header.size.to_string().as_bytes());
    }
    let time = header.time.max(0).unsigned_abs();
    if !records.is_empty() {
        let name = (&b""[..], &b"pax"[..]);
        block(out, name, b'x', (0o644, records.len() as u64, time), b"");
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    let name = split.unwrap_or((b"", &header.path[..header.path.len().min(100)]));
    let target = &header.target[..header.target.len().min(100)];
    let size = if header.size > MAX_OCTAL { 0 } else { header.size };
    block(out, name, header.kind.flag(), (header.kind.mode(), size, time), target);
}

/// The largest number in eleven octal digits.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// Splits a path into ustar's prefix and name; none if it does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The first slash that leaves a name short enough; a folder's own slash at the end does not split.
    let from = path.len() - 101;
    let slash = from + path[from..path.len() - 1].iter().position(|byte| *byte == b'/')?;
    (1..=155).contains(&slash).then(|| (&path[..slash], &path[slash + 1..]))
}

fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn block(
    out: &mut Vec<u8>,
    (prefix, name): (&[u8], &[u8]),
    flag: u8,
    numbers: (u32, u64, u64),
    target: &[u8],
) {
    let (mode, size, time) = numbers;
    let mut block = [0_u8; BLOCK];
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], u64::from(mode));
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], time.min(MAX_OCTAL));
    block[148..156].fill(b' ');
    block[156] = flag;
    block[157..157 + target.len()].copy_from_slice(target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[265..269].copy_from_slice(b"root");
    block[297..301].copy_from_slice(b"root");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block[155] = b' ';
    out.extend_from_slice(&block);
}

/// Octal digits, zeros before them and a NUL behind.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    field[digits] = 0;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value % 8) as u8;
        value /= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GNU tar makes of an archive with one entry.
    fn list(header: &Header<'_>) -> String {
        let mut bytes = Vec::new();
        append(&mut bytes, header);
        bytes.resize(bytes.len() + header.size as usize + padding(header.size), 0);
        bytes.extend_from_slice(&END);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        let out = std::process::Command::new("tar")
            .args(["--utc", "--full-time", "--quoting-style=literal", "-tvf"])
            .arg(&path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn file(path: &[u8]) -> Header<'_> {
        Header { path, kind: Kind::File, size: 3, time: 1_700_000_000, target: b"" }
    }

    #[test]
    fn tar_reads_what_we_write() {
        assert_eq!(list(&file(b"a/b")), "-rw-r--r-- root/root 3 2023-11-14 22:13:20 a/b");
        let folder = Header { kind: Kind::Folder, size: 0, ..file(b"d/") };
        assert_eq!(list(&folder), "drwxr-xr-x root/root 0 2023-11-14 22:13:20 d/");
        let link = Header { kind: Kind::Link, size: 0, target: b"../x", ..file(b"l") };
        assert_eq!(list(&link), "lrwxrwxrwx root/root 0 2023-11-14 22:13:20 l -> ../x");
        let before_1970 = Header { kind: Kind::Executable, time: -5, ..file(b"x") };
        assert_eq!(list(&before_1970), "-rwxr-xr-x root/root 3 1970-01-01 00:00:00 x");
    }

    #[test]
    fn long_and_foreign_names_survive() {
        let lengths = [99, 100, 101, 155, 156, 200, 255, 256, 257, 300, 5000];
        for length in lengths {
            for path in ["x".repeat(length), "dir/".repeat(length / 4) + "é"] {
                assert!(list(&file(path.as_bytes())).ends_with(&format!(" {path}")), "{length}");
            }
            let target = "t/".repeat(length / 2);
            let link = Header { kind: Kind::Link, size: 0, target: target.as_bytes(), ..file(b"l") };
            assert!(list(&link).ends_with(&format!("-> {target}")), "{length}");
            let folder = "d/".repeat(length / 2);
            assert!(
                list(&Header { kind: Kind::Folder, size: 0, ..file(folder.as_bytes()) }).ends_with(&folder)
            );
        }
    }

    #[test]
    fn a_size_beyond_eight_gigabytes_has_a_record() {
        let mut bytes = Vec::new();
        append(&mut bytes, &Header { size: MAX_OCTAL + 1, ..file(b"big") });
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("19 size=8589934592\n"), "{text}");
    }
}
