//! The errors of the harness: what went wrong, and what to do.

use std::fmt;

/// The result of every function of the harness.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A text for the reader of a failed test: the object, what was found, and a hint on its own line.
///
/// There are no variants, as nothing but a person acts on it, with one exception: [`Error::is_port_taken`].
#[derive(Clone)]
pub(crate) struct Error {
    message: String,
    hint: Option<String>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message, hint: None }
    }

    /// Adds a hint. An existing hint is closer to the cause, and stays.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Puts the name of the attempt before the message.
    pub(crate) fn during(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Whether a program ended because another one had its port.
    ///
    /// The message holds the program's last log lines, and all of ours are written in Go, which has one text for it.
    pub(crate) fn is_port_taken(&self) -> bool {
        self.message.contains("address already in use")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Prints the same as `Display`, because `unwrap` and a failing `main` print it, and escaped line breaks would spoil
/// the logs in it.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Error {}

/// Turns any failure into an [`Error`] with the name of the attempt.
pub(crate) trait Context<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(format!("{}: {cause}", what())))
    }
}
