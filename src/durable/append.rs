//! Appends lines to a log file and syncs each. A file that would become too long is renamed, and the oldest file is
//! removed, so that the files stay within a limit.

use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, OFlags},
    io::Errno,
};

use super::{
    dir::Dir,
    error::{DurableError, Result, io_error},
    step::survive,
};

/// How long an append waits for other processes that write to the file.
const WAIT: Duration = Duration::from_secs(1);

impl Dir {
    /// Adds a line, its LF included, to `name`, and syncs it.
    ///
    /// If the file would grow beyond `limit` bytes, it is renamed to `<name>.1` first, that one to `<name>.2`, and so
    /// on. There are at most `files` of them. If a crash has cut a line off, the rest of it stays, and the next line
    /// begins after it.
    ///
    /// # Errors
    /// When `name` is not a private file of the directory's owner, or a step fails. Then no part of the line is in the
    /// file, unless the file could not be cut either: then a part of it stays, as after a crash.
    pub fn append(&self, name: &str, line: &[u8], limit: u64, files: usize) -> Result<()> {
        let file = loop {
            let file = self.open_to_append(name)?;
            self.lock_to_append(&file, name)?;
            if !self.is_still(name, &file)? {
                continue; // Another process has just moved it away.
            }
            let size = self.size_of(name, &file)?;
            if size == 0 || size + line.len() as u64 <= limit {
                break file;
            }
            self.shift(name, files)?;
        };
        survive(&self.path_of(name))?;
        self.append_to(file, name, line)
    }

    fn open_to_append(&self, name: &str) -> Result<OwnedFd> {
        let access = OFlags::RDWR | OFlags::APPEND;
        match self.open_private(name, access) {
            Err(DurableError::Missing(path)) => {
                match self.create_exclusively(name) {
                    Ok(fd) => self.give_to_owner(&fd, &path).and_then(|()| self.sync())?,
                    Err(Errno::EXIST) => {} // Another process was faster.
                    Err(errno) => return Err(io_error("creating", &path)(errno)),
                }
                self.open_private(name, access)
            }
            opened => opened,
        }
    }

    fn lock_to_append(&self, file: &OwnedFd, name: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if start.elapsed() < WAIT => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => return Err(DurableError::Locked(self.path_of(name))),
                Err(errno) => return Err(io_error("locking", &self.path_of(name))(errno)),
            }
        }
    }

    /// Whether `name` still leads to this very file.
    fn is_still(&self, name: &str, file: &OwnedFd) -> Result<bool> {
        let ours = fs::fstat(file).map_err(io_error("inspecting", &self.path_of(name)))?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok((found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(io_error("inspecting", &self.path_of(name))(errno)),
        }
    }

    fn size_of(&self, name: &str, file: &OwnedFd) -> Result<u64> {
        let stat = fs::fstat(file).map_err(io_error("inspecting", &self.path_of(name)))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(u64::MAX))
    }

    /// Renames each file to the next number. The last file is overwritten.
    fn shift(&self, name: &str, files: usize) -> Result<()> {
        let numbered = |number: usize| if number == 0 { name.to_owned() } else { format!("{name}.{number}") };
        for number in (1..files).rev() {
            let (from, to) = (numbered(number - 1), numbered(number));
            match fs::renameat(&self.fd, &from, &self.fd, &to) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(io_error("renaming to", &self.path_of(&to))(errno)),
            }
        }
        self.sync()
    }

    fn append_to(&self, fd: OwnedFd, name: &str, line: &[u8]) -> Result<()> {
        let size = self.size_of(name, &fd)?;
        let mut last = [b'\n'];
        if size > 0 {
            rustix::io::pread(&fd, &mut last, size - 1).map_err(io_error("reading", &self.path_of(name)))?;
        }
        let mut file = File::from(fd);
        let whole = if last == *b"\n" { line.to_vec() } else { [b"\n", line].concat() };
        let written = file.write_all(&whole).and_then(|()| file.sync_data());
        written.map_err(|source| {
            // If this fails, the rest of the line stays, as after a crash.
            let _ = file.set_len(size);
            DurableError::Io { action: "writing", path: self.path_of(name), source }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::symlink};

    use super::*;
    use crate::durable::Privacy;

    const NAME: &str = "log";

    fn dir() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open_or_create(temporary.path()).unwrap();
        (temporary, dir)
    }

    fn text(dir: &Dir, name: &str) -> String {
        fs::read_to_string(dir.path_of(name)).unwrap()
    }

    #[test]
    fn lines_follow_each_other_in_a_private_file() {
        let (_temporary, dir) = dir();
        dir.append(NAME, b"one\n", 100, 2).unwrap();
        dir.append(NAME, b"two\n", 100, 2).unwrap();
        assert_eq!(text(&dir, NAME), "one\ntwo\n");
        assert_eq!(fs::metadata(dir.path_of(NAME)).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_full_file_moves_on_and_the_oldest_goes() {
        let (_temporary, dir) = dir();
        for line in 0..7 {
            dir.append(NAME, format!("line {line}\n").as_bytes(), 14, 3).unwrap();
        }
        assert_eq!(text(&dir, NAME), "line 6\n");
        assert_eq!(text(&dir, "log.1"), "line 4\nline 5\n");
        assert_eq!(text(&dir, "log.2"), "line 2\nline 3\n");
        assert_eq!(dir.names().unwrap().len(), 3);
        // A line that is longer than the limit gets a file of its own.
        dir.append(NAME, b"a line that is far too long\n", 14, 3).unwrap();
        assert_eq!(text(&dir, NAME), "a line that is far too long\n");
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next() {
        let (_temporary, dir) = dir();
        dir.append(NAME, b"whole\n", 100, 2).unwrap();
        fs::write(dir.path_of(NAME), "whole\ncut o").unwrap();
        dir.append(NAME, b"next\n", 100, 2).unwrap();
        assert_eq!(text(&dir, NAME), "whole\ncut o\nnext\n");
    }

    /// Adds a line, and tries again while other writers hold the file. A refused line is not in the file, so it can be
    /// added again.
    fn insist(dir: &Dir, line: &[u8]) {
        loop {
            match dir.append(NAME, line, 200, 100) {
                Err(DurableError::Locked(_)) => {}
                outcome => return outcome.unwrap(),
            }
        }
    }

    #[test]
    fn writers_at_once_lose_no_line() {
        let (temporary, dir) = dir();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = temporary.path();
                scope.spawn(move || {
                    let dir = Dir::open(path, Privacy::Private).unwrap();
                    for line in 0..50 {
                        insist(&dir, format!("{writer}-{line:02}\n").as_bytes());
                    }
                });
            }
        });

        let mut lines: Vec<String> = dir
            .names()
            .unwrap()
            .iter()
            .flat_map(|name| text(&dir, name).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert_eq!(lines.len(), 200);
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn what_is_not_a_private_file_of_ours_is_refused() {
        let (_temporary, dir) = dir();
        symlink("/etc/passwd", dir.path_of("link")).unwrap();
        fs::create_dir(dir.path_of("folder")).unwrap();
        fs::write(dir.path_of("open"), "").unwrap();
        fs::set_permissions(dir.path_of("open"), fs::Permissions::from_mode(0o644)).unwrap();
        for (name, expected) in [
            ("link", "is a symbolic link, expected a regular file"),
            ("folder", "is a directory, expected a regular file"),
            ("open", "has mode 0644, expected 0600"),
        ] {
            let error = dir.append(name, b"line\n", 100, 2).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
