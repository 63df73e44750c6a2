//! A plugin that runs beside a command: which keyring it serves, from which directory, and what a command may do beside
//! it.
//!
//! A plugin serves from memory also after its state directory was lost. Then it may be the last place where a key still
//! is.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use super::given::quoted;
use crate::{
    config::DEFAULT_STATE_DIR,
    durable::{LifeLock, directory_at},
    keyring::{Keyring, key_id::KeyId},
    probe::ProbeError,
    service::SelfReport,
};

/// The directory that a plugin serves from, compared with the state directory of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServesFrom {
    /// The plugin serves from this very directory.
    Here,
    /// The plugin serves from a directory that was at this path before. It was removed or replaced.
    BeforeHere,
    /// The plugin serves from another directory.
    Elsewhere(PathBuf),
    /// The plugin does not report its directory.
    Unknown,
}

impl ServesFrom {
    /// Compares the directory of a plugin with `state_dir`, which may be missing.
    pub(super) fn of(report: &SelfReport, state_dir: &Path) -> Self {
        match &report.served_from {
            None => Self::Unknown,
            // If the system does not identify the directory, the paths are compared.
            Some(from) if directory_at(state_dir).ok().flatten() == Some(from.directory) => Self::Here,
            Some(from) if from.path == whole(state_dir) => Self::BeforeHere,
            Some(from) => Self::Elsewhere(from.path.clone()),
        }
    }
}

/// A running plugin that reports which keyring it serves.
#[derive(Debug)]
pub(super) struct LivePlugin {
    socket: String,
    report: SelfReport,
    uuid: String,
}

/// The result of looking for a plugin at one socket.
#[derive(Debug)]
pub(super) enum PluginSearch {
    /// The plugin reports which keyring it serves.
    Found(Box<LivePlugin>),
    /// Nobody listens at the socket.
    Absent {
        /// The socket at which it was looked for.
        socket: String,
        /// The reason why nobody answers.
        reason: String,
    },
    /// Somebody listens, but it is not known which keyring the plugin serves.
    Silent {
        /// The socket at which it was looked for.
        socket: String,
        /// The reason why the keyring is not known.
        reason: String,
    },
    /// Somebody listens, and does not answer as a plugin does.
    Unanswered {
        /// The socket at which it was looked for.
        socket: String,
        /// The reason why there was no answer.
        error: Arc<ProbeError>,
    },
}

impl PluginSearch {
    /// Returns the socket at which a plugin was looked for.
    pub(super) fn socket(&self) -> &str {
        match self {
            Self::Found(plugin) => &plugin.socket,
            Self::Absent { socket, .. } | Self::Silent { socket, .. } | Self::Unanswered { socket, .. } => socket,
        }
    }

    /// Returns the plugin that was found.
    pub(super) fn plugin(&self) -> Option<&LivePlugin> {
        match self {
            Self::Found(plugin) => Some(plugin),
            Self::Absent { .. } | Self::Silent { .. } | Self::Unanswered { .. } => None,
        }
    }

    /// Returns the command that starts a plugin which serves `keyring` from `state_dir`, a new directory. If the found
    /// plugin serves another keyring from another directory, the command gives the new plugin another socket.
    pub(super) fn start(&self, keyring: &Keyring, state_dir: &Path) -> String {
        let is_elsewhere = |plugin: &&LivePlugin| {
            matches!(plugin.serves_from(state_dir), ServesFrom::Elsewhere(_) | ServesFrom::Unknown)
        };
        match self.plugin().filter(|plugin| !plugin.serves_keyring(keyring)).filter(is_elsewhere) {
            Some(plugin) => start_beside(state_dir, &plugin.socket),
            None => start(state_dir),
        }
    }

    /// Returns the plugin that was found, or `None` if nobody listens. Fails if somebody listens and does not answer.
    ///
    /// # Errors
    /// When somebody listens there and does not answer: it may be a plugin that is busy or stopped.
    pub(super) fn answered(&self) -> Result<Option<&LivePlugin>, LivePluginError> {
        match self {
            Self::Unanswered { socket, error } => {
                Err(LivePluginError::Unanswered { socket: socket.clone(), error: Arc::clone(error) })
            }
            Self::Found(_) | Self::Absent { .. } | Self::Silent { .. } => Ok(self.plugin()),
        }
    }

