//! Opens a value, and writes the object in the form that was asked for.

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
    /// What `kubectl apply` takes, where there is such a form; other objects as they are stored.
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

/// An object in the clear. Its bytes are in the part that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedObject {
    /// Its key in etcd.
    pub key: String,
    /// The revision at which it was written.
    pub mod_revision: u64,
    /// Its type, if it shows.
    pub kind: Option<ObjectKind>,
    /// How its bytes are encoded, as the ending of a file's name: `yaml`, `json`, `pb`, `cbor` or `bin`.
    pub ending: &'static str,
    /// Whether a key shows that an API server wrote it.
    pub is_authentic: bool,
    /// How many bytes it has.
    pub length: usize,
}

/// An object that was not recovered.
#[derive(Debug)]
pub struct UnopenedObject {
    /// Its key in etcd.
    pub key: String,
    /// Why.
    pub error: RecoverError,
}

/// Why an object was not recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Its value cannot be read again.
    #[error(transparent)]
    Stored(#[from] StoredValueError),
    /// Its value does not open.
    #[error(transparent)]
    Value(#[from] OpenValueError),
    /// Its value opens, and contains no object.
    #[error("it opens, and is {0}")]
    Object(#[from] ObjectFault),
}

/// Opens objects, and writes them in one form.
pub(super) struct Renderer<'k> {
    opener: ValueOpener<'k>,
    form: Form,
    /// Room for the next value.
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

/// What is known of an object whose bytes were written.
struct Written {
    kind: Option<ObjectKind>,
    ending: &'static str,
    is_authentic: bool,
}
