//! Reports for tests.

use crate::{
    crypto::{Commitment, Digest, Uuid, root_key::RootKey},
    keyring::{key_id::KeyId, testing::now},
    scan::judge::FindingKind,
};

use super::report::{KeyringNow, MovedResource, ReadEtcd, ReadFile, VerifiedGroup, VerifyReport};

/// The commitment of the primary key.
pub const PRIMARY: Commitment = Commitment([7; 32]);

/// Returns a group of values under the primary key.
pub fn group(resource: &str, objects: u64) -> VerifiedGroup {
    VerifiedGroup {
        resource: resource.to_owned(),
        provider: "kms:v2:claviger".to_owned(),
        key_id: Some(KeyId::new(2, &PRIMARY).to_string()),
        commitment: Some(PRIMARY),
        objects,
        seeds: 1,
        first: 12,
        last: 34,
        found: Vec::new(),
    }
}

/// Returns a group of values in plaintext.
pub fn plaintext(resource: &str, objects: u64, found: &[FindingKind]) -> VerifiedGroup {
    let provider = "identity".to_owned();
    VerifiedGroup {
        provider,
        key_id: None,
        commitment: None,
        seeds: 0,
        found: found.to_vec(),
        ..group(resource, objects)
    }
}

/// Returns an etcd at a revision.
pub fn etcd(address: &str, revision: u64, cluster: Option<u64>) -> ReadEtcd {
    ReadEtcd { revision, cluster, addresses: vec![address.to_owned()] }
}

/// Returns the report of a clean cluster with two etcds.
pub fn report(root: &RootKey, uuid: Uuid) -> VerifyReport {
    let events = MovedResource { resource: "events".to_owned(), addresses: vec!["https://b".to_owned()] };
    VerifyReport {
        keyring: KeyringNow {
            uuid,
            root_id: root.id(uuid),
            generation: 5,
            record: Digest([5; 32]),
            restored: None,
            primary: KeyId::new(2, &PRIMARY),
            commitment: PRIMARY,
        },
        time: now(),
        provider: "claviger".to_owned(),
        prefix: "/registry/".to_owned(),
        encryption_config: ReadFile { path: "/etc/kubernetes/enc ryption.yaml".into(), sha256: Digest([6; 32]) },
        flags: Some("kube-apiserver.yaml".to_owned()),
        etcds: vec![etcd("https://a", 100, Some(0xabc)), etcd("https://b", 7, None)],
        overrides: vec![events],
        shortfalls: Vec::new(),
        found: [].into(),
        groups: vec![plaintext("namespaces", 4, &[]), group("secrets", 1000)],
    }
}
