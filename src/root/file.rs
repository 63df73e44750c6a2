//! The file slot: 32 random bytes in a file of their own, by default in the state directory.
//!
//! It protects etcd's data, snapshots and backups that are stored without the node's own files, and nothing else: whoever
//! has both files has the root key. Another disk is better.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    crypto::{
        Uuid,
        kdf::RootKey,
        secret::{Secret, SecretError},
    },
    durable::{Dir, DurableError, Privacy},
};

use super::slot::{Kind, Slot, SlotError};

const SECRET: usize = 32;

/// The secret of a new file slot, before it is on disk.
pub struct FileSlot {
    name: String,
    path: Option<PathBuf>,
    secret: Secret<SECRET>,
}

impl FileSlot {
    /// A new secret, to be kept at `path`, an absolute one, or in the state directory.
    ///
    /// # Errors
    /// When the random source fails or no memory can be locked.
    pub fn generate(rng: &mut impl rand::TryCryptoRng, name: &str, path: Option<PathBuf>) -> Result<Self, SecretError> {
        Ok(Self { name: name.to_owned(), path, secret: Secret::random(rng)? })
    }

    /// The slot of the root file that this secret opens.
    ///
    /// # Errors
    /// When the random source fails, no memory can be locked, or the path is not UTF-8.
    pub fn seal(&self, rng: &mut impl rand::TryCryptoRng, uuid: Uuid, root: &RootKey) -> Result<Slot, SlotError> {
        let mut parameters = BTreeMap::new();
        if let Some(path) = &self.path {
            let path = path.to_str().ok_or(SlotError::Malformed("the path of its key file is not UTF-8"))?;
            parameters.insert("path".to_owned(), path.to_owned());
        }
        Slot::seal_local(rng, &self.name, Kind::File, parameters, &self.secret, (uuid, root))
    }

    /// Where the file is, or will be.
    pub fn path(&self, state_dir: &Dir) -> PathBuf {
        self.path.clone().unwrap_or_else(|| state_dir.path_of(&key_file_name(&self.name)))
    }

    /// Writes the secret, durably and only if nothing is there.
    ///
    /// # Errors
    /// When a file is there, or writing fails.
    pub fn write(&self, state_dir: &Dir) -> Result<(), DurableError> {
        in_its_dir(self.path.as_deref(), &self.name, state_dir, |dir, name| dir.create(name, self.secret.expose()))
    }

    /// Whether the file is there already, so that [`FileSlot::write`] would refuse.
    ///
    /// # Errors
    /// When its directory cannot be trusted.
    pub fn is_taken(&self, state_dir: &Dir) -> Result<bool, DurableError> {
        in_its_dir(self.path.as_deref(), &self.name, state_dir, Dir::contains)
    }

    /// The secret of `slot`.
    ///
    /// # Errors
    /// When its file is missing, cannot be trusted, or is not 32 bytes long.
    pub(super) fn read(slot: &Slot, state_dir: &Dir) -> Result<Secret<SECRET>, SlotError> {
        let path = slot.parameter("path").map(Path::new);
        let (bytes, path) =
            in_its_dir(path, slot.name(), state_dir, |dir, name| Ok((dir.read(name, SECRET)?, dir.path_of(name))))?;
        if bytes.len() != SECRET {
            return Err(SlotError::SecretLength { path, found: bytes.len() });
        }
        let mut secret = Secret::zeroed()?;
        secret.expose_mut().copy_from_slice(&bytes);
        Ok(secret)
    }
}

/// The name of a slot's key file in the state directory.
pub fn key_file_name(slot: &str) -> String {
    format!("slot-{slot}.key")
}

/// Calls `act` with the directory that holds the key file, and its name there.
///
/// A key file elsewhere is in another directory: in the state directory it could take a name that is needed. That
/// directory has the same owner, as the file gets its directory's owner, and the daemon runs as the state directory's.
fn in_its_dir<T>(
    path: Option<&Path>,
    slot: &str,
    state_dir: &Dir,
    act: impl FnOnce(&Dir, &str) -> Result<T, DurableError>,
) -> Result<T, DurableError> {
    let Some(path) = path else {
        return act(state_dir, &key_file_name(slot));
    };
    let kind = |found| DurableError::Kind { path: path.to_owned(), found, expected: "a file in another directory" };
    let parent = path.parent().filter(|_| path.is_absolute()).ok_or_else(|| kind("no absolute path"))?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| kind("no path of a file"))?;
    let dir = Dir::open(parent, Privacy::Readable)?;
    if dir.is_same(state_dir)? {
        return Err(kind("in the state directory"));
    }
    let (found, expected) = (dir.owner(), state_dir.owner());
    if found != expected {
        return Err(DurableError::DirectoryOwner { path: parent.to_owned(), found, expected });
    }
    act(&dir, name)
}
