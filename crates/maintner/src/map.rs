//! Files that never change, mapped. The one place of this crate with `unsafe`.
//!
//! A mapping is sound as long as nobody changes the file below it, and reading it ends the process if somebody makes
//! the file shorter. So only frozen segments and snapshots are mapped, which are written once, under another name, and
//! renamed: nobody who follows that rule does either. The segment that grows is read.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe, and copying a gigabyte instead takes longer than its replay"
)]

use std::{fs::File, io};

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a file that never changes.
pub(crate) fn frozen(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // nothing cannot be mapped
    }
    // SAFETY: the file is one that is never changed nor made shorter, as the top of this module says.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
