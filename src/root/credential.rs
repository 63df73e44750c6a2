//! The credential slot: a key that systemd gives to this service and to nobody else. It comes from a file, the TPM or
//! the firmware.
//!
//! Source: systemd.exec(5), "Credentials"; <https://systemd.io/CREDENTIALS>.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{crypto::Salt, durable::open_input, memory::SecretBytes};

use super::slot::{Kind, Sealer, Slot, SlotError, SlotFault};

/// The fewest bytes of a credential, which is used as a key and is not stretched.
const FEWEST: usize = 32;

/// The parameter of a slot's line that contains the name of the credential.
const CREDENTIAL: &str = "credential";

/// The secret of a credential slot: a systemd credential, with its name.
#[derive(Debug)]
pub struct CredentialSlot {
    name: String,
    bytes: SecretBytes,
}

impl CredentialSlot {
    /// Makes the credential `name` from its bytes.
    ///
    /// # Errors
    /// When systemd would refuse the name, there are too few or too many bytes, or no memory can be locked.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self, SlotError> {
        if !is_credential_name(name) {
            return Err(SlotError::CredentialName(name.to_owned()));
        }
        if !(FEWEST..=SecretBytes::MAX).contains(&bytes.len()) {
            return Err(SlotError::CredentialLength { fewest: FEWEST, most: SecretBytes::MAX });
        }
        Ok(Self { name: name.to_owned(), bytes: SecretBytes::copy_of(bytes)? })
    }

    /// Reads the credential `name` from a regular file, or from a pipe that a shell passes on.
    ///
    /// # Errors
    /// As [`CredentialSlot::new`], or when it cannot be read.
    pub fn read(name: &str, path: &Path) -> Result<Self, SlotError> {
        let bytes = open_input(path).and_then(read_all);
        Self::new(name, &bytes.map_err(|source| SlotError::Credential { path: path.to_owned(), source })?)
    }

    /// Reads the credential of `slot` in the directory that systemd made for this service.
    pub(super) fn given(slot: &Slot, directory: Option<&PathBuf>) -> Result<Self, SlotError> {
        let name = slot.parameter(CREDENTIAL).filter(|name| is_credential_name(name));
        let name = name.ok_or(SlotFault::NoCredentialName)?;
        let directory = directory.ok_or_else(|| SlotError::NoCredentials(name.to_owned()))?;
        Self::read(name, &directory.join(name))
    }
}

fn read_all(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserves one byte more than the limit, to notice a file that is too long. A vector that grows would leave copies
    // in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SecretBytes::MAX + 1));
    file.take(SecretBytes::MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether systemd accepts the name, and whether it is safe in a path.
pub fn is_credential_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(plain) && !matches!(name, "." | "..")
}

impl Sealer for CredentialSlot {
    fn kind(&self) -> Kind {
        Kind::Credential
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, SlotError> {
        Ok(BTreeMap::from([(CREDENTIAL.to_owned(), self.name.clone())]))
    }

    fn secret(&self, _: &Slot, _: Salt) -> Result<SecretBytes, SlotError> {
        Ok(SecretBytes::copy_of(self.bytes.expose())?)
    }
}
