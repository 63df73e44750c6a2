//! The names of temporary files. Every write goes into one first.

use rand::TryRng;

use super::error::{DurableError, Result};

/// The suffix of the name, which follows 16 random hexadecimal digits.
const TEMPORARY: &str = ".new";

/// Returns a new name for the temporary file that will become `name`. It is random, so that no two writes use the same
/// file.
pub(super) fn temporary_name(name: &str) -> Result<String> {
    let random = rand::rngs::SysRng.try_next_u64().map_err(|error| DurableError::Io {
        action: "naming a temporary file for",
        path: name.into(),
        source: std::io::Error::other(error),
    })?;
    Ok(format!("{name}.{random:016x}{TEMPORARY}"))
}

/// Whether this is the name of a temporary file.
pub(super) fn is_temporary(name: &str) -> bool {
    let random = name.strip_suffix(TEMPORARY).and_then(|name| name.rsplit_once('.')).map(|(_, random)| random);
    random.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
