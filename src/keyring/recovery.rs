//! The recovery blob: the root key in an age file, for a recipient whose identity is kept offline.
//!
//! The blobs are in the record, so the record and one identity restore everything. The plaintext is
//! `claviger/recovery/v1`, uuid, root-id and root key, one a line. Source: `docs/formats.md`,
//! <https://age-encryption.org/v1>.

use std::{
    io::{Read, Write},
    str::FromStr,
};

use age::x25519;
use zeroize::Zeroizing;

use crate::{
    crypto::{
        RootId, Uuid,
        kdf::RootKey,
        secret::{Secret, SecretError},
    },
    text::{base64, base64_array, root_id, uuid},
};

use super::share::{self, Share, ShareError};

const HEAD: &str = "claviger/recovery/v1";
/// Longer than any blob for one recipient, which takes 400 bytes.
const BLOB_MAX: usize = 4096;

/// A recipient with the root key sealed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    recipient: String,
    blob: Vec<u8>,
}

/// An age recipient, `age1…`: the public half of a recovery identity.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// Age identities, `AGE-SECRET-KEY-1…`: the private halves, read only to check or to recover.
pub struct Identities(Vec<x25519::Identity>);

/// Why an age file did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It is for none of the identities.
    NoIdentity,
    /// It was changed, or its end is missing.
    Damaged,
}

/// Why a recovery blob could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The text is no recipient.
    #[error("not an age recipient, expected age1…")]
    Recipient,
    /// The text holds no identity, or something else besides.
    #[error("not an age identity file, expected lines of AGE-SECRET-KEY-1…")]
    Identity,
    /// age could not write the blob.
    #[error("sealing to {recipient}: {reason}")]
    Seal {
        /// For whom.
        recipient: String,
        /// In age's words.
        reason: String,
    },
    /// No given identity opens the blob.
    #[error("no given identity opens the recovery blob for {0}")]
    NoIdentity(String),
    /// It opened, and is not what it should be.
    #[error("the recovery blob for {0} does not hold this keyring's root key")]
    Contents(String),
    /// Shares of an identity.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// No locked memory to open it into.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Recovery {
    /// Seals `root` to `recipient`.
    ///
    /// # Errors
    /// When age cannot write.
    pub fn seal(recipient: &Recipient, uuid: Uuid, root: &RootKey) -> Result<Self, RecoveryError> {
        let name = recipient.0.to_string();
        let blob = seal_to(std::slice::from_ref(recipient), plaintext(uuid, root).as_bytes())?;
        Ok(Self { recipient: name, blob })
    }

    /// A recipient and its blob as the record has them.
    pub fn from_record(recipient: &str, blob: Vec<u8>) -> Option<Self> {
        let canonical = recipient.parse::<Recipient>().ok()?.0.to_string();
        (canonical == recipient && blob.len() <= BLOB_MAX).then_some(Self { recipient: canonical, blob })
    }

    /// For whom.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// The age file.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Gets the root key back, and checks that it is that of this keyring.
    ///
    /// # Errors
    /// When no identity opens it, or what it holds is not the root key `expected` of the keyring `keyring`.
    pub fn open(&self, identities: &Identities, keyring: Uuid, expected: RootId) -> Result<RootKey, RecoveryError> {
        let plaintext = self.decrypt(identities)?;
        let contents = || RecoveryError::Contents(self.recipient.clone());
        let text = std::str::from_utf8(&plaintext).map_err(|_| contents())?;
        let mut lines = text.strip_suffix('\n').ok_or_else(contents)?.split('\n');
        let head = (lines.next(), lines.next().and_then(uuid), lines.next().and_then(root_id));
        if head != (Some(HEAD), Some(keyring), Some(expected)) {
            return Err(contents());
        }
        let mut secret = Secret::zeroed()?;
        let bytes = Zeroizing::new(lines.next().and_then(base64_array::<32>).ok_or_else(contents)?);
        secret.expose_mut().copy_from_slice(&*bytes);
        let root = RootKey::from_secret(secret);
        if lines.next().is_some() || root.id(keyring) != expected {
            return Err(contents());
        }
        Ok(root)
    }

    fn decrypt(&self, identities: &Identities) -> Result<Zeroizing<Vec<u8>>, RecoveryError> {
        identities.decrypt(&self.blob, BLOB_MAX).map_err(|_| RecoveryError::NoIdentity(self.recipient.clone()))
    }
}

