//! The keys that a scan compares values with: those of a keyring file, or the primary key alone.
//!
//! Without a flag, a scan of a live etcd uses the keyring of this node, if there is one. A snapshot may belong to
//! another cluster, so its values are compared only with a keyring that a flag names.

use std::path::{Path, PathBuf};

use crate::{
    config::{Config, DEFAULT_STATE_DIR},
    keeper::KEYRING,
    keyring::{
        key_id::KeyId,
        record::{self, ListedKey, RECORD_MAX},
        state::State,
        time::Time,
    },
    scan::judge::{KeyUse, KnownKeys},
};

use super::super::{
    failure::{Exit, Failure},
    files::{read_text, wrong},
    given::{Given, quoted},
};

/// Returns the use of a key in this state. A destroyed key has no state.
pub(in crate::cli) fn key_use(state: Option<State>) -> KeyUse {
    match state {
        Some(State::Primary) => KeyUse::Primary,
        Some(State::Pending | State::DecryptOnly) => KeyUse::Unwraps,
        Some(State::Disabled) => KeyUse::Disabled,
        None => KeyUse::Destroyed,
    }
}

/// The flags that decide which keys values are compared with.
pub(in crate::cli) struct KeyFlags {
    /// The value of `--keyring`.
    pub(in crate::cli) keyring: Option<PathBuf>,
    /// The value of `--primary`.
    pub(in crate::cli) primary: Option<KeyId>,
    /// Whether `--state-dir` is given.
    pub(in crate::cli) has_state_dir: bool,
    /// Whether `--snapshot` is given.
    pub(in crate::cli) has_snapshot: bool,
}

/// The source of the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) enum KeySource {
    /// The keyring in the state directory.
    #[default]
    StateDir,
    /// The file that `--keyring` names.
    File,
    /// The key that `--primary` names.
    Primary,
}

/// The keys that values are compared with.
#[derive(Default)]
pub(in crate::cli) struct ScanKeys {
    pub(in crate::cli) known: Option<KnownKeys>,
    /// The file from which the keys were read.
    pub(in crate::cli) file: Option<PathBuf>,
    /// The source from which the keys come.
    pub(in crate::cli) source: KeySource,
    /// The primary key, if it is known.
    pub(in crate::cli) primary: Option<KeyId>,
    /// The primary key of the file, and the time when it became primary.
    pub(in crate::cli) promoted: Option<(KeyId, Time)>,
    /// The reason why a keyring was not used.
    pub(in crate::cli) note: Option<String>,
    /// Whether no flag names keys, and the state directory of this node contains no keyring.
    pub(in crate::cli) is_missing: bool,
}

impl ScanKeys {
    /// Reads the keys that the flags name, or the keys of this node.
    ///
    /// # Errors
    /// When a file that a flag names cannot be read or is no keyring.
    pub(in crate::cli) fn read(config: &Config, flags: KeyFlags) -> Result<Self, Failure> {
        let own = config.state_dir.join(KEYRING);
        match flags {
            KeyFlags { keyring: Some(file), .. } => {
                Ok(Self { source: KeySource::File, ..Self::of_file(config, file)? })
            }
            KeyFlags { primary: Some(key_id), has_snapshot, .. } => {
                Self::of_primary(config, &own, key_id, has_snapshot)
            }
            KeyFlags { has_state_dir: true, .. } => {
                Self::of_file(config, own).map_err(|failure| match failure.exit() {
                    Exit::Usage => failure.or("where there is no keyring, name the primary key: --primary KEY_ID"),
                    _ => failure,
                })
            }
            KeyFlags { has_snapshot, .. } => Ok(Self::of_node(config, own, has_snapshot)),
        }
    }

