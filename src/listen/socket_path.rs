//! A name in a directory that only root and we can change, its two locks, and the socket that is put there.
//!
//! A socket's file says nothing about a live plugin, because it stays when its plugin is killed. The lock on a file
//! beside it says so. A new socket is made under another name and renamed into place, so that the path leads to a
//! socket that listens at every instant. Invariants: no other user can write to a component of the path; only a socket
//! is ever replaced, and only our own is removed.

use std::{
    ffi::OsString,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
    process::{getegid, geteuid, getgid, umask},
    thread::set_thread_res_gid,
};

use super::{
    directory::{our_uid, safe_directory},
    error::{SocketError, failed},
};

/// The length of the kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 128;

/// The mode of the socket and of the files of its locks.
const OURS_ALONE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The mode of a socket that a group may open as well.
const OUR_GROUPS: Mode = OURS_ALONE.union(Mode::RGRP).union(Mode::WGRP);

/// Identifies a file by its device and its inode.
pub(super) type FileId = (u64, u64);

fn identity(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// The two locks of a path, each of which gives a right.
#[derive(Debug, Clone, Copy)]
pub(super) enum SocketLock {
    /// The right to listen at the path.
    Listen,
    /// The right to take the path over from the plugin that listens there.
    TakeOver,
}

impl SocketLock {
    fn suffix(self) -> &'static str {
        match self {
            Self::Listen => ".lock",
            Self::TakeOver => ".next",
        }
    }
}

/// The file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupant {
    /// No file is at the path.
    Nothing,
    /// A socket is at the path.
    Socket(FileId),
    /// Another kind of file is at the path.
    Other,
}

/// The users who may open the socket, besides the plugin's own user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// The group whose members may open the socket, by gid.
    pub group: Option<u32>,
}

/// Makes the kernel create every new socket for our user alone from now on, so that no mode has to be changed
/// afterwards.
pub fn keep_new_sockets_private() {
    umask(Mode::from_raw_mode(0o777) - OURS_ALONE);
}

/// A path, as an open directory and a name in it.
#[derive(Debug)]
pub(super) struct SocketPath {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
}

