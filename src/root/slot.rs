//! A slot: a line that says what seals the root key, and the sealed root key.
//!
//! The body of a local slot is the root key, sealed with the key `HKDF(slot secret, salt, claviger/v1/slot)` and bound
//! to the slot's line. Source: `docs/formats.md`.

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

use crate::{
    crypto::{
        RootName, Salt, Uuid,
        aead::{OpenKeyError, WrappedKey},
        root_key::RootKey,
        slot::SlotKey,
        stretch::StretchError,
    },
    durable::{Dir, DurableError},
    memory::{RandomError, SecretBytes, SecretError, fill_random},
    text::{self, hex_array},
};

/// A root key, with the uuid of its keyring.
#[derive(Debug, Clone, Copy)]
pub struct RootIn<'a> {
    /// The uuid of the keyring.
    pub uuid: Uuid,
    /// The root key that is sealed.
    pub root: &'a RootKey,
}

impl RootIn<'_> {
    fn name(self) -> RootName {
        RootName { uuid: self.uuid, root_id: self.root.id(self.uuid) }
    }
}

/// Seals a root key in a slot, and opens the slot. Each kind of slot has an implementation.
pub trait Sealer: fmt::Debug {
    /// Returns the kind of the slot.
    fn kind(&self) -> Kind;

    /// Returns the parameters for the line of a new slot, apart from the salt.
    ///
    /// # Errors
    /// When a parameter cannot be written there.
    fn parameters(&self) -> Result<BTreeMap<String, String>, SlotError>;

    /// Returns the secret of the slot. The key that seals is derived from it.
    ///
    /// # Errors
    /// When the slot's line is not one of this kind, or there is no memory.
    fn secret(&self, slot: &Slot, salt: Salt) -> Result<SecretBytes, SlotError>;

    /// Looks for reasons why [`Sealer::keep`] would fail.
    ///
    /// # Errors
    /// When the file exists already, or its directory cannot be trusted.
    fn check_keep(&self, _slot: &str, _state_dir: &Dir) -> Result<(), DurableError> {
        Ok(())
    }

    /// Writes the secret of the slot to the place from where it will be read. The secret is durable before the slot is
    /// written.
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    fn keep(&self, _slot: &str, _state_dir: &Dir) -> Result<(), DurableError> {
        Ok(())
    }
}

/// The kind of a slot: what seals the root key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32 random bytes in a key file.
    File,
    /// A passphrase, stretched by Argon2id.
    Passphrase,
    /// A credential that systemd gives to the service.
    Credential,
    /// A TPM 2. This build cannot open such a slot.
    Tpm2,
    /// A PKCS#11 token, such as an HSM. This build cannot open such a slot.
    Pkcs11,
    /// Vault or OpenBao. This build cannot open such a slot.
    Vault,
    /// AWS KMS. This build cannot open such a slot.
    AwsKms,
    /// Google Cloud KMS. This build cannot open such a slot.
    GcpKms,
    /// Azure Key Vault. This build cannot open such a slot.
    AzureKv,
}