    /// Returns the sentence that says where no plugin was found, so that the operator sees if another socket is the
    /// right one.
    pub(super) fn absence(&self) -> Option<String> {
        match self {
            Self::Found(_) => None,
            Self::Absent { socket, reason } => Some(format!(
                "none answers at {socket}: {reason}; this command asks only that socket: to ask another one: --socket SOCKET"
            )),
            Self::Silent { socket, reason } => {
                Some(format!("it is not known which keyring the one at {socket} serves: {reason}"))
            }
            Self::Unanswered { socket, error } => {
                Some(format!("it is not known which keyring the one at {socket} serves: {error}"))
            }
        }
    }
}

/// Why a keyring is not set up while a plugin runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum LivePluginError {
    /// The new keyring would replace the one that the plugin serves.
    #[error("{serves} from memory, and {} does not hold it any more", state_dir.display())]
    NewKeyring {
        /// The plugin, with the keyring that it serves.
        serves: Serves,
        /// The directory that held the keyring of the plugin.
        state_dir: PathBuf,
    },
    /// The keyring of the backup would replace the one that the plugin serves.
    #[error("{serves}, and the backup holds keyring {backup}")]
    OtherKeyring {
        /// The plugin, with the keyring that it serves.
        serves: Serves,
        /// The uuid of the keyring in the backup.
        backup: String,
    },
    /// A plugin that serves another keyring would be replaced.
    #[error("{serves}, but this is keyring {ours}, which does not open what is encrypted with that one")]
    TakeOver {
        /// The plugin, with the keyring that it serves.
        serves: Serves,
        /// The uuid of the keyring here.
        ours: String,
    },
    /// A plugin of another directory would be replaced, while another plugin serves from this one.
    #[error("{serves}, and another plugin serves from {}", .state_dir.display())]
    TakeOverBeside {
        /// The plugin that would be replaced.
        serves: Serves,
        /// The directory from which the other one serves.
        state_dir: PathBuf,
    },
    /// Somebody listens at the socket and does not report which keyring it serves.
    #[error("a plugin may serve a keyring from memory at {socket}, and it does not say which: {error}")]
    Unanswered {
        /// The socket of the plugin.
        socket: String,
        /// The reason why there was no answer.
        #[source]
        error: Arc<ProbeError>,
    },
}

/// A plugin and its keyring, as error texts name them.
#[derive(Debug)]
pub(super) struct Serves {
    socket: String,
    uuid: String,
}

impl fmt::Display for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the plugin at {} serves keyring {}", self.socket, self.uuid)
    }
}

impl LivePlugin {
    /// Returns the plugin at `socket`. Returns `None` if its report does not say which keyring it serves.
    pub(super) fn of(socket: String, report: SelfReport) -> Option<Self> {
        let uuid = report.keyring.clone()?;
        Some(Self { socket, report, uuid })
    }

    /// Checks that this plugin may be replaced by one that serves the keyring `ours`.
    ///
    /// # Errors
    /// When it serves another keyring.
    pub(super) fn check_taken_over(&self, ours: &str) -> Result<(), LivePluginError> {
        if self.uuid == ours {
            return Ok(());
        }
        Err(LivePluginError::TakeOver { serves: self.serves(), ours: ours.to_owned() })
    }

    /// Checks that the take-over does not leave two plugins on `state_dir`: this one serves from it, or none does.
    ///
    /// # Errors
    /// When this one serves from another directory, or from the one that was here before, and another plugin serves
    /// from this one.
    pub(super) fn check_alone(&self, state_dir: &Path) -> Result<(), LivePluginError> {
        let serves_from = ServesFrom::of(&self.report, state_dir);
        let is_elsewhere = matches!(serves_from, ServesFrom::Elsewhere(_) | ServesFrom::BeforeHere);
        // If the lock cannot be asked, the daemon reports why.
        if is_elsewhere && LifeLock::is_held(state_dir).unwrap_or(false) {
            return Err(LivePluginError::TakeOverBeside { serves: self.serves(), state_dir: state_dir.to_owned() });
        }
        Ok(())
    }

    /// Checks that a new keyring may be made in `state_dir`. Returns a warning, because the plugin serves from another
    /// directory.
    ///
    /// # Errors
    /// When the plugin serves from memory what was in `state_dir` before.
    pub(super) fn check_new(&self, state_dir: &Path) -> Result<String, LivePluginError> {
        match ServesFrom::of(&self.report, state_dir) {
            ServesFrom::Here | ServesFrom::BeforeHere => {
                Err(LivePluginError::NewKeyring { serves: self.serves(), state_dir: state_dir.to_owned() })
            }
            ServesFrom::Elsewhere(_) | ServesFrom::Unknown => {
                Ok(format!("{}: the new keyring does not read what is encrypted with that one", self.serves()))
            }
        }
    }

