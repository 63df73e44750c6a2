//! Files that somebody else wrote: read whole, up to a limit, and refused with their path.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

use super::failure::{Exit, Failure};

/// Reads the text of a file of at most `limit` bytes. The copy in memory is wiped after use: an EncryptionConfiguration may hold keys.
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

/// The failure of a file that is not what it should be.
pub(super) fn wrong(path: &Path, error: &impl Display, hint: Option<&str>) -> Failure {
    Failure::new(Exit::Damaged, &format!("{}: {error}", path.display()), hint.map(ToOwned::to_owned))
}