impl Kind {
    const ALL: [(Self, &'static str); 9] = [
        (Self::File, "file"),
        (Self::Passphrase, "passphrase"),
        (Self::Credential, "credential"),
        (Self::Tpm2, "tpm2"),
        (Self::Pkcs11, "pkcs11"),
        (Self::Vault, "vault"),
        (Self::AwsKms, "aws-kms"),
        (Self::GcpKms, "gcp-kms"),
        (Self::AzureKv, "azure-kv"),
    ];

    /// Returns the name of the kind, as the root file writes it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// Why a slot did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The file with the secret could not be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The key file does not have 32 bytes.
    #[error("{} has another length than 32 bytes", .0.display())]
    SecretLength(PathBuf),
    /// A credential has too few bytes to be a key, or too many.
    #[error("the credential is shorter than {fewest} bytes or longer than {most}")]
    CredentialLength {
        /// The smallest accepted length in bytes.
        fewest: usize,
        /// The greatest accepted length in bytes.
        most: usize,
    },
    /// systemd would refuse the name that the operator gave a credential.
    #[error("credential name {0:?}: expected 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-'")]
    CredentialName(String),
    /// systemd gave this process no credential of this name.
    #[error("no credential {0}: this process was not started with it")]
    NoCredentials(String),
    /// A credential could not be read.
    #[error("credential {}: {source}", path.display())]
    Credential {
        /// The path where the credential was expected.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is nobody to ask for a passphrase, or no passphrase was given.
    #[error("no passphrase was given")]
    NoPassphrase,
    /// The passphrase could not be read or was refused.
    #[error("reading the passphrase: {0}")]
    Passphrase(#[source] io::Error),
    /// The passphrase does not open the slot.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Argon2id failed on the passphrase.
    #[error(transparent)]
    Stretch(StretchError),
    /// The secret does not open the slot: it belongs to another slot or root file.
    #[error("wrong key: it does not open this slot")]
    WrongKey,
    /// The slot has a kind that the format knows and this build cannot open.
    #[error("this build cannot open slots of kind {}", .0.as_str())]
    Unsupported(Kind),
    /// The body or a parameter of the slot does not fit its kind.
    #[error(transparent)]
    Malformed(#[from] SlotFault),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A fault in the body or in a parameter of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// The salt is missing, or is not 32 hexadecimal digits.
    #[error("its parameter salt is not 32 hex digits")]
    Salt,
    /// The body does not have the length of a wrapped key.
    #[error("its body is not a sealed key")]
    Body,
    /// A part of the cost of Argon2id is missing or too high.
    #[error("its cost is not valid: expected 1 to 8 lanes, 1 to 10 passes, and at most 1048576 KiB of memory")]
    Cost,
    /// The path of the key file is not UTF-8, so the slot's line cannot contain it.
    #[error("the path of its key file is not UTF-8")]
    KeyFilePath,
    /// The slot's line names no credential.
    #[error("its parameter credential is no credential's name")]
    NoCredentialName,
}

/// A slot of a root file: its name, kind and parameters, and the sealed root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    name: String,
    kind: Kind,
    parameters: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Slot {
    /// Reads `<name> <kind> [parameter=value …]`.
    pub(super) fn parse(line: &str, body: Vec<u8>) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next().filter(|name| is_name(name))?.to_owned();
        let kind = words.next().and_then(Kind::parse)?;
        let mut parameters = BTreeMap::new();
        for word in words {
            let (parameter, value) = word.split_once('=')?;
            let sorted =
                parameters.last_key_value().is_none_or(|(last, _): (&String, &String)| last.as_str() < parameter);
            if !is_name(parameter) || !sorted {
                return None;
            }
            parameters.insert(parameter.to_owned(), text::unescape(value)?);
        }
        Some(Self { name, kind, parameters, body })
    }

    /// Makes a slot without its body. The associated data of the body covers this part.
    fn head(name: &str, kind: Kind, parameters: BTreeMap<String, String>) -> Self {
        Self { name: name.to_owned(), kind, parameters, body: Vec::new() }
    }

    /// Returns the name of the slot, `[a-z0-9-]{1,32}`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the kind of the slot.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the value of the parameter `name`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the line of the slot in the root file, without the LF.
    pub(super) fn line(&self) -> String {
        let mut line = format!("-> slot {} {}", self.name, self.kind.as_str());
        for (name, value) in &self.parameters {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            line.push_str(&text::escape(value));
        }
        line
    }

    /// Seals `root` in a new slot.
    ///
    /// # Errors
    /// When the random source fails, there is no memory, or a parameter cannot be written.
    pub fn seal(
        rng: &mut impl rand::TryCryptoRng,
        name: &str,
        sealer: &dyn Sealer,
        root: RootIn<'_>,
    ) -> Result<Self, SlotError> {
        Self::head(name, sealer.kind(), sealer.parameters()?).filled(rng, sealer, root)
    }

    /// Seals another root key in the same slot, with another salt.
    pub(super) fn reseal(
        &self,
        rng: &mut impl rand::TryCryptoRng,
        sealer: &dyn Sealer,
        root: RootIn<'_>,
    ) -> Result<Self, SlotError> {
        Self::head(&self.name, self.kind, self.parameters.clone()).filled(rng, sealer, root)
    }

    fn filled(
        mut self,
        rng: &mut impl rand::TryCryptoRng,
        sealer: &dyn Sealer,
        root: RootIn<'_>,
    ) -> Result<Self, SlotError> {
        let mut salt = Salt([0; 16]);
        fill_random(rng, &mut salt.0)?;
        self.parameters.insert("salt".to_owned(), salt.to_hex());
        let key = SlotKey::derive(sealer.secret(&self, salt)?.expose(), salt)?;
        self.body = key.wrap(rng, root.name(), &self.line(), root.root)?.0.to_vec();
        Ok(self)
    }

    /// Opens the slot with the secret of `sealer`, and returns its root key.
    pub(super) fn open(&self, sealer: &dyn Sealer, root: RootName) -> Result<RootKey, SlotError> {
        let salt = self.parameter("salt").and_then(hex_array).map(Salt).ok_or(SlotFault::Salt)?;
        let body = self.body.as_slice().try_into().map_err(|_| SlotFault::Body)?;
        let key = SlotKey::derive(sealer.secret(self, salt)?.expose(), salt)?;
        key.open(root, &self.line(), &WrappedKey(body)).map_err(|error| match error {
            OpenKeyError::NotAuthentic(_) => SlotError::WrongKey,
            OpenKeyError::Memory(error) => SlotError::Memory(error),
        })
    }
}

/// Whether a slot or a parameter may have this name.
pub fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::{FileSlot, Means, RootFile};

    #[test]
    fn a_slot_line_reads_back_as_it_was_written_and_no_other_does() {
        let line = "disk file path=%2Fmnt%2Fkey salt=00112233445566778899aabbccddeeff";
        let slot = Slot::parse(line, vec![1]).unwrap();
        assert_eq!(slot.line(), format!("-> slot {line}"));
        assert_eq!(slot.parameter("path"), Some("/mnt/key"));
        for other in [
            "disk",
            "Disk file",
            "disk floppy",
            "disk file salt",
            "disk file salt=1 path=2",
            "disk file salt=1 salt=1",
            "disk file  salt=1",
            "disk file ",
            &format!("{} file", "a".repeat(33)),
        ] {
            assert_eq!(Slot::parse(other, vec![]), None, "{other:?}");
        }
    }

    #[test]
    fn a_malformed_slot_is_refused_with_what_is_wrong_in_it() {
        let file = FileSlot::generate(&mut rand::rngs::SysRng, None).unwrap();
        let refused = |line: &str, body: &[u8]| {
            let slot = Slot::parse(line, body.to_vec()).unwrap();
            slot.open(&file, RootName { uuid: Uuid([9; 16]), root_id: crate::crypto::RootId([1; 32]) })
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("disk file salt=00", &[0; 72]), "its parameter salt is not 32 hex digits");
        let line = "disk file salt=00112233445566778899aabbccddeeff";
        assert_eq!(refused(line, &[0; 71]), "its body is not a sealed key");
    }

    #[test]
    fn a_slot_that_gives_another_root_key_is_named() {
        let (_keep, dir) = crate::durable::testing::private();
        let uuid = Uuid([9; 16]);
        let [root, other] = [(); 2].map(|()| RootKey::generate(&mut rand::rngs::SysRng).unwrap());
        let file = FileSlot::generate(&mut rand::rngs::SysRng, None).unwrap();
        file.keep("disk", &dir).unwrap();
        let sealed = RootIn { uuid, root: &root };
        let mut slot = Slot::seal(&mut rand::rngs::SysRng, "disk", &file, sealed).unwrap();
        let salt = slot.parameter("salt").and_then(hex_array).map(Salt).unwrap();
        let key = SlotKey::derive(file.secret(&slot, salt).unwrap().expose(), salt).unwrap();
        let sealed_other = key.wrap(&mut rand::rngs::SysRng, sealed.name(), &slot.line(), &other).unwrap();
        slot.body = sealed_other.0.to_vec();
        let bytes =
            RootFile::encode(&mut rand::rngs::SysRng, uuid, crate::crypto::root_key::RootKeys::only(&root), &[slot])
                .unwrap();
        let refused = RootFile::parse(&bytes).unwrap().unseal(&dir, &Means::default()).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "slot disk: wrong key: it opens another root key");
    }
}
