//! Restricts a daemon to the files and ports that it needs, by Landlock. Source: landlock(7).

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

use super::layers::LayerState;

/// The version of the Landlock interface that the rules are written for. An older kernel enforces the rules that it
/// knows.
const RULES: ABI = ABI::V7;

/// A file that glibc reads before it gives the heap of a thread back to the kernel. The file is no secret.
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

/// The files and ports that a daemon needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The files that the daemon reads. The rule names the file itself, because a rule for its directory would allow
    /// every file in it. A file that replaces it later cannot be read.
    pub read_file: BTreeSet<PathBuf>,
    /// The directories whose files the daemon reads.
    pub read: BTreeSet<PathBuf>,
    /// The directories whose files the daemon reads, writes, makes, renames and removes.
    pub change: BTreeSet<PathBuf>,
    /// The directories in which the daemon also makes sockets.
    pub listen: BTreeSet<PathBuf>,
    /// The TCP ports that the daemon listens on. For zero, the kernel chooses a port.
    pub ports: BTreeSet<u16>,
}

/// The rules in force for the calling thread, and for the threads that it starts.
#[derive(Debug)]
pub struct Restricted {
    /// How far the kernel enforces the rules.
    pub state: LayerState,
    /// `/proc/self` of this process. The rule for it holds only while it is open.
    _process: OwnedFd,
}

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The kernel refused the rules.
    #[error(transparent)]
    Landlock(#[from] landlock::RulesetError),
    /// `/proc/self` cannot be opened.
    #[error("/proc/self: {0}")]
    Process(#[from] io::Error),
}

/// Gives up all files and ports that `needs` does not list, and the right to signal other processes. Call it before any
/// thread is started.
///
/// A directory that cannot be opened is skipped: the code that needs it will meet the same failure, and reports it.
///
/// # Errors
/// When the kernel has the layer and refuses. A kernel that lacks the layer is reported as a state.
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
    let files = needs.read_file.iter().map(PathBuf::as_path).chain([Path::new(OVERCOMMIT)]);
    for file in files.filter(|path| !path.is_dir()).filter_map(|path| PathFd::new(path).ok()) {
        rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    for port in &needs.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    let state = match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => LayerState::On,
        RulesetStatus::PartiallyEnforced => LayerState::Partial,
        RulesetStatus::NotEnforced => LayerState::Unsupported,
    };
    Ok(Restricted { state, _process: process })
}

/// Chooses the scopes of signals and sockets. systemd may listen at an abstract name, which the full scope would put
/// out of reach.
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
    /// Adds a socket at this path, and the lock files beside it.
    pub fn socket(&mut self, path: &Path) {
        // The kernel follows links in the path, to the directory that will be opened.
        if let Some(directory) = path.parent() {
            self.listen.insert(directory.to_owned());
        }
    }
}
