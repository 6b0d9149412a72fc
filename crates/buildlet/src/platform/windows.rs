//! What Windows answers.
//!
//! `unsafe` for its functions that have no safe form: each is given what it asks for, of the size that it asks for.
#![expect(
    unsafe_code,
    reason = "functions of Windows have no safe form; what is said at each makes them sound"
)]

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions},
    io, mem,
    os::windows::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, OpenOptionsExt as _},
        io::{AsRawHandle as _, FromRawHandle as _},
    },
    path::{Path, PathBuf},
    ptr,
    time::{Duration, UNIX_EPOCH},
};

use cap_std::fs::Dir;
use windows_sys::{
    Wdk::{
        Storage::FileSystem::{FileFsFullSizeInformation, NtQueryVolumeInformationFile},
        System::SystemServices::FILE_FS_FULL_SIZE_INFORMATION,
    },
    Win32::{
        Foundation::{HANDLE, WAIT_TIMEOUT},
        Storage::FileSystem::{FILE_FLAG_DELETE_ON_CLOSE, GetDiskFreeSpaceExW},
        System::{
            IO::IO_STATUS_BLOCK,
            SystemInformation::{GetTickCount64, GlobalMemoryStatusEx, MEMORYSTATUSEX},
            Threading::{
                OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE,
                TerminateProcess, WaitForSingleObject,
            },
        },
    },
};

pub(crate) use std::os::windows::io::{AsHandle, OwnedHandle as Handle};

/// Where programs are looked for if the buildlet itself has no PATH.
pub(crate) const DEFAULT_PATH: &str = r"C:\Windows\system32;C:\Windows";
/// Variables that name the home folder.
pub(crate) const HOME_VARIABLES: &[&str] = &["HOME", "USERPROFILE"];
/// Variables that name the folder for temporary files.
pub(crate) const TMP_VARIABLES: &[&str] = &["TMPDIR", "TEMP", "TMP"];
/// Variables of the machine that no program can do without.
pub(crate) const NEEDED_VARIABLES: &[&str] = &[
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "OS",
    "NUMBER_OF_PROCESSORS",
    "PROCESSOR_ARCHITECTURE",
    "ProgramData",
    "ProgramFiles",
    "ProgramFiles(x86)",
    "CommonProgramFiles",
];
/// The shell that programs start.
pub(crate) const SHELL: Option<&str> = None;
/// What a name may lack to name a program.
pub(crate) const PROGRAM_ENDINGS: &[&str] = &["", ".exe", ".com", ".bat", ".cmd"];

/// Has a file that is made get a mode: here it has the rights of its folder.
pub(crate) fn with_mode(options: &mut OpenOptions, _mode: u32) -> &mut OpenOptions {
    options
}

/// Makes a folder, and those above it. It has the rights of the one above: that must be its user's alone.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Has files be made as builds expect them.
pub(crate) fn make_files_as_usual() {}

/// A path as programs like it: many cannot use one that begins with `\\?\`, as the system gives it.
pub(crate) fn plain_path(path: PathBuf) -> PathBuf {
    let plain = path.to_str().and_then(|text| text.strip_prefix(r"\\?\"));
    let plain = plain.filter(|text| text.as_bytes().get(1) == Some(&b':')).map(PathBuf::from);
    plain.unwrap_or(path)
}

/// A name in an archive as one of a file.
pub(crate) fn file_name(bytes: &[u8]) -> Result<OsString, &'static str> {
    let name = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    crate::names::check(name).map(|()| name.into())
}

/// Where a link in an archive leads.
pub(crate) fn link_target(bytes: Vec<u8>) -> Option<OsString> {
    Some(String::from_utf8(bytes).ok()?.replace('/', "\\").into())
}

/// Bytes that builds may still use on the volume of a folder.
pub(crate) fn free_bytes(folder: impl AsHandle) -> io::Result<u64> {
    let folder = folder.as_handle();
    let (mut status, mut sizes) = (IO_STATUS_BLOCK::default(), FILE_FS_FULL_SIZE_INFORMATION::default());
    // SAFETY: The handle lives, and both places are as large as is said.
    let code = unsafe {
        NtQueryVolumeInformationFile(
            folder.as_raw_handle(),
            &raw mut status,
            (&raw mut sizes).cast(),
            mem::size_of_val(&sizes) as u32,
            FileFsFullSizeInformation,
        )
    };
    if code < 0 {
        return Err(io::Error::other(format!("the volume does not say what is free ({code:#x})")));
    }
    let unit = u64::from(sizes.SectorsPerAllocationUnit) * u64::from(sizes.BytesPerSector);
    Ok(u64::try_from(sizes.CallerAvailableAllocationUnits).unwrap_or(0).saturating_mul(unit))
}

/// The same for a path.
pub(crate) fn free_bytes_at(folder: &Path) -> io::Result<u64> {
    let path: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0;
    // SAFETY: The path ends with 0, and there is room for the one number that is asked for.
    let done = unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, ptr::null_mut(), ptr::null_mut()) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(free) }
}

/// Fills a buffer from a place in a file.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// Makes a file that was not there. What lay in its place is removed, not followed.
pub(crate) fn new_file(parent: &Dir, name: &OsStr, _mode: u32) -> io::Result<File> {
    let mut options = cap_std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    let made = match parent.open_with(name, &options) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            parent.remove_file(name).and_then(|()| parent.open_with(name, &options))
        }
        made => made,
    };
    made.map(cap_std::fs::File::into_std)
}

