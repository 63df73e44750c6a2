//! Hints for files, for the text formats in them, and for memory.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use rustix::io::Errno;

use super::{
    super::given::quoted,
    exit::{Exit, Explain, Explanation, refused, with},
};
use crate::{
    durable::{DurableError, FileKind},
    memory::{RandomError, SecretError},
    store::StoreError,
    text::TextError,
};

/// The hint for a step that the kernel refuses only when a limit is reached.
pub(super) const LIMITS: &str = "look for a limit that is reached: `ulimit -n` shows how many files a process may open";

pub(super) const RESTORE: &str = "put it back from your copy of the state directory, or from a backup: claviger backup restore FILE; never \
                       start over with `init`: what is encrypted needs these keys";

/// The hint if no slot opens the root key any more. A merge cannot help then, because it needs the root key.
pub(super) const RESTORE_INSTEAD: &str = "move the state directory away, and restore a backup in its place: `claviger backup restore FILE`; then merge the \
                     file `keyring` that you moved, with the same command";

/// Returns the hint for a root file that is lost or damaged. It contains all slots, so no slot opens.
pub(super) fn root_lost() -> String {
    format!(
        "put it back from your copy of it; if there is none: {RESTORE_INSTEAD}; never start over with `init`: what is encrypted needs these keys"
    )
}

/// Returns the hint for the secret of a slot that is lost or damaged.
pub(super) fn secret_lost() -> String {
    format!(
        "put it back from your copy of it; if there is none, and no other slot opens: {RESTORE_INSTEAD}; never start over with `init`: what is \
         encrypted needs these keys"
    )
}

/// Returns the hint for a file outside of the state directory that cannot be read.
pub(in crate::cli) fn unreadable(path: &Path, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound => Some(not_found(path)),
        io::ErrorKind::PermissionDenied => {
            Some(format!("run it as root, or as a user who may read it; to see who may: ls -l {}", quoted(path)))
        }
        io::ErrorKind::IsADirectory => Some("it is a directory: name a file in it".to_owned()),
        _ => None,
    }
}

/// Returns the exit code if a file that the command line names cannot be read.
pub(in crate::cli) fn reading(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Refused,
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => Exit::Damaged,
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => Exit::Usage,
        _ => Exit::Disk,
    }
}

/// Returns the exit code if a file with settings or credentials cannot be read. If such a file is wrong, that is wrong
/// usage, and not damage.
pub(in crate::cli) fn reading_settings(error: &io::Error) -> Exit {
    match reading(error) {
        Exit::Damaged => Exit::Usage,
        exit => exit,
    }
}

/// Returns the words for the absolute form of a relative path that was not found.
fn looked_for(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if path.is_relative() { format!("it was looked for at {}; ", whole.display()) } else { String::new() }
}

/// Returns the hint for a missing file: where it was looked for, and what is there.
fn not_found(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let looked = looked_for(path);
    let mut missing = whole.as_path();
    while let Some(above) = missing.parent().filter(|_| missing.symlink_metadata().is_err()) {
        if above.is_dir() {
            break;
        }
        missing = above;
    }
    if missing == whole {
        let directory = whole.parent().unwrap_or(Path::new("/"));
        return format!("{looked}to see which files are there: ls -l {}", quoted(directory));
    }
    format!("{looked}there is no {}: if it is on another disk, mount that disk", missing.display())
}

/// Returns the hint for a missing directory in which a file was to be written. If the directory is on a disk that is
/// not mounted, creating it would put the file on the wrong disk.
fn no_directory(path: &Path) -> String {
    let looked = looked_for(path);
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("{looked}if it is on another disk, mount that disk; if not, make it: mkdir -p {}", quoted(whole))
}

/// The hint if the kernel gives no random bytes.
pub(super) const RANDOM: &str = "the kernel gave no random bytes: look for the reason in its log, with dmesg";

