//! The address of a socket, in the forms that people write and that kube-apiserver reads.

use std::{fmt, path::PathBuf, str::FromStr};

/// The greatest length of an address in bytes. The kernel's `sun_path` has 108 bytes; one of them is a NUL after a path
/// or before an abstract name.
pub const ADDRESS_LIMIT: usize = 107;

/// Why a text is not the address of a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text has another form, or kube-apiserver would read another address.
    #[error("socket address {address:?}: expected {expected}")]
    Malformed {
        /// The text, as it was given.
        address: String,
        /// The form that was expected.
        expected: &'static str,
    },
    /// The address does not fit into the kernel's `sockaddr_un`.
    #[error(
        "socket address {address:?}: {found} bytes, expected at most {ADDRESS_LIMIT}, the size of the kernel's sun_path"
    )]
    TooLong {
        /// The text, as it was given.
        address: String,
        /// The length of the address in bytes.
        found: usize,
    },
}

/// A socket's address, as `--socket` takes it: an absolute path, `unix:///path`, `@name` or `unix:///@name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The path of a socket file.
    Path(PathBuf),
    /// A name in the kernel's abstract namespace, without the `@` that people write for its leading NUL.
    Abstract(String),
}

impl Address {
    /// Returns the address as an EncryptionConfiguration has it, `unix:///run/claviger/kms.sock` or `unix:///@name`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Path(path) => format!("unix://{}", path.display()),
            Self::Abstract(name) => format!("unix:///@{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Parses the value of `--socket`. `/@name` means `@name`, because Kubernetes reads it so.
    ///
    /// It is strict about characters, because kube-apiserver reads the same text as a URL and, up to 1.31, as an HTTP/2
    /// authority. A text that either of them would read differently is refused.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bare = text.strip_prefix("unix://").unwrap_or(text);
        let refuse = |expected| Err(AddressError::Malformed { address: text.to_owned(), expected });
        let name = bare.strip_prefix('@').or_else(|| bare.strip_prefix("/@"));
        if name.is_none() && !bare.starts_with('/') {
            return refuse("an absolute path, or @ and a name");
        }
        let (body, punctuation) = name.map_or((bare, "/._-+=,:~@"), |name| (name, "._-"));
        if body.contains(|c: char| !c.is_ascii_alphanumeric() && !punctuation.contains(c)) {
            return refuse("no other characters than letters, digits and plain punctuation");
        }
        if body.is_empty() || body.ends_with('/') || body.ends_with("/.") || body.ends_with("/..") {
            return refuse("a name at its end");
        }
        if body.len() > ADDRESS_LIMIT {
            return Err(AddressError::TooLong { address: text.to_owned(), found: body.len() });
        }
        Ok(name.map_or_else(|| Self::Path(bare.into()), |name| Self::Abstract(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_read_and_written_in_every_form() {
        for text in ["/run/claviger/kms.sock", "unix:///run/claviger/kms.sock"] {
            let address = parse(text);
            assert_eq!(address, Address::Path("/run/claviger/kms.sock".into()));
            assert_eq!(address.to_string(), "/run/claviger/kms.sock");
            assert_eq!(address.endpoint(), "unix:///run/claviger/kms.sock");
        }
        for text in ["@claviger", "unix:///@claviger", "/@claviger"] {
            let address = parse(text);
            assert_eq!(address, Address::Abstract("claviger".into()));
            assert_eq!(address.to_string(), "@claviger");
            assert_eq!(address.endpoint(), "unix:///@claviger");
        }
    }

    #[test]
    fn an_address_that_could_be_misread_is_refused() {
        for (text, expected) in [
            ("kms.sock", "an absolute path, or @ and a name"),
            ("unix://kms.sock", "an absolute path, or @ and a name"),
            ("unix:/run/kms.sock", "an absolute path, or @ and a name"),
            ("", "an absolute path, or @ and a name"),
            ("/", "a name at its end"),
            ("/run/claviger/", "a name at its end"),
            ("/run/claviger/..", "a name at its end"),
            ("/run/claviger/.", "a name at its end"),
            ("@", "a name at its end"),
            ("/run/a b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a%20b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a?b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a\nb", "no other characters than letters, digits and plain punctuation"),
            ("/run/é", "no other characters than letters, digits and plain punctuation"),
            ("@a/b", "no other characters than letters, digits and plain punctuation"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.to_string(), format!("socket address {text:?}: expected {expected}"));
        }
    }

    #[test]
    fn an_address_ends_where_sun_path_does() {
        for start in ["/", "@"] {
            let fits = format!("{start}{}", "x".repeat(if start == "/" { 106 } else { 107 }));
            parse(&fits);
            let long = format!("{fits}x");
            let text =
                format!("socket address {long:?}: 108 bytes, expected at most 107, the size of the kernel's sun_path");
            assert_eq!(long.parse::<Address>().unwrap_err().to_string(), text);
        }
    }
}