fn plaintext(uuid: Uuid, root: &RootKey) -> Zeroizing<String> {
    let key = Zeroizing::new(base64(root.secret().expose()));
    let mut text = Zeroizing::new(String::with_capacity(256));
    for line in [HEAD, &uuid.to_hex(), &base64(&root.id(uuid).0), &key] {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The age file of `plaintext` for all of `recipients`.
///
/// # Errors
/// When age cannot write.
pub fn seal_to(recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, RecoveryError> {
    let names = || recipients.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed = |reason: String| RecoveryError::Seal { recipient: names(), reason };
    let all = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| failed(error.to_string()))?;
    let mut sealed = Vec::with_capacity(plaintext.len() + BLOB_MAX);
    let write = |sealed: &mut Vec<u8>| {
        let mut writer = encryptor.wrap_output(sealed)?;
        writer.write_all(plaintext)?;
        writer.finish().map(|_| ())
    };
    write(&mut sealed).map_err(|error: std::io::Error| failed(error.to_string()))?;
    Ok(sealed)
}

impl FromStr for Recipient {
    type Err = RecoveryError;

    fn from_str(text: &str) -> Result<Self, RecoveryError> {
        text.parse().map(Self).map_err(|_| RecoveryError::Recipient)
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Identities {
    /// The recipients whose identities these are.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|identity| Recipient(identity.to_public())).collect()
    }

    /// Reads identity files as `age-keygen` writes them: comments, blank lines and `AGE-SECRET-KEY-1…`; or shares of one identity,
    /// as many as it takes.
    ///
    /// # Errors
    /// When a line is anything else, there is no identity, or the shares do not give one.
    pub fn parse(text: &str) -> Result<Self, RecoveryError> {
        let is_identity = |line: &&str| !line.is_empty() && !line.starts_with('#') && !Share::is_meant(line);
        let lines = text.lines().map(str::trim).filter(is_identity);
        let identities: Result<Vec<_>, _> = lines.map(x25519::Identity::from_str).collect();
        let mut identities = identities.map_err(|_| RecoveryError::Identity)?;
        let shares = share::shares_in(text)?;
        if !shares.is_empty() {
            identities.push(share::combine(&shares)?);
        }
        if identities.is_empty() { Err(RecoveryError::Identity) } else { Ok(Self(identities)) }
    }

    /// Splits the one identity into `shares` of which any `threshold` give it back, and says what its recipient is.
    ///
    /// # Errors
    /// When there are several, the counts make no sense, or the random source fails.
    pub fn split(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        threshold: u8,
        shares: u8,
    ) -> Result<(Vec<Share>, Recipient), RecoveryError> {
        let [identity] = self.0.as_slice() else { return Err(ShareError::Identity.into()) };
        Ok((share::split(rng, identity, threshold, shares)?, Recipient(identity.to_public())))
    }

    /// Whether one of them is that of `recipient`.
    pub fn are_of(&self, recipient: &Recipient) -> bool {
        self.0.iter().any(|identity| identity.to_public().to_string() == recipient.to_string())
    }
}

impl Identities {
    /// The plaintext of an age file, at most `limit` bytes of it.
    pub(super) fn decrypt(&self, sealed: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let opened = age::Decryptor::new(sealed).and_then(|sealed| sealed.decrypt(identities));
        let mut reader = opened.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => Unopened::NoIdentity,
            _ => Unopened::Damaged,
        })?;
        // Room for all of it from the start: growing would leave copies behind.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(limit.min(sealed.len())));
        reader.by_ref().take(limit as u64).read_to_end(&mut plaintext).map_err(|_| Unopened::Damaged)?;
        Ok(plaintext)
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::keyring::testing::identity;

    const UUID: Uuid = Uuid([3; 16]);

    #[test]
    fn the_identity_of_the_recipient_gives_the_root_key_back() {
        let (recipient, identities) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = Recovery::seal(&recipient, UUID, &root).unwrap();
        let opened = recovery.open(&identities, UUID, root.id(UUID)).unwrap();
        assert_eq!(opened.secret().expose(), root.secret().expose());
    }

    #[test]
    fn another_identity_another_keyring_and_another_root_key_are_told_apart() {
        let (recipient, identities) = identity();
        let (_, strangers) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = Recovery::seal(&recipient, UUID, &root).unwrap();
        let id = root.id(UUID);
        assert!(matches!(recovery.open(&strangers, UUID, id), Err(RecoveryError::NoIdentity(_))));
        assert!(matches!(recovery.open(&identities, Uuid([4; 16]), id), Err(RecoveryError::Contents(_))));
        assert!(matches!(recovery.open(&identities, UUID, RootId([0; 32])), Err(RecoveryError::Contents(_))));
    }

    #[test]
    fn a_damaged_blob_never_opens() {
        let (recipient, identities) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = Recovery::seal(&recipient, UUID, &root).unwrap();
        for index in 0..recovery.blob.len() {
            let mut damaged = recovery.clone();
            damaged.blob[index] ^= 1;
            assert!(damaged.open(&identities, UUID, root.id(UUID)).is_err(), "byte {index}");
        }
    }

    #[test]
    fn what_is_no_identity_file_is_refused() {
        for text in ["", "# only a comment\n", "age1qqqq", "AGE-SECRET-KEY-1BROKEN", "ssh-ed25519 AAAA"] {
            assert!(matches!(Identities::parse(text), Err(RecoveryError::Identity)), "{text:?}");
        }
    }
}