impl Explain for DurableError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Missing(_) | Self::TooLong { .. } => with(Exit::Damaged, RESTORE),
            Self::Kind { path, found: FileKind::SymbolicLink, .. } => {
                refused(&format!("links are not followed; see where it leads: readlink -f {}", quoted(path)))
            }
            Self::Exists(_) => refused("move it away, or give another name"),
            Self::Kind { expected: FileKind::Regular, .. } => refused(
                "look at it, and move it away; if a file of the keyring was there, put it back from your copy of the state directory",
            ),
            Self::Kind { .. } | Self::Path { .. } => refused("give another path"),
            Self::Mode { path, expected, .. } => refused(&format!("chmod {expected:04o} {}", quoted(path))),
            Self::Owner { path, found, expected } if is_only_directory_foreign(path, *found) => refused(&format!(
                "every file there belongs to uid {found}, so probably only the directory has the wrong owner: chown {found} {dir}; if uid \
                 {expected} is to own all of it: chown -R {expected} {dir}",
                dir = quoted(path.parent().unwrap_or(path))
            )),
            Self::Owner { path, expected, found: 0 } if *expected > 0 => refused(&format!(
                "if uid {expected}, the owner of the directory, is to use it: chown {expected} {}; if it was root's before: \
                 chown root {}",
                quoted(path),
                quoted(path.parent().unwrap_or(path))
            )),
            Self::Owner { path, expected, .. } => refused(&format!("chown {expected} {}", quoted(path))),
            Self::DirectoryMode { path, expected, .. } => refused(&format!(
                "use a directory that only claviger uses; if this is one: chmod {expected:04o} {}",
                quoted(path)
            )),
            Self::DirectoryOwner { found, expected, .. } => {
                refused(&format!("use a directory of uid {expected}'s, or run it as uid {found}"))
            }
            // Many programs need a shared directory, such as /tmp, as it is. So the hint does not change it.
            Self::Ancestor { path, mode, below } if mode & 0o1000 != 0 => {
                let owner = below.metadata().ok().map(|found| found.uid());
                refused(&shared(path, below, owner, rustix::process::geteuid().as_raw()))
            }
            Self::Ancestor { path, .. } => refused(&format!(
                "if only its owner should write there: chmod go-w {}; otherwise {}",
                quoted(path),
                safer(path)
            )),
            Self::AncestorOwner { path, .. } => {
                refused(&format!("if it should be root's: chown root {}; otherwise {}", quoted(path), safer(path)))
            }
            Self::Locked(_) => refused("another command or the daemon is at work here; run it again"),
            Self::SharedDisk { .. } => refused("keep backups on another disk"),
            Self::ReadBack(_) => with(Exit::Disk, "check the disk; the old state is whole"),
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                denied(path).map_or_else(|| io_hint(source), |hint| refused(&hint))
            }
            Self::Io { source, .. } => io_hint(source),
        }
    }
}

/// Returns the hint for a directory that belongs to root and that the user of this process may not open.
fn denied(path: &Path) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    let is_roots = path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == 0);
    (is_roots && us != 0).then(|| {
        let dir = quoted(path);
        format!(
            "run it as root, who owns {dir}; or, if uid {us} is the user of the plugin, give it the directory with all that is in it: \
             chown -R {us} {dir}"
        )
    })
}

/// Whether `path` and all files beside it belong to `uid`. Then only the owner of their directory is wrong.
fn is_only_directory_foreign(path: &Path, uid: u32) -> bool {
    let owners = path.parent().and_then(|dir| dir.read_dir().ok()).into_iter().flatten();
    let owners: Vec<Option<u32>> = owners.map(|entry| entry.ok()?.metadata().ok().map(|found| found.uid())).collect();
    owners.len() > 1 && owners.iter().all(|owner| *owner == Some(uid))
}

/// Returns the hint about `below`, a directory of `owner`'s in the shared directory `above`, which uid `us` does not
/// use.
fn shared(above: &Path, below: &Path, owner: Option<u32>, us: u32) -> String {
    let safer = safer(above);
    let Some(owner) = owner.filter(|owner| *owner != us) else { return safer };
    let (below, above) = (below.display(), above.display());
    format!(
        "{below} belongs to uid {owner}, and this command runs as uid {us}: in {above}, where anybody can make a directory, each user \
         uses only directories of their own: run it as uid {owner}; or {safer}"
    )
}

/// Returns the hint that suggests another directory than one below `above`, which others can replace.
fn safer(above: &Path) -> String {
    let example = Path::new("/var/lib");
    let example = if example.starts_with(above) { "" } else { ", as in /var/lib" };
    format!("use a directory that nobody but root and its owner can replace{example}")
}

pub(super) fn io_hint(error: &io::Error) -> Explanation {
    match error.kind() {
        io::ErrorKind::PermissionDenied => refused("run it as root, or as the owner of the state directory"),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => with(Exit::Refused, "give another path"),
        io::ErrorKind::ReadOnlyFilesystem => with(Exit::Disk, "mount it writable; nothing was changed"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            with(Exit::Disk, "free some space and run it again; nothing was lost")
        }
        _ if is_out_of_files(error) => refused(LIMITS),
        _ => with(Exit::Disk, "look for the reason in the kernel's log, with dmesg"),
    }
}

