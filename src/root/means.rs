//! The sources of slot secrets on this machine: credentials and passphrases. Key files need none.

use std::{env, path::PathBuf};

use crate::{
    crypto::{RootName, root_key::RootKey},
    durable::Dir,
};

use super::{
    credential::CredentialSlot,
    file::FileSlot,
    passphrase::{PassphraseSlot, Passphrases},
    slot::{Kind, Sealer, Slot, SlotError},
};

/// The directory where systemd puts the credentials of claviger's unit. Root can read them there outside of the unit,
/// too.
const CREDENTIALS: &str = "/run/credentials/claviger.service";

/// The greatest number of attempts to enter one passphrase.
const ATTEMPTS: u32 = 3;

/// The sources of slot secrets on this machine, apart from key files.
#[derive(Debug, Default)]
pub struct Means {
    credentials: Option<PathBuf>,
    passphrases: Option<Box<dyn Passphrases>>,
}

impl Means {
    /// Makes means that read credentials in a directory, and ask `passphrases`.
    pub fn new(credentials: Option<PathBuf>, passphrases: Box<dyn Passphrases>) -> Self {
        Self { credentials, passphrases: Some(passphrases) }
    }

    /// Returns the directory with the credentials that systemd gives to this process. Returns `None` if there is none.
    pub fn credentials_directory() -> Option<PathBuf> {
        let given = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        given.or_else(|| Some(PathBuf::from(CREDENTIALS)).filter(|path| path.is_dir()))
    }

    /// Wipes passphrases that are not needed any more.
    pub fn forget(&self) {
        if let Some(passphrases) = &self.passphrases {
            passphrases.forget();
        }
    }

    /// Opens `slot`. Returns the root key, and what opened the slot.
    pub(super) fn open(
        &self,
        slot: &Slot,
        root: RootName,
        state_dir: &Dir,
    ) -> Result<(RootKey, Box<dyn Sealer>), SlotError> {
        let sealer: Box<dyn Sealer> = match slot.kind() {
            Kind::File => Box::new(FileSlot::read(slot, state_dir)?),
            Kind::Credential => Box::new(CredentialSlot::given(slot, self.credentials.as_ref())?),
            Kind::Passphrase => return self.open_by_passphrase(slot, root),
            kind => return Err(SlotError::Unsupported(kind)),
        };
        Ok((slot.open(&*sealer, root)?, sealer))
    }

    fn open_by_passphrase(&self, slot: &Slot, root: RootName) -> Result<(RootKey, Box<dyn Sealer>), SlotError> {
        let passphrases = self.passphrases.as_ref().ok_or(SlotError::NoPassphrase)?;
        let mut failed = SlotError::NoPassphrase;
        for nth in 0..ATTEMPTS {
            let Some(passphrase) = passphrases.of(slot.name(), nth).map_err(SlotError::Passphrase)? else { break };
            // Opening uses the cost in the slot's line, and ignores this one.
            let sealer = PassphraseSlot { passphrase, cost: crate::crypto::stretch::Cost::default() };
            match slot.open(&sealer, root) {
                Ok(root) => return Ok((root, Box::new(sealer))),
                Err(SlotError::WrongKey) => failed = SlotError::WrongPassphrase,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }
}
