//! What a failed command ends with: its exit code, and a hint.

use std::{path::Path, process::ExitCode};

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Found = 1,
    Usage = 2,
    Refused = 3,
    WrongKey = 4,
    Disk = 5,
    Unreachable = 6,
    Damaged = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An exit code, and a hint if there is one.
pub type Explanation = (Exit, Option<String>);

/// Says what an operator can do about the error of an operation.
pub trait Explain {
    /// The exit code and the hint; `state_dir` is the directory of the operation.
    fn explain(&self, state_dir: &Path) -> Explanation;
}

pub(super) fn refused(hint: &str) -> Explanation {
    (Exit::Refused, Some(hint.to_owned()))
}
