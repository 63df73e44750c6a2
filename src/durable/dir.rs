//! A directory whose files can be trusted, and how files are opened and read there.
//!
//! A file is opened relative to its directory, and no link is followed. So nobody can change what is read by renaming a
//! directory above. Source: open(2), `docs/formats.md`, "Files".

use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, Stat},
    io::Errno,
};
use zeroize::Zeroizing;

use super::{
    error::{DurableError, FileKind, Result, io_error},
    mode::{OTHERS, PRIVATE_DIRECTORY, PRIVATE_FILE, kind_of, permissions},
    trust::check_ancestors,
};

/// How private a directory must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Mode 0700: nobody else can look inside.
    Private,
    /// Mode 0755 or stricter: others may look inside, and not write.
    Readable,
}

/// An open directory whose files can be trusted: it belongs to the expected owner, and nobody else can change it or a
/// directory above it.
#[derive(Debug)]
pub struct Dir {
    pub(super) fd: OwnedFd,
    path: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Dir {
    /// Opens `path`, and checks it and the directories above it.
    ///
    /// # Errors
    /// When it is missing, a link or not a directory, belongs to somebody else, or is open to others.
    pub fn open(path: &Path, privacy: Privacy) -> Result<Self> {
        Self::open_unchecked(path, OFlags::RDONLY)?.checked(privacy)
    }

    /// Opens `path` as [`Dir::open`] does, but only to read files in it whose names are known. A daemon that has
    /// confined itself may read such a file, and may not list the directory that holds it.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn open_unlisted(path: &Path, privacy: Privacy) -> Result<Self> {
        Self::open_unchecked(path, OFlags::PATH)?.checked(privacy)
    }

    fn checked(self, privacy: Privacy) -> Result<Self> {
        let expected = match privacy {
            Privacy::Private => PRIVATE_DIRECTORY,
            Privacy::Readable => 0o755,
        };
        let mode = permissions(&self.stat()?);
        if mode & 0o777 & !expected != 0 {
            return Err(DurableError::DirectoryMode { path: self.path, mode, expected });
        }
        Ok(self)
    }

    /// Opens `path` for a first set-up. Makes the directory if it is missing, and makes it private if it is empty.
    ///
    /// # Errors
    /// As [`Dir::open`], or when it cannot be made.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        match fs::mkdir(path, Mode::from(PRIVATE_DIRECTORY)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let dir = Self::open_unchecked(path, OFlags::RDONLY)?;
                if dir.names()?.is_empty() {
                    fs::fchmod(&dir.fd, Mode::from(PRIVATE_DIRECTORY)).map_err(io_error("chmod", path))?;
                }
            }
            Err(Errno::NOENT) => return Err(DurableError::Missing(parent_of(path))),
            Err(errno) => return Err(io_error("making", path)(errno)),
        }
        let dir = Self::open(path, Privacy::Private)?;
        // Syncs the parent even if the directory was there before: the program that made it may not have synced it.
        sync_parent(path)?;
        Ok(dir)
    }

    /// Whether both are the same directory, even if their paths differ.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let (ours, theirs) = (self.stat()?, other.stat()?);
        Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
    }

    /// Returns the uid of the directory's owner.
    pub fn owner(&self) -> u32 {
        self.uid
    }

    /// Opens a directory, and checks its owner and the directories above it, but not its mode.
    fn open_unchecked(path: &Path, access: OFlags) -> Result<Self> {
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => DurableError::Missing(path.to_owned()),
            Errno::LOOP | Errno::NOTDIR => {
                let found = fs::lstat(path).map_or(FileKind::Unknown, |stat| kind_of(&stat));
                DurableError::Kind { path: path.to_owned(), found, expected: FileKind::Directory }
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

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of `name` in this directory.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the name is taken. A link that leads nowhere counts, too.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub fn contains(&self, name: &str) -> Result<bool> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(io_error("inspecting", &self.path_of(name))(errno)),
        }
    }

    /// Returns the names in the directory, sorted.
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
    /// When it is missing, a link or not a regular file, does not belong to the directory's owner, is open to others,
    /// or is too long.
    pub fn read(&self, name: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.path_of(name);
        let file = self.open_file(name)?;
        // Reserves one byte more than the limit, to notice a file that is too long. A vector that grows would leave
        // copies of a secret in memory.
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

    pub(super) fn open_file(&self, name: &str) -> Result<OwnedFd> {
        self.open_private(name, OFlags::RDONLY)
    }

    pub(super) fn open_private(&self, name: &str, access: OFlags) -> Result<OwnedFd> {
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

    /// Opens a regular file in this directory, and follows no link.
    pub(super) fn open_regular(&self, name: &str, access: OFlags) -> Result<(OwnedFd, Stat)> {
        let path = self.path_of(name);
        // Opens without blocking, so that a FIFO in the place of the file does not hang this process.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let expected = FileKind::Regular;
        let fd = fs::openat(&self.fd, name, access | flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => DurableError::Missing(path.clone()),
            Errno::LOOP => DurableError::Kind { path: path.clone(), found: FileKind::SymbolicLink, expected },
            // The system returns this error only when a directory is opened for writing.
            Errno::ISDIR => DurableError::Kind { path: path.clone(), found: FileKind::Directory, expected },
            errno => io_error("opening", &path)(errno),
        })?;
        let stat = fs::fstat(&fd).map_err(io_error("inspecting", &path))?;
        let found = kind_of(&stat);
        if found != expected {
            return Err(DurableError::Kind { path, found, expected });
        }
        Ok((fd, stat))
    }

    pub(super) fn stat(&self) -> Result<Stat> {
        fs::fstat(&self.fd).map_err(io_error("inspecting", &self.path))
    }
}

/// Returns the directory that contains `path`. For a bare name it is `.`.
pub(super) fn parent_of(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::durable::testing::private;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_link_a_fifo_and_a_readable_file_are_refused() {
        let (_keep, dir) = private();
        dir.create("real", b"x").unwrap();
        symlink(dir.path_of("real"), dir.path_of("link")).unwrap();
        assert!(matches!(dir.read("link", 1), Err(DurableError::Kind { found: FileKind::SymbolicLink, .. })));
        rustix::fs::mknodat(rustix::fs::CWD, dir.path_of("fifo"), fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
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
        assert!(matches!(
            Dir::open(&link, Privacy::Private),
            Err(DurableError::Kind { found: FileKind::SymbolicLink, .. })
        ));
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
}
