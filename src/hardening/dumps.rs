//! No core dumps, and no debuggers.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, and that other processes of the same user attach. Source: prctl(2), `PR_SET_DUMPABLE`.
///
/// # Errors
/// When the kernel refuses. Then the process must not read anything secret.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
