//! An object in the clear in the form that people use: a Secret or a ConfigMap as YAML that `kubectl apply` takes.
//!
//! What belongs to one object only is left out: its uid, its owners, its finalizers, its times, and who managed which
//! field. Owners and finalizers are left out because a new object gets a new uid: the garbage collector of Kubernetes
//! deletes an object whose owner's uid does not exist, and a controller that wants a finalizer puts it back.

use std::collections::BTreeMap;

use prost::Message;
use serde::Serialize;
use zeroize::Zeroizing;

use super::object::{ConfigMapMessage, ObjectFault, ObjectKind, ObjectMeta, SecretMessage};
use crate::text::base64;

/// Writes the object of `kind` in `message` as YAML. Returns `None` if the object is neither a Secret nor a ConfigMap.
///
/// # Errors
/// When the message is not one of its kind.
pub fn manifest(kind: &ObjectKind, message: &[u8]) -> Result<Option<Zeroizing<String>>, ObjectFault> {
    match (&*kind.api_version, &*kind.kind) {
        ("v1", "Secret") => secret(message).map(Some),
        ("v1", "ConfigMap") => config_map(message).map(Some),
        _ => Ok(None),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    secret_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    binary_data: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

fn secret(message: &[u8]) -> Result<Zeroizing<String>, ObjectFault> {
    let SecretMessage { metadata, data, secret_type, immutable } = decode(message)?;
    Ok(yaml(&Manifest {
        api_version: "v1",
        kind: "Secret",
        metadata: named(metadata)?,
        secret_type: Some(secret_type).filter(|name| !name.is_empty()),
        immutable,
        data: in_base64(data),
        binary_data: BTreeMap::new(),
    }))
}

fn config_map(message: &[u8]) -> Result<Zeroizing<String>, ObjectFault> {
    let ConfigMapMessage { metadata, data, binary_data, immutable } = decode(message)?;
    let (metadata, binary_data) = (named(metadata)?, in_base64(binary_data));
    let (api_version, kind) = ("v1", "ConfigMap");
    Ok(yaml(&Manifest { api_version, kind, metadata, secret_type: None, immutable, data, binary_data }))
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, ObjectFault> {
    M::decode(message).map_err(|_| ObjectFault::Protobuf)
}

fn named(metadata: Option<ObjectMeta>) -> Result<Metadata, ObjectFault> {
    let ObjectMeta { name, namespace, labels, annotations } = metadata.unwrap_or_default();
    if name.is_empty() {
        return Err(ObjectFault::NoName);
    }
    Ok(Metadata { name, namespace, labels, annotations })
}

fn in_base64(data: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    data.into_iter().map(|(name, bytes)| (name, base64(&bytes))).collect()
}

/// Writes YAML in which every text is in quotes. kubectl reads YAML 1.1, in which `yes`, `012` and `1:30` without
/// quotes are not strings.
///
/// # Panics
/// Never for a manifest: its keys are texts, and memory takes everything that is written to it.
fn yaml(manifest: &Manifest) -> Zeroizing<String> {
    let options = serde_saphyr::ser_options! { quote_all: true };
    match serde_saphyr::to_string_with_options(manifest, options) {
        Ok(text) => Zeroizing::new(text),
        Err(_) => unreachable!("texts under texts can be written as YAML"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ObjectMeta {
        let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        ObjectMeta {
            name: "user".to_owned(),
            namespace: "default".to_owned(),
            labels: pair("app", "yes"),
            annotations: pair("note", "1:30 \"quoted\"\nand more\t\u{7f}"),
        }
    }

    fn secret_kind() -> ObjectKind {
        ObjectKind { api_version: "v1".to_owned(), kind: "Secret".to_owned() }
    }

    #[test]
    fn a_secret_is_written_with_everything_that_a_new_one_needs() {
        let message = SecretMessage {
            metadata: Some(meta()),
            data: BTreeMap::from([("username.txt".to_owned(), b"admin".to_vec()), ("empty".to_owned(), vec![])]),
            secret_type: "Opaque".to_owned(),
            immutable: Some(true),
        };
        let yaml = manifest(&secret_kind(), &message.encode_to_vec()).unwrap().unwrap();
        insta::assert_snapshot!(*yaml, @r#"
        apiVersion: 'v1'
        kind: 'Secret'
        metadata:
          name: 'user'
          namespace: 'default'
          labels:
            app: 'yes'
          annotations:
            note: "1:30 \"quoted\"\nand more\t\x7F"
        type: 'Opaque'
        immutable: true
        data:
          empty: ''
          username.txt: 'YWRtaW4='
        "#);
    }

    #[test]
    fn a_config_map_keeps_texts_and_bytes_apart() {
        let message = ConfigMapMessage {
            metadata: Some(meta()),
            data: BTreeMap::from([("no".to_owned(), "0o17".to_owned()), ("a".to_owned(), "x: {y}\n".to_owned())]),
            binary_data: BTreeMap::from([("b".to_owned(), vec![0, 0xff])]),
            immutable: None,
        };
        let kind = ObjectKind { kind: "ConfigMap".to_owned(), ..secret_kind() };
        let yaml = manifest(&kind, &message.encode_to_vec()).unwrap().unwrap();
        insta::assert_snapshot!(*yaml, @r#"
        apiVersion: 'v1'
        kind: 'ConfigMap'
        metadata:
          name: 'user'
          namespace: 'default'
          labels:
            app: 'yes'
          annotations:
            note: "1:30 \"quoted\"\nand more\t\x7F"
        data:
          a: "x: {y}\n"
          "no": '0o17'
        binaryData:
          b: 'AP8='
        "#);
    }

    #[test]
    fn other_kinds_have_no_manifest_and_what_is_no_object_is_refused() {
        let kind = ObjectKind { kind: "Pod".to_owned(), ..secret_kind() };
        assert!(manifest(&kind, b"").unwrap().is_none());
        assert_eq!(manifest(&secret_kind(), b"").unwrap_err().to_string(), "an object without a name");
        assert_eq!(manifest(&secret_kind(), b"\x0a\xff").unwrap_err(), ObjectFault::Protobuf);
    }
}
