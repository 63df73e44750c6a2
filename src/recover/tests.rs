//! Tests that values as API servers write them are opened, or refused with a reason.

use std::{collections::BTreeSet, fs};

use base64ct::{Base64, Encoding};
use prost::encoding;
use rand::rngs::SysRng;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};

use super::{
    Form, OpenValueError, OpenedPart, Recovered, RecoveryJob, Selection, ValueKeys, recover, value::ValueOpener,
};
use crate::{
    apiserver::coverage::{KmsV1, local_keys},
    crypto::{Uuid, foreign::ForeignKey, root_key::RootKey, seed::Seed},
    keyring::{Key, Keyring, testing},
    scan::{
        forge::{self, Change, Shape},
        names::Names,
        outcome::{Incomplete, ScanOutcome},
        snapshot::{self, Options},
        summarizer::Summarizer,
        value::ValueDamage,
    },
};

const KEY: &[u8] = b"/registry/secrets/default/s1";

fn keyring() -> Keyring {
    testing::keyring(&RootKey::generate(&mut SysRng).unwrap(), Uuid([7; 16]))
}

fn primary(keyring: &Keyring) -> &Key {
    keyring.keys().next().unwrap()
}

fn keys_of(keyring: &Keyring) -> ValueKeys {
    let mut keys = ValueKeys::default();
    keys.add_keyring(keyring);
    keys
}

/// Encrypts with AES-256-GCM by another library than the one that opens.
fn seal(key: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut bytes = plaintext.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([3; 12]), Aad::from(aad), &mut bytes).unwrap();
    [&[3; 12], &bytes[..]].concat()
}

/// Returns the bytes of a KMS v2 value with these fields.
fn value(key_id: &str, source: &[u8], data: &[u8], kind: u8) -> Vec<u8> {
    let mut bytes = b"k8s:enc:kms:v2:claviger:".to_vec();
    encoding::bytes::encode(1, &data.to_vec(), &mut bytes);
    encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
    encoding::bytes::encode(3, &source.to_vec(), &mut bytes);
    bytes.extend([0x28, kind]);
    bytes
}

/// Returns a value that an API server with the seed `seed` would write under the primary key of `keyring`.
fn encrypted(keyring: &Keyring, seed: [u8; 32], etcd_key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let key = primary(keyring);
    let id = key.id().to_string();
    let source = key.kek().wrap(&mut SysRng, &id, &Seed::new(seed.to_vec()).unwrap()).unwrap();
    let info = [5; 32];
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), &[&info[..], &[1]].concat());
    let data = [&info[..], &seal(key.as_ref(), etcd_key, plaintext)].concat();
    value(&id, &source, &data, 1)
}

fn open(keys: &ValueKeys, etcd_key: &[u8], value: &[u8]) -> Result<Vec<u8>, OpenValueError> {
    ValueOpener::new(keys).open(etcd_key, value).map(|opened| opened.object.to_vec())
}

/// A real API server wrote the vectors, with another plugin. Only the seed that the plugin wrapped is replaced.
#[test]
fn what_a_real_api_server_wrote_opens_and_only_under_its_key_in_etcd() {
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/kmsv2-values.json")).unwrap();
    let keyring = keyring();
    let (key, keys) = (primary(&keyring), keys_of(&keyring));
    for vector in document["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let bytes = Base64::decode_vec(text("value_b64")).unwrap();
        let body = crate::scan::value::kms_v2_body(bytes.strip_prefix(b"k8s:enc:").unwrap()).unwrap().unwrap();
        let kek = base16ct::lower::decode_vec(text("kek_hex")).unwrap();
        let seed = ForeignKey::new(&kek).open_gcm(body.source, body.key_id.as_bytes()).unwrap();
        let id = key.id().to_string();
        let source = key.kek().wrap(&mut SysRng, &id, &Seed::new(seed.to_vec()).unwrap()).unwrap();
        let rewrapped = value(&id, &source, body.data, 1);
        let etcd_key = text("etcd_key").as_bytes();
        assert_eq!(open(&keys, etcd_key, &rewrapped).unwrap(), Base64::decode_vec(text("plaintext_b64")).unwrap());
        assert_eq!(open(&keys, KEY.split_last().unwrap().1, &rewrapped), Err(OpenValueError::NotAuthentic));
        let moved = "its data is not authentic: it was changed, or moved here from another key of etcd";
        assert_eq!(OpenValueError::NotAuthentic.to_string(), moved);
        // A value under the key of the other plugin is refused with a reason, too.
        let other = open(&keys, etcd_key, &bytes).unwrap_err().to_string();
        assert_eq!(other, format!("it needs {}, a key of another plugin's", text("key_id")));
    }
}