    /// Checks that `keyring` may be restored to `state_dir`. Returns a warning if the plugin serves another keyring
    /// from another directory.
    ///
    /// # Errors
    /// When the plugin serves another keyring from memory, which was in `state_dir` before.
    pub(super) fn check_restored(
        &self,
        keyring: &Keyring,
        state_dir: &Path,
    ) -> Result<Option<String>, LivePluginError> {
        if self.serves_keyring(keyring) {
            return Ok(None);
        }
        let error = LivePluginError::OtherKeyring { serves: self.serves(), backup: keyring.uuid().to_hex() };
        match ServesFrom::of(&self.report, state_dir) {
            ServesFrom::Here | ServesFrom::BeforeHere => Err(error),
            ServesFrom::Elsewhere(_) | ServesFrom::Unknown => Ok(Some(error.to_string())),
        }
    }

    /// Returns the hint if a command was to use the backup `file` of `keyring` on `state_dir`, which has another
    /// keyring, while the plugin serves `keyring`. Returns `None` if the plugin serves another keyring.
    pub(super) fn wrong_directory(&self, keyring: &Keyring, file: &Path, state_dir: &Path) -> Option<String> {
        let dir = quoted(state_dir);
        let next = match self.serves_from(state_dir) {
            ServesFrom::Elsewhere(path) => {
                format!("use the directory that it serves from: --state-dir {}", quoted(path))
            }
            ServesFrom::Here | ServesFrom::BeforeHere | ServesFrom::Unknown => {
                let file = quoted(file);
                format!("move {dir} away, and restore the backup in its place: claviger backup restore {file}")
            }
        };
        let socket = &self.socket;
        self.serves_keyring(keyring).then(|| {
            format!("the plugin at {socket} serves the keyring of this backup: do not stop or restart it; {next}")
        })
    }

    /// Whether the plugin serves this keyring, in any generation.
    pub(super) fn serves_keyring(&self, keyring: &Keyring) -> bool {
        self.uuid == keyring.uuid().to_hex()
    }

    /// Returns the directory that the plugin serves from, compared with `state_dir`.
    pub(super) fn serves_from(&self, state_dir: &Path) -> ServesFrom {
        ServesFrom::of(&self.report, state_dir)
    }

    /// Returns the keys that the plugin serves and that `keyring` lacks.
    pub(super) fn lacking_in(&self, keyring: &Keyring) -> Vec<String> {
        only_in_memory(&self.report, keyring)
    }

    /// Returns the keys that the plugin serves or was asked for, and that `keyring` lacks. Returns no keys if the
    /// plugin serves another keyring.
    pub(super) fn missing_in(&self, keyring: &Keyring) -> Vec<KeyId> {
        if !self.serves_keyring(keyring) {
            return Vec::new();
        }
        let refused = self.report.missing.iter().filter_map(|key| key.key_id.parse().ok());
        let served = self.report.keys.iter().filter_map(|key_id| key_id.parse().ok());
        let keys: BTreeSet<KeyId> = served.chain(refused).collect();
        keys.into_iter().filter(|key_id| keyring.entries().iter().all(|entry| entry.id() != *key_id)).collect()
    }

    fn serves(&self) -> Serves {
        Serves { socket: self.socket.clone(), uuid: self.uuid.clone() }
    }
}

/// Returns the command that starts a plugin which serves from `state_dir`: by the unit, which serves from the usual
/// directory, or by hand.
pub(super) fn start(state_dir: &Path) -> String {
    if state_dir == Path::new(DEFAULT_STATE_DIR) {
        return "systemctl start claviger    # or, without the unit: claviger serve".to_owned();
    }
    format!("claviger serve --state-dir {}", quoted(state_dir))
}

/// Returns the command that restarts the plugin of `state_dir`. The usual directory has a unit; for any other one, the
/// plugin is started by hand. With a take-over, calls are always answered.
pub(super) fn restart(state_dir: &Path) -> &'static str {
    if state_dir == Path::new(DEFAULT_STATE_DIR) {
        "systemctl restart claviger    # or, without the unit: claviger serve --take-over"
    } else {
        "claviger serve --take-over"
    }
}

