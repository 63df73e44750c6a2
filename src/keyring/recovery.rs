//! A recovery blob as the record carries it: the name of a recipient, and bytes that only `escrow` can make and open.
//!
//! The keyring checks the shape of both, and not the checksum in the name: age does that when the recipient is used.
//! Source: `docs/formats.md`, "record" and "recovery blob".

/// The greatest length of a recovery blob in bytes. A real one has about 400.
pub const BLOB_MAX: usize = 4096;

/// The prefix of every age recipient.
const RECIPIENT: &str = "age1";
/// The length of an age recipient in characters: the prefix, and 32 bytes with a checksum in Bech32.
const RECIPIENT_LENGTH: usize = 62;
/// The characters of Bech32 (BIP 173).
const BECH32: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// A recovery blob: the root key, sealed to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    recipient: String,
    blob: Vec<u8>,
}

impl Recovery {
    /// Makes the blob for `recipient`. Returns `None` if a record may not contain the recipient or the blob.
    pub fn new(recipient: &str, blob: Vec<u8>) -> Option<Self> {
        let has_shape = is_recipient(recipient) && blob.len() <= BLOB_MAX;
        has_shape.then(|| Self { recipient: recipient.to_owned(), blob })
    }

    /// Returns the recipient, `age1…`.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Returns the age file that contains the root key.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

fn is_recipient(text: &str) -> bool {
    let digits = text.strip_prefix(RECIPIENT);
    text.len() == RECIPIENT_LENGTH && digits.is_some_and(|digits| digits.chars().all(|digit| BECH32.contains(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_and_a_blob_have_a_shape() {
        let recipient = format!("age1{}", "q".repeat(58));
        assert!(Recovery::new(&recipient, vec![0; BLOB_MAX]).is_some());
        assert_eq!(Recovery::new(&recipient, vec![0; BLOB_MAX + 1]), None);
        for other in [
            "",
            "age1",
            &recipient[..61],
            &format!("{recipient}q"),
            &recipient.to_uppercase(),
            &recipient.replace("age1", "age2"),
            &recipient.replacen('q', "b", 1),
            &recipient.replacen('q', " ", 1),
            &recipient.replacen("qq", "é", 1),
        ] {
            assert_eq!(Recovery::new(other, Vec::new()), None, "{other:?}");
        }
    }
}
