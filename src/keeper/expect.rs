//! `uuid:generation:sha256`: which record a node without a mark is to trust.

use std::{fmt, str::FromStr};

use crate::{
    crypto::{Digest, Uuid},
    keyring::Keyring,
    text::{hex_array, number},
};

/// The record that is expected, or the one that a later record must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    uuid: Uuid,
    generation: u64,
    record: Digest,
}

/// The record is another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// The text is no expectation.
    #[error("expected uuid:generation:sha256, as `claviger status` prints it")]
    Syntax,
    /// Another installation's.
    #[error("the keyring is {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// What it is.
        found: Uuid,
        /// What it should be.
        expected: Uuid,
    },
    /// An older one.
    #[error("the keyring has generation {found}, expected {expected} or a later one")]
    Older {
        /// What it has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
    /// Another of the same generation.
    #[error("the keyring of generation {0} has another SHA-256 than expected")]
    Other(u64),
}

impl Expect {
    /// What a node that is to trust this record takes.
    pub fn of(keyring: &Keyring, record: Digest) -> Self {
        Self { uuid: keyring.uuid(), generation: keyring.generation(), record }
    }

    /// Checks that the record is this one or a later one.
    ///
    /// # Errors
    /// When it is another.
    pub fn check(&self, keyring: &Keyring, record: Digest) -> Result<(), ExpectError> {
        let (found, expected) = (keyring.generation(), self.generation);
        if keyring.uuid() != self.uuid {
            return Err(ExpectError::OtherKeyring { found: keyring.uuid(), expected: self.uuid });
        }
        if found < expected {
            return Err(ExpectError::Older { found, expected });
        }
        if found == expected && record != self.record {
            return Err(ExpectError::Other(found));
        }
        Ok(())
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record.to_hex();
        write!(f, "{}:{}:{record}", self.uuid.to_hex(), self.generation)
    }
}

impl FromStr for Expect {
    type Err = ExpectError;

    fn from_str(text: &str) -> Result<Self, ExpectError> {
        let parse = || {
            let (uuid, rest) = text.split_once(':')?;
            let (generation, record) = rest.split_once(':')?;
            Some(Self {
                uuid: Uuid(hex_array(uuid)?),
                generation: number(generation)?,
                record: Digest(hex_array(record)?),
            })
        };
        parse().ok_or(ExpectError::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{crypto::kdf::RootKey, keyring::testing};

    #[test]
    fn the_expected_record_and_later_ones_are_accepted_and_no_others() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = |uuid| testing::keyring(&root, Uuid([uuid; 16]));
        let (ours, digest) = (keyring(1), Digest::of(b"ours"));
        let expect = Expect::of(&ours, digest);
        assert_eq!(expect.to_string().parse(), Ok(expect.clone()));
        assert_eq!(expect.check(&ours, digest), Ok(()));
        assert_eq!(expect.check(&ours, Digest::of(b"other")), Err(ExpectError::Other(1)));
        assert!(matches!(expect.check(&keyring(2), digest), Err(ExpectError::OtherKeyring { .. })));
        let newer = Expect { generation: 2, ..expect };
        assert_eq!(newer.check(&ours, digest), Err(ExpectError::Older { found: 1, expected: 2 }));
        let older = Expect { generation: 0, ..newer };
        assert_eq!(older.check(&ours, Digest::of(b"other")), Ok(()));
    }

    #[test]
    fn what_is_no_expectation_is_refused() {
        for text in ["", "a:b", "a:1:c", &format!("{}:01:{}", "0".repeat(32), "0".repeat(64)), &"0".repeat(98)] {
            assert_eq!(text.parse::<Expect>(), Err(ExpectError::Syntax), "{text:?}");
        }
    }
}