/// Whether the process or the system has no file descriptor left.
fn is_out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Explain for TextError {
    fn explain(&self) -> Explanation {
        match self {
            Self::TooNew { .. } => refused("upgrade claviger on this node"),
            Self::NotAuthentic => with(Exit::WrongKey, RESTORE),
            Self::TooLong { .. } | Self::Foreign(_) | Self::Line { .. } | Self::Incomplete => {
                with(Exit::Damaged, RESTORE)
            }
        }
    }
}

impl Explain for StoreError {
    fn explain(&self) -> Explanation {
        match self {
            Self::File(error) => error.explain(),
            #[cfg(feature = "scan")]
            Self::Etcd(error) => error.explain(),
            #[cfg(feature = "scan")]
            Self::TooLong { .. } => with(Exit::Damaged, RESTORE),
            #[cfg(feature = "scan")]
            Self::Unsettled { .. } => with(Exit::Unreachable, "run it again when etcd answers"),
        }
    }
}

/// Whether the path leads to a device, a pipe or a socket.
fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

pub(super) fn export(error: &DurableError) -> Explanation {
    match error {
        DurableError::Missing(path) => refused(&no_directory(path)),
        DurableError::Exists(path) if path.is_dir() => refused("it is a directory: name a file in it"),
        DurableError::Exists(path) if is_device(path) => {
            refused("it is no file, so nothing can be kept there: name a file that does not exist, or omit the option")
        }
        DurableError::Kind { found, expected: FileKind::Regular, .. } if *found != FileKind::SymbolicLink => {
            refused("name a file; one that exists is replaced")
        }
        error => error.explain(),
    }
}

impl Explain for SecretError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Lock(_) => {
                refused("raise the limit of locked memory: LimitMEMLOCK=8M in the unit, or `ulimit -l 8192`")
            }
            Self::Random(error) => error.explain(),
            Self::TooLong => Explanation { exit: Exit::Usage, hint: None },
            Self::Map(error) if is_out_of_files(error) => refused(LIMITS),
            Self::Map(_) | Self::Advise(_) => refused("look for the reason in the kernel's log, with dmesg"),
        }
    }
}

impl Explain for RandomError {
    fn explain(&self) -> Explanation {
        refused(RANDOM)
    }
}

/// Returns the command that makes a directory which only its owner may use.
pub(super) fn make_directory(path: &Path) -> String {
    format!("mkdir -p -m 0700 {}", quoted(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_on_another_disk_or_has_to_be_made() {
        let hint = |path: &str| export(&DurableError::Missing(path.into())).hint.unwrap();
        let ways = "if it is on another disk, mount that disk; if not, make it: mkdir -p ";
        assert_eq!(hint("/media/usb"), format!("{ways}/media/usb"));
        let here = std::env::current_dir().unwrap();
        let looked = format!("it was looked for at {0}/media/usb; {ways}{0}/media/usb", here.display());
        assert_eq!(hint("media/usb"), looked);
    }

    #[test]
    fn a_directory_that_is_refused_is_not_recommended() {
        let hint = |above: &str| {
            let error = DurableError::Ancestor { path: above.into(), mode: 0o777, below: "/var/lib/claviger".into() };
            error.explain().hint.unwrap()
        };
        let mend =
            |above| format!("if only its owner should write there: chmod go-w {above}; otherwise use a directory ");
        assert_eq!(hint("/var/lib"), mend("/var/lib") + "that nobody but root and its owner can replace");
        let elsewhere = "that nobody but root and its owner can replace, as in /var/lib";
        assert_eq!(hint("/srv/shared"), mend("/srv/shared") + elsewhere);
        let shared = DurableError::Ancestor { path: "/tmp".into(), mode: 0o1777, below: "/tmp/claviger".into() };
        let expected = format!("use a directory {elsewhere}");
        assert_eq!(shared.explain().hint.unwrap(), expected, "no command changes the mode of /tmp");
        let mixed = super::shared(Path::new("/tmp"), Path::new("/tmp/st"), Some(7), 0);
        let cause = "/tmp/st belongs to uid 7, and this command runs as uid 0: in /tmp, where anybody can make a directory, each user uses \
                     only directories of their own: run it as uid 7; or ";
        assert_eq!(mixed, format!("{cause}{expected}"));
        let error = DurableError::AncestorOwner { path: "/".into(), found: 7, below: "/var/lib/claviger".into() };
        let expected = "if it should be root's: chown root /; otherwise use a directory that nobody but root and its owner can replace";
        assert_eq!(error.explain().hint.unwrap(), expected);
    }
}
