//! The one place that writes files: order, syncs, read-back, locks; and the one that decides which files to trust.
//!
//! A write is: a new temporary file, write, fsync, read back and compare, rename, fsync of the directory, and only then
//! success. A failed step leaves the old file whole and is not retried. Files are opened relative to their directory and
//! without following links. Invariant: under a name there is always a whole file or none. Source: `docs/formats.md`,
//! "Files"; rename(2), fsync(2), flock(2).

mod append;
mod error;
mod export;
mod life;
mod place;
mod trust;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::TryRng;
use rustix::{
    fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};
use zeroize::Zeroizing;

/// How long a change waits for another one to finish.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK: &str = "lock";
/// The end of a temporary file's name, behind 16 random hexadecimal digits.
const TEMPORARY: &str = ".new";
const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;
const PRIVATE_DIRECTORY: u32 = 0o700;
const OTHERS: u32 = 0o077;

pub use self::{
    error::DurableError,
    export::{check_export, export, replace_export},
    life::LifeLock,
    place::is_on_another_disk,
    trust::check_ancestors,
};

type Result<T> = std::result::Result<T, DurableError>;

/// How private a directory has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Mode 0700: nobody else looks inside.
    Private,
    /// Others may look inside, and not write.
    Readable,
}

/// An open directory whose files can be trusted: it is ours, and nobody else can change it or what is above it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    uid: u32,
    gid: u32,
}

/// What tells one version of a file from another without reading it: each is written under a new name first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    inode: (u64, u64),
    changed: (i64, i64),
}

/// The version of the file at `path`; none if there is none.
pub fn version(path: &Path) -> Option<Version> {
    let stat = fs::stat(path).ok()?;
    Some(Version {
        inode: (stat.st_dev, stat.st_ino),
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()),
    })
}

