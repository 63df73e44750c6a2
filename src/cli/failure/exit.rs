//! The exit codes of commands, and the pair of exit code and hint with which a failed command ends.

use std::process::ExitCode;

/// The exit codes, as `docs/errors.md` documents them.
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
    Interrupted = 130,
    /// The reader of the output has closed the pipe: 128 + SIGPIPE, as a shell reports it.
    PipeClosed = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code and the hint with which a failed command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The exit code of the command.
    pub exit: Exit,
    /// The hint for the operator, if there is one.
    pub hint: Option<String>,
}

impl Explanation {
    /// Returns the explanation with the same exit code and this hint.
    pub(super) fn with_hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }
}

/// An error that has an exit code and perhaps a hint.
pub trait Explain {
    /// Returns the exit code and the hint.
    fn explain(&self) -> Explanation;
}

/// Returns the explanation with this exit code and hint.
pub(super) fn with(exit: Exit, hint: &str) -> Explanation {
    Explanation { exit, hint: Some(hint.to_owned()) }
}

pub(super) fn refused(hint: &str) -> Explanation {
    with(Exit::Refused, hint)
}
