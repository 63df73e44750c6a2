//! Forbids core dumps and debuggers, and locks the memory of commands so that it is not swapped.

use std::{fs, io};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Forbids core dumps, and forbids other processes of the same user to attach. Source: prctl(2), `PR_SET_DUMPABLE`.
///
/// # Errors
/// When the kernel refuses. Then the process must not read anything secret.
pub fn forbid_dumps() -> io::Result<()> {
    exclude_all_memory();
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Excludes all memory from a core dump that root takes nevertheless, unless root asks for the excluded memory, too. A
/// process that is not dumpable must be root to do this. Without `/proc` this is skipped. Source: core(5),
/// `/proc/PID/coredump_filter`.
fn exclude_all_memory() {
    _ = fs::write("/proc/self/coredump_filter", "0");
}

/// A limit of locked memory, in bytes, that is enough for every command. The passphrase of a slot may take 1 GiB.
const ENOUGH: u64 = 2 << 30;

/// Locks all present and later memory of a command that reads an identity, shares or a passphrase. Libraries copy
/// these secrets to ordinary memory, which only this call locks. Returns whether the memory is locked. A process that
/// may lock only a little locks nothing, because a later allocation would fail then. Source: mlockall(2), getrlimit(2).
pub fn lock_memory() -> bool {
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    (has_enough() || is_without_limit()) && mlockall(everything).is_ok()
}

/// Raises the limit of locked memory as far as possible. Returns whether that is enough.
fn has_enough() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    let limit = getrlimit(Resource::Memlock);
    let highest = Rlimit { current: limit.maximum, ..limit };
    let raised = [unlimited, highest].into_iter().any(|limit| setrlimit(Resource::Memlock, limit).is_ok());
    raised && getrlimit(Resource::Memlock).current.is_none_or(|limit| limit >= ENOUGH)
}

/// Whether the process has `CAP_IPC_LOCK`, so that the limit does not hold for it. With a limit of 0, a process
/// can lock memory only if it has this capability. Tries that, because /proc may show a capability that the kernel does
/// not honour in a container.
fn is_without_limit() -> bool {
    let limit = getrlimit(Resource::Memlock);
    let none = Rlimit { current: Some(0), ..limit };
    let locks =
        setrlimit(Resource::Memlock, none).is_ok() && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT).is_ok();
    setrlimit(Resource::Memlock, limit).is_ok() && locks
}
