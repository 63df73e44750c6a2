//! The root key and the slots that seal it.
//!
//! The root file ([`RootFile`]) contains the root key, sealed in one or more slots. Any slot opens it. Every kind of
//! slot implements [`Sealer`] in a file of its own: [`FileSlot`], [`PassphraseSlot`], [`CredentialSlot`]. [`Means`] is
//! what this machine opens slots with. Source: `docs/formats.md`, "root file".

mod credential;
mod file;
mod means;
mod passphrase;
mod root_file;
mod slot;
#[cfg(test)]
mod suite;

pub use self::{
    credential::{CredentialSlot, is_credential_name},
    file::{FileSlot, key_file_name},
    means::Means,
    passphrase::{Passphrase, PassphraseError, PassphraseSlot, Passphrases},
    root_file::{DropSlotError, NoSuchSlot, PutSlotError, ROOT_MAX, ResealError, RootError, RootFile},
    slot::{Kind, RootIn, Sealer, Slot, SlotError, is_name},
};
