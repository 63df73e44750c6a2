//! The passphrase slot: what somebody knows, stretched by Argon2id at the cost that the slot's line names.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use crate::crypto::{
    secret::{SecretBytes, SecretError},
    stretch::{Cost, StretchError, stretch},
};

use super::slot::{Kind, Salt, Sealer, Slot, SlotError};

/// A passphrase, without the line feed at its end.
#[derive(Debug)]
pub struct Passphrase(SecretBytes);

/// Why something is no passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Nothing.
    #[error("an empty passphrase")]
    Empty,
    /// Too much.
    #[error("a passphrase of more than {} bytes", Passphrase::MAX)]
    TooLong,
    /// Too little to choose now.
    #[error("a passphrase of fewer than {} bytes", Passphrase::MIN_NEW)]
    TooShort,
    /// No locked memory.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Passphrase {
    /// The most bytes.
    pub const MAX: usize = 1024;
    /// The fewest of a new one.
    pub const MIN_NEW: usize = 8;

    /// What was read or typed, without one line feed at its end.
    ///
    /// # Errors
    /// When it is empty or too long, or no memory can be locked.
    pub fn new(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=Self::MAX => Ok(Self(SecretBytes::copy_of(bytes)?)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// The same for one that is chosen now.
    ///
    /// # Errors
    /// As [`Passphrase::new`], or when it is too short.
    pub fn choose(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let passphrase = Self::new(bytes)?;
        if passphrase.0.expose().len() < Self::MIN_NEW { Err(PassphraseError::TooShort) } else { Ok(passphrase) }
    }
}

/// Who knows passphrases.
pub trait Passphrases: fmt::Debug + Send + Sync {
    /// The passphrase of `slot`, asked for the nth time, from 0 on; none if nobody knows one, or no other.
    ///
    /// # Errors
    /// When it could not be read, or is none.
    fn of(&self, slot: &str, nth: u32) -> io::Result<Option<Arc<Passphrase>>>;

    /// Wipes what is kept for the next question.
    fn forget(&self) {}
}

/// A passphrase, and what guessing it costs in a new slot.
#[derive(Debug)]
pub struct PassphraseSlot {
    /// What it is.
    pub passphrase: Arc<Passphrase>,
    /// What a guess costs.
    pub cost: Cost,
}

const COST: [&str; 3] = ["lanes", "memory", "passes"];

impl Sealer for PassphraseSlot {
    fn kind(&self) -> Kind {
        Kind::Passphrase
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, SlotError> {
        let parts = self.cost.parts().map(|part| part.to_string());
        Ok(COST.map(str::to_owned).into_iter().zip(parts).collect())
    }

    /// At the slot's own cost.
    fn secret(&self, slot: &Slot, salt: &Salt) -> Result<SecretBytes, SlotError> {
        let secret = stretch(self.passphrase.0.expose(), salt, cost(slot)?).map_err(|error| match error {
            StretchError::Memory(error) => SlotError::Memory(error),
            error => SlotError::Stretch(error),
        })?;
        Ok(SecretBytes::copy_of(secret.expose())?)
    }
}

fn cost(slot: &Slot) -> Result<Cost, SlotError> {
    let part = |name| {
        let text = slot.parameter(name)?;
        text.parse().ok().filter(|number: &u32| number.to_string() == text)
    };
    let [lanes, memory, passes] = COST.map(part);
    let cost = (|| Cost::new(lanes?, memory?, passes?))();
    cost.ok_or(SlotError::Malformed("its lanes, memory or passes are missing, or beyond 8, 1048576 KiB and 10"))
}