/// Says when a file was changed last, in seconds since 1970.
pub(crate) fn set_modified(file: &File, seconds: i64) -> io::Result<()> {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    file.set_modified(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH))
}

/// Makes a symbolic link. Windows tells those to folders from those to files, and lets few users make either.
pub(crate) fn symlink(parent: &Dir, target: &OsStr, name: &OsStr) -> io::Result<()> {
    if parent.metadata(target).is_ok_and(|found| found.is_dir()) {
        parent.symlink_dir(target, name)?;
    } else {
        parent.symlink_file(target, name)?;
    }
    // Old versions of wine say that they have made one, and have not.
    if parent.symlink_metadata(name).is_ok_and(|made| made.is_symlink()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system makes no symbolic links"))
}

/// Sets the mode of what lies below a folder: there is none.
pub(crate) fn set_mode(_dir: &Dir, _path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// The lower nine bits of a mode, as a system that has one needs them: every file may be a program.
pub(crate) fn mode(_metadata: &cap_std::fs::Metadata) -> u32 {
    0o755
}

/// When something was changed last: seconds since 1970, and nanoseconds.
pub(crate) fn modified(metadata: &cap_std::fs::Metadata) -> (i64, i32) {
    let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    (since.as_secs() as i64, since.subsec_nanos() as i32)
}

/// Bytes on disk, as far as it matters.
pub(crate) fn bytes_on_disk(metadata: &cap_std::fs::Metadata) -> u64 {
    metadata.len()
}

/// Whether a signal has this number: there are none.
pub(crate) fn is_signal(_number: i32) -> bool {
    false
}

/// Whether this process may do everything: not looked at.
pub(crate) fn is_root() -> bool {
    false
}

/// Whether others than its owner may use a file: that is in lists of rights, which are not looked at.
pub(crate) fn is_open_to_others(_metadata: &Metadata) -> bool {
    false
}

/// Whether a file belongs to the user of this process: not looked at.
pub(crate) fn is_ours(_metadata: &Metadata) -> bool {
    true
}

/// Whether a file is one that this process can run.
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// Whether this process may write to what is there.
pub(crate) fn is_writable(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok()
}

/// The machine's name.
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Keeps this process's memory from others: left to the system's own rules.
pub(crate) fn hide_memory() -> io::Result<()> {
    Ok(())
}

/// The load average: the system has none.
pub(crate) fn load() -> f64 {
    0.0
}

/// Memory in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let mut status =
        MEMORYSTATUSEX { dwLength: mem::size_of::<MEMORYSTATUSEX>() as u32, ..Default::default() };
    // SAFETY: The place is as large as it says itself.
    let done = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    if done == 0 { 0 } else { status.ullTotalPhys }
}

/// For how long the machine has been up.
pub(crate) fn uptime() -> Option<Duration> {
    // SAFETY: It takes nothing and returns a number.
    Some(Duration::from_millis(unsafe { GetTickCount64() }))
}

/// A handle to a process, if there is one with this id.
fn process(pid: u32, rights: u32) -> Option<Handle> {
    // SAFETY: It takes numbers; what it returns is ours alone, unless it is null.
    unsafe {
        let handle: HANDLE = OpenProcess(rights, 0, pid);
        (!handle.is_null()).then(|| Handle::from_raw_handle(handle))
    }
}

/// Whether a process lives.
pub(crate) fn is_alive(pid: u32) -> bool {
    let rights = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
    // SAFETY: The handle lives, and with no time to wait it only looks.
    pid != 0
        && process(pid, rights)
            .is_some_and(|process| unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } == WAIT_TIMEOUT)
}

/// Ends a process.
pub(crate) fn kill(pid: u32) {
    if let Some(process) = process(pid, PROCESS_TERMINATE) {
        // SAFETY: The handle lives.
        unsafe { TerminateProcess(process.as_raw_handle(), 1) };
    }
}

/// Asks a buildlet to end: nobody can be asked from outside, and one that is killed takes its execs with it.
pub(crate) fn ask_to_end(pid: u32) {
    kill(pid);
}

/// How often it is looked whether somebody asks.
const LOOK: Duration = Duration::from_secs(1);

/// Asks a buildlet to end once it has nothing to do: by a file in its state.
pub(crate) fn ask_to_drain(_pid: u32, state: &Path) {
    if let Err(error) = std::fs::write(state.join("drain"), "") {
        tracing::warn!("cannot ask the buildlet to drain: {error}");
    }
}

/// Hears of [`ask_to_drain`].
#[derive(Debug)]
pub(crate) struct DrainAsked(PathBuf);

impl DrainAsked {
    /// From now on.
    pub(crate) fn listen(state: &Path) -> io::Result<Self> {
        let path = state.join("drain");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self(path)),
        }
    }

    /// Waits until somebody asks.
    pub(crate) async fn wait(&mut self) {
        while !self.0.exists() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A file that goes when it is closed.
pub(crate) fn nameless_file(folder: &Path) -> io::Result<File> {
    let path = folder.join(runtime::new_id().to_string());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(FILE_FLAG_DELETE_ON_CLOSE).open(path)
}

/// Gives the disk space of a file's beginning back: kept until the file goes.
pub(crate) fn give_back(_file: &Path, _until: u64) -> io::Result<()> {
    Ok(())
}

/// A hint to Linux's file systems.
pub(crate) fn spread(_folder: &Path) {}

/// What is mounted below a folder: nothing that could not be removed with it.
pub(crate) fn mounts_below(_folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// Removes a mount.
pub(crate) fn unmount(_mount: &Path) -> io::Result<()> {
    Ok(())
}