#[test]
fn no_changed_byte_gives_another_object() {
    let keyring = keyring();
    let keys = keys_of(&keyring);
    let whole = encrypted(&keyring, [1; 32], KEY, b"k8s\0plaintext");
    assert_eq!(open(&keys, KEY, &whole).unwrap(), b"k8s\0plaintext");
    let provider = "k8s:enc:kms:v2:".len().."k8s:enc:kms:v2:claviger".len();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            match open(&keys, KEY, &changed) {
                // The name of the provider is not authenticated. Without the prefix `k8s:enc:`, the value is not an
                // encrypted one.
                Ok(opened) if provider.contains(&at) => assert_eq!(opened, b"k8s\0plaintext"),
                Ok(opened) => assert!(at < 8 && opened == changed, "byte {at}"),
                Err(_) => {}
            }
        }
    }
    for cut in 9..whole.len() - 2 {
        assert!(open(&keys, KEY, &whole[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_value_under_a_key_of_its_own_opens_as_kubernetes_1_27_wrote_it() {
    let keyring = keyring();
    let (key, keys) = (primary(&keyring), keys_of(&keyring));
    let id = key.id().to_string();
    let source = key.kek().wrap(&mut SysRng, &id, &Seed::new(vec![9; 32]).unwrap()).unwrap();
    let whole = value(&id, &source, &seal(&[9; 32], KEY, b"{}"), 0);
    assert_eq!(open(&keys, KEY, &whole).unwrap(), b"{}");
    assert_eq!(open(&keys, b"/registry/secrets/default/s2", &whole), Err(OpenValueError::NotAuthentic));
}

#[test]
fn what_cannot_be_opened_says_what_it_needs() {
    let (mine, other) = (keyring(), keyring());
    let keys = keys_of(&mine);
    let reason = |value: &[u8]| open(&keys, KEY, value).unwrap_err().to_string();
    let theirs = encrypted(&other, [1; 32], KEY, b"{}");
    assert_eq!(reason(&theirs), format!("it needs {}, which is not among the given keys", primary(&other).id()));
    // A seed that another key_id names, and a seed that is cut.
    let id = primary(&mine).id().to_string();
    let source = primary(&mine).kek().wrap(&mut SysRng, &id, &Seed::new(vec![9; 32]).unwrap()).unwrap();
    assert_eq!(reason(&value("k9", &source, &[0; 60], 1)), "its seed does not open: ciphertext failed authentication");
    assert!(reason(&value(&id, &source[..80], &[0; 60], 1)).starts_with("its seed does not open: "));
    assert_eq!(reason(b"k8s:enc:kms:v2:claviger:\x0b"), format!("it is damaged: {}", ValueDamage::Message));
    let unknown = "it is under aescbc:v1:k, and no given key is of that provider";
    assert_eq!(reason(&[b"k8s:enc:aescbc:v1:k:".as_slice(), &[0; 32]].concat()), unknown);
    assert!(reason(b"k8s:enc:aescbc:v1:k:").starts_with("it is damaged: not an IV"));
    assert!(reason(b"k8s:enc:").starts_with("it is damaged: its prefix"));
}

#[test]
fn values_of_local_providers_open_with_their_configuration() {
    let text = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aesgcm:
      keys:
      - {name: a, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}
      - {name: 'a:b', secret: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=}";
    let mut keys = ValueKeys::default();
    keys.add_local(local_keys(text, KmsV1::Refused).unwrap());
    let stored = |name: &str, sealed: &[u8]| [format!("k8s:enc:aesgcm:v1:{name}:").as_bytes(), sealed].concat();
    assert_eq!(open(&keys, KEY, &stored("a", &seal(&[0; 32], KEY, b"{}"))).unwrap(), b"{}");
    assert_eq!(open(&keys, KEY, &stored("a:b", &seal(&[1; 32], KEY, b"{}"))).unwrap(), b"{}");
    let wrong = open(&keys, KEY, &stored("a", &seal(&[1; 32], KEY, b"{}"))).unwrap_err();
    assert_eq!(wrong.to_string(), "it does not open under the given key of aesgcm:v1:a:");
    assert!(open(&keys, b"/registry/other", &stored("a", &seal(&[0; 32], KEY, b"{}"))).is_err());
    let is_authentic = |value: &[u8]| ValueOpener::new(&keys).open(KEY, value).unwrap().is_authentic;
    assert!(is_authentic(&stored("a", &seal(&[0; 32], KEY, b"{}"))) && !is_authentic(b"{}"));
}

#[test]
fn what_opens_and_is_no_object_says_so() {
    let keyring = keyring();
    let keys = keys_of(&keyring);
    let name = "/registry/secrets/default/s1";
    for (plaintext, reason) in [
        (b"k8s\0\x0a\x01".as_slice(), "it opens, and is not a whole object in protobuf"),
        (b"{\"kind\":", "it opens, and is not a whole object in JSON"),
    ] {
        let value = encrypted(&keyring, [1; 32], name.as_bytes(), plaintext);
        let changes = [((2, 0), name.as_bytes(), Some(value.as_slice()))];
        let (opened, unopened, _) = chosen(&changes, &keys, Selection::All);
        assert_eq!((opened, unopened), (vec![], vec![format!("{name}: {reason}")]));
    }
}

/// Recovers objects from a database with `changes`.
fn recovered(
    changes: &[Change<'_>],
    keys: &ValueKeys,
    selection: Selection,
    take: impl FnMut(OpenedPart) -> Result<(), String> + Send,
) -> (ScanOutcome, Recovered, Result<(), String>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), forge::database(Shape { leaf: 64, branch: 64, ..Shape::default() }, changes)).unwrap();
    let summarizer = Summarizer::new(Names::new("/registry"), [3; 16]);
    let scan = |sink: &mut super::RecoverySink| {
        let options = Options { digest: false, progress: &mut |_, _| {} };
        snapshot::scan(file.path(), &summarizer, sink, options).unwrap()
    };
    let job = RecoveryJob { keys, form: Form::Raw, selection, names: summarizer.names() };
    recover(job, scan, take)
}

/// Returns the keys of the objects that are recovered, and the reasons for the others.
fn chosen(changes: &[Change<'_>], keys: &ValueKeys, selection: Selection) -> (Vec<String>, Vec<String>, Recovered) {
    let (mut opened, mut unopened) = (Vec::new(), Vec::new());
    let (_, recovered, taken) = recovered(changes, keys, selection, |part| {
        assert_eq!(part.objects.iter().map(|object| object.length).sum::<usize>(), part.bytes.len());
        opened.extend(part.objects.into_iter().map(|object| object.key));
        unopened.extend(part.unopened.into_iter().map(|unopened| format!("{}: {}", unopened.key, unopened.error)));
        Ok(())
    });
    taken.unwrap();
    (opened, unopened, recovered)
}

#[test]
fn thousands_of_objects_are_handed_on_in_their_order_with_their_bytes() {
    let keyring = keyring();
    let keys = keys_of(&keyring);
    let names: Vec<String> = (0..3000).map(|number| format!("/registry/secrets/default/s{number:05}")).collect();
    let text = |name: &str| format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"name\":\"{name}\"}}");
    let values: Vec<Vec<u8>> =
        names.iter().map(|name| encrypted(&keyring, [1; 32], name.as_bytes(), text(name).as_bytes())).collect();
    let changes: Vec<Change<'_>> = (2_u64..)
        .zip(names.iter().zip(&values))
        .map(|(revision, (name, value))| ((revision, 0), name.as_bytes(), Some(value.as_slice())))
        .collect();
    let mut found = Vec::new();
    let (outcome, _, taken) = recovered(&changes, &keys, Selection::All, |part| {
        let mut rest = part.bytes.as_slice();
        for object in &part.objects {
            let (bytes, after) = rest.split_at(object.length);
            assert_eq!(bytes, text(&object.key).as_bytes());
            assert_eq!((object.ending, object.kind.as_ref().unwrap().to_string()), ("json", "v1 Secret".to_owned()));
            found.push((object.key.clone(), object.mod_revision));
            rest = after;
        }
        Ok(())
    });
    assert_eq!((outcome.incomplete, taken), (vec![], Ok(())));
    found.reverse();
    let expected: Vec<_> = names.iter().cloned().zip(2..).collect();
    assert!(found == expected, "the newest first, each once");
    // The receiver of the objects can end the recovery.
    let mut parts = 0;
    let (outcome, _, taken) = recovered(&changes, &keys, Selection::All, |_| {
        parts += 1;
        Err("full".to_owned())
    });
    assert_eq!((parts, taken), (1, Err("full".to_owned())));
    assert!(matches!(&outcome.incomplete[..], [] | [Incomplete::Ended]));
}

/// Anyone who can write to etcd can invent resources, until a scan counts all others as one.
#[test]
fn invented_resources_hide_no_object_of_the_one_that_is_chosen() {
    let invented: Vec<String> = (0..9000).map(|number| format!("/registry/r{number}/a")).collect();
    let mut changes: Vec<Change<'_>> = vec![((2, 0), b"/registry/secrets/a/x", Some(b"{}"))];
    changes.extend((3..).zip(&invented).map(|(revision, key)| ((revision, 0), key.as_bytes(), Some(&b"{}"[..]))));
    let secrets = Selection::Resources(BTreeSet::from(["secrets".to_owned()]));
    let (opened, unopened, _) = chosen(&changes, &ValueKeys::default(), secrets);
    assert_eq!((opened, unopened), (vec!["/registry/secrets/a/x".to_owned()], vec![]));
}

#[test]
fn objects_are_chosen_by_key_prefix_and_resource() {
    let keyring = keyring();
    let keys = keys_of(&keyring);
    let names = ["secrets/a/x", "secrets/a/y", "secrets/b/x", "configmaps/a/x", "deployments/a/x"]
        .map(|name| format!("/registry/{name}"));
    let old = encrypted(&keyring, [1; 32], b"/registry/secrets/a/x", b"{\"a\":1}");
    let lost = encrypted(&self::keyring(), [1; 32], b"/registry/secrets/b/x", b"{}");
    let mut changes: Vec<Change<'_>> = vec![((2, 0), names[0].as_bytes(), Some(&old))];
    for (revision, name) in (3..).zip(&names) {
        let value: &[u8] = if name.contains("/b/") { &lost } else { b"{\"plain\":1}" };
        changes.push(((revision, 0), name.as_bytes(), Some(value)));
    }
    changes.push(((20, 0), b"/registry/secrets/a/z", Some(b"{}")));
    changes.push(((21, 0), b"/registry/secrets/a/z", None));
    let of = |selection| {
        let (mut opened, unopened, recovered) = chosen(&changes, &keys, selection);
        opened.sort_unstable();
        (opened.join(" ").replace("/registry/", ""), unopened.len(), recovered)
    };
    let all = "configmaps/a/x deployments/a/x secrets/a/x secrets/a/y";
    assert_eq!(of(Selection::All), (all.to_owned(), 1, Recovered::default()));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let resources = |list: &[&str]| of(Selection::Resources(names(list))).0;
    assert_eq!(resources(&["deployments"]), "deployments/a/x");
    assert_eq!(resources(&["deployments.apps", "configmaps"]), "configmaps/a/x deployments/a/x");
    assert_eq!(resources(&["deployment"]), "");
    let below = |list: &[&[u8]]| of(Selection::Prefixes(list.iter().map(|one| one.to_vec()).collect())).0;
    assert_eq!(below(&[b"/registry/secrets/a/"]), "secrets/a/x secrets/a/y");
    let keys_of = |list: &[&[u8]]| of(Selection::Keys(list.iter().map(|one| one.to_vec()).collect()));
    let satisfied = Recovered { is_satisfied: true, missing: BTreeSet::new() };
    assert_eq!(keys_of(&[b"/registry/secrets/a/x"]), ("secrets/a/x".to_owned(), 0, satisfied));
    // Deleted objects are not found.
    let (opened, _, recovered) = keys_of(&[b"/registry/secrets/a/z", b"/registry/configmaps/a/x"]);
    assert_eq!((opened, recovered.is_satisfied), ("configmaps/a/x".to_owned(), false));
    assert_eq!(recovered.missing, BTreeSet::from([b"/registry/secrets/a/z".to_vec()]));
}
