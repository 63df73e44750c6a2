//! Checks the directory of a socket: finds its real path, and refuses it if another user can change its contents.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::error::{SocketError, failed};
use crate::durable;

/// Follows the symbolic links of `directory`, and checks the directory that they lead to. Returns its real path, so
/// that the checked path is the one that is used.
pub(super) fn safe_directory(directory: &Path) -> Result<PathBuf, SocketError> {
    let real = real_directory(directory)?;
    if is_systems(&real) {
        return Err(SocketError::System(real));
    }
    check(&real)?;
    Ok(real)
}

fn real_directory(directory: &Path) -> Result<PathBuf, SocketError> {
    let real = directory.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::Missing(directory.to_owned()),
        io::ErrorKind::NotADirectory => SocketError::NotADirectory(directory.to_owned()),
        _ => failed("examine", directory, error),
    })?;
    if real.is_dir() { Ok(real) } else { Err(SocketError::NotADirectory(real)) }
}

/// The directories in which many programs have their files. A plugin in a container may have any other directory, such
/// as `/kms`. Source: the Filesystem Hierarchy Standard 3.0.
#[rustfmt::skip]
const OF_THE_SYSTEM: [&str; 33] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys",
    "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin", "/usr/share",
    "/var", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/opt", "/var/run", "/var/spool", "/var/tmp",
];

/// Whether many programs have their files in the directory.
fn is_systems(real: &Path) -> bool {
    OF_THE_SYSTEM.iter().any(|directory| real == Path::new(directory))
}

/// Checks that only root and we can change what the directory contains.
///
/// A sticky directory that root owns may be above it, but it may not be the directory itself: in a sticky directory,
/// any user could bind the path while the plugin is down.
fn check(real: &Path) -> Result<(), SocketError> {
    let found = real.symlink_metadata().map_err(|error| failed("examine", real, error))?;
    let (owner, mode, ours) = (found.uid(), found.mode() & 0o7777, our_uid());
    if owner != 0 && owner != ours {
        return Err(SocketError::Owner { path: real.to_owned(), owner, ours });
    }
    if mode & 0o022 != 0 {
        return Err(SocketError::Writable { path: real.to_owned(), mode });
    }
    Ok(durable::check_ancestors(real, ours)?)
}

/// Returns the user that this process runs as.
pub(super) fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;
    use crate::listen::testing::refused;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
        let text = refused(&missing.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: directory {} does not exist", missing.display()));

        fs::write(&file, "").unwrap();
        let text = refused(&file.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.display()));
        let text = refused(&file.join("below/kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.join("below").display()));
    }

    /// Landlock lets the plugin change everything in the directory of its socket, so that is no directory
    /// of the system.
    #[test]
    fn a_directory_of_the_system_is_refused() {
        for directory in ["/", "/etc", "/usr", "/usr/lib"] {
            let text = refused(&Path::new(directory).join("kms.sock"));
            let why = "is a system directory, and the socket needs a directory of its own";
            // Some of these directories are links.
            let real = Path::new(directory).canonicalize().unwrap();
            assert_eq!(text, format!("refusing to listen: {} {why}", real.display()));
        }
        for directory in
            ["/run/claviger", "/var/lib/claviger", "/var/run/kmsplugin", "/srv/kms", "/kms", "/usr/local/kms"]
        {
            assert!(!is_systems(Path::new(directory)), "{directory}");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, who) in [(0o775, "its group"), (0o757, "others"), (0o777, "others"), (0o770, "its group")] {
            chmod(dir.path(), mode);
            let text = refused(&dir.path().join("kms.sock"));
            let path = dir.path().display();
            assert_eq!(text, format!("refusing to listen: {path} is writable by {who} (mode {mode:04o})"));
        }
        chmod(dir.path(), 0o1777);
        let text = refused(&dir.path().join("kms.sock"));
        let path = dir.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is writable by others (mode 1777)"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_below_one_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        chmod(&below, 0o750);
        chmod(dir.path(), 0o777);
        let outside = tempfile::tempdir().unwrap();
        symlink(&below, outside.path().join("link")).unwrap();
        for directory in [below.clone(), outside.path().join("link")] {
            let text = refused(&directory.join("kms.sock"));
            let expected = format!(
                "refusing to listen: {} is writable by others (mode 0777), and is above {}",
                dir.path().display(),
                below.display()
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let (theirs, ours) = (tempfile::tempdir().unwrap(), our_uid());
        if ours != 0 {
            return; // Only root can give a directory away.
        }
        std::os::unix::fs::chown(theirs.path(), Some(4711), None).unwrap();
        let text = refused(&theirs.path().join("kms.sock"));
        let path = theirs.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is owned by uid 4711, expected root"));
        let by_user = SocketError::Owner { path: "/run/x".into(), owner: 4711, ours: 7 };
        assert_eq!(by_user.to_string(), "refusing to listen: /run/x is owned by uid 4711, expected root or uid 7");
    }
}
