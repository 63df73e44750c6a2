//! Keyrings for tests, in states that a real keyring reaches only after many changes.

use rand::rngs::SysRng;

use crate::crypto::{Commitment, Digest, Uuid, root_key::RootKey};

use super::{
    key::{Entry, Key, Tomb},
    recovery::Recovery,
    ring::Keyring,
    state::State,
    time::Time,
};

/// Returns the time of every event in these tests.
pub fn now() -> Time {
    Time::parse("2026-11-23T20:14:48Z").unwrap()
}

/// Returns a keyring of generation 1 under `root`.
pub fn keyring(root: &RootKey, uuid: Uuid) -> Keyring {
    Keyring::create(&mut SysRng, root, uuid, Vec::new(), now()).unwrap()
}

/// Adds a key in `state` with the next sequence number.
pub fn with_key(mut keyring: Keyring, root: &RootKey, state: State) -> Keyring {
    let seq = keyring.entries.iter().map(|entry| entry.order().seq).max().unwrap() + 1;
    let promoted = (state != State::Pending).then(now);
    let demoted = matches!(state, State::DecryptOnly | State::Disabled).then(now);
    let key = Key {
        state,
        promoted,
        demoted,
        ..Key::generate(&mut SysRng, keyring.wrapper_under(root), seq, now()).unwrap()
    };
    keyring.entries.push(Entry::Key(key));
    keyring
}

/// Adds the tomb of a destroyed key with the number `seq`.
pub fn with_tomb(mut keyring: Keyring, seq: u32) -> Keyring {
    keyring.entries.push(Entry::Tomb(Tomb { seq, commitment: Commitment([9; 32]), destroyed: keyring.generation }));
    keyring
}

/// Returns a made-up digest of the record of `generation`.
pub fn digest(generation: u64) -> Digest {
    Digest::of(&generation.to_be_bytes())
}

/// Returns the next generation, after `change`. It lists the record before it with the [`digest`] of its generation.
pub fn later(keyring: &Keyring, change: impl FnOnce(&mut Keyring)) -> Keyring {
    let mut later = keyring.clone();
    later.past = keyring.past.then(keyring.generation, digest(keyring.generation));
    later.generation += 1;
    change(&mut later);
    later
}

/// Makes the key at `index` primary, and the primary key before it decrypt-only.
pub fn promote(keyring: &Keyring, index: usize) -> Keyring {
    later(keyring, |keyring| {
        for (at, entry) in keyring.entries.iter_mut().enumerate() {
            if let Entry::Key(key) = entry {
                key.state = match key.state {
                    _ if at == index => State::Primary,
                    State::Primary => State::DecryptOnly,
                    state => state,
                };
            }
        }
    })
}

/// Puts the key at `index` into `state`.
pub fn set_state(keyring: &Keyring, index: usize, state: State) -> Keyring {
    later(keyring, |keyring| {
        if let Entry::Key(key) = &mut keyring.entries[index] {
            key.state = state;
        }
    })
}

/// Returns a blob for a made-up recipient: this character, repeated. Nobody has its identity.
pub fn recovery(character: char) -> Recovery {
    let recipient = format!("age1{}", String::from(character).repeat(58));
    Recovery::new(&recipient, vec![7; 400]).unwrap()
}

/// Returns the next generation of `keyring`, whose record is `record`, after its home has moved to etcd.
pub fn moved_to_etcd(keyring: &Keyring, record: Digest, prefix: &str) -> Keyring {
    let mut moved = later(keyring, |_| {});
    moved.past = keyring.past.then(keyring.generation, record);
    moved.home = super::home::Home::Etcd(prefix.to_owned());
    moved
}
