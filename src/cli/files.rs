//! Reads files that other programs wrote, and reports failures with their path.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::failure::{Exit, Failure};

/// Reads a text file of at most `limit` bytes. The copy in memory is wiped after use, because an
/// EncryptionConfiguration may contain keys.
pub(super) fn read_text(path: &Path, limit: usize) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Exit::Usage,
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => Exit::Damaged,
            io::ErrorKind::PermissionDenied => Exit::Refused,
            _ => Exit::Disk,
        };
        Failure::new(exit, &format!("reading {}: {error}", path.display()), None)
    };
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > limit { Err(unreadable(io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
}

/// Makes the failure for a file with wrong contents.
pub(super) fn wrong(path: &Path, error: &impl Display, hint: Option<&str>) -> Failure {
    Failure::new(Exit::Damaged, &format!("{}: {error}", path.display()), hint.map(ToOwned::to_owned))
}

/// Returns the path as the root file will contain it: absolute, and in UTF-8.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let wrong =
        |reason: &dyn Display| Failure::new(Exit::Usage, &format!("--slot-file {}: {reason}", path.display()), None);
    let path = std::path::absolute(path).map_err(|error| wrong(&error))?;
    if path.to_str().is_some() { Ok(path) } else { Err(wrong(&"not UTF-8")) }
}
