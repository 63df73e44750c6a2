//! The recovery blob: the root key in an age file, for a recipient whose identity is kept offline.
//!
//! The blobs are in the record, so the record and one identity restore everything. The plaintext has four lines:
//! `claviger/recovery/v1`, uuid, root-id and root key. Source: `docs/formats.md`, "recovery blob".

use zeroize::Zeroizing;

use crate::{
    crypto::{RootId, Uuid, root_key::RootKey},
    keyring::recovery::{BLOB_MAX, Recovery},
    memory::{Secret, SecretError},
    text::{base64, base64_array, root_id, uuid},
};

use super::identity::{Identities, NotRecipient, Recipient, SealError, Unopened, seal_to};

const HEAD: &str = "claviger/recovery/v1";

/// Why a root key was not sealed to a recovery recipient.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealRecoveryError {
    /// age could not write the file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The age file is longer than a record allows.
    #[error("the recovery blob for {0} is too long for a record")]
    TooLong(String),
}

/// Why a recovery blob does not give the root key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRecoveryError {
    /// None of the given identities belongs to the blob's recipient.
    #[error("no given identity opens the recovery blob for {0}")]
    NoIdentity(String),
    /// The age file was changed, or its end is missing.
    #[error("the recovery blob for {0} is damaged")]
    Damaged(String),
    /// The blob opens, and does not contain the root key of this keyring.
    #[error("the recovery blob for {0} does not contain this keyring's root key")]
    Contents(String),
    /// No memory could be locked for the root key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Returns the recipients of `recoveries`.
///
/// # Errors
/// When age does not know one of them.
pub fn recipients(recoveries: &[Recovery]) -> Result<Vec<Recipient>, NotRecipient> {
    recoveries.iter().map(|recovery| recovery.recipient().parse()).collect()
}

/// Seals `root` to `recipient`.
///
/// # Errors
/// When age cannot write.
pub fn seal(recipient: &Recipient, uuid: Uuid, root: &RootKey) -> Result<Recovery, SealRecoveryError> {
    let name = recipient.to_string();
    let blob = seal_to(std::slice::from_ref(recipient), plaintext(uuid, root).as_bytes())?;
    Recovery::new(&name, blob).ok_or(SealRecoveryError::TooLong(name))
}

/// Returns the root key in `recovery`, after checking that it is the root key `expected` of the keyring `keyring`.
///
/// # Errors
/// When no identity opens the blob, or its contents are something else.
pub fn open(
    recovery: &Recovery,
    identities: &Identities,
    keyring: Uuid,
    expected: RootId,
) -> Result<RootKey, OpenRecoveryError> {
    let recipient = || recovery.recipient().to_owned();
    let contents = || OpenRecoveryError::Contents(recipient());
    let plaintext = identities.open(recovery.blob(), BLOB_MAX).map_err(|error| match error {
        Unopened::NoIdentity => OpenRecoveryError::NoIdentity(recipient()),
        Unopened::Damaged => OpenRecoveryError::Damaged(recipient()),
    })?;
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

fn plaintext(uuid: Uuid, root: &RootKey) -> Zeroizing<String> {
    let key = Zeroizing::new(base64(root.secret().expose()));
    let mut text = Zeroizing::new(String::with_capacity(256));
    for line in [HEAD, &uuid.to_hex(), &base64(&root.id(uuid).0), &key] {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::escrow::testing::identity;

    const UUID: Uuid = Uuid([3; 16]);

    #[test]
    fn the_identity_of_the_recipient_gives_the_root_key_back() {
        let (recipient, identities) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = seal(&recipient, UUID, &root).unwrap();
        let opened = open(&recovery, &identities, UUID, root.id(UUID)).unwrap();
        assert_eq!(opened.secret().expose(), root.secret().expose());
    }

    #[test]
    fn another_identity_another_keyring_and_another_root_key_have_errors_of_their_own() {
        let (recipient, identities) = identity();
        let (_, strangers) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = seal(&recipient, UUID, &root).unwrap();
        let id = root.id(UUID);
        assert!(matches!(open(&recovery, &strangers, UUID, id), Err(OpenRecoveryError::NoIdentity(_))));
        assert!(matches!(open(&recovery, &identities, Uuid([4; 16]), id), Err(OpenRecoveryError::Contents(_))));
        let cut = Recovery::new(recovery.recipient(), recovery.blob()[..recovery.blob().len() - 1].to_vec()).unwrap();
        let refused = open(&cut, &identities, UUID, id).err().unwrap().to_string();
        assert_eq!(refused, format!("the recovery blob for {recipient} is damaged"));
        let refused = open(&recovery, &identities, UUID, RootId([0; 32])).err().unwrap().to_string();
        assert_eq!(refused, format!("the recovery blob for {recipient} does not contain this keyring's root key"));
    }

    #[test]
    fn a_damaged_blob_never_opens() {
        let (recipient, identities) = identity();
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recovery = seal(&recipient, UUID, &root).unwrap();
        for index in 0..recovery.blob().len() {
            let mut blob = recovery.blob().to_vec();
            blob[index] ^= 1;
            let damaged = Recovery::new(recovery.recipient(), blob).unwrap();
            assert!(open(&damaged, &identities, UUID, root.id(UUID)).is_err(), "byte {index}");
        }
    }
}
