//! No core dumps, no debuggers, and no swapping.

use std::io;

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Forbids core dumps, and that other processes of the same user attach. Source: prctl(2), `PR_SET_DUMPABLE`.
///
/// # Errors
/// When the kernel refuses. Then the process must not read anything secret.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Locks all memory of a command that reads an identity, shares or a passphrase, now and later: libraries copy them to
/// places that nobody else can lock. Returns whether it is locked. Without the right to lock any amount, nothing is
/// locked, because a later allocation would fail then. Source: mlockall(2), getrlimit(2).
pub fn lock_memory() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    let may_lock_all = getrlimit(Resource::Memlock) == unlimited || setrlimit(Resource::Memlock, unlimited).is_ok();
    may_lock_all && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}
