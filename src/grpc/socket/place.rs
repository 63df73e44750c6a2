//! A name in a directory to which only root and we can write, its locks, and a socket that is put there.
//!
//! The socket file says nothing about a live plugin, because it outlives a killed one; an flock on a file beside it
//! does. A new socket is made under another name and renamed into place, so that at every instant the path leads to a
//! socket that listens. Invariants: no other user can write to a component of the path; nothing but a socket is ever
//! replaced, and nothing but our own removed.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{Access, SocketError};
use crate::durable;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// The mode of the socket and of its locks.
const OURS_ALONE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The mode of a socket that a group may open too.
const OUR_GROUPS: Mode = OURS_ALONE.union(Mode::RGRP).union(Mode::WGRP);

/// Tells a file from all others: device and inode.
pub(super) type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Whoever holds it may do what it is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right {
    /// To be at the path.
    Stay,
    /// To come next, while another is there.
    Follow,
}

impl Right {
    fn suffix(self) -> &'static str {
        match self {
            Self::Stay => ".lock",
            Self::Follow => ".next",
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A socket.
    Socket(Identity),
    /// Something else.
    Other,
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
}

impl Place {
    pub(super) fn open(path: &Path) -> Result<Self, SocketError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Occupied(path.to_owned()));
        };
        let real = real_directory(parent)?;
        check_directory(&real)?;
        let directory = rustix::fs::open(&real, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("open", &real, error))?;
        Ok(Self { directory, path: real.join(name), name: name.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file whose lock is this right. It is never removed: a lock on a file that is gone excludes nobody.
    pub(super) fn open_lock(&self, right: Right) -> Result<OwnedFd, SocketError> {
        self.open_beside(right, OFlags::CREATE).map_err(|error| match error {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => self.unwritable(),
            _ => failed("open the lock of", &self.path, error),
        })
    }

    fn open_beside(&self, right: Right, create: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut name = self.name.clone();
        name.push(right.suffix());
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &name, flags | create, OURS_ALONE)
    }

    /// Whether another plugin is about to take over from the one that is there, or was a moment ago.
    pub(super) fn is_followed(&self) -> Result<bool, SocketError> {
        match self.open_beside(Right::Follow, OFlags::empty()) {
            Ok(next) => Ok(!self.try_lock(&next)?),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failed("open the lock of", &self.path, error)),
        }
    }

    /// Takes a lock if nobody holds it.
    pub(super) fn try_lock(&self, lock: &OwnedFd) -> Result<bool, SocketError> {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(failed("lock", &self.path, error)),
        }
    }

    fn unwritable(&self) -> SocketError {
        SocketError::Unwritable { path: self.path.parent().unwrap_or(&self.path).to_owned(), ours: our_uid() }
    }

    pub(super) fn look(&self) -> Result<Found, SocketError> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => Ok(Found::Socket(identity(&stat))),
            Ok(_) => Ok(Found::Other),
            Err(error) => Err(failed("examine", &self.path, error)),
        }
    }

    /// Removes the socket of this identity, if it is still there.
    pub(super) fn remove(&self, ours: Identity) {
        if self.look().is_ok_and(|found| found == Found::Socket(ours)) {
            // If it cannot be removed it is stale, which the next start knows how to handle.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }

    /// Makes a socket that listens and renames it into place, where nothing but a socket may stand.
    ///
    /// Until then it has a name that no other plugin uses, because it is made from the inode of a lock that we hold, and
    /// an address that is short however long the path is. Nobody can connect before it listens, so it has its mode in
    /// time.
    pub(super) fn listen(&self, lock: &OwnedFd, access: Access) -> Result<(OwnedFd, Identity), SocketError> {
        if self.look()? == Found::Other {
            return Err(SocketError::Occupied(self.path.clone()));
        }
        let failed = |error| failed("listen on", &self.path, error);
        let fresh = format!(".claviger-{:x}", rustix::fs::fstat(lock).map_err(failed)?.st_ino);
        self.clear(&fresh).map_err(failed)?;
        let socket = self.bind(&fresh).map_err(failed)?;
        self.admit(&fresh, access)?;
        let publish = || {
            rustix::net::listen(&socket, BACKLOG)?;
            let stat = rustix::fs::statat(&self.directory, &fresh, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::renameat(&self.directory, &fresh, &self.directory, &self.name)?;
            Ok(identity(&stat))
        };
        let identity = publish().map_err(failed)?;
        Ok((socket, identity))
    }

    /// Removes what a start that was killed may have left.
    fn clear(&self, fresh: &str) -> rustix::io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, fresh, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }

    fn bind(&self, fresh: &str) -> rustix::io::Result<OwnedFd> {
        let address = format!("/proc/self/fd/{}/{fresh}", self.directory.as_raw_fd());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(address)?)?;
        Ok(socket)
    }

    /// Says who may open the socket. Its group first: changed later, another group would have been let in.
    fn admit(&self, fresh: &str, access: Access) -> Result<(), SocketError> {
        let mode = match access.group {
            None => OURS_ALONE,
            Some(group) => {
                rustix::fs::chownat(&self.directory, fresh, None, Some(Gid::from_raw(group)), AtFlags::empty())
                    .map_err(|error| self.not_the_groups(group, error))?;
                OUR_GROUPS
            }
        };
        rustix::fs::chmodat(&self.directory, fresh, mode, AtFlags::empty())
            .map_err(|error| failed("listen on", &self.path, error))
    }

    fn not_the_groups(&self, group: u32, error: Errno) -> SocketError {
        match error {
            Errno::PERM => SocketError::Group { group, ours: our_uid() },
            error => failed("give a group", &self.path, error),
        }
    }
}

