//! `key_id`: the public, stable name of a KEK, `k<seq>-<first 32 hex digits of C>`.
//!
//! Source: KEP-3299 and `docs/formats.md`. A key_id is never renumbered and never used for another key.

use std::{fmt, str::FromStr};

use crate::{crypto::Commitment, text};

/// The public name of a KEK: its sequence number and the first half of its commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    seq: u32,
    prefix: [u8; 16],
}

/// A text that does not have the form of a key_id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key_id, expected k<number>-<32 hex digits>")]
pub struct KeyIdError;

impl KeyId {
    /// Makes the name of the key with this sequence number and commitment.
    pub fn new(seq: u32, commitment: &Commitment) -> Self {
        Self { seq, prefix: commitment.first_half() }
    }

    /// Returns the first half of the key's commitment. The name shows it as 32 hexadecimal digits.
    pub fn commitment_half(&self) -> [u8; 16] {
        self.prefix
    }

    /// Returns the sequence number of the key.
    pub fn seq(&self) -> u32 {
        self.seq
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}-{}", self.seq, base16ct::lower::encode_string(&self.prefix))
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let (seq, prefix) = text::key_id(text).ok_or(KeyIdError)?;
        Ok(Self { seq, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let id = KeyId::new(3, &Commitment([0x9f; 32]));
        let text = format!("k3-{}", "9f".repeat(16));
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!((id.seq(), id.commitment_half()), (3, [0x9f; 16]));
        for other in [
            "",
            "k3",
            "k0-",
            "3-9f",
            &text.to_uppercase(),
            &format!("{text}0"),
            &text[..text.len() - 1],
            &format!(" {text}"),
        ] {
            assert_eq!(other.parse::<KeyId>(), Err(KeyIdError), "{other:?}");
        }
        assert_eq!(text.replace("k3", "k03").parse::<KeyId>(), Err(KeyIdError));
        assert_eq!(text.replace("k3", "k0").parse::<KeyId>(), Err(KeyIdError));
        assert!(text.replace("k3", "k2147483648").parse::<KeyId>().is_ok());
        assert_eq!(text.replace("k3", "k2147483649").parse::<KeyId>(), Err(KeyIdError));
    }
}