    /// Takes the key that `--primary` names. If the keyring of this node has this key and another primary key, API
    /// servers do not write under the named key, so every value would be stale for ever. In a snapshot, the named key
    /// may have been primary. If the keyring cannot be read, adds a note.
    ///
    /// # Errors
    /// When it is not primary any more, or not yet, in the keyring of this node.
    fn of_primary(config: &Config, own: &Path, key_id: KeyId, has_snapshot: bool) -> Result<Self, Failure> {
        let known = KnownKeys::primary(&config.provider_name, key_id.commitment_half());
        let given = Self { known: Some(known), source: KeySource::Primary, primary: Some(key_id), ..Self::default() };
        let here = match own.try_exists() {
            Ok(false) => Vec::new(),
            Ok(true) | Err(_) => match read_keys(own) {
                Ok(keys) => keys,
                Err(failure) => {
                    let note =
                        format!("--primary {key_id} was not compared with the keyring here: {}", failure.message());
                    return Ok(Self { note: Some(note), ..given });
                }
            },
        };
        let primary = here.iter().find(|key| key.state == Some(State::Primary)).map(|key| key.key_id);
        let Some(primary) = primary.filter(|primary| *primary != key_id) else { return Ok(given) };
        let own = own.display();
        let is_known = here.iter().any(|key| key.key_id == key_id);
        if is_known && !has_snapshot {
            let message = format!("--primary {key_id}: this key is not primary in {own}: {primary} is");
            let hint = format!("omit --primary, or name the primary key: --primary {primary}");
            return Err(Failure::new(Exit::Refused, &message, hint));
        }
        let why = if is_known { "which knows this key, too" } else { "which does not know this key" };
        let note = format!("--primary {key_id}: in {own}, {why}, another key is primary: {primary}");
        Ok(Self { note: Some(note), ..given })
    }

    /// Reads the keyring of this node, if there is one. If the keyring cannot be read, adds a note and does not fail,
    /// because the operator did not ask for it.
    fn of_node(config: &Config, own: PathBuf, has_snapshot: bool) -> Self {
        let note = |text: String| Self { note: Some(text), ..Self::default() };
        match own.try_exists() {
            Ok(false) => Self { is_missing: !has_snapshot, ..Self::default() },
            Ok(true) if has_snapshot => note(format!(
                "the snapshot may be of another cluster, so the keyring of this node was not used; if it is of this one: \
                 --keyring {}",
                quoted(&own)
            )),
            Err(_) if has_snapshot => Self::default(),
            Ok(true) | Err(_) => Self::of_file(config, own).unwrap_or_else(|failure| {
                note(format!("the keyring of this node was not used: {}", failure.message()))
            }),
        }
    }

    fn of_file(config: &Config, file: PathBuf) -> Result<Self, Failure> {
        let keys = read_keys(&file)?;
        let uses = keys.iter().map(|key| (key.key_id.commitment_half(), key_use(key.state))).collect();
        let primary = keys.iter().find(|key| key.state == Some(State::Primary));
        Ok(Self {
            known: Some(KnownKeys::keyring(&config.provider_name, uses)),
            // The first key of a keyring has replaced no other key.
            promoted: primary.and_then(|key| Some((key.key_id, key.promoted?))).filter(|_| keys.len() > 1),
            file: Some(file),
            source: KeySource::StateDir,
            primary: primary.map(|key| key.key_id),
            note: None,
            is_missing: false,
        })
    }
}

/// Returns the note of a scan if the state directory that a configuration file names contains no keyring. A machine
/// without a configuration may be no node.
pub(in crate::cli) fn note_missing(config: &Config, keys: &ScanKeys, given: &Given) -> Option<String> {
    let is_configured = config.state_dir != Path::new(DEFAULT_STATE_DIR);
    (keys.is_missing && is_configured).then(|| {
        format!(
            "{} contains no keyring, so the scan does not know which keys the values need; if the keyring is lost, let a plugin \
             that still runs serve it from memory, and restore a backup: {}; see what the plugin serves: {}",
            config.state_dir.display(),
            given.command("claviger backup restore FILE"),
            given.plugin_command("claviger status")
        )
    })
}

fn read_keys(path: &Path) -> Result<Vec<ListedKey>, Failure> {
    let hint = "give the file `keyring` of a state directory, or a copy of it";
    let text = read_text(path, RECORD_MAX).map_err(|failure| match path {
        path if path.is_dir() => failure.with_hint(&format!("name the file in it: {}", quoted(path.join(KEYRING)))),
        path if path.exists() && failure.exit() == Exit::Damaged => failure.with_hint(hint),
        _ => failure,
    })?;
    record::outline(text.as_bytes()).map_err(|error| wrong(path, &error, Some(hint)))
}

/// Parses the value of `--primary`. A short name such as `k6` is refused, because it would match no value, and all
/// values would seem stale.
///
/// # Errors
/// When it is not a full key_id.
pub(in crate::cli) fn primary_key(text: &str) -> Result<KeyId, Failure> {
    text.parse().map_err(|error| {
        let hint = "give the key_id in full; `claviger key list` shows it".to_owned();
        Failure::new(Exit::Usage, &format!("--primary {text:?}: {error}"), hint)
    })
}
