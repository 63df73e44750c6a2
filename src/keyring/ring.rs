//! The keyring itself: the keys of one installation, and everything else that its record says.
//!
//! Invariants: exactly one key is primary; keys and tombs are sorted by (seq, C), and none occurs twice.

use crate::crypto::{RootId, Uuid, root_key::RootKey};

use super::{
    home::Home,
    key::{Entry, KekWrapper, Key, KeyError},
    node::Node,
    past::Past,
    recovery::Recovery,
    state::State,
    time::Time,
};

/// The KEKs of one installation, and everything that the record says about them.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub(super) uuid: Uuid,
    pub(super) generation: u64,
    pub(super) home: Home,
    pub(super) root_id: RootId,
    pub(super) past: Past,
    pub(super) restored: Option<u64>,
    pub(super) merged: Option<u64>,
    pub(super) nodes: Vec<Node>,
    pub(super) recoveries: Vec<Recovery>,
    pub(super) entries: Vec<Entry>,
}

impl Keyring {
    /// Makes a keyring of generation 1 with one primary key.
    ///
    /// # Errors
    /// When the random source fails or no memory can be locked.
    pub fn create(
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        uuid: Uuid,
        mut recoveries: Vec<Recovery>,
        now: Time,
    ) -> Result<Self, KeyError> {
        recoveries.sort_by(|a, b| a.recipient().cmp(b.recipient()));
        recoveries.dedup_by(|a, b| a.recipient() == b.recipient());
        let mut keyring = Self {
            uuid,
            generation: 1,
            home: Home::File,
            root_id: root.id(uuid),
            past: Past::default(),
            restored: None,
            merged: None,
            nodes: Vec::new(),
            recoveries,
            entries: Vec::new(),
        };
        let first = Key::generate(rng, keyring.wrapper_under(root), 1, now)?;
        keyring.entries.push(Entry::Key(Key { state: State::Primary, promoted: Some(now), ..first }));
        Ok(keyring)
    }

    /// Wraps the KEKs into the record of this keyring. `root` must be its root key.
    pub(super) fn wrapper_under<'a>(&self, root: &'a RootKey) -> KekWrapper<'a> {
        KekWrapper { uuid: self.uuid, root_id: self.root_id, root }
    }

    /// Wraps every key again, under `root`.
    pub(super) fn rewrap(&mut self, rng: &mut impl rand::TryCryptoRng, root: &RootKey) -> Result<(), KeyError> {
        let wrapper = self.wrapper_under(root);
        for key in self.keys_mut() {
            key.wrapped = wrapper.wrap(rng, key.seq, &key.kek)?;
        }
        Ok(())
    }

    /// Returns the keys, so that the caller can change them.
    pub(super) fn keys_mut(&mut self) -> impl Iterator<Item = &mut Key> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key),
            Entry::Tomb(_) => None,
        })
    }

    /// Returns the uuid, which identifies the keyring and never changes.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the generation, which counts changes. A new keyring has 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the place where the record that counts is kept.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the id of the root key that the keyring is under.
    pub fn root_id(&self) -> RootId {
        self.root_id
    }

    /// Returns the records that came before the record of this keyring.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Returns the generation that the last restore or merge made, if there was one.
    pub fn restored(&self) -> Option<u64> {
        self.restored
    }

    /// Returns the nodes that share the keyring, sorted by name. A keyring in a file lists no nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the greatest sequence number of all keys and tombs.
    pub fn greatest_seq(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.order().seq)
    }

    /// Returns the recovery blobs, sorted by recipient.
    pub fn recoveries(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// Returns keys and tombs, in the order of the record.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the keys without the tombs, in the order of the record.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Key(key) => Some(key),
            Entry::Tomb(_) => None,
        })
    }

    /// Returns the primary key, which wraps.
    ///
    /// # Panics
    /// Never: exactly one key is primary in every keyring that was made or read.
    pub fn primary(&self) -> &Key {
        self.keys()
            .find(|key| key.state == State::Primary)
            .unwrap_or_else(|| unreachable!("a keyring has exactly one primary"))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::keyring::testing::{now, recovery};

    #[test]
    fn a_new_keyring_has_one_blob_for_each_recipient() {
        let (root, uuid) = (RootKey::generate(&mut SysRng).unwrap(), Uuid([5; 16]));
        let recoveries = ['q', 'p', 'q'].map(recovery).into();
        let keyring = Keyring::create(&mut SysRng, &root, uuid, recoveries, now()).unwrap();
        assert_eq!(keyring.recoveries(), ['p', 'q'].map(recovery));
        assert_eq!((keyring.uuid(), keyring.root_id(), keyring.generation()), (uuid, root.id(uuid), 1));
        assert_eq!((keyring.primary().created(), keyring.primary().promoted()), (now(), Some(now())));
    }
}
