//! An object in the clear, as kube-apiserver stores it: its encoding, its kind, and the fields of Secrets and
//! ConfigMaps.
//!
//! Source: `k8s.io/apimachinery`, `pkg/runtime/generated.proto` and `pkg/apis/meta/v1/generated.proto`; `k8s.io/api`,
//! `core/v1/generated.proto`. Of the metadata only what a new object may have is read: a uid, owners and times belong
//! to the old one.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use serde::Deserialize;

use crate::scan::protobuf::{Field, Fields};

/// The prefix of an object in protobuf.
const PROTOBUF: &[u8] = b"k8s\0";
/// The prefix of an object in CBOR.
const CBOR: &[u8] = &[0xd9, 0xd9, 0xf7];

/// The encoding of an object, with its type and message if they are known.
#[derive(Debug, PartialEq, Eq)]
pub enum Encoded<'o> {
    /// Protobuf, with the message of the object itself.
    Protobuf(ObjectKind, &'o [u8]),
    /// JSON: custom resources, or all resources if a flag of the API server says so.
    Json(ObjectKind),
    /// CBOR, which is not decoded.
    Cbor,
    /// An encoding that Kubernetes does not use for objects.
    Raw,
}

/// The type of an object.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectKind {
    /// The group and version, such as `v1` or `apps/v1`.
    pub api_version: String,
    /// The kind of the object, such as `Secret`.
    pub kind: String,
}

/// Why the bytes begin like an object and are not a whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectFault {
    /// The bytes are not a whole protobuf message of the object.
    #[error("not a whole object in protobuf")]
    Protobuf,
    /// The bytes are not JSON, or not an object with a type.
    #[error("not a whole object in JSON")]
    Json,
    /// The object has no name.
    #[error("an object without a name")]
    NoName,
}

impl<'o> Encoded<'o> {
    /// Detects the encoding of `object`.
    ///
    /// # Errors
    /// When it begins like an object in protobuf or JSON, and is not a whole one.
    pub fn of(object: &'o [u8]) -> Result<Self, ObjectFault> {
        if let Some(message) = object.strip_prefix(PROTOBUF) {
            let (kind, raw) = unknown(message).ok_or(ObjectFault::Protobuf)?;
            return Ok(Self::Protobuf(kind, raw));
        }
        if object.starts_with(b"{") {
            return serde_json::from_slice(object).map(Self::Json).map_err(|_| ObjectFault::Json);
        }
        Ok(if object.starts_with(CBOR) { Self::Cbor } else { Self::Raw })
    }

    /// Returns the type of the object, if it is known.
    pub fn kind(&self) -> Option<&ObjectKind> {
        match self {
            Self::Protobuf(kind, _) | Self::Json(kind) => Some(kind).filter(|kind| !kind.kind.is_empty()),
            Self::Cbor | Self::Raw => None,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.kind)
    }
}

/// Parses `runtime.Unknown`, which encloses each object in protobuf: 1 its type, 2 its message, 3 and 4 the encoding of
/// the message, which API servers leave empty.
fn unknown(message: &[u8]) -> Option<(ObjectKind, &[u8])> {
    let (mut kind, mut raw) = (ObjectKind::default(), None);
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(bytes)) => kind = type_meta(bytes)?,
            (2, Field::Bytes(bytes)) => raw = Some(bytes),
            (3 | 4, Field::Bytes(b"")) => {}
            _ => return None,
        }
    }
    Some((kind, raw?))
}

/// Parses `runtime.TypeMeta`: 1 the group and version, 2 the kind.
fn type_meta(message: &[u8]) -> Option<ObjectKind> {
    let mut kind = ObjectKind::default();
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.clone_into(&mut kind.api_version),
            (2, Field::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.clone_into(&mut kind.kind),
            _ => return None,
        }
    }
    Some(kind)
}

/// The message `meta.v1.ObjectMeta`, without the fields that belong to one object only.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(btree_map = "string, string", tag = "11")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The message `core.v1.Secret`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SecretMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    pub(super) data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    pub(super) secret_type: String,
    #[prost(bool, optional, tag = "5")]
    pub(super) immutable: Option<bool>,
}

/// The message `core.v1.ConfigMap`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigMapMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) data: BTreeMap<String, String>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(super) binary_data: BTreeMap<String, Vec<u8>>,
    #[prost(bool, optional, tag = "4")]
    pub(super) immutable: Option<bool>,
}
