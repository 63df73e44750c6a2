//! A new root key: no key_id changes, no Secret is touched, and a daemon goes on.
//!
//! The order is root file, record, mark, each durable. The root file keeps the root key from before, so that a record under
//! that one still opens: run again, a rekey that broke off goes on where it was. Source: `docs/formats.md`, "Rekey".

use std::sync::Arc;

use rand::rngs::SysRng;

use super::{ChangeFailed, Opened, change::commit, open};
use crate::{
    audit::{self, Event},
    crypto::{RootId, kdf::RootKey},
    durable::Dir,
    keyring::{
        Keyring,
        mark::Standing,
        recovery::{Recipient, Recovery, RecoveryError},
    },
    root::ROOT_FILE,
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
pub fn rekey(dir: &Dir) -> Result<Rekeyed, ChangeFailed> {
    let _lock = dir.lock()?;
    let opened = open(dir)?;
    let resumed = opened.is_being_rekeyed();
    match opened.standing {
        None => return Err(ChangeFailed::NoMark),
        // The mark is all that is missing: to a change that was not marked, or to a rekey.
        Some(Standing::Ahead) => super::advance_mark(dir, &opened)?,
        Some(Standing::Current) => {}
    }
    if resumed && opened.is_record_current() {
        return Ok(Rekeyed { keyring: opened.keyring, resumed });
    }
    if !resumed {
        begin(dir, &opened)?;
    }
    let opened = open(dir)?;
    let next = resealed(&opened)?;
    let event = event(&next, next.root_id());
    commit(dir, &Opened { root: Arc::clone(&opened.current), ..opened }, &next, &event, Copy::Before)?;
    Ok(Rekeyed { keyring: next, resumed })
}

/// Writes a root file with a new root key.
fn begin(dir: &Dir, opened: &Opened) -> Result<(), ChangeFailed> {
    let next = RootKey::generate(&mut SysRng)?;
    let bytes = opened.root_file.rekey(&mut SysRng, &opened.current, &next, dir)?;
    let event = event(&opened.keyring, next.id(opened.keyring.uuid()));
    audit::record(dir, &event).map_err(ChangeFailed::NotAudited)?;
    Ok(dir.replace(ROOT_FILE, &bytes)?)
}

fn event(keyring: &Keyring, root_id: RootId) -> Event<'static> {
    let (keyring, generation) = (keyring.uuid().to_hex(), keyring.generation());
    Event::Rekey { keyring, generation, root_id: root_id.to_hex() }
}

/// The same keys and recovery recipients under the current root key.
fn resealed(opened: &Opened) -> Result<Keyring, ChangeFailed> {
    let Opened { keyring, digest, current, .. } = opened;
    let seal = |recovery: &Recovery| {
        let recipient: Recipient = recovery.recipient().parse()?;
        Recovery::seal(&recipient, keyring.uuid(), current)
    };
    let recoveries = keyring.recoveries().iter().map(seal).collect::<Result<_, RecoveryError>>()?;
    Ok(keyring.rekey(&mut SysRng, current, recoveries, *digest)?)
}
