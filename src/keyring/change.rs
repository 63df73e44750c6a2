//! The changes of a keyring. Each returns a new [`Keyring`] of the next generation, or says why not.
//!
//! Pure. Invariants: a refused change changes nothing; a sequence number is never used again, not even after its key
//! was destroyed; it takes at least two steps to destroy a key. Source: `docs/hierarchy.md`, "The life of a key".

use crate::{
    crypto::{Digest, root_key::RootKey},
    text::SEQ_MAX,
};

use super::{
    key::{Entry, Key, KeyError, Tomb},
    key_id::KeyId,
    numbers::GENERATION_MAX,
    recovery::Recovery,
    ring::Keyring,
    state::{FORBIDDEN_IF_COMPROMISED, Fate, State, Verb},
    time::Time,
};

/// The keyring has the greatest generation, so it cannot be changed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keyring has used every generation up to {GENERATION_MAX}")]
pub struct LastGeneration;

/// The keyring has no key with this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no key {0}")]
pub struct UnknownKey(pub KeyId);

/// Why a keyring did not get a new key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeKeyError {
    /// The keyring has the greatest generation, so it cannot be changed again.
    #[error(transparent)]
    LastGeneration(#[from] LastGeneration),
    /// The greatest sequence number is used, so there is no number for another key.
    #[error("the keyring has used every key number up to {SEQ_MAX}")]
    LastSeq,
    /// The key could not be made or wrapped.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why the keys of a keyring were not wrapped under another root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewrapError {
    /// The keyring has the greatest generation, so it cannot be changed again.
    #[error(transparent)]
    LastGeneration(#[from] LastGeneration),
    /// A key could not be wrapped under the new root key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why the recovery recipients of a keyring were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeRecipientError {
    /// The keyring has the greatest generation, so it cannot be changed again.
    #[error(transparent)]
    LastGeneration(#[from] LastGeneration),
    /// The keyring has a blob for this recipient already.
    #[error("{0} is a recovery recipient already")]
    Known(String),
    /// The keyring has no blob for this recipient.
    #[error("{0} is not a recovery recipient")]
    Unknown(String),
}

/// Why the state of a key was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeKeyError {
    /// The keyring has the greatest generation, so it cannot be changed again.
    #[error(transparent)]
    LastGeneration(#[from] LastGeneration),
    /// The keyring has no key with this name.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
    /// The key is destroyed, so nothing can be done with it.
    #[error("key {key_id} is destroyed")]
    Destroyed {
        /// The name of the destroyed key.
        key_id: KeyId,
        /// The verb that was refused.
        verb: Verb,
    },
    /// The key is in a state in which the verb is not allowed.
    #[error("key {key_id} is {state}{}", why_not(*state, *verb))]
    State {
        /// The name of the key.
        key_id: KeyId,
        /// The state that the key is in.
        state: State,
        /// The verb that was refused.
        verb: Verb,
    },
}

/// Why a keyring did not get another primary key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangePrimaryError {
    /// The key does not exist, or is in a state in which no key can be promoted.
    #[error(transparent)]
    Key(#[from] ChangeKeyError),
    /// The key is compromised: somebody else may know its bytes.
    #[error("key {0} is compromised and cannot be promoted")]
    Compromised(KeyId),
}

/// Explains why `verb` is not allowed for a key in `state`.
fn why_not(state: State, verb: Verb) -> String {
    match (state, verb) {
        (State::Primary, Verb::Promote) | (State::Disabled, Verb::Disable) => " already".to_owned(),
        (_, Verb::Enable) => ", and only a disabled key can be enabled".to_owned(),
        (_, verb) => format!(" and cannot be {}", verb.participle()),
    }
}

type ChangedKeyring = Result<Keyring, ChangeKeyError>;

impl Keyring {
    /// Adds a pending key. Returns the new keyring and the name of the key. `record` is the SHA-256 of the record
    /// before the change, here and in every other change. The new key takes no number that a key in `others` has,
    /// because a merge may bring those keys back.
    ///
    /// # Errors
    /// When no number is left, the random source fails or no memory can be locked.
    pub fn add(
        &self,
        others: &[KeyId],
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        record: Digest,
        now: Time,
    ) -> Result<(Self, KeyId), MakeKeyError> {
        let mut next = self.next(record)?;
        let mut seq = next_seq(self.greatest_seq())?;
        while others.iter().any(|other| other.seq() == seq) {
            seq = next_seq(seq)?;
        }
        let key = Key::generate(rng, self.wrapper_under(root), seq, now)?;
        let key_id = key.id();
        next.entries.push(Entry::Key(key));
        Ok((next, key_id))
    }

    /// Makes `key_id` primary, and the primary key before it decrypt-only.
    ///
    /// # Errors
    /// When `key_id` is not pending or is compromised, or the generation is the last one.
    pub fn promote(&self, key_id: KeyId, record: Digest, now: Time) -> Result<Self, ChangePrimaryError> {
        let before = self.primary().id();
        let mut next = self.with(key_id, Verb::Promote, record)?;
        if next.keys().any(|key| key.id() == key_id && key.compromised && key.state == FORBIDDEN_IF_COMPROMISED) {
            return Err(ChangePrimaryError::Compromised(key_id));
        }
        next.apply(before, Verb::Demote)?;
        for key in next.keys_mut() {
            if key.id() == key_id {
                key.promoted = Some(now);
            } else if key.id() == before {
                key.demoted = Some(now);
            }
        }
        Ok(next)
    }

    /// Makes `key_id` primary, and marks every other key up to the number `newest` as compromised.
    ///
    /// # Errors
    /// When `key_id` is not pending or is compromised, or the generation is the last one.
    pub fn supersede(&self, key_id: KeyId, newest: u32, record: Digest, now: Time) -> Result<Self, ChangePrimaryError> {
        let mut next = self.promote(key_id, record, now)?;
        for key in next.keys_mut().filter(|key| key.seq <= newest && key.id() != key_id) {
            key.compromised = true;
        }
        Ok(next)
    }

    /// Disables `key_id`: it neither wraps nor unwraps.
    ///
    /// # Errors
    /// When it is primary or already disabled.
    pub fn disable(&self, key_id: KeyId, record: Digest) -> ChangedKeyring {
        self.with(key_id, Verb::Disable, record)
    }

    /// Enables `key_id`: it unwraps again.
    ///
    /// # Errors
    /// When it is not disabled.
    pub fn enable(&self, key_id: KeyId, record: Digest) -> ChangedKeyring {
        self.with(key_id, Verb::Enable, record)
    }

    /// Replaces `key_id` by a tomb.
    ///
    /// # Errors
    /// When it is not disabled.
    pub fn destroy(&self, key_id: KeyId, record: Digest) -> ChangedKeyring {
        self.with(key_id, Verb::Destroy, record)
    }

    /// Adds the recovery blob `recovery`.
    ///
    /// # Errors
    /// When the keyring has a blob for this recipient.
    pub fn add_recovery(&self, recovery: Recovery, record: Digest) -> Result<Self, ChangeRecipientError> {
        let mut next = self.next(record)?;
        let known = |known: &Recovery| known.recipient().cmp(recovery.recipient());
        match next.recoveries.binary_search_by(known) {
            Ok(_) => Err(ChangeRecipientError::Known(recovery.recipient().to_owned())),
            Err(place) => {
                next.recoveries.insert(place, recovery);
                Ok(next)
            }
        }
    }

    /// Removes the recovery blob of `recipient`.
    ///
    /// # Errors
    /// When there is no such blob.
    pub fn remove_recovery(&self, recipient: &str, record: Digest) -> Result<Self, ChangeRecipientError> {
        let mut next = self.next(record)?;
        next.recoveries.retain(|recovery| recovery.recipient() != recipient);
        if next.recoveries.len() == self.recoveries.len() {
            return Err(ChangeRecipientError::Unknown(recipient.to_owned()));
        }
        Ok(next)
    }

    /// Wraps the same keys under another root key. `recoveries` are the recovery blobs of the new root key.
    ///
    /// # Errors
    /// When the random source fails, no memory can be locked, or the generation is the last one.
    pub fn rekey(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        recoveries: Vec<Recovery>,
        record: Digest,
    ) -> Result<Self, RewrapError> {
        let mut next = Self { root_id: root.id(self.uuid), recoveries, ..self.next(record)? };
        next.rewrap(rng, root)?;
        Ok(next)
    }

    /// Copies the keyring as the next generation. `record` is the SHA-256 of the record before it.
    fn next(&self, record: Digest) -> Result<Self, LastGeneration> {
        let generation = next_generation(self.generation)?;
        Ok(Self { generation, past: self.past.then(self.generation, record), ..self.clone() })
    }

    fn with(&self, key_id: KeyId, verb: Verb, record: Digest) -> ChangedKeyring {
        let mut next = self.next(record)?;
        next.apply(key_id, verb)?;
        Ok(next)
    }

    /// Applies `verb` to the key `key_id`, as the table [`TRANSITIONS`](super::state::TRANSITIONS) allows.
    fn apply(&mut self, key_id: KeyId, verb: Verb) -> Result<(), ChangeKeyError> {
        let generation = self.generation;
        let found = self.entries.iter_mut().find(|entry| entry.id() == key_id);
        let entry = found.ok_or(UnknownKey(key_id))?;
        let Entry::Key(key) = entry else { return Err(ChangeKeyError::Destroyed { key_id, verb }) };
        match key.state.after(verb) {
            Some(Fate::Becomes(state)) => key.state = state,
            Some(Fate::Tomb) => {
                let tomb = Tomb { seq: key.seq, commitment: key.kek.commitment(), destroyed: generation };
                *entry = Entry::Tomb(tomb);
            }
            None => return Err(ChangeKeyError::State { key_id, state: key.state, verb }),
        }
        Ok(())
    }
}

/// Returns the generation after `generation`.
pub(super) fn next_generation(generation: u64) -> Result<u64, LastGeneration> {
    if generation < GENERATION_MAX { Ok(generation + 1) } else { Err(LastGeneration) }
}

/// Returns the sequence number after `seq`.
pub(super) fn next_seq(seq: u32) -> Result<u32, MakeKeyError> {
    if seq < SEQ_MAX { Ok(seq + 1) } else { Err(MakeKeyError::LastSeq) }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::Uuid,
        keyring::{
            record,
            testing::{self, now},
        },
    };

    const UUID: Uuid = Uuid([5; 16]);
    const RECORD: Digest = Digest([1; 32]);

    struct Fixture {
        root: RootKey,
        keyring: Keyring,
    }

    impl Fixture {
        /// Returns a keyring with a primary key and a pending one.
        fn new() -> Self {
            let root = RootKey::generate(&mut SysRng).unwrap();
            let keyring = Keyring::create(&mut SysRng, &root, UUID, Vec::new(), now()).unwrap();
            let (keyring, _) = keyring.add(&[], &mut SysRng, &root, RECORD, now()).unwrap();
            Self { root, keyring }
        }

        fn id(&self, index: usize) -> KeyId {
            self.keyring.entries[index].id()
        }

        fn states(&self) -> Vec<String> {
            self.keyring.entries.iter().map(|entry| entry.fate().to_string()).collect()
        }

        fn add(&mut self) {
            let (next, key_id) = self.keyring.add(&[], &mut SysRng, &self.root, RECORD, now()).unwrap();
            assert_eq!(next.entries.last().unwrap().id(), key_id);
            self.take::<MakeKeyError>(Ok(next));
        }

        /// Replaces the keyring by the changed one, after encoding and decoding it.
        fn take<E: std::fmt::Debug>(&mut self, changed: Result<Keyring, E>) {
            let next = changed.unwrap();
            assert_eq!(next.generation, self.keyring.generation + 1);
            assert!(next.past.names(self.keyring.generation, RECORD));
            let bytes = record::encode(&next, &self.root).unwrap();
            self.keyring = record::decode(&bytes, &self.root, UUID).unwrap();
        }
    }

    #[test]
    fn a_key_goes_through_its_whole_life() {
        let mut fixture = Fixture::new();
        let (first, second) = (fixture.id(0), fixture.id(1));
        fixture.take(fixture.keyring.promote(second, RECORD, now()));
        assert_eq!(fixture.states(), ["decrypt-only", "primary"]);
        let times = fixture.keyring.keys().map(|key| (key.created(), key.promoted(), key.demoted()));
        assert_eq!(times.collect::<Vec<_>>(), [(now(), Some(now()), Some(now())), (now(), Some(now()), None)]);
        fixture.take(fixture.keyring.disable(first, RECORD));
        fixture.take(fixture.keyring.enable(first, RECORD));
        assert_eq!(fixture.states(), ["decrypt-only", "primary"]);
        fixture.take(fixture.keyring.disable(first, RECORD));
        fixture.take(fixture.keyring.destroy(first, RECORD));
        assert_eq!(fixture.states(), ["destroyed", "primary"]);
        let Entry::Tomb(tomb) = &fixture.keyring.entries[0] else { panic!("a destroyed key is a tomb") };
        assert_eq!((tomb.destroyed(), fixture.keyring.generation()), (7, 7));
        fixture.add();
        assert!(fixture.id(2).to_string().starts_with("k3-"));
    }

    #[test]
    fn the_number_of_a_destroyed_key_is_not_used_again() {
        let mut fixture = Fixture::new();
        let second = fixture.id(1);
        fixture.take(fixture.keyring.disable(second, RECORD));
        fixture.take(fixture.keyring.destroy(second, RECORD));
        fixture.add();
        assert!(fixture.id(2).to_string().starts_with("k3-"));
    }

    #[test]
    fn the_number_of_a_key_that_is_elsewhere_is_not_used_again() {
        let fixture = Fixture::new();
        let elsewhere = |seq| KeyId::new(seq, &crate::crypto::Commitment([9; 32]));
        let add = |others: &[KeyId]| fixture.keyring.add(others, &mut SysRng, &fixture.root, RECORD, now()).unwrap();
        assert_eq!(add(&[fixture.id(0), elsewhere(2), elsewhere(9)]).1.seq(), 3);
        let (next, added) = add(&[elsewhere(4), elsewhere(3)]);
        assert_eq!(added.seq(), 5);
        let record = record::encode(&next, &fixture.root).unwrap();
        assert!(record::decode(&record, &fixture.root, UUID).is_ok(), "a record may leave numbers out");
    }

    #[test]
    fn what_the_life_of_a_key_does_not_have_is_refused() {
        let mut fixture = Fixture::new();
        let (first, second) = (fixture.id(0), fixture.id(1));
        let refused = |changed: ChangedKeyring| changed.unwrap_err().to_string();
        let keyring = &fixture.keyring;
        let promoted = keyring.promote(first, RECORD, now()).unwrap_err().to_string();
        assert_eq!(promoted, format!("key {first} is primary already"));
        assert_eq!(refused(keyring.disable(first, RECORD)), format!("key {first} is primary and cannot be disabled"));
        assert_eq!(refused(keyring.destroy(first, RECORD)), format!("key {first} is primary and cannot be destroyed"));
        assert_eq!(
            refused(keyring.enable(second, RECORD)),
            format!("key {second} is pending, and only a disabled key can be enabled")
        );
        assert_eq!(
            refused(keyring.destroy(second, RECORD)),
            format!("key {second} is pending and cannot be destroyed")
        );
        fixture.take(fixture.keyring.disable(second, RECORD));
        fixture.take(fixture.keyring.destroy(second, RECORD));
        assert_eq!(refused(fixture.keyring.enable(second, RECORD)), format!("key {second} is destroyed"));
        let unknown: KeyId = format!("k1-{}", "0".repeat(32)).parse().unwrap();
        assert_eq!(refused(fixture.keyring.enable(unknown, RECORD)), format!("there is no key {unknown}"));
    }

    #[test]
    fn a_new_root_key_changes_no_key_id() {
        let mut fixture = Fixture::new();
        let before: Vec<KeyId> = fixture.keyring.keys().map(Key::id).collect();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let next = fixture.keyring.rekey(&mut SysRng, &root, Vec::new(), RECORD).unwrap();
        let under_the_old = record::encode(&next, &fixture.root).unwrap();
        assert!(record::decode(&under_the_old, &fixture.root, UUID).is_err());
        fixture.root = root;
        fixture.take::<RewrapError>(Ok(next));
        assert_eq!(fixture.keyring.keys().map(Key::id).collect::<Vec<_>>(), before);
    }

    #[test]
    fn each_recipient_has_one_blob_and_a_new_root_key_has_its_own_blobs() {
        let mut fixture = Fixture::new();
        let [p, q, z] = ['p', 'q', 'z'].map(testing::recovery);
        fixture.take(fixture.keyring.add_recovery(q.clone(), RECORD));
        fixture.take(fixture.keyring.add_recovery(p.clone(), RECORD));
        assert_eq!(fixture.keyring.recoveries(), [p.clone(), q.clone()]);
        let refused = fixture.keyring.add_recovery(q.clone(), RECORD).unwrap_err();
        assert_eq!(refused.to_string(), format!("{} is a recovery recipient already", q.recipient()));
        let refused = fixture.keyring.remove_recovery(z.recipient(), RECORD).unwrap_err();
        assert_eq!(refused.to_string(), format!("{} is not a recovery recipient", z.recipient()));
        fixture.take(fixture.keyring.remove_recovery(q.recipient(), RECORD));
        assert_eq!(fixture.keyring.recoveries(), [p]);
        let next = fixture.keyring.rekey(&mut SysRng, &fixture.root, vec![z.clone()], RECORD);
        fixture.take(next);
        assert_eq!(fixture.keyring.recoveries(), [z]);
    }

    #[test]
    fn a_key_that_supersedes_others_marks_them_as_compromised() {
        let Fixture { root, keyring } = Fixture::new();
        let (keyring, third) = keyring.add(&[], &mut SysRng, &root, RECORD, now()).unwrap();
        let (keyring, fourth) = keyring.add(&[], &mut SysRng, &root, RECORD, now()).unwrap();
        let next = keyring.supersede(third, 3, RECORD, now()).unwrap();
        assert_eq!(next.primary().id(), third);
        let marked = next.keys().map(|key| (key.id().seq(), key.is_compromised())).collect::<Vec<_>>();
        assert_eq!(marked, [(1, true), (2, true), (3, false), (fourth.seq(), false)]);
        let reread = record::decode(&record::encode(&next, &root).unwrap(), &root, UUID);
        assert!(reread.is_ok(), "the primary key is not among them");
    }

    #[test]
    fn a_compromised_key_is_not_promoted_and_numbers_come_to_an_end() {
        let mut fixture = Fixture::new();
        let second = fixture.id(1);
        fixture.keyring.keys_mut().last().unwrap().compromised = true;
        assert_eq!(fixture.keyring.keys().map(Key::is_compromised).collect::<Vec<_>>(), [false, true]);
        let refused = fixture.keyring.promote(second, RECORD, now()).unwrap_err();
        assert_eq!(refused.to_string(), format!("key {second} is compromised and cannot be promoted"));
        fixture.keyring.generation = GENERATION_MAX;
        let refused = fixture.keyring.disable(second, RECORD).unwrap_err();
        assert_eq!(refused.to_string(), "the keyring has used every generation up to 1099511627776");
        fixture.keyring.generation = 2;
        fixture.keyring.keys_mut().last().unwrap().seq = SEQ_MAX;
        let refused = fixture.keyring.add(&[], &mut SysRng, &fixture.root, RECORD, now()).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "the keyring has used every key number up to 2147483648");
    }
}
