//! Opens the keyring for a daemon, at its start and whenever it is asked to look again, and publishes what it finds.

use std::{path::PathBuf, sync::Arc, time::Instant};

use super::{Expect, OpenError, Opened, Published, Snapshot, open_to_serve};
use crate::{
    audit,
    durable::{Dir, DurableError, Privacy},
    keyring::mark::Standing,
};

/// What a daemon serves from. Invariant: it never goes back to an older record, or on to another keyring's.
#[derive(Debug)]
pub struct Publisher {
    state_dir: PathBuf,
    /// At first what an operator said, then what is published.
    expect: Option<Expect>,
    published: Arc<Published>,
}

/// What was published.
#[derive(Debug)]
pub struct Unsealed {
    /// How the record stood to the mark; none without a mark.
    pub standing: Option<Standing>,
    /// Whether it had to be a certain record, or one that follows it.
    pub expected: bool,
    /// What names the record: uuid, generation and SHA-256.
    pub expect: Expect,
    /// The keyring's uuid, in hex.
    pub keyring: String,
    /// The keyring's generation.
    pub generation: u64,
    /// The primary key.
    pub key_id: Arc<str>,
    /// Whether the event is on the record: a full disk must not take a cluster down, so it was published all the same.
    pub audited: Result<(), DurableError>,
}

impl Publisher {
    /// Will publish the keyring in `state_dir`, if it is what is expected.
    pub fn new(state_dir: PathBuf, expect: Option<Expect>, published: Arc<Published>) -> Self {
        Self { state_dir, expect, published }
    }

    /// Opens the keyring and publishes it; none if it is what was published last.
    ///
    /// # Errors
    /// As [`open_to_serve`], or when the state directory cannot be opened; what was published before stays.
    pub fn publish(&mut self) -> Result<Option<Unsealed>, OpenError> {
        let dir = Dir::open(&self.state_dir, Privacy::Private).map_err(OpenError::StateDir)?;
        let opened = open_to_serve(&dir, self.expect.as_ref())?;
        let expect = Expect::of(&opened.keyring, opened.digest);
        if self.published.current().is_some() && self.expect.as_ref() == Some(&expect) {
            return Ok(None);
        }
        let snapshot = Snapshot::new(&opened.keyring, Instant::now());
        let key_id = Arc::clone(&snapshot.primary().id);
        let audited = audit::record(&dir, &unseal_event(&opened, &key_id));
        let unsealed = Unsealed {
            standing: opened.standing,
            expected: self.expect.is_some(),
            expect: expect.clone(),
            keyring: opened.keyring.uuid().to_hex(),
            generation: snapshot.generation(),
            key_id,
            audited,
        };
        self.expect = Some(expect);
        // The root key is needed no more.
        drop(opened);
        self.published.publish(snapshot);
        Ok(Some(unsealed))
    }
}

fn unseal_event<'a>(opened: &'a Opened, key_id: &'a str) -> audit::Event<'a> {
    audit::Event::Unseal {
        keyring: opened.keyring.uuid().to_hex(),
        generation: opened.keyring.generation(),
        key_id,
        slot: opened.slots.iter().find(|slot| slot.opened).map_or("", |slot| &slot.name),
    }
}