/// Returns the command that starts a plugin which serves from `state_dir` beside the plugin that serves another keyring
/// at `socket`.
fn start_beside(state_dir: &Path, socket: &str) -> String {
    let dir = quoted(state_dir);
    format!(
        "claviger serve --state-dir {dir} --socket SOCKET    # not at {socket}, where a plugin serves another keyring"
    )
}

/// Returns the keys that a plugin serves and that `keyring` neither holds nor has destroyed.
pub(super) fn only_in_memory(report: &SelfReport, keyring: &Keyring) -> Vec<String> {
    let is_known = |key_id: &&String| keyring.entries().iter().any(|entry| entry.id().to_string() == **key_id);
    let mut keys: Vec<String> = report.keys.iter().filter(|key_id| !is_known(key_id)).cloned().collect();
    keys.sort();
    keys
}

/// Returns the absolute path of a directory without links. The directory may be missing.
fn whole(dir: &Path) -> PathBuf {
    let of_missing = || -> io::Result<PathBuf> {
        let dir = path::absolute(dir)?;
        let name = dir.file_name().unwrap_or_default();
        Ok(dir.parent().unwrap_or(Path::new("/")).canonicalize()?.join(name))
    };
    dir.canonicalize().or_else(|_| of_missing()).unwrap_or_else(|_| dir.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{durable::Dir, keeper::ServedFrom, service::MissingKey};

    #[test]
    fn the_unit_is_started_where_it_serves_from() {
        let usual = start(Path::new("/var/lib/claviger"));
        assert_eq!(usual, "systemctl start claviger    # or, without the unit: claviger serve");
        assert_eq!(start(Path::new("/srv/my keys")), "claviger serve --state-dir '/srv/my keys'");
        let usual = restart(Path::new("/var/lib/claviger"));
        assert_eq!(usual, "systemctl restart claviger    # or, without the unit: claviger serve --take-over");
        assert_eq!(restart(Path::new("/srv/my keys")), "claviger serve --take-over");
    }

    #[test]
    fn only_keys_of_the_same_keyring_are_missing_in_it() {
        let root = crate::crypto::root_key::RootKey::generate(&mut rand::rngs::SysRng).unwrap();
        let keyring = crate::keyring::testing::keyring(&root, crate::crypto::Uuid([5; 16]));
        let key_id = |number: u32| format!("k{number}-{}", "0a".repeat(16));
        let missing = |key_id| MissingKey { key_id, calls: 1, last_s: 1 };
        let report = SelfReport {
            keys: vec![keyring.primary().id().to_string(), key_id(3)],
            missing: vec![missing(key_id(2)), missing(key_id(3)), missing("of another plugin".to_owned())],
            ..SelfReport::default()
        };
        let plugin = |uuid: String| LivePlugin { socket: String::new(), report: report.clone(), uuid };
        let found = plugin(keyring.uuid().to_hex()).missing_in(&keyring);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [key_id(2), key_id(3)]);
        assert!(plugin("another".to_owned()).missing_in(&keyring).is_empty());
    }

    #[test]
    fn a_directory_is_recognised_by_itself_and_then_by_its_path() {
        let keep = tempfile::tempdir().unwrap();
        let root = keep.path().canonicalize().unwrap();
        let (here, there) = (root.join("state"), root.join("there"));
        let directory = Dir::open_or_create(&here).unwrap().id().unwrap();
        let served_from = Some(ServedFrom { path: here.clone(), directory });
        let report = SelfReport { served_from, ..SelfReport::default() };
        assert_eq!(ServesFrom::of(&report, &here), ServesFrom::Here);
        symlink(&root, root.join("link")).unwrap();
        assert_eq!(ServesFrom::of(&report, &root.join("link/state")), ServesFrom::Here);
        fs::rename(&here, &there).unwrap();
        assert_eq!(ServesFrom::of(&report, &there), ServesFrom::Here, "a directory that was moved is still the same");
        for path in [here.clone(), root.join("link/state")] {
            assert_eq!(ServesFrom::of(&report, &path), ServesFrom::BeforeHere);
        }
        fs::create_dir(&here).unwrap();
        assert_eq!(ServesFrom::of(&report, &here), ServesFrom::BeforeHere);
        assert_eq!(ServesFrom::of(&report, &root.join("other")), ServesFrom::Elsewhere(here.clone()));
        assert_eq!(ServesFrom::of(&SelfReport::default(), &here), ServesFrom::Unknown);
    }
}
