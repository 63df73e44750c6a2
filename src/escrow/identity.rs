//! age recipients and identities: what a file is sealed to, and what opens it.
//!
//! A recipient, `age1…`, is public. Its identity, `AGE-SECRET-KEY-1…`, is secret and is kept offline: this program
//! reads one only to prove that it works or to recover. Source: <https://age-encryption.org/v1>.

use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

use age::x25519;
use zeroize::Zeroizing;

use super::line::{bare, is_share};
#[cfg(feature = "shares")]
use super::share::{self, CombineError, Share, SplitError};

/// The greatest number of bytes that age adds to a plaintext, for a few recipients.
const OVERHEAD: usize = 4096;

/// The prefix of every age identity.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// An age recipient, `age1…`: the public half of a recovery identity.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

/// age identities, `AGE-SECRET-KEY-1…`: the private halves of recipients. They are read only to check or to recover.
pub struct Identities(Vec<x25519::Identity>);

/// Why a text is not a recipient. The error does not repeat the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRecipient {
    /// The text is an identity, which is secret.
    #[error("an identity was given where its recipient is expected, age1…")]
    Identity,
    /// The text is neither a recipient nor an identity.
    #[error("not an age recipient, expected age1…")]
    Other,
}

/// Why an identity could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The text contains no identity, or something that is not an identity.
    #[error("not an age identity file, expected lines of AGE-SECRET-KEY-1…")]
    NotIdentity,
    /// The shares of an identity were refused.
    #[cfg(feature = "shares")]
    #[error(transparent)]
    Share(#[from] CombineError),
    /// The text contains shares, and this build cannot combine them.
    #[cfg(not(feature = "shares"))]
    #[error("this claviger was built without shares, and cannot put an identity together")]
    NoShares,
}

/// age could not write a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sealing to {recipients}: {reason}")]
pub struct SealError {
    /// The recipients that the file was to be sealed to.
    pub recipients: String,
    /// The error text of age.
    pub reason: String,
}

/// Why an age file did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// None of the identities opens the age file.
    NoIdentity,
    /// The age file was changed, or its end is missing.
    Damaged,
}

/// Makes the age file of `plaintext` for all of `recipients`.
///
/// # Errors
/// When age cannot write.
pub(super) fn seal_to(recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let names = || recipients.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed = |reason: String| SealError { recipients: names(), reason };
    let all = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| failed(error.to_string()))?;
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    let write = |sealed: &mut Vec<u8>| {
        let mut writer = encryptor.wrap_output(sealed)?;
        writer.write_all(plaintext)?;
        writer.finish().map(|_| ())
    };
    write(&mut sealed).map_err(|error: io::Error| failed(error.to_string()))?;
    Ok(sealed)
}

impl FromStr for Recipient {
    type Err = NotRecipient;

    fn from_str(text: &str) -> Result<Self, NotRecipient> {
        let is_identity = text.trim_start().to_ascii_uppercase().starts_with(IDENTITY);
        text.parse().map(Self).map_err(|_| if is_identity { NotRecipient::Identity } else { NotRecipient::Other })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

impl Identities {
    /// Reads identity files as `age-keygen` writes them: comments, blank lines and `AGE-SECRET-KEY-1…`. Instead of an
    /// identity, `text` may contain enough shares of one.
    ///
    /// # Errors
    /// When `text` contains no identity, another kind of line, or shares that do not give an identity.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let is_identity = |line: &&str| !line.is_empty() && !line.starts_with('#') && !is_share(line);
        let lines = text.lines().map(bare).filter(is_identity);
        let identities: Result<Vec<_>, _> = lines.map(x25519::Identity::from_str).collect();
        let mut identities = identities.map_err(|_| IdentityError::NotIdentity)?;
        identities.extend(of_shares(text)?);
        if identities.is_empty() { Err(IdentityError::NotIdentity) } else { Ok(Self(identities)) }
    }

    /// Returns the recipient of each identity.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|identity| Recipient(identity.to_public())).collect()
    }

    /// Whether one of the identities belongs to `recipient`.
    pub fn are_of(&self, recipient: &Recipient) -> bool {
        self.0.iter().any(|identity| identity.to_public().to_string() == recipient.to_string())
    }

    /// Splits the identity into `shares` shares, any `threshold` of which give it back. Also returns the recipient of
    /// the identity.
    ///
    /// # Errors
    /// When there is more than one identity, the counts make no sense, or the random source fails.
    #[cfg(feature = "shares")]
    pub fn split(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        threshold: u8,
        shares: u8,
    ) -> Result<(Vec<Share>, Recipient), SplitError> {
        let [identity] = self.0.as_slice() else { return Err(SplitError::Identity) };
        Ok((share::split(rng, identity, threshold, shares)?, Recipient(identity.to_public())))
    }

    /// Opens an age file. Returns its plaintext, but at most `limit` bytes.
    pub(super) fn open(&self, sealed: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let opened = age::Decryptor::new(sealed).and_then(|sealed| sealed.decrypt(identities));
        let mut reader = opened.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => Unopened::NoIdentity,
            _ => Unopened::Damaged,
        })?;
        // Reserves room for the whole plaintext at once: a vector that grows leaves copies of the secret in memory.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(limit.min(sealed.len())));
        reader.by_ref().take(limit as u64).read_to_end(&mut plaintext).map_err(|_| Unopened::Damaged)?;
        Ok(plaintext)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities")
    }
}

/// Combines the shares in `text` to an identity. Returns `None` if `text` contains no shares.
#[cfg(feature = "shares")]
fn of_shares(text: &str) -> Result<Option<x25519::Identity>, IdentityError> {
    Ok(share::combine(&share::shares_in(text)?)?)
}

#[cfg(not(feature = "shares"))]
fn of_shares(text: &str) -> Result<Option<x25519::Identity>, IdentityError> {
    if text.lines().map(bare).any(is_share) { Err(IdentityError::NoShares) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn what_is_no_identity_file_is_refused() {
        for text in ["", "# only a comment\n", "age1qqqq", "AGE-SECRET-KEY-1BROKEN", "ssh-ed25519 AAAA"] {
            assert!(matches!(Identities::parse(text), Err(IdentityError::NotIdentity)), "{text:?}");
        }
    }

    #[test]
    fn an_editor_may_have_put_a_byte_order_mark_before_an_identity() {
        let identity = x25519::Identity::generate();
        let text = format!("\u{feff}# mine\r\n{}\r\n", identity.to_string().expose_secret());
        for text in [text.clone(), text.replace("# mine\r\n", ""), format!("{text}{text}")] {
            assert!(Identities::parse(&text).unwrap().are_of(&Recipient(identity.to_public())), "{text:?}");
        }
    }

    #[test]
    fn nothing_is_sealed_to_nobody() {
        let refused = seal_to(&[], b"plaintext").unwrap_err().to_string();
        assert!(refused.starts_with("sealing to : "), "{refused}");
    }
}
