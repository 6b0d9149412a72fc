//! Files that never change, mapped. The one place of this crate with `unsafe`.
//!
//! A mapping is sound as long as nobody changes the file below it, and reading it ends the process if somebody makes
//! the file shorter. So only frozen segments and snapshots are mapped, which are written once, under another name, and
//! renamed: nobody who follows that rule does either. The segment that grows is read.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe, and copying a gigabyte instead takes longer than its replay"
)]

use std::{
    fs::File,
    io,
    ops::{Deref, DerefMut},
};

use bytes::Bytes;
use memmap2::{Mmap, MmapMut, MmapOptions};

/// Maps a file that never changes.
pub(crate) fn frozen(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // nothing cannot be mapped
    }
    // SAFETY: the file is one that is never changed nor made shorter, as the top of this module says.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Memory that the system maps: a part of a file that never changes, or zeros. What is written to it stays in this
/// process.
#[derive(Debug, Default)]
pub(crate) struct Section(Option<MmapMut>);

impl Section {
    /// Maps a part of a file, and reads it ahead if the system knows how to.
    pub(crate) fn map(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self::default()); // nothing cannot be mapped
        }
        // SAFETY: the file is one that is never changed nor made shorter, as the top of this module says.
        let map = unsafe { MmapOptions::new().offset(offset).len(len).map_copy(file)? };
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::PopulateRead); // only saves time, and an old kernel does not know it
        Ok(Self(Some(map)))
    }

    /// Zeros, in pages as large as the system has: what is looked at here and there is found sooner in few pages.
    pub(crate) fn zeros(len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_anon()?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // only saves time, and not every kernel has them
        Ok(Self(Some(map)))
    }
}

impl Deref for Section {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Section {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}
