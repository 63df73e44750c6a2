//! The operator's expectation of a record, written `uuid:generation:sha256`. A node without a mark and a restore trust
//! the record that it identifies.

use std::{fmt, str::FromStr};

use crate::{
    crypto::{Digest, Uuid},
    keyring::{GENERATION_MAX, Keyring},
    text::{hex_array, number},
};

/// The expected record: uuid, generation and SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    uuid: Uuid,
    generation: u64,
    record: Digest,
}

/// Why a record is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// The text does not have the form `uuid:generation:sha256`.
    #[error("expected uuid:generation:sha256")]
    Syntax,
    /// The record belongs to another keyring.
    #[error("the keyring is {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// The uuid of the record.
        found: Uuid,
        /// The uuid that the operator expects.
        expected: Uuid,
    },
    /// The record has another generation than the expected one, and a successor is not accepted.
    #[error("the keyring has generation {found}, expected exactly {expected}")]
    OtherGeneration {
        /// The generation of the record.
        found: u64,
        /// The generation that the operator expects.
        expected: u64,
    },
    /// The record has the expected generation and another SHA-256.
    #[error("the keyring of generation {0} has another SHA-256 than expected")]
    Other(u64),
    /// The record has a later generation, and the expected record is not one of its ancestors.
    #[error("the keyring of generation {found} does not follow from the expected one of generation {expected}")]
    NoSuccessor {
        /// The generation of the record.
        found: u64,
        /// The generation that the operator expects.
        expected: u64,
    },
}

impl Expect {
    /// Identifies the record of `keyring`, whose SHA-256 is `record`.
    pub fn of(keyring: &Keyring, record: Digest) -> Self {
        Self { uuid: keyring.uuid(), generation: keyring.generation(), record }
    }

    /// Whether this identifies the record of `keyring`, whose SHA-256 is `record`.
    pub fn is(&self, keyring: &Keyring, record: Digest) -> bool {
        *self == Self::of(keyring, record)
    }

    /// Checks that the record is the expected one. Refuses its successors.
    ///
    /// # Errors
    /// When it is another record.
    pub fn check_exactly(&self, keyring: &Keyring, record: Digest) -> Result<(), ExpectError> {
        let (found, expected) = (keyring.generation(), self.generation);
        if keyring.uuid() != self.uuid {
            return Err(ExpectError::OtherKeyring { found: keyring.uuid(), expected: self.uuid });
        }
        if found != expected {
            return Err(ExpectError::OtherGeneration { found, expected });
        }
        if record == self.record { Ok(()) } else { Err(ExpectError::Other(found)) }
    }

    /// Checks that the record is the expected one or a successor of it. Anyone can make a record that lists the
    /// expected one as its predecessor. So call this only if something else proves that the root key of the record is
    /// authentic.
    ///
    /// # Errors
    /// When it is another record.
    pub fn check(&self, keyring: &Keyring, record: Digest) -> Result<(), ExpectError> {
        let is_later = keyring.uuid() == self.uuid && keyring.generation() > self.generation;
        match (is_later, keyring.past().names(self.generation, self.record)) {
            (true, true) => Ok(()),
            (true, false) => Err(ExpectError::NoSuccessor { found: keyring.generation(), expected: self.generation }),
            (false, _) => self.check_exactly(keyring, record),
        }
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
                generation: number(generation).filter(|generation| (1..=GENERATION_MAX).contains(generation))?,
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
    use crate::{crypto::root_key::RootKey, keyring::testing};

    #[test]
    fn exactly_one_record_is_expected_and_its_successors_under_a_known_root_key() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = |uuid| testing::keyring(&root, Uuid([uuid; 16]));
        let (ours, digest) = (keyring(1), testing::digest(1));
        let expect = Expect::of(&ours, digest);
        assert_eq!(expect.to_string().parse(), Ok(expect.clone()));
        assert_eq!(expect.check(&ours, digest), Ok(()));
        assert_eq!(expect.check_exactly(&ours, digest), Ok(()));
        assert_eq!(expect.check(&ours, Digest::of(b"other")), Err(ExpectError::Other(1)));
        assert!(matches!(expect.check(&keyring(2), digest), Err(ExpectError::OtherKeyring { .. })));

        let later = testing::later(&ours, |_| {});
        assert_eq!(expect.check(&later, testing::digest(2)), Ok(()));
        let exactly = expect.check_exactly(&later, testing::digest(2));
        assert_eq!(exactly, Err(ExpectError::OtherGeneration { found: 2, expected: 1 }));
        let newer = Expect::of(&later, testing::digest(2));
        assert!(matches!(newer.check(&ours, digest), Err(ExpectError::OtherGeneration { found: 1, expected: 2 })));
        // The record has a later generation, and does not follow from the expected one.
        let stranger = Expect { record: Digest::of(b"other"), ..expect };
        let refused = stranger.check(&later, testing::digest(2));
        let expected = "the keyring of generation 2 does not follow from the expected one of generation 1";
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_no_expectation_is_refused() {
        let (uuid, record) = ("0".repeat(32), "0".repeat(64));
        assert!(format!("{uuid}:1099511627776:{record}").parse::<Expect>().is_ok());
        for text in [
            "",
            "a:b",
            "a:1:c",
            &format!("{uuid}:01:{record}"),
            &format!("{uuid}:0:{record}"),
            &format!("{uuid}:1099511627777:{record}"),
            &"0".repeat(98),
        ] {
            assert_eq!(text.parse::<Expect>(), Err(ExpectError::Syntax), "{text:?}");
        }
    }

    #[test]
    fn a_successor_is_not_the_record_itself() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let keyring = testing::keyring(&root, Uuid([1; 16]));
        let (later, digest) = (testing::later(&keyring, |_| {}), testing::digest(1));
        let expect = Expect::of(&keyring, digest);
        assert!(expect.is(&keyring, digest));
        assert!(!expect.is(&later, testing::digest(2)) && !expect.is(&later, digest));
        assert!(!expect.is(&keyring, testing::digest(2)));
    }
}