/// Held for each change, by the daemon and the command line alike; released on drop.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Dir {
    /// Opens `path` and checks it and what is above it.
    ///
    /// # Errors
    /// When it is missing, a link or no directory, not ours, or open to others.
    pub fn open(path: &Path, privacy: Privacy) -> Result<Self> {
        let dir = Self::open_unchecked(path)?;
        let expected = match privacy {
            Privacy::Private => PRIVATE_DIRECTORY,
            Privacy::Readable => 0o755,
        };
        let mode = permissions(&dir.stat()?);
        if mode & 0o777 & !expected != 0 {
            return Err(DurableError::DirectoryMode { path: dir.path, mode, expected });
        }
        Ok(dir)
    }

    /// Opens `path` for a first set-up: makes it if it is missing, and makes it private if it is empty.
    ///
    /// # Errors
    /// As [`Dir::open`], or when it cannot be made.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        match fs::mkdir(path, Mode::from(PRIVATE_DIRECTORY)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let dir = Self::open_unchecked(path)?;
                if dir.names()?.is_empty() {
                    fs::fchmod(&dir.fd, Mode::from(PRIVATE_DIRECTORY)).map_err(io_error("chmod", path))?;
                }
            }
            Err(Errno::NOENT) => return Err(DurableError::Missing(parent_of(path))),
            Err(errno) => return Err(io_error("making", path)(errno)),
        }
        let dir = Self::open(path, Privacy::Private)?;
        // Also one that was there: whoever made it may not have synced it.
        sync_parent(path)?;
        Ok(dir)
    }

    /// Whether both are one directory, under whatever names.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let (ours, theirs) = (self.stat()?, other.stat()?);
        Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
    }

    /// Whose it is.
    pub fn owner(&self) -> u32 {
        self.uid
    }

    fn open_unchecked(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => DurableError::Missing(path.to_owned()),
            Errno::LOOP | Errno::NOTDIR => {
                let found = fs::lstat(path).map_or("something else", |stat| kind_of(&stat));
                DurableError::Kind { path: path.to_owned(), found, expected: "a directory" }
            }
            errno => io_error("opening", path)(errno),
        })?;
        let stat = fs::fstat(&fd).map_err(io_error("inspecting", path))?;
        let dir = Self { fd, path: path.to_owned(), uid: stat.st_uid, gid: stat.st_gid };
        let us = rustix::process::geteuid();
        if !us.is_root() && dir.uid != us.as_raw() {
            return Err(DurableError::DirectoryOwner { path: dir.path, found: dir.uid, expected: us.as_raw() });
        }
        check_ancestors(path, dir.uid)?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `name` in it is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether anything is called `name`, a dangling link too.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn contains(&self, name: &str) -> Result<bool> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(io_error("inspecting", &self.path_of(name))(errno)),
        }
    }

    /// What is in it, sorted.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let listing = fs::Dir::read_from(&self.fd).map_err(io_error("listing", &self.path))?;
        let mut names = Vec::new();
        for entry in listing {
            let name = entry.map_err(io_error("listing", &self.path))?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a private file of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is missing, a link or no regular file, not the directory's owner's, open to others, or too long.
    pub fn read(&self, name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.path_of(name);
        let file = self.open_file(name)?;
        // One byte of room more than allowed tells a longer file; growing would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        let mut reader = File::from(file).take(limit as u64 + 1);
        reader.read_to_end(&mut bytes).map_err(|source| DurableError::Io {
            action: "reading",
            path: path.clone(),
            source,
        })?;
        if bytes.len() > limit {
            return Err(DurableError::TooLong { path, limit });
        }
        Ok(bytes)
    }

    fn open_file(&self, name: &str) -> Result<OwnedFd> {
        self.open_private(name, OFlags::RDONLY)
    }

    fn open_private(&self, name: &str, access: OFlags) -> Result<OwnedFd> {
        let path = self.path_of(name);
        let (fd, stat) = self.open_regular(name, access)?;
        if stat.st_uid != self.uid {
            return Err(DurableError::Owner { path, found: stat.st_uid, expected: self.uid });
        }
        if permissions(&stat) & OTHERS != 0 {
            return Err(DurableError::Mode { path, mode: permissions(&stat), expected: PRIVATE_FILE });
        }
        Ok(fd)
    }

    fn open_regular(&self, name: &str, access: OFlags) -> Result<(OwnedFd, Stat)> {
        let path = self.path_of(name);
        // Not blocking: a FIFO put in the place of a file must not hang us.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let expected = "a regular file";
        let fd = fs::openat(&self.fd, name, access | flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => DurableError::Missing(path.clone()),
            Errno::LOOP => DurableError::Kind { path: path.clone(), found: "a symbolic link", expected },
            // Only opening it for writing fails so.
            Errno::ISDIR => DurableError::Kind { path: path.clone(), found: "a directory", expected },
            errno => io_error("opening", &path)(errno),
        })?;
        let stat = fs::fstat(&fd).map_err(io_error("inspecting", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DurableError::Kind { path, found: kind_of(&stat), expected });
        }
        Ok((fd, stat))
    }

    /// Writes a file that must not exist yet.
    ///
    /// # Errors
    /// When it exists, or a step fails; nothing is then under `name`.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, RenameFlags::NOREPLACE)
    }

    /// Writes a file, in the place of the one that may be there.
    ///
    /// # Errors
    /// When a step fails; until the rename the old file is whole under `name`.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, RenameFlags::empty())
    }

    fn write(&self, name: &str, bytes: &[u8], flags: RenameFlags) -> Result<()> {
        // Errors name the file that was to be, not the one that nobody will find.
        let path = self.path_of(name);
        let temporary = temporary_name(name)?;
        survive(&path)?;
        let fd = self.create_exclusively(&temporary).map_err(io_error("creating", &path))?;
        let filled = self.fill(fd, &temporary, bytes, &path).and_then(|()| survive(&path));
        let written = filled.and_then(|()| self.rename(&temporary, name, flags));
        if written.is_err() && survive(&path).is_ok() {
            // Best effort, and only of what this call made: a later change removes what remains of it.
            let _ = fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        written?;
        survive(&path)?;
        self.sync()
    }

    fn create_exclusively(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from(PRIVATE_FILE))
    }

    fn fill(&self, fd: OwnedFd, name: &str, bytes: &[u8], path: &Path) -> Result<()> {
        self.give_to_owner(&fd, path)?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(|source| DurableError::Io {
            action: "writing",
            path: path.to_owned(),
            source,
        })?;
        fs::fsync(&file).map_err(io_error("syncing", path))?;
        // Out of the page cache, so that reading back asks the disk. Advice only: without it the check is weaker.
        let _ = fs::fadvise(&file, 0, None, fs::Advice::DontNeed);
        if *self.read(name, bytes.len())? != bytes {
            return Err(DurableError::ReadBack(path.to_owned()));
        }
        Ok(())
    }

    /// Files belong to the directory's owner also when root runs a command.
    fn give_to_owner(&self, fd: &OwnedFd, path: &Path) -> Result<()> {
        let stat = fs::fstat(fd).map_err(io_error("inspecting", path))?;
        if (stat.st_uid, stat.st_gid) == (self.uid, self.gid) || stat.st_uid == self.uid {
            return Ok(());
        }
        let (uid, gid) = (fs::Uid::from_raw(self.uid), fs::Gid::from_raw(self.gid));
        fs::fchown(fd, Some(uid), Some(gid)).map_err(io_error("chown", path))
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let path = self.path_of(to);
        fs::renameat_with(&self.fd, from, &self.fd, to, flags).map_err(|errno| match errno {
            Errno::EXIST => DurableError::Exists(path.clone()),
            errno => io_error("renaming to", &path)(errno),
        })
    }

    /// Syncs a file that another process may have written, and the directory.
    ///
    /// # Errors
    /// When it cannot be opened as in [`Dir::read`], or a sync fails.
    pub fn sync_file(&self, name: &str) -> Result<()> {
        let fd = self.open_file(name)?;
        fs::fsync(&fd).map_err(io_error("syncing", &self.path_of(name)))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        fs::fsync(&self.fd).map_err(io_error("syncing", &self.path))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// When it cannot be removed, or that not be synced.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path_of(name);
        survive(&path)?;
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(io_error("removing", &path)(errno)),
        }
        survive(&path)?;
        self.sync()
    }

    /// Moves `names` into a new directory `<prefix>-<n>` and returns its path. Nothing is overwritten.
    ///
    /// # Errors
    /// When the directory cannot be made or a name not moved; those that were moved are in it, the others here.
    pub fn move_aside(&self, names: &[String], prefix: &str) -> Result<PathBuf> {
        let aside = self.make_aside(prefix)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target =
            fs::openat(&self.fd, &aside, flags, Mode::empty()).map_err(io_error("opening", &self.path_of(&aside)))?;
        for name in names {
            fs::renameat_with(&self.fd, name, &target, name, RenameFlags::NOREPLACE)
                .map_err(io_error("moving", &self.path_of(name)))?;
        }
        fs::fsync(&target).map_err(io_error("syncing", &self.path_of(&aside)))?;
        self.sync()?;
        Ok(self.path_of(&aside))
    }

    fn make_aside(&self, prefix: &str) -> Result<String> {
        for n in 1_u32.. {
            let name = format!("{prefix}-{n}");
            match fs::mkdirat(&self.fd, &name, Mode::from(PRIVATE_DIRECTORY)) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(io_error("making", &self.path_of(&name))(errno)),
            }
        }
        Err(DurableError::Exists(self.path_of(prefix)))
    }

    /// Takes the directory's lock, waiting 10 s for whoever holds it.
    ///
    /// # Errors
    /// When it is held for longer, or cannot be made.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path_of(LOCK);
        let file = self.open_lock()?;
        let start = Instant::now();
        loop {
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(20)),
                Err(Errno::WOULDBLOCK) => return Err(DurableError::Locked(path)),
                Err(errno) => return Err(io_error("locking", &path)(errno)),
            }
        }
        self.remove_temporaries()?;
        Ok(Lock { _file: file })
    }

    /// Opens the lock's file. Only one that was made here is given to the owner: another may be a link to anything.
    fn open_lock(&self) -> Result<OwnedFd> {
        let path = self.path_of(LOCK);
        match self.create_exclusively(LOCK) {
            Ok(file) => {
                self.give_to_owner(&file, &path)?;
                Ok(file)
            }
            Err(Errno::EXIST) => self.open_regular(LOCK, OFlags::RDONLY).map(|(file, _)| file),
            Err(errno) => Err(io_error("creating", &path)(errno)),
        }
    }

    /// Removes what crashes in the middle of writes have left. Under the lock nobody else is writing.
    fn remove_temporaries(&self) -> Result<()> {
        for name in self.names()?.iter().filter(|name| is_temporary(name)) {
            fs::unlinkat(&self.fd, name.as_str(), AtFlags::empty())
                .map_err(io_error("removing", &self.path_of(name)))?;
        }
        Ok(())
    }

    fn stat(&self) -> Result<Stat> {
        fs::fstat(&self.fd).map_err(io_error("inspecting", &self.path))
    }
}

