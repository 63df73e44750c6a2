//! Opens a value, and writes its object in the chosen form: as a manifest, or as the bytes that were encrypted.

use zeroize::Zeroizing;

use super::{
    keys::ValueKeys,
    manifest::manifest,
    object::{Encoded, ObjectFault, ObjectKind},
    value::{OpenValueError, OpenedValue, ValueOpener},
};
use crate::scan::stored::{KeptValue, StoredValueError};

/// The form of recovered objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The manifest that `kubectl apply` takes, if the object has such a form. Other objects as they are stored.
    Manifest,
    /// The bytes that kube-apiserver encrypted.
    Raw,
}

/// An object that a scan found.
#[derive(Debug)]
pub(super) struct FoundObject {
    pub(super) key: Box<[u8]>,
    pub(super) mod_revision: u64,
    pub(super) value: KeptValue,
}

/// An object in the clear. Its bytes are in the [`OpenedPart`](super::recovery::OpenedPart) that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedObject {
    /// The key of the object in etcd.
    pub key: String,
    /// The revision at which the value was written.
    pub mod_revision: u64,
    /// The type of the object, if it is known.
    pub kind: Option<ObjectKind>,
    /// The encoding of the bytes, as the ending of a file name: `yaml`, `json`, `pb`, `cbor` or `bin`.
    pub ending: &'static str,
    /// Whether the value was authenticated, so that an API server wrote it.
    pub is_authentic: bool,
    /// The length of the object in bytes.
    pub length: usize,
}

/// An object that was not recovered.
#[derive(Debug)]
pub struct UnopenedObject {
    /// The key of the object in etcd.
    pub key: String,
    /// The reason.
    pub error: RecoverError,
}

/// Why an object was not recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The value cannot be read again from its file.
    #[error(transparent)]
    Stored(#[from] StoredValueError),
    /// The value does not open with the given keys.
    #[error(transparent)]
    Value(#[from] OpenValueError),
    /// The value opens, and contains no object.
    #[error("it opens, and is {0}")]
    Object(#[from] ObjectFault),
}

/// Opens values, and writes their objects in one form.
pub(super) struct Renderer<'k> {
    opener: ValueOpener<'k>,
    form: Form,
    /// A buffer for the next value.
    room: Vec<u8>,
}

impl<'k> Renderer<'k> {
    pub(super) fn new(keys: &'k ValueKeys, form: Form) -> Self {
        Self { opener: ValueOpener::new(keys), form, room: Vec::new() }
    }

    /// Opens `found`, and appends its bytes to `bytes`.
    pub(super) fn render(
        &mut self,
        found: &FoundObject,
        bytes: &mut Zeroizing<Vec<u8>>,
    ) -> Result<OpenedObject, UnopenedObject> {
        let key = || String::from_utf8_lossy(&found.key).into_owned();
        let before = bytes.len();
        match self.write(found, bytes) {
            Ok(Written { kind, ending, is_authentic }) => {
                let (mod_revision, length) = (found.mod_revision, bytes.len() - before);
                Ok(OpenedObject { key: key(), mod_revision, kind, ending, is_authentic, length })
            }
            Err(error) => Err(UnopenedObject { key: key(), error }),
        }
    }

    fn write(&mut self, found: &FoundObject, bytes: &mut Zeroizing<Vec<u8>>) -> Result<Written, RecoverError> {
        let OpenedValue { object, is_authentic } = self.opener.open(&found.key, found.value.read(&mut self.room)?)?;
        let encoded = Encoded::of(&object)?;
        let yaml = match &encoded {
            Encoded::Protobuf(kind, message) if self.form == Form::Manifest => manifest(kind, message)?,
            _ => None,
        };
        let (written, ending) = match (&yaml, &encoded) {
            (Some(yaml), _) => (yaml.as_bytes(), "yaml"),
            (None, Encoded::Protobuf(..)) => (&**object, "pb"),
            (None, Encoded::Json(_)) => (&**object, "json"),
            (None, Encoded::Cbor) => (&**object, "cbor"),
            (None, Encoded::Raw) => (&**object, "bin"),
        };
        bytes.extend_from_slice(written);
        Ok(Written { kind: encoded.kind().cloned(), ending, is_authentic })
    }
}

/// An object whose bytes were written.
struct Written {
    kind: Option<ObjectKind>,
    ending: &'static str,
    is_authentic: bool,
}
