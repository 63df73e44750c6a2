//! Makes a keyring from a backup, for a directory that has no keyring.
//!
//! Pure. A backup does not say what happened after it was made. Therefore the restored keyring is a successor of the
//! one in the backup: no key stays pending, and the newest key that may be needed becomes primary. Invariant: the
//! primary key is always in a backup: it comes from this backup, or the caller backs the new key up first. Source:
//! `docs/formats.md`, "Restoring".

use crate::crypto::{Digest, root_key::RootKey};

use super::{
    change::{MakeKeyError, UnknownKey, next_generation, next_seq},
    key::{Entry, Key},
    key_id::KeyId,
    ring::Keyring,
    state::State,
    time::Time,
};

/// The keys that may become primary after a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// Every key, because the operator named exactly this record.
    Any,
    /// Only these keys, because values in etcd need them.
    Needed(Vec<KeyId>),
}

/// A restored keyring.
#[derive(Debug)]
pub struct Restored {
    /// The restored keyring, of the next generation.
    pub keyring: Keyring,
    /// The new primary key, if the restore had to make one. No backup contains it yet.
    pub fresh: Option<KeyId>,
}

/// Why a keyring in a backup got no successor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreKeysError {
    /// A key that the operator called compromised is not in the backup.
    #[error(transparent)]
    Unknown(#[from] UnknownKey),
    /// The new primary key could not be made.
    #[error(transparent)]
    Make(#[from] MakeKeyError),
}

/// Makes the successor of a keyring in a backup. `record` is the SHA-256 of its record and `root` its root key. The
/// operator says that the keys `compromised` may be known to somebody else.
///
/// # Errors
/// When one of these keys is not in the backup, no number is left, or no key can be made.
pub fn restore(
    rng: &mut impl rand::TryCryptoRng,
    root: &RootKey,
    (backup, record): (&Keyring, Digest),
    candidates: &Candidates,
    compromised: &[KeyId],
    now: Time,
) -> Result<Restored, RestoreKeysError> {
    let generation = next_generation(backup.generation).map_err(MakeKeyError::from)?;
    let past = backup.past.then(backup.generation, record);
    let mut keyring = Keyring { generation, past, restored: Some(generation), ..backup.clone() };
    for node in &mut keyring.nodes {
        node.left = node.left.or(Some(now));
    }
    keyring.keys_mut().for_each(|key| key.give_back(now));
    mark_compromised(&mut keyring, compromised)?;
    let may_wrap = |key: &Key| match candidates {
        Candidates::Any => true,
        Candidates::Needed(needed) => needed.contains(&key.id()),
    };
    let fresh = keyring.wrap_under_newest(rng, root, may_wrap, now)?;
    Ok(Restored { keyring, fresh })
}

/// Marks each of these keys as compromised.
pub(super) fn mark_compromised(keyring: &mut Keyring, compromised: &[KeyId]) -> Result<(), UnknownKey> {
    for key_id in compromised {
        let mut keys = keyring.keys_mut();
        keys.find(|key| key.id() == *key_id).ok_or(UnknownKey(*key_id))?.compromised = true;
    }
    Ok(())
}

impl Key {
    /// Applies [`AFTER_RESTORE`](super::state::AFTER_RESTORE) to the key.
    pub(super) fn give_back(&mut self, now: Time) {
        self.state = self.state.returned();
        self.demoted = self.demoted.or(self.promoted.map(|_| now));
    }
}

impl Keyring {
    /// Makes one key primary: the newest key that is neither disabled nor compromised and that `may_wrap` allows. If
    /// there is no such key, makes a new key and returns its name. The keyring must not have a primary key before.
    pub(super) fn wrap_under_newest(
        &mut self,
        rng: &mut impl rand::TryCryptoRng,
        root: &RootKey,
        may_wrap: impl Fn(&Key) -> bool,
        now: Time,
    ) -> Result<Option<KeyId>, MakeKeyError> {
        let is_right = |key: &&mut Key| key.state != State::Disabled && !key.compromised && may_wrap(key);
        if let Some(newest) = self.keys_mut().filter(is_right).last() {
            (newest.state, newest.demoted) = (State::Primary, None);
            newest.promoted = newest.promoted.or(Some(now));
            return Ok(None);
        }
        let seq = next_seq(self.greatest_seq())?;
        let fresh = Key {
            state: State::Primary,
            promoted: Some(now),
            ..Key::generate(rng, self.wrapper_under(root), seq, now)?
        };
        let key_id = fresh.id();
        self.entries.push(Entry::Key(fresh));
        Ok(Some(key_id))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::Uuid,
        keyring::{record, testing},
    };

    const UUID: Uuid = Uuid([5; 16]);

    struct Fixture {
        root: RootKey,
        /// k1 decrypt-only, k2 primary, k3 pending, k4 disabled, k5 destroyed.
        backup: Keyring,
    }

    fn fixture() -> Fixture {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let mut backup = testing::keyring(&root, UUID);
        for state in [State::DecryptOnly, State::Pending, State::Disabled] {
            backup = testing::with_key(backup, &root, state);
        }
        Fixture { backup: testing::with_tomb(testing::promote(&backup, 1), 5), root }
    }

    impl Fixture {
        fn id(&self, index: usize) -> KeyId {
            self.backup.entries[index].id()
        }

        fn restore(&self, candidates: &Candidates, compromised: &[KeyId]) -> Result<Restored, RestoreKeysError> {
            let backup = (&self.backup, testing::digest(2));
            let restored = restore(&mut SysRng, &self.root, backup, candidates, compromised, testing::now())?;
            let bytes = record::encode(&restored.keyring, &self.root).unwrap();
            record::decode(&bytes, &self.root, UUID).unwrap();
            Ok(restored)
        }
    }

    fn states(keyring: &Keyring) -> Vec<&'static str> {
        keyring.entries.iter().map(|entry| entry.fate().as_str()).collect()
    }

    #[test]
    fn the_newest_key_wraps_and_none_stays_pending() {
        let fixture = fixture();
        let Restored { keyring, fresh } = fixture.restore(&Candidates::Any, &[]).unwrap();
        assert_eq!(states(&keyring), ["decrypt-only", "decrypt-only", "primary", "disabled", "destroyed"]);
        assert!(fresh.is_none() && keyring.primary().promoted.is_some());
        assert_eq!(keyring.generation, 3);
        assert!(keyring.past.names(2, testing::digest(2)) && keyring.past.names(1, testing::digest(1)));
    }

    #[test]
    fn without_the_operators_word_only_a_needed_key_wraps() {
        let fixture = fixture();
        let needed = |ids: &[usize]| Candidates::Needed(ids.iter().map(|index| fixture.id(*index)).collect());
        let restored = |candidates: &Candidates| fixture.restore(candidates, &[]).unwrap();
        let first = restored(&needed(&[0]));
        assert_eq!(states(&first.keyring), ["primary", "decrypt-only", "decrypt-only", "disabled", "destroyed"]);
        assert_eq!(states(&restored(&needed(&[0, 1])).keyring)[1], "primary");
        // A disabled key stays disabled although values need it: a new key becomes primary.
        let Restored { keyring, fresh } = restored(&needed(&[3]));
        assert_eq!(fresh, Some(keyring.primary().id()));
        assert_eq!(keyring.primary().promoted, Some(testing::now()));
        assert!(keyring.primary().id().to_string().starts_with("k6-"));
    }

    #[test]
    fn a_compromised_key_never_wraps_again() {
        let mut fixture = fixture();
        let named = [fixture.id(1), fixture.id(2)];
        let restored = fixture.restore(&Candidates::Any, &named).unwrap();
        assert_eq!(states(&restored.keyring)[..3], ["primary", "decrypt-only", "decrypt-only"]);
        assert_eq!(restored.keyring.keys().filter(|key| key.compromised).map(Key::id).collect::<Vec<_>>(), named);
        // The backup itself says that the other two are compromised.
        fixture.backup = restored.keyring;
        let restored = fixture.restore(&Candidates::Any, &[fixture.id(0)]).unwrap();
        assert_eq!(restored.fresh, Some(restored.keyring.primary().id()));
        let unknown: KeyId = format!("k1-{}", "0".repeat(32)).parse().unwrap();
        assert!(matches!(fixture.restore(&Candidates::Any, &[unknown]), Err(RestoreKeysError::Unknown(_))));
        assert!(matches!(fixture.restore(&Candidates::Any, &[fixture.id(4)]), Err(RestoreKeysError::Unknown(_))));
    }

    #[test]
    fn nodes_are_kept_and_have_left() {
        let mut fixture = fixture();
        let line = "cp-1 enrolled=2026-11-23T20:14:48Z";
        fixture.backup.nodes = vec![super::super::node::Node::parse(line).unwrap()];
        let restored = fixture.restore(&Candidates::Any, &[]).unwrap();
        assert_eq!(restored.keyring.nodes[0].left, Some(testing::now()));
    }

    #[test]
    fn a_restored_keyring_and_its_successors_say_which_generation_the_restore_made() {
        let mut fixture = fixture();
        assert_eq!(fixture.backup.restored(), None);
        for times in 1..=2 {
            let restored = fixture.restore(&Candidates::Any, &[]).unwrap().keyring;
            assert_eq!(restored.restored(), Some(fixture.backup.generation + 1), "{times}");
            let later = restored.add(&[], &mut SysRng, &fixture.root, Digest([7; 32]), testing::now()).unwrap().0;
            assert_eq!(later.restored(), restored.restored());
            fixture.backup = later;
        }
    }
}
