//! No core dumps, no debuggers, and no swapping.

use std::{fs, io};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Forbids core dumps, and that other processes of the same user attach. Source: prctl(2), `PR_SET_DUMPABLE`.
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
/// process that is not dumpable must be root to do this. Without `/proc` the rest has to be enough. Source: core(5),
/// `/proc/PID/coredump_filter`.
fn exclude_all_memory() {
    _ = fs::write("/proc/self/coredump_filter", "0");
}

/// A limit of locked memory that no command reaches, in bytes. A slot's passphrase may take 1 GiB of memory.
const ENOUGH: u64 = 2 << 30;

/// Locks all memory of a command that reads an identity, shares or a passphrase, now and later: libraries copy them to
/// places that nobody else can lock. Returns whether it is locked. A process that may lock only a little locks nothing,
/// because a later allocation would fail then. Source: mlockall(2), getrlimit(2).
pub fn lock_memory() -> bool {
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    (has_enough() || is_without_limit()) && mlockall(everything).is_ok()
}

/// Raises the limit of locked memory as far as it can, and returns whether that is enough.
fn has_enough() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    let limit = getrlimit(Resource::Memlock);
    let highest = Rlimit { current: limit.maximum, ..limit };
    let raised = [unlimited, highest].into_iter().any(|limit| setrlimit(Resource::Memlock, limit).is_ok());
    raised && getrlimit(Resource::Memlock).current.is_none_or(|limit| limit >= ENOUGH)
}

/// Whether the limit does not hold for this process, because it has `CAP_IPC_LOCK`. With a limit of 0 the
/// kernel lets no other process lock memory. A container shows capabilities that the kernel does not honour, so this
/// asks the kernel.
fn is_without_limit() -> bool {
    let limit = getrlimit(Resource::Memlock);
    let none = Rlimit { current: Some(0), ..limit };
    let locks =
        setrlimit(Resource::Memlock, none).is_ok() && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT).is_ok();
    setrlimit(Resource::Memlock, limit).is_ok() && locks
}
