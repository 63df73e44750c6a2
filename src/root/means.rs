//! What this machine opens slots with.

use std::{env, path::PathBuf};

use crate::{crypto::kdf::RootKey, durable::Dir};

use super::{
    credential::CredentialSlot,
    file::FileSlot,
    passphrase::{PassphraseSlot, Passphrases},
    slot::{Bound, Kind, Sealer, Slot, SlotError},
};

/// Where systemd puts the credentials of claviger's unit. Root may look there also outside of it.
const CREDENTIALS: &str = "/run/credentials/claviger.service";

/// How often somebody may mistype a passphrase.
const ATTEMPTS: u32 = 3;

/// Where the secrets of slots come from, besides the key files that slots name.
#[derive(Debug, Default)]
pub struct Means {
    credentials: Option<PathBuf>,
    passphrases: Option<Box<dyn Passphrases>>,
}

impl Means {
    /// What systemd and `passphrases` know.
    pub fn new(credentials: Option<PathBuf>, passphrases: Box<dyn Passphrases>) -> Self {
        Self { credentials, passphrases: Some(passphrases) }
    }

    /// Where systemd gives this process credentials; none if it does not.
    pub fn credentials_directory() -> Option<PathBuf> {
        let given = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        given.or_else(|| Some(PathBuf::from(CREDENTIALS)).filter(|path| path.is_dir()))
    }

    /// Wipes passphrases that need not be known any more.
    pub fn forget(&self) {
        if let Some(passphrases) = &self.passphrases {
            passphrases.forget();
        }
    }

    /// Opens `slot`, and gives what has opened it besides the root key.
    pub(super) fn open(
        &self,
        slot: &Slot,
        bound: Bound,
        state_dir: &Dir,
    ) -> Result<(RootKey, Box<dyn Sealer>), SlotError> {
        let sealer: Box<dyn Sealer> = match slot.kind() {
            Kind::File => Box::new(FileSlot::read(slot, state_dir)?),
            Kind::Credential => Box::new(CredentialSlot::given(slot, self.credentials.as_ref())?),
            Kind::Passphrase => return self.open_by_passphrase(slot, bound),
            kind => return Err(SlotError::Unsupported(kind)),
        };
        Ok((slot.open(&*sealer, bound)?, sealer))
    }

    fn open_by_passphrase(&self, slot: &Slot, bound: Bound) -> Result<(RootKey, Box<dyn Sealer>), SlotError> {
        let passphrases = self.passphrases.as_ref().ok_or(SlotError::NoPassphrase)?;
        let mut failed = SlotError::NoPassphrase;
        for nth in 0..ATTEMPTS {
            let Some(passphrase) = passphrases.of(slot.name(), nth).map_err(SlotError::Passphrase)? else { break };
            // The cost is the slot's own, whatever this one is.
            let sealer = PassphraseSlot { passphrase, cost: crate::crypto::stretch::Cost::default() };
            match slot.open(&sealer, bound) {
                Ok(root) => return Ok((root, Box::new(sealer))),
                Err(SlotError::WrongKey) => failed = SlotError::WrongPassphrase,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }
}
