//! The names of temporary files. A write goes into one first.

use rand::TryRng;

use super::error::{DurableError, Result};

/// The end of the name, after 16 random hexadecimal digits.
const TEMPORARY: &str = ".new";

/// A new name for what will be `name`. No two writes use the same file.
pub(super) fn temporary_name(name: &str) -> Result<String> {
    let random = rand::rngs::SysRng.try_next_u64().map_err(|error| DurableError::Io {
        action: "naming a temporary file for",
        path: name.into(),
        source: std::io::Error::other(error),
    })?;
    Ok(format!("{name}.{random:016x}{TEMPORARY}"))
}

/// Whether a write made this name.
pub(super) fn is_temporary(name: &str) -> bool {
    let random = name.strip_suffix(TEMPORARY).and_then(|name| name.rsplit_once('.')).map(|(_, random)| random);
    random.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
