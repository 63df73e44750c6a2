//! The methods of the KMS API, with their names in metrics and logs.

/// The gRPC method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The method `Status`.
    Status,
    /// The method `Encrypt`.
    Encrypt,
    /// The method `Decrypt`.
    Decrypt,
    /// Any other method. The name that the peer sent must not become a label.
    Other,
}

impl Method {
    /// Returns the name of the method in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
            Self::Other => "other",
        }
    }
}