/// A name that nothing has, so that no write touches another's file.
fn temporary_name(name: &str) -> Result<String> {
    let random = rand::rngs::SysRng.try_next_u64().map_err(|error| DurableError::Io {
        action: "naming a temporary file for",
        path: name.into(),
        source: std::io::Error::other(error),
    })?;
    Ok(format!("{name}.{random:016x}{TEMPORARY}"))
}

fn is_temporary(name: &str) -> bool {
    let random = name.strip_suffix(TEMPORARY).and_then(|name| name.rsplit_once('.')).map(|(_, random)| random);
    random.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn kind_of(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symbolic link",
        _ => "a device",
    }
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = parent_of(path);
    let fd = fs::open(&parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io_error("opening", &parent))?;
    fs::fsync(&fd).map_err(io_error("syncing", &parent))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> DurableError {
    let path = path.to_owned();
    move |errno| DurableError::Io { action, path, source: errno.into() }
}

/// Where a process may die between two steps of a write; only tests let it.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "a test's fails")]
fn survive(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
use testing::survive;

#[cfg(test)]
pub mod testing {
    //! Directories for tests, and deaths in the middle of writes.

    use std::{cell::Cell, io, path::Path};

    use super::{Dir, DurableError, Result};

    thread_local! {
        /// How many steps of writes this thread still survives.
        static STEPS: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Does `act` as a process that dies after so many steps of writes; says whether it did.
    pub fn dying_after<T>(steps: usize, act: impl FnOnce() -> T) -> (T, bool) {
        STEPS.set(Some(steps));
        let outcome = act();
        (outcome, STEPS.take() == Some(0))
    }

    pub(super) fn survive(path: &Path) -> Result<()> {
        match STEPS.get() {
            Some(0) => {
                let source = io::Error::other("the process died");
                Err(DurableError::Io { action: "writing", path: path.to_owned(), source })
            }
            steps => {
                STEPS.set(steps.map(|steps| steps - 1));
                Ok(())
            }
        }
    }

    /// An empty private directory, which goes with the first of the two.
    pub fn private() -> (tempfile::TempDir, Dir) {
        let keep = tempfile::tempdir().unwrap();
        let dir = Dir::open_or_create(keep.path()).unwrap();
        (keep, dir)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{testing::private, *};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_was_written_reads_back_and_nothing_else_stays() {
        let (_keep, dir) = private();
        dir.create("keyring", b"one").unwrap();
        dir.replace("keyring", b"two").unwrap();
        assert_eq!(*dir.read("keyring", 3).unwrap(), b"two");
        assert_eq!(dir.names().unwrap(), ["keyring"]);
    }

    #[test]
    fn create_never_overwrites() {
        let (_keep, dir) = private();
        dir.create("keyring", b"one").unwrap();
        assert!(matches!(dir.create("keyring", b"two"), Err(DurableError::Exists(_))));
        assert_eq!(*dir.read("keyring", 3).unwrap(), b"one");
        assert_eq!(dir.names().unwrap(), ["keyring"]);
    }

    #[test]
    fn what_a_crash_left_of_a_write_goes_with_the_next_change_and_nothing_else_does() {
        let (_keep, dir) = private();
        for name in ["keyring.0123456789abcdef.new", "keyring.new", "keyring.0123456789abcdeX.new"] {
            std::fs::write(dir.path_of(name), b"half a key").unwrap();
        }
        drop(dir.lock().unwrap());
        dir.create("keyring", b"whole").unwrap();
        assert_eq!(dir.names().unwrap(), ["keyring", "keyring.0123456789abcdeX.new", "keyring.new", "lock"]);
    }

    #[test]
    fn a_lock_that_is_a_link_to_something_else_is_not_given_away() {
        let (keep, dir) = private();
        std::fs::write(dir.path_of("precious"), b"").unwrap();
        symlink(dir.path_of("precious"), keep.path().join(LOCK)).unwrap();
        assert!(matches!(dir.lock(), Err(DurableError::Kind { found: "a symbolic link", .. })));
    }

    #[test]
    fn a_link_a_fifo_and_a_readable_file_are_refused() {
        let (_keep, dir) = private();
        dir.create("real", b"x").unwrap();
        symlink(dir.path_of("real"), dir.path_of("link")).unwrap();
        assert!(matches!(dir.read("link", 1), Err(DurableError::Kind { found: "a symbolic link", .. })));
        rustix::fs::mknodat(rustix::fs::CWD, dir.path_of("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(matches!(dir.read("fifo", 1), Err(DurableError::Kind { .. })));
        for mode in [0o640, 0o604, 0o620, 0o666] {
            chmod(&dir.path_of("real"), mode);
            assert!(matches!(dir.read("real", 1), Err(DurableError::Mode { .. })), "{mode:o}");
        }
        assert!(matches!(dir.read("absent", 1), Err(DurableError::Missing(_))));
    }

    #[test]
    fn a_file_longer_than_its_limit_is_refused() {
        let (_keep, dir) = private();
        dir.create("file", &[0; 33]).unwrap();
        assert!(matches!(dir.read("file", 32), Err(DurableError::TooLong { limit: 32, .. })));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let (keep, _) = private();
        for mode in [0o750, 0o701, 0o777] {
            chmod(keep.path(), mode);
            assert!(
                matches!(Dir::open(keep.path(), Privacy::Private), Err(DurableError::DirectoryMode { .. })),
                "{mode:o}"
            );
        }
        chmod(keep.path(), 0o755);
        assert!(Dir::open(keep.path(), Privacy::Readable).is_ok());
        chmod(keep.path(), 0o775);
        assert!(matches!(Dir::open(keep.path(), Privacy::Readable), Err(DurableError::DirectoryMode { .. })));
    }

    #[test]
    fn a_directory_below_one_that_others_write_to_is_refused() {
        let keep = tempfile::tempdir().unwrap();
        let below = keep.path().join("state");
        Dir::open_or_create(&below).unwrap();
        chmod(keep.path(), 0o777);
        assert!(matches!(Dir::open(&below, Privacy::Private), Err(DurableError::Ancestor { mode: 0o777, .. })));
    }

    #[test]
    fn a_linked_directory_is_refused() {
        let (keep, _) = private();
        let link = keep.path().join("link");
        symlink(keep.path(), &link).unwrap();
        assert!(matches!(Dir::open(&link, Privacy::Private), Err(DurableError::Kind { found: "a symbolic link", .. })));
    }

    #[test]
    fn an_empty_directory_is_made_private_and_a_full_one_is_left_alone() {
        let keep = tempfile::tempdir().unwrap();
        chmod(keep.path(), 0o755);
        Dir::open_or_create(keep.path()).unwrap().create("something", b"").unwrap();
        assert_eq!(keep.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        chmod(keep.path(), 0o755);
        assert!(matches!(Dir::open_or_create(keep.path()), Err(DurableError::DirectoryMode { .. })));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let (keep, dir) = private();
        let lock = dir.lock().unwrap();
        let again = std::fs::File::open(keep.path().join(LOCK)).unwrap();
        assert_eq!(fs::flock(&again, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
        drop(lock);
        fs::flock(&again, FlockOperation::NonBlockingLockExclusive).unwrap();
    }

    #[test]
    fn moving_aside_overwrites_nothing() {
        let (_keep, dir) = private();
        for expected in ["old-1", "old-2"] {
            dir.create("root", b"x").unwrap();
            assert_eq!(dir.move_aside(&["root".to_owned()], "old").unwrap(), dir.path_of(expected));
        }
        assert_eq!(dir.names().unwrap(), ["old-1", "old-2"]);
    }
}
