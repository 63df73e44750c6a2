//! The methods of the API, by the names that metrics and logs give them.

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `Status`
    Status,
    /// `Encrypt`
    Encrypt,
    /// `Decrypt`
    Decrypt,
    /// Any other method. The peer's own text must not become a label.
    Other,
}

impl Method {
    /// Returns its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
            Self::Other => "other",
        }
    }
}
