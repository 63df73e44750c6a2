//! A new root key: no key_id changes, no Secret is touched, and a daemon goes on.
//!
//! The order is root file, record, mark, each durable. The root file keeps the root key from before, so that a record under
//! that one still opens: run again, a rekey that broke off goes on where it was. Source: `docs/formats.md`, "Files".

use std::sync::Arc;

use rand::rngs::SysRng;

use super::{ChangeFailed, Opened, change::commit, open, open_again, open_with, slots::replace_root};
use crate::{
    audit::Event,
    crypto::{RootId, kdf::RootKey},
    durable::Dir,
    escrow::{Recipient, RecoveryError, recovery},
    keyring::{Keyring, mark::Standing, recovery::Recovery},
    root::Means,
    store::Copy,
};

/// What a rekey has made.
#[derive(Debug)]
pub struct Rekeyed {
    /// The keyring under the new root key.
    pub keyring: Keyring,
    /// Whether it went on with one that had broken off.
    pub resumed: bool,
}

/// Puts the keyring in `dir` under a new root key.
///
/// # Errors
/// When the keyring does not open, the secret of a slot is not there, or a file cannot be written; a rekey that broke off
/// goes on when it is run again, and the keyring opens meanwhile.
pub fn rekey(dir: &Dir, means: &Means) -> Result<Rekeyed, ChangeFailed> {
    // Before the lock: somebody may have to be asked for passphrases.
    let before = open(dir, means)?;
    let begun = if before.is_being_rekeyed() { None } else { Some(Begun::make(dir, means, &before)?) };
    let _lock = dir.lock()?;
    let opened = open_again(dir, means, &before)?;
    let opened = Opened { listed: opened.listed.readable()?, ..opened };
    let resumed = begun.is_none();
    match opened.standing {
        None => return Err(ChangeFailed::NoMark),
        // The mark is all that is missing: to a change that was not marked, or to a rekey.
        Some(Standing::Ahead) => super::advance_mark(dir, &opened)?,
        Some(Standing::Current) => {}
    }
    if resumed && opened.is_record_current() {
        return Ok(Rekeyed { keyring: opened.keyring, resumed });
    }
    let opened = match begun {
        Some(begun) => begun.write(dir, means, &before)?,
        None => opened,
    };
    let next = resealed(&opened)?;
    let event = event(&next, next.root_id());
    commit(dir, &Opened { root: Arc::clone(&opened.current), ..opened }, &next, &event, Copy::Before)?;
    Ok(Rekeyed { keyring: next, resumed })
}

/// A root file with a new root key, before it is written.
struct Begun {
    root: Arc<RootKey>,
    bytes: Vec<u8>,
}

impl Begun {
    fn make(dir: &Dir, means: &Means, opened: &Opened) -> Result<Self, ChangeFailed> {
        let root = RootKey::generate(&mut SysRng)?;
        let bytes = opened.root_file.rekey(&mut SysRng, &opened.current, &root, (dir, means))?;
        Ok(Self { root: Arc::new(root), bytes })
    }

    /// Writes it, and gives the keyring as it opens then. The caller holds the lock.
    fn write(self, dir: &Dir, means: &Means, opened: &Opened) -> Result<Opened, ChangeFailed> {
        let event = event(&opened.keyring, self.root.id(opened.keyring.uuid()));
        replace_root(dir, opened, &self.bytes, &event, || Ok(()))?;
        let opened = open_with(dir, means, Some(&self.root), None)?;
        Ok(Opened { listed: opened.listed.readable()?, ..opened })
    }
}

fn event(keyring: &Keyring, root_id: RootId) -> Event<'static> {
    let (keyring, generation) = (keyring.uuid().to_hex(), keyring.generation());
    Event::Rekey { keyring, generation, root_id: root_id.to_hex() }
}

/// The same keys and recovery recipients under the current root key.
fn resealed(opened: &Opened) -> Result<Keyring, ChangeFailed> {
    let Opened { keyring, digest, current, .. } = opened;
    Ok(keyring.rekey(&mut SysRng, current, recoveries_under(keyring, current)?, *digest)?)
}

/// `root` sealed to the recovery recipients of `keyring`.
pub(super) fn recoveries_under(keyring: &Keyring, root: &RootKey) -> Result<Vec<Recovery>, RecoveryError> {
    let seal = |before: &Recovery| {
        let recipient: Recipient = before.recipient().parse()?;
        recovery::seal(&recipient, keyring.uuid(), root)
    };
    keyring.recoveries().iter().map(seal).collect()
}