impl SocketPath {
    /// Opens the directory of `path`, if nobody but root and us can change what it contains.
    pub(super) fn open(path: &Path) -> Result<Self, SocketError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Occupied(path.to_owned()));
        };
        let real = safe_directory(parent)?;
        let directory = rustix::fs::open(&real, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("open", &real, error))?;
        Ok(Self { directory, path: real.join(name), name: name.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the lock file that gives the right `right`. The file is never removed, because a lock on a removed file
    /// excludes nobody.
    pub(super) fn open_lock(&self, right: SocketLock) -> Result<OwnedFd, SocketError> {
        self.open_beside(right, OFlags::CREATE).map_err(|error| match error {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => self.unwritable(),
            _ => failed("open the lock of", &self.path, error),
        })
    }

    fn open_beside(&self, right: SocketLock, create: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut name = self.name.clone();
        name.push(right.suffix());
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &name, flags | create, OURS_ALONE)
    }

    /// Whether another plugin is taking the path over from the plugin that listens there, or from one that has just
    /// ended.
    pub(super) fn has_successor(&self) -> Result<bool, SocketError> {
        match self.open_beside(SocketLock::TakeOver, OFlags::empty()) {
            Ok(next) => Ok(!self.try_lock(&next)?),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failed("open the lock of", &self.path, error)),
        }
    }

    /// Takes a lock unless somebody else holds it. Returns whether it did.
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

    /// Returns what is at the path now.
    pub(super) fn look(&self) -> Result<Occupant, SocketError> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Occupant::Nothing),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Occupant::Socket(identity(&stat)))
            }
            Ok(_) => Ok(Occupant::Other),
            Err(error) => Err(failed("examine", &self.path, error)),
        }
    }

    /// Whether some process listens at the path. Does not wait, even if that process accepts no connection.
    pub(super) fn is_answered(&self) -> bool {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connected = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .and_then(|socket| rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path)?));
        // The queue of a listener may be full, and a socket for datagrams takes no streams.
        matches!(connected, Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE))
    }

    /// Removes our socket, if it is still at the path.
    pub(super) fn remove(&self, ours: FileId) {
        if self.look().is_ok_and(|found| found == Occupant::Socket(ours)) {
            // A socket that cannot be removed is stale, and the next start replaces it.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }

    /// Makes a socket that listens, and renames it to the path, where it may only replace a socket.
    ///
    /// Before that, the socket has a name that contains the inode of a lock that we hold, so no other plugin uses the
    /// name. Its address is short, even if the path is long. The mode is set before the socket listens, so nobody
    /// connects under a wrong mode.
    pub(super) fn listen(&self, lock: &OwnedFd, access: Access) -> Result<(OwnedFd, FileId), SocketError> {
        if self.look()? == Occupant::Other {
            return Err(SocketError::Occupied(self.path.clone()));
        }
        let lock = rustix::fs::fstat(lock).map_err(self.failed("examine the lock of"))?;
        let fresh = format!(".claviger-{:x}", lock.st_ino);
        self.clear(&fresh).map_err(self.failed("remove what an earlier start left beside"))?;
        let socket = in_group(access.group, || self.bind(&fresh)).map_err(self.failed("make a socket beside"))?;
        self.admit(&fresh, access)?;
        rustix::net::listen(&socket, BACKLOG).map_err(self.failed("listen on"))?;
        let stat = rustix::fs::statat(&self.directory, &fresh, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(self.failed("examine the new socket for"))?;
        rustix::fs::renameat(&self.directory, &fresh, &self.directory, &self.name)
            .map_err(self.failed("rename the new socket to"))?;
        Ok((socket, identity(&stat)))
    }

    /// Makes the error for a step at this path that the kernel refused.
    fn failed(&self, step: &'static str) -> impl Fn(Errno) -> SocketError {
        move |error| failed(step, &self.path, error)
    }

    /// Removes the temporary socket that a killed start may have left.
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

    /// Lets the group in `access` open the socket, unless the socket was made with this group and mode. Sets the group
    /// before the mode: in the other order, the socket's first group could open it for a moment.
    fn admit(&self, fresh: &str, access: Access) -> Result<(), SocketError> {
        let found = rustix::fs::statat(&self.directory, fresh, AtFlags::SYMLINK_NOFOLLOW);
        let found = found.map_err(self.failed("examine the new socket for"))?;
        if let Some(group) = access.group.filter(|group| *group != found.st_gid) {
            rustix::fs::chownat(&self.directory, fresh, None, Some(Gid::from_raw(group)), AtFlags::empty())
                .map_err(|error| self.not_the_groups(group, error))?;
        }
        let mode = if access.group.is_some() { OUR_GROUPS } else { OURS_ALONE };
        if Mode::from_raw_mode(found.st_mode) == mode {
            return Ok(());
        }
        rustix::fs::chmodat(&self.directory, fresh, mode, AtFlags::empty())
            .map_err(self.failed("set the mode of the socket for"))
    }

    fn not_the_groups(&self, group: u32, error: Errno) -> SocketError {
        match error {
            Errno::PERM => SocketError::Group { group, ours: our_uid() },
            error => failed("change the group of", &self.path, error),
        }
    }
}

/// Calls `make` with the group and the umask set so that `group` may open the new socket. Only a daemon that runs as
/// root needs this: after it has confined itself it may not call chown or chmod, because root could use them on any
/// file. If the kernel refuses the group, [`SocketPath::admit`] changes it.
fn in_group<T>(group: Option<u32>, make: impl FnOnce() -> T) -> T {
    let Some(group) = group.filter(|_| geteuid().is_root()) else { return make() };
    let (real, group_before) = (getgid(), getegid());
    let _ = set_thread_res_gid(real, Gid::from_raw(group), real);
    let mask_before = umask(Mode::from_raw_mode(0o777) - OUR_GROUPS);
    let outcome = make();
    umask(mask_before);
    let _ = set_thread_res_gid(real, group_before, real);
    outcome
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt, symlink},
            net::UnixListener,
        },
    };

    use super::*;
    use crate::listen::{
        Address,
        testing::{answers, bind, refused},
    };

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
            let text = refused(path);
            assert_eq!(text, format!("refusing to listen: {} is not a socket", path.display()));
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
        assert!(refused(&path).starts_with(&expected));
    }

    #[test]
    fn what_the_kernel_refuses_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, circle) = (dir.path().join("kms.sock"), dir.path().join("circle"));
        symlink(&circle, &circle).unwrap();
        let text = refused(&circle.join("kms.sock"));
        assert!(text.starts_with(&format!("cannot examine {}: Too many levels", circle.display())), "{text}");

        drop(bind(&path));
        let lock = fs::metadata(dir.path().join("kms.sock.lock")).unwrap().ino();
        fs::create_dir(dir.path().join(format!(".claviger-{lock:x}"))).unwrap();
        let text = refused(&path);
        assert!(
            text.starts_with(&format!(
                "cannot remove what an earlier start left beside {}: Is a directory",
                path.display()
            )),
            "{text}"
        );
    }

    #[test]
    fn a_directory_that_takes_no_files_is_refused() {
        let text = refused(Path::new("/sys/kernel/kms.sock"));
        let ours = our_uid();
        assert_eq!(text, format!("refusing to listen: directory /sys/kernel is not writable by uid {ours}"));
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
    fn a_configured_group_may_open_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let group = rustix::process::getegid().as_raw();
        let access = Access { group: Some(group) };
        let _listener = crate::listen::bind(&Address::Path(path.clone()), access).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, group));
        assert_eq!(fs::metadata(dir.path().join("kms.sock.lock")).unwrap().mode() & 0o7777, 0o600);
        let found = SocketPath::open(&path).unwrap();
        let error = found.not_the_groups(7, Errno::PERM);
        assert_eq!(
            error.to_string(),
            format!("refusing to listen: uid {} may not give the socket to group 7", our_uid())
        );
    }
}
