//! The file slot: 32 random bytes in a file of their own, by default in the state directory.
//!
//! It protects etcd's data, snapshots and backups if they are stored without the node's own files. It protects nothing
//! else: anybody who has both files has the root key. Another disk is better.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    crypto::Salt,
    durable::{Dir, DurableError, Privacy},
    memory::{Secret, SecretBytes, SecretError},
};

use super::slot::{Kind, Sealer, Slot, SlotError, SlotFault};

const SECRET: usize = 32;

/// The parameter of a slot's line that contains the path of the key file.
const PATH: &str = "path";

/// The secret of a file slot, and the path of its file.
#[derive(Debug)]
pub struct FileSlot {
    path: Option<PathBuf>,
    secret: Secret<SECRET>,
}

impl FileSlot {
    /// Makes a new secret. Its key file will be at `path`, which is absolute. Without a path, the key file will be in
    /// the state directory.
    ///
    /// # Errors
    /// When the random source fails or no memory can be locked.
    pub fn generate(rng: &mut impl rand::TryCryptoRng, path: Option<PathBuf>) -> Result<Self, SecretError> {
        Ok(Self { path, secret: Secret::random(rng)? })
    }

    /// Whether the key file is outside of the state directory.
    pub fn is_elsewhere(&self) -> bool {
        self.path.is_some()
    }

    /// Returns the path of the key file of the slot `name`.
    fn path(&self, name: &str, state_dir: &Dir) -> PathBuf {
        self.path.clone().unwrap_or_else(|| state_dir.path_of(&key_file_name(name)))
    }

    /// Reads the secret of `slot`.
    ///
    /// # Errors
    /// When its file is missing, cannot be trusted, or is not 32 bytes long.
    pub(super) fn read(slot: &Slot, state_dir: &Dir) -> Result<Self, SlotError> {
        let path = slot.parameter(PATH).map(PathBuf::from);
        let (bytes, found) = in_its_dir(path.as_deref(), slot.name(), state_dir, Dir::open_unlisted, |dir, name| {
            Ok((dir.read(name, SECRET)?, dir.path_of(name)))
        })?;
        if bytes.len() != SECRET {
            return Err(SlotError::SecretLength(found));
        }
        let mut secret = Secret::zeroed()?;
        secret.expose_mut().copy_from_slice(&bytes);
        Ok(Self { path, secret })
    }
}

impl Sealer for FileSlot {
    fn kind(&self) -> Kind {
        Kind::File
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, SlotError> {
        let Some(path) = &self.path else { return Ok(BTreeMap::new()) };
        let path = path.to_str().ok_or(SlotFault::KeyFilePath)?;
        Ok(BTreeMap::from([(PATH.to_owned(), path.to_owned())]))
    }

    fn secret(&self, _: &Slot, _: Salt) -> Result<SecretBytes, SlotError> {
        Ok(SecretBytes::copy_of(self.secret.expose())?)
    }

    fn check_keep(&self, slot: &str, state_dir: &Dir) -> Result<(), DurableError> {
        let is_taken = in_its_dir(self.path.as_deref(), slot, state_dir, Dir::open, Dir::contains)?;
        if is_taken { Err(DurableError::Exists(self.path(slot, state_dir))) } else { Ok(()) }
    }

    fn keep(&self, slot: &str, state_dir: &Dir) -> Result<(), DurableError> {
        in_its_dir(self.path.as_deref(), slot, state_dir, Dir::open, |dir, name| dir.create(name, self.secret.expose()))
    }
}

/// Returns the name that the key file of a slot has in the state directory.
pub fn key_file_name(slot: &str) -> String {
    format!("slot-{slot}.key")
}

/// A function that opens the directory of a key file.
type OpenDir = fn(&Path, Privacy) -> Result<Dir, DurableError>;

/// Calls `act` with the directory of the key file, and with the name of the file.
///
/// The key file must be outside of the state directory. Inside, its name could be that of another file. The other
/// directory must have the owner of the state directory: the key file gets its directory's owner, and the daemon,
/// which reads it, runs as the owner of the state directory.
fn in_its_dir<T>(
    path: Option<&Path>,
    slot: &str,
    state_dir: &Dir,
    open: OpenDir,
    act: impl FnOnce(&Dir, &str) -> Result<T, DurableError>,
) -> Result<T, DurableError> {
    let Some(path) = path else {
        return act(state_dir, &key_file_name(slot));
    };
    let wrong = |found| DurableError::Path { path: path.to_owned(), found, expected: "a file in another directory" };
    let parent = path.parent().filter(|_| path.is_absolute()).ok_or_else(|| wrong("no absolute path"))?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| wrong("no path of a file"))?;
    let dir = open(parent, Privacy::Readable)?;
    if dir.is_same(state_dir)? {
        return Err(wrong("in the state directory"));
    }
    let (found, expected) = (dir.owner(), state_dir.owner());
    if found != expected {
        return Err(DurableError::DirectoryOwner { path: parent.to_owned(), found, expected });
    }
    act(&dir, name)
}
