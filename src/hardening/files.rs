//! The files and ports of a daemon, and none besides. Source: landlock(7).

use std::{
    collections::BTreeSet,
    env, fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

use super::State;

/// The kernel interface that the rules are written for; an older kernel takes what it knows of them.
const RULES: ABI = ABI::V7;

/// glibc looks there before it gives the heap of a thread back to the kernel; what it reads is no secret.
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

/// What a daemon does with files and ports.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Directories whose files it reads.
    pub read: BTreeSet<PathBuf>,
    /// Directories whose files it reads, writes, makes, renames and removes.
    pub change: BTreeSet<PathBuf>,
    /// Directories in which it also makes sockets.
    pub listen: BTreeSet<PathBuf>,
    /// TCP ports that it listens on; zero is one of the kernel's choice.
    pub ports: BTreeSet<u16>,
}

/// The rules are in force for the thread that asked for them and for those that it starts.
#[derive(Debug)]
pub struct Restricted {
    /// How far.
    pub state: State,
    /// What the kernel says of the process itself is found by a number that is gone when nobody has it open.
    _process: OwnedFd,
}

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The kernel refused.
    #[error(transparent)]
    Landlock(#[from] landlock::RulesetError),
    /// No `/proc`.
    #[error("/proc/self: {0}")]
    Process(#[from] io::Error),
}

/// Gives up every file and port but these, and to signal other processes. Call it before any thread is started.
///
/// A directory that does not exist is passed over: whoever needs it finds that out, and says so.
///
/// # Errors
/// When the kernel has the layer and refuses. A kernel without it is no error but a state.
pub fn restrict(needs: &Needs) -> Result<Restricted, FilesError> {
    let process = OwnedFd::from(fs::File::open("/proc/self")?);
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(scopes(env::var_os("NOTIFY_SOCKET").is_some_and(|line| line.as_bytes().starts_with(b"@"))))?
        .create()?
        .add_rule(PathBeneath::new(&process, reading()))?;
    for (directories, access) in [(&needs.read, reading()), (&needs.change, changing()), (&needs.listen, listening())] {
        for directory in directories.iter().filter_map(|path| PathFd::new(path).ok()) {
            rules = rules.add_rule(PathBeneath::new(directory, access))?;
        }
    }
    if let Ok(file) = PathFd::new(OVERCOMMIT) {
        rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    for port in &needs.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    let state = match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => State::On,
        RulesetStatus::PartiallyEnforced => State::Partial,
        RulesetStatus::NotEnforced => State::Unsupported,
    };
    Ok(Restricted { state, _process: process })
}

/// systemd may listen at an abstract name, outside of what we may then reach.
fn scopes(abstract_manager: bool) -> BitFlags<Scope> {
    if abstract_manager { Scope::Signal.into() } else { Scope::from_all(RULES) }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn changing() -> BitFlags<AccessFs> {
    reading() | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile
}

fn listening() -> BitFlags<AccessFs> {
    changing() | AccessFs::MakeSock
}

impl Needs {
    /// A socket at this path, with its locks beside it.
    pub fn socket(&mut self, path: &Path) {
        // Followed to where it leads, because that is what will be opened.
        if let Some(directory) = path.parent() {
            self.listen.insert(directory.to_owned());
        }
    }
}
