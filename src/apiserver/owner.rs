//! Who runs a process. Any user can give a process the name of kube-apiserver, and flags that lead to an etcd of their
//! own.
//!
//! A process counts only if every user that it has or had is root or the user of this command. This includes the user
//! who started it: the kernel notes that beside the program's arguments, so a program with the set-user-ID bit does not
//! hide its user. Invariant: if the users and the start time are the same before and after reading, everything was read
//! from one process. Not distinguished: a container that runs as root, without a user namespace of its own, looks like
//! root.
//!
//! Source: proc(5), `/proc/PID/status`, `stat` and `auxv`; getauxval(3), `AT_UID` and `AT_EUID`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::FlagsError;

/// The entries of the auxiliary vector that contain the users who started the program.
const STARTED_BY: [usize; 2] = [11, 12];

/// The index of the field of `stat` that contains the start time of the process, counted after the name.
const BEGAN: usize = 19;

/// The users of a process, and the time when it started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProcessOwner {
    uids: Vec<u32>,
    began: String,
}

impl ProcessOwner {
    /// Reads the users and the start time of the process `pid`.
    ///
    /// # Errors
    /// When it has ended, or this user may not look at it.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::InvalidData);
        let mut uids = uids(&fs::read_to_string(of(pid, "status"))?).ok_or_else(missing)?;
        let began = began(&fs::read_to_string(of(pid, "stat"))?).ok_or_else(missing)?;
        if foreign(&uids).is_none() {
            uids.extend(started_by(&fs::read(of(pid, "auxv"))?));
        }
        Ok(Self { uids, began })
    }

    /// Checks that only root and this user run the process.
    ///
    /// # Errors
    /// When another user runs it.
    pub(super) fn check(&self, pid: u32) -> Result<(), FlagsError> {
        foreign(&self.uids).map_or(Ok(()), |uid| Err(FlagsError::Foreign { pid, uid }))
    }

    /// Checks that `later` is the same process under the same users.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check_same(&self, later: &Self, pid: u32) -> Result<(), FlagsError> {
        if self == later { Ok(()) } else { Err(FlagsError::Replaced(pid)) }
    }
}

/// Returns the path of `/proc/PID/name`.
pub(super) fn of(pid: u32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// Returns the first user who is neither root nor the user of this command.
fn foreign(uids: &[u32]) -> Option<u32> {
    let ours = rustix::process::geteuid().as_raw();
    uids.iter().copied().find(|uid| *uid != 0 && *uid != ours)
}

/// Returns the real, effective, saved and file-system uid.
fn uids(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().map(|uid| uid.parse().ok()).collect()
}

fn began(stat: &str) -> Option<String> {
    stat.rsplit_once(") ")?.1.split(' ').nth(BEGAN).map(ToOwned::to_owned)
}

fn started_by(auxv: &[u8]) -> Vec<u32> {
    let (words, _) = auxv.as_chunks::<{ size_of::<usize>() }>();
    let words: Vec<usize> = words.iter().map(|word| usize::from_ne_bytes(*word)).collect();
    let (entries, _) = words.as_chunks::<2>();
    let uids = entries.iter().filter(|[kind, _]| STARTED_BY.contains(kind));
    uids.filter_map(|[_, uid]| u32::try_from(*uid).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_user_counts_and_one_of_another_user_does_not() {
        let own = ProcessOwner::of(std::process::id()).unwrap();
        assert_eq!((own.uids.len(), own.check(7)), (6, Ok(())));
        for place in 0..own.uids.len() {
            let mut uids = own.uids.clone();
            uids[place] = 65_534;
            let error = ProcessOwner { uids, began: String::new() }.check(7).unwrap_err().to_string();
            assert_eq!(error, "process 7 is of user 65534, expected root or this user");
        }
    }

    #[test]
    fn another_process_under_the_same_number_is_noticed() {
        let own = ProcessOwner::of(std::process::id()).unwrap();
        assert_eq!(own.check_same(&ProcessOwner::of(std::process::id()).unwrap(), 7), Ok(()));
        let later = ProcessOwner { began: "0".to_owned(), uids: own.uids.clone() };
        assert_eq!(own.check_same(&later, 7).unwrap_err().to_string(), "process 7 was replaced while it was read");
    }
}