/// Follows the symbolic links of a directory's path, so that what is checked is what is used.
fn real_directory(directory: &Path) -> Result<PathBuf, SocketError> {
    let real = directory.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::Missing(directory.to_owned()),
        io::ErrorKind::NotADirectory => SocketError::NotADirectory(directory.to_owned()),
        _ => failed("examine", directory, error),
    })?;
    if real.is_dir() { Ok(real) } else { Err(SocketError::NotADirectory(real)) }
}

/// Checks that nobody but root and us can change what the socket's directory holds.
///
/// A sticky directory of root's may be above it but not be it: it protects what is there from other users, and lets any
/// of them listen at the path whenever the plugin does not.
fn check_directory(real: &Path) -> Result<(), SocketError> {
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

pub(super) fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(super) fn failed(step: &'static str, path: &Path, error: impl Into<io::Error>) -> SocketError {
    SocketError::Io { step, path: path.to_owned(), error: error.into() }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::{fs::PermissionsExt, fs::symlink, net::UnixListener},
    };

    use super::*;
    use crate::grpc::socket::{
        Address,
        testing::{answers, bind, refusal},
    };

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_our_user_may_open_the_socket_and_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let _listener = bind(&path);
        for file in [&path, &dir.path().join("kms.sock.lock")] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o600, "{}", file.display());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn nothing_but_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [file, folder, link] = ["file", "folder", "link"].map(|name| dir.path().join(name));
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&folder).unwrap();
        let _elsewhere = UnixListener::bind(dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &link).unwrap();
        for path in [&file, &folder, &link] {
            let (text, hint) = refusal(path);
            assert_eq!(text, format!("refusing to listen: {} is not a socket", path.display()));
            assert_eq!(hint, "move it away, or give another --socket");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("kms.sock.lock")).unwrap();
        let path = dir.path().join("kms.sock");
        let expected = format!("cannot open the lock of {}: Too many levels of symbolic links", path.display());
        assert!(refusal(&path).0.starts_with(&expected));
    }

    #[test]
    fn what_the_kernel_refuses_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, circle) = (dir.path().join("kms.sock"), dir.path().join("circle"));
        symlink(&circle, &circle).unwrap();
        let (text, hint) = refusal(&circle.join("kms.sock"));
        assert!(text.starts_with(&format!("cannot examine {}: Too many levels", circle.display())), "{text}");
        assert_eq!(hint, "");

        drop(bind(&path));
        let lock = fs::metadata(dir.path().join("kms.sock.lock")).unwrap().ino();
        fs::create_dir(dir.path().join(format!(".claviger-{lock:x}"))).unwrap();
        let (text, _) = refusal(&path);
        assert!(text.starts_with(&format!("cannot listen on {}: Is a directory", path.display())), "{text}");
    }

    fn own_directory_hint() -> String {
        format!("give the socket a directory of its own: install -d -m 0750 -o {} /run/claviger", our_uid())
    }

    #[test]
    fn a_directory_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
        let (text, hint) = refusal(&missing.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: directory {} does not exist", missing.display()));
        assert_eq!(hint, format!("install -d -m 0750 -o {} {}", our_uid(), missing.display()));

        fs::write(&file, "").unwrap();
        let (text, hint) = refusal(&file.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.display()));
        assert_eq!(hint, "move it away, or give another --socket");
        let (text, _) = refusal(&file.join("below/kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.join("below").display()));
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, who) in [(0o775, "its group"), (0o757, "others"), (0o777, "others"), (0o770, "its group")] {
            chmod(dir.path(), mode);
            let (text, hint) = refusal(&dir.path().join("kms.sock"));
            let path = dir.path().display();
            assert_eq!(text, format!("refusing to listen: {path} is writable by {who} (mode {mode:04o})"));
            assert_eq!(hint, own_directory_hint());
        }
        chmod(dir.path(), 0o1777);
        let (text, hint) = refusal(&dir.path().join("kms.sock"));
        let path = dir.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is writable by others (mode 1777)"));
        assert_eq!(hint, own_directory_hint());
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
            let (text, hint) = refusal(&directory.join("kms.sock"));
            let expected = format!(
                "refusing to listen: {} is writable by others (mode 0777), and is above {}",
                dir.path().display(),
                below.display()
            );
            assert_eq!(text, expected);
            assert_eq!(hint, own_directory_hint());
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let (theirs, ours) = (tempfile::tempdir().unwrap(), our_uid());
        if ours != 0 {
            return; // Only root can give a directory away.
        }
        std::os::unix::fs::chown(theirs.path(), Some(4711), None).unwrap();
        let (text, hint) = refusal(&theirs.path().join("kms.sock"));
        let path = theirs.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is owned by uid 4711, expected root or uid 0"));
        assert_eq!(hint, own_directory_hint());
    }

    #[test]
    fn a_directory_that_takes_no_files_is_refused() {
        let (text, hint) = refusal(Path::new("/sys/kernel/kms.sock"));
        let ours = our_uid();
        assert_eq!(text, format!("refusing to listen: directory /sys/kernel is not writable by uid {ours}"));
        assert_eq!(hint, own_directory_hint());
    }

    #[test]
    fn only_our_own_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        drop(bind(&path));
        assert!(!path.exists());

        let ours = bind(&path);
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(answers(&path));
    }

    #[test]
    fn a_group_may_open_the_socket_if_it_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let group = rustix::process::getegid().as_raw();
        let access = Access { group: Some(group) };
        let _listener = crate::grpc::socket::bind(&Address::Path(path.clone()), access).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, group));
        assert_eq!(fs::metadata(dir.path().join("kms.sock.lock")).unwrap().mode() & 0o7777, 0o600);
        let place = Place::open(&path).unwrap();
        let error = place.not_the_groups(7, Errno::PERM);
        assert_eq!(
            error.to_string(),
            format!("refusing to listen: uid {} may not give the socket to group 7", our_uid())
        );
        assert_eq!(error.hint().unwrap(), "make the plugin's user a member of group 7");
    }
}
