//! The passphrase slot: a passphrase, stretched by Argon2id. The slot's line says at what cost.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use crate::{
    crypto::Salt,
    crypto::stretch::{Cost, StretchError, stretch},
    memory::{SecretBytes, SecretError},
};

use super::slot::{Kind, Sealer, Slot, SlotError, SlotFault};

/// A passphrase, without the line feed at its end.
#[derive(Debug)]
pub struct Passphrase(SecretBytes);

/// Why a passphrase was refused. The error text names what was given instead of a valid passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// The passphrase has no bytes.
    #[error("an empty passphrase")]
    Empty,
    /// The passphrase has too many bytes.
    #[error("a passphrase of more than {} bytes", Passphrase::MAX)]
    TooLong,
    /// The passphrase has too few bytes to be chosen for a new slot.
    #[error("a passphrase of fewer than {} bytes", Passphrase::MIN_NEW)]
    TooShort,
    /// No memory could be locked for the passphrase.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl Passphrase {
    /// The greatest length of a passphrase in bytes.
    pub const MAX: usize = 1024;
    /// The smallest length of a new passphrase in bytes.
    pub const MIN_NEW: usize = 8;

    /// Takes what was read or typed, without one line end, of Unix or of Windows.
    ///
    /// # Errors
    /// When it is empty or too long, or no memory can be locked.
    pub fn new(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=Self::MAX => Ok(Self(SecretBytes::copy_of(bytes)?)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// Takes a new passphrase that was read or typed, as [`Passphrase::new`] does.
    ///
    /// # Errors
    /// As [`Passphrase::new`], or when it is too short.
    pub fn choose(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let passphrase = Self::new(bytes)?;
        if passphrase.0.expose().len() < Self::MIN_NEW { Err(PassphraseError::TooShort) } else { Ok(passphrase) }
    }
}

/// Provides passphrases, from a file or from somebody at a terminal.
pub trait Passphrases: fmt::Debug + Send + Sync {
    /// Returns the passphrase of `slot`. `nth` counts the attempts, from 0. Returns `None` if there is no passphrase,
    /// or no other passphrase to try.
    ///
    /// # Errors
    /// When the passphrase cannot be read or is refused.
    fn of(&self, slot: &str, nth: u32) -> io::Result<Option<Arc<Passphrase>>>;

    /// Wipes the passphrases that were kept for a second use.
    fn forget(&self) {}
}

/// A passphrase, and the cost of stretching it in a new slot.
#[derive(Debug)]
pub struct PassphraseSlot {
    /// The passphrase that opens the slot.
    pub passphrase: Arc<Passphrase>,
    /// The Argon2id cost of each guess.
    pub cost: Cost,
}

const COST: [&str; 3] = ["lanes", "memory", "passes"];

impl Sealer for PassphraseSlot {
    fn kind(&self) -> Kind {
        Kind::Passphrase
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, SlotError> {
        let Self { cost, .. } = self;
        let parts = [cost.lanes(), cost.memory(), cost.passes()].map(|part| part.to_string());
        Ok(COST.map(str::to_owned).into_iter().zip(parts).collect())
    }

    /// Stretches the passphrase at the cost in the slot's line.
    fn secret(&self, slot: &Slot, salt: Salt) -> Result<SecretBytes, SlotError> {
        let secret = stretch(self.passphrase.0.expose(), &salt.0, cost(slot)?).map_err(|error| match error {
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
    cost.ok_or(SlotFault::Cost.into())
}
