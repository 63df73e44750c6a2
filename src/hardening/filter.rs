//! Installs the filter of system calls, by seccomp. `calls` has the list.

use std::{collections::BTreeMap, env::consts::ARCH, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{
    calls::{self, Condition, Narrowed, OwnFacts, SystemCall},
    layers::LayerState,
};

/// Gives up every system call that a daemon does not need, in all threads: it fails with EPERM from now on. No thread
/// can be started any more. Source: seccomp(2), `SECCOMP_FILTER_FLAG_TSYNC`.
///
/// # Errors
/// When the kernel refuses.
pub fn restrict_calls(own: OwnFacts) -> Result<LayerState, seccompiler::Error> {
    match seccompiler::apply_filter_all_threads(&filter(own)?) {
        Ok(()) => Ok(LayerState::On),
        // These errors of seccomp(2) mean that the kernel has no filters, or does not know the flag.
        Err(seccompiler::Error::Seccomp(error)) if is_unknown(&error) => Ok(LayerState::Unsupported),
        Err(error) => Err(error),
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

fn filter(own: OwnFacts) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let whatever = [calls::USUAL, calls::OLDER, calls::RARE].into_iter().flatten();
    rules.extend(whatever.map(|(_, number): &SystemCall| (*number, Vec::new())));
    for Narrowed { call: (_, number), conditions } in calls::narrowed(own) {
        let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
        rules.entry(number).or_default().push(SeccompRule::new(conditions)?);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

fn condition(condition: &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let Condition { argument, mask, value } = condition;
    SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(*mask), *value)
}
