//! What comes of a command, as a job of Windows: whatever a process in it starts is in it too, and all of it ends with the
//! last handle to the job, which is ours. So nothing outlives the buildlet, however that ends.
//!
//! `unsafe` for the functions that make and ask jobs: each is given a handle that lives and a place of the size it is told.
#![expect(unsafe_code, reason = "functions of jobs have no safe form; what is said at each makes them sound")]

use std::{
    io, mem,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    process::ExitStatus,
    ptr,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use windows_sys::Win32::{
    Foundation::HANDLE,
    System::{
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
            JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS,
            JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation,
            QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
        },
        Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED},
    },
};

use crate::keeper::contract::Usage;

/// How long processes that were ended may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtResumeProcess(process: HANDLE) -> i32;
}

/// The signal that ended a process: there are none.
pub(super) fn ending_signal(_status: ExitStatus) -> Option<i32> {
    None
}

/// The job of a command.
#[derive(Debug)]
pub(super) struct Tree {
    job: OwnedHandle,
}

impl Tree {
    /// Has a command wait until it is in its job: it starts nothing before.
    pub(super) fn prepare(command: &mut Command) {
        command.creation_flags(CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW);
    }

    /// Puts a command that was prepared into a job, and lets it go.
    pub(super) fn adopt(child: &Child) -> io::Result<Self> {
        let process = child.raw_handle().ok_or_else(|| io::Error::other("it has ended before it began"))?;
        // SAFETY: It takes no name and no rights; what it returns is ours alone, unless it is null.
        let job: RawHandle = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: As was just said.
        let tree = Self { job: unsafe { OwnedHandle::from_raw_handle(job) } };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: Both handles live, and the limits are as large as is said.
        let done = unsafe {
            SetInformationJobObject(
                job,
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                mem::size_of_val(&limits) as u32,
            ) != 0
                && AssignProcessToJobObject(job, process) != 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The handle lives, and the process is ours.
        match unsafe { NtResumeProcess(process) } {
            0.. => Ok(tree),
            code => Err(io::Error::other(format!("it cannot be let go ({code:#x})"))),
        }
    }

    /// Sends a signal: there are none.
    pub(super) fn signal(&self, _number: i32) {}

    /// Asks all of it to end: nobody can be asked, so it is ended.
    pub(super) fn ask_to_end(&self) {
        self.kill();
    }

    /// Ends all of it.
    pub(super) fn kill(&self) {
        // SAFETY: The handle lives.
        unsafe { TerminateJobObject(self.job.as_raw_handle(), 1) };
    }

    /// What it uses.
    pub(super) fn usage(&self) -> Usage {
        let limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = self.ask(JobObjectExtendedLimitInformation);
        Usage { processes: self.processes(), memory_bytes: limits.PeakJobMemoryUsed as u64 }
    }

    fn processes(&self) -> u32 {
        let counts: JOBOBJECT_BASIC_ACCOUNTING_INFORMATION = self.ask(JobObjectBasicAccountingInformation);
        counts.ActiveProcesses
    }

    /// Asks the job something. Only for kinds whose answer is a `T`.
    fn ask<T: Default>(&self, kind: JOBOBJECTINFOCLASS) -> T {
        let mut answer = T::default();
        // SAFETY: The handle lives, and the place is as large as is said: the system refuses a kind that needs another size.
        unsafe {
            QueryInformationJobObject(
                self.job.as_raw_handle(),
                kind,
                (&raw mut answer).cast(),
                mem::size_of::<T>() as u32,
                ptr::null_mut(),
            );
        }
        answer
    }

    /// Ends what is left once the command has ended: how many there were, and how many are left.
    pub(super) async fn end(&self) -> (u32, u32) {
        let left = self.processes();
        if left == 0 {
            return (0, 0);
        }
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            self.kill();
            let remaining = self.processes();
            if remaining == 0 || begin.elapsed() > KILL_TIMEOUT {
                return (left, remaining);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}
