//! The promises of every parser of bytes from outside: it never panics, and encoding the result of a parse gives the
//! same bytes again.
//!
//! If a format ends in an HMAC, a valid one is added, because otherwise a parser would refuse everything at once.
//! `fuzz/` runs these functions for any length of time. The tests run them over the inputs in `fuzz/corpus/`.

use std::{os::fd::AsRawFd, path::Path, sync::LazyLock};

use rand::rngs::SysRng;

use crate::{
    apiserver::{
        FoundFlags,
        coverage::{Coverage, IDENTITY, KmsV1, LocalCipher, LocalKey},
    },
    config::Config,
    crypto::{
        RootName, Uuid,
        kdf::MacLabel,
        root_key::{RootKey, RootKeys},
        seed::Seed,
        wrap::{Kek, commitment_in},
    },
    escrow::{Backup, Identities, Recipient, share},
    keeper::Expect,
    keyring::{key_id::KeyId, ledger::Ledger, mark::Mark, record},
    memory::Secret,
    proof::VerifyReport,
    recover::{Encoded, ValueKeys, ValueOpener, manifest},
    root::RootFile,
    scan::{
        forge::{self, Change, Shape},
        judge::Judge,
        names::Names,
        report::ScanReport,
        snapshot::{self, Options},
        summarizer::Summarizer,
        tally::{ListedObject, Lister, Tally},
        value::{Frame, ValueDamage, classify, commitment_half},
    },
    text::base64,
};

/// The name of a fuzz target, and the function that checks its promise on some bytes.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: [FuzzTarget; 16] = [
    ("wrapped-seed", wrapped_seed),
    ("record", record),
    ("root", root),
    ("mark", mark),
    ("ledger", ledger),
    ("report", report),
    ("backup", backup),
    ("share", share),
    ("identities", identities),
    ("configuration", configuration),
    ("names", names),
    ("stored-value", stored_value),
    ("object", object),
    ("database", database),
    ("encryption-config", encryption_config),
    ("api-server-flags", api_server_flags),
];

const UUID: Uuid = Uuid([5; 16]);

/// The root key of all inputs. It is public.
static ROOT: LazyLock<RootKey> = LazyLock::new(|| RootKey::from_secret(fixed(7)));
static KEK: LazyLock<Kek> = LazyLock::new(|| kek(8));

fn fixed(byte: u8) -> Secret<32> {
    let mut secret = Secret::zeroed().unwrap_or_else(|error| panic!("{error}"));
    secret.expose_mut().fill(byte);
    secret
}

fn kek(byte: u8) -> Kek {
    Kek::from_secret(fixed(byte), UUID).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns `data` with a last line that authenticates it.
fn signed(data: &[u8], label: MacLabel) -> Vec<u8> {
    let mut text = data.to_vec();
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    text.extend(b"---");
    let key = ROOT.mac(UUID, label).unwrap_or_else(|error| panic!("{error}"));
    let tag = base64(&key.tag(&text));
    text.extend(format!(" {tag}\n").bytes());
    text
}

fn wrapped_seed(data: &[u8]) {
    if let Ok(seed) = KEK.unwrap("k1-a", data) {
        assert_eq!(data.len(), seed.expose().len() + 76);
    }
    // A wrapped seed unwraps under its key_id, and under no other.
    if let Ok(seed) = Seed::new(data.to_vec()) {
        let wrapped = KEK.wrap(&mut SysRng, "k1-a", &seed).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(KEK.unwrap("k1-a", &wrapped).ok().as_ref().map(Seed::expose), Some(data));
        assert!(KEK.unwrap("k1-b", &wrapped).is_err());
    }
}

fn record(data: &[u8]) {
    let text = signed(data, MacLabel::Keyring);
    let _ = record::recoveries(data);
    if let Ok(keyring) = record::decode(&text, &ROOT, UUID) {
        assert_eq!(record::encode(&keyring, &ROOT).ok(), Some(text));
    }
}

fn root(data: &[u8]) {
    let _ = RootFile::parse(data);
    let text = signed(data, MacLabel::Root);
    if let Ok(file) = RootFile::parse(&text) {
        assert_eq!(file.bytes(), text);
        let _ = file.check(&ROOT);
    }
}

fn mark(data: &[u8]) {
    let text = signed(data, MacLabel::State);
    if let Ok(mark) = Mark::decode(&text, &ROOT, UUID) {
        assert_eq!(mark.encode(&ROOT).ok(), Some(text));
    }
}

fn ledger(data: &[u8]) {
    let text = signed(data, MacLabel::State);
    if let Ok(ledger) = Ledger::decode(&text, &ROOT, UUID, 0) {
        assert_eq!(ledger.encode(&ROOT).ok(), Some(text));
        assert!(ledger.count() > 0 || ledger.newest().is_none() || Ledger::named_root(data).is_ok());
    }
}

fn report(data: &[u8]) {
    let text = signed(data, MacLabel::Report);
    if let Ok(report) = VerifyReport::decode(&text, &ROOT, UUID) {
        assert_eq!(report.encode(&ROOT).ok(), Some(text));
        assert_eq!(VerifyReport::root_name(data).ok(), Some(RootName { uuid: UUID, root_id: ROOT.id(UUID) }));
    }
}

/// Reads the tar in a backup. Anybody who knows a recipient can make an age file with any contents.
fn backup(data: &[u8]) {
    if let Ok(backup) = Backup::of_tar(data) {
        assert_eq!(backup.root.id(backup.keyring.uuid()), backup.keyring.root_id());
    }
}

fn share(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(shares) = share::shares_in(text) else { return };
    for share in &shares {
        let again = share::shares_in(&share.line()).unwrap_or_default();
        assert_eq!(again.first().map(share::Share::line), Some(share.line()));
    }
    let _ = share::combine(&shares);
}

fn identities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Identities::parse(text);
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert!(recipient.to_string().parse::<Recipient>().is_ok());
    }
}

fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Config::parse(text) {
        assert!(!error.to_string().contains(char::is_control));
    }
}

fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key_id) = text.parse::<KeyId>() {
        assert_eq!(key_id.to_string(), text);
    }
    // The scanner has its own parser of key_ids, which must agree with the keyring's.
    assert_eq!(commitment_half(text), text.parse::<KeyId>().ok().map(|key_id| key_id.commitment_half()));
    if let Ok(expect) = text.parse::<Expect>() {
        assert_eq!(expect.to_string(), text);
    }
}

fn stored_value(data: &[u8]) {
    let value = classify(data);
    match data.strip_prefix(b"k8s:enc:") {
        // The provider is a prefix of the text in the value, or `unknown`.
        Some(rest) => assert!(value.provider == "unknown" || rest.starts_with(value.provider.as_bytes())),
        None => assert_eq!(value.provider, IDENTITY),
    }
    // A damaged value has no key, unless the damage is that it names another key than its seed.
    let is_under_none = value.key_id.is_none() && value.seed.is_none() && value.commitment.is_none();
    let is_misnamed = value.damage == Some(ValueDamage::OtherKey) && value.commitment.is_some();
    assert!(value.damage.is_none() || is_under_none || is_misnamed);
    assert_eq!(value.commitment, value.key_id.and(value.seed).and_then(commitment_in));
    if let Some(frame) = Frame::of(data, &value) {
        let mut other = data.to_vec();
        let at = usize::from(data[data.len() - 1]) % data.len();
        other[at] = other[at].wrapping_add(1);
        assert!(!frame.fits(&other) || classify(&other) == value);
    }
    let _ = Names::new("/registry").path(data);
}

/// Opens a value, and writes an object as a manifest. A reader of the manifest finds the name of the object in it,
/// and the data.
fn object(data: &[u8]) {
    let local = |cipher| LocalKey::new(cipher, "k".to_owned(), vec![7; 32].into());
    let mut keys = ValueKeys::default();
    keys.add_local([LocalCipher::AesGcm, LocalCipher::AesCbc, LocalCipher::Secretbox].map(local).into());
    let _ = ValueOpener::new(&keys).open(b"/registry/secrets/a/b", data);
    let Ok(Encoded::Protobuf(kind, message)) = Encoded::of(data) else { return };
    let Ok(Some(yaml)) = manifest(&kind, message) else { return };
    let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}"));
    assert!(read["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty()), "{}", *yaml);
    let texts = |field: &str| read[field].as_object().into_iter().flatten().all(|(_, value)| value.is_string());
    assert!(texts("data") && texts("binaryData"), "{}", *yaml);
}

/// Makes a whole database and then damages it. The first four bytes choose its shape. Each four bytes after them
/// overwrite one byte.
fn database(data: &[u8]) {
    let Some((shape, spoilt)) = data.split_first_chunk::<4>() else { return };
    let [leaf, branch, count, version] = shape.map(usize::from);
    let shape =
        Shape { page_size: 512 << (version % 4), leaf: leaf % 9 + 1, branch: branch % 9 + 2, compacted: Some(1) };
    let keys: Vec<String> = (0..count).map(|number| format!("/registry/secrets/a/{}", number % 50)).collect();
    let value = [b"k8s:enc:kms:v2:p:\x0a\x1c".as_slice(), &[7; 28], b"\x12\x01k\x1a\x01s"].concat();
    let changes: Vec<Change<'_>> = keys
        .iter()
        .zip(2..)
        .map(|(key, revision)| ((revision, 0), key.as_bytes(), (revision % 7 != 0).then_some(value.as_slice())))
        .collect();
    let mut bytes = forge::database(shape, &changes);
    for change in spoilt.chunks_exact(4) {
        let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        let length = bytes.len();
        bytes[at % length] = change[3];
    }
    if version & 0x80 == 0 {
        forge::mend_meta(&mut bytes, shape.page_size);
    }
    let live = scan_live(&bytes);
    if spoilt.len() < 4 {
        let newest: std::collections::BTreeMap<_, _> = changes.iter().map(|change| (change.1, change)).collect();
        let expected = newest.values().filter(|change| change.2.is_some()).count() as u64;
        // An undamaged database has as many live objects as were put in.
        assert_eq!(live.unwrap_or(0), expected);
    }
}

/// Scans a database and counts its live objects. Returns `None` if it cannot be read as a whole.
fn scan_live(bytes: &[u8]) -> Option<u64> {
    let file = forge::file(bytes).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let (names, judge) = (Names::new("/registry"), Judge::default());
    let mut listed = 0;
    let list = |object: &ListedObject<'_>| listed += u64::from(!object.is_older);
    let report = |lister: Option<Lister<'_>>| {
        let summarizer = Summarizer::new(names.clone(), [3; 16]);
        let mut tally = Tally::new(&judge, summarizer.groups(), lister);
        let options = Options { digest: false, progress: &mut |_, _| {} };
        let outcome = snapshot::scan(Path::new(&path), &summarizer, &mut tally, options).ok()?;
        Some(ScanReport::new(outcome, tally.finish(), &judge, names.prefix(), String::new()))
    };
    let with_list = report(Some(Box::new(list)));
    let without = report(None);
    assert_eq!(with_list.as_ref().map(|report| report.all.objects), without.map(|report| report.all.objects));
    let report = with_list?;
    assert_eq!(report.all.objects, listed);
    (!report.is_incomplete()).then_some(listed)
}

fn encryption_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Coverage::parse(text, KmsV1::Allowed) {
        assert!(!error.to_string().contains(char::is_control));
    }
}

/// Reads a file of any kind that may contain kube-apiserver's flags. If the flags name no etcd, the result says why.
fn api_server_flags(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(found) = FoundFlags::in_file(Path::new("file"), text, &|_| Ok(text.to_owned())) {
        assert!(!found.flags.servers.urls.is_empty() || !found.doubts.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::{
        escrow::backup,
        keyring::{
            self,
            ledger::{ListedBackup, Proven},
            listed_snapshot::ListedSnapshot,
            state::State,
            testing,
        },
        proof,
        root::{FileSlot, RootIn, Slot},
    };

    fn corpus(target: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    #[test]
    fn every_input_that_was_kept_keeps_its_promise() {
        for (name, target) in TARGETS {
            let files: BTreeSet<_> = fs::read_dir(corpus(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!files.is_empty(), "{name}");
            for file in files {
                target(&fs::read(file).unwrap());
            }
        }
    }

    /// Returns three values of KMS v2: one of another plugin, one under [`KEK`], and one under [`KEK`] that names
    /// another key.
    fn values_of_kms_v2(wrapped: &[u8]) -> [Vec<u8>; 3] {
        let foreign = [b"k8s:enc:kms:v2:p:\x0a\x1c".as_slice(), &[7; 28], b"\x12\x01k\x1a\x01s"].concat();
        let half = base16ct::lower::encode_string(&KEK.commitment().first_half());
        let [own, misnamed] = [half, "0".repeat(32)].map(|digits| {
            let data = [b"k8s:enc:kms:v2:p:\x0a\x3c".as_slice(), &[7; 60]].concat();
            let key_id = format!("\x12\x23k1-{digits}");
            [&data, key_id.as_bytes(), b"\x1a\x6c", wrapped, b"\x28\x01"].concat()
        });
        let values = [foreign, own, misnamed];
        let damage = values.each_ref().map(|value| classify(value).damage);
        assert_eq!(damage, [None, None, Some(ValueDamage::OtherKey)]);
        values
    }

    fn first_ledger(keyring: &keyring::Keyring, record: &[u8]) -> Vec<u8> {
        let file = Some("/media/usb/claviger.age".to_owned());
        let proven = Proven::Checked(testing::now());
        let checked = ListedBackup::of(keyring, crate::crypto::Digest::of(record), proven, file);
        let (sha256, keys) = (crate::crypto::Digest::of(b"snapshot"), keyring.keys().map(keyring::Key::id).collect());
        let snapshot = ListedSnapshot::new(sha256, 17, testing::now(), Some("/media/usb/etcd.db".to_owned()), keys);
        let ledger = Ledger::empty(UUID, keyring.root_id()).with(checked, 3).unwrap();
        ledger.with_snapshot(snapshot, 4).unwrap().encode(&ROOT).unwrap()
    }

    /// A Secret with a name, a label, two entries and a type, immutable; and a ConfigMap with a text and bytes.
    const SECRET: (&str, &[u8]) = (
        "Secret",
        b"\x0a\x0e\x0a\x01s\x1a\x01n\x5a\x06\x0a\x01l\x12\x01v\x12\x08\x0a\x01a\x12\x03\x00\xff\x00\x12\x05\x0a\x01b\x12\x00\x1a\x06Opaque\x28\x01",
    );
    const CONFIG_MAP: (&str, &[u8]) =
        ("ConfigMap", b"\x0a\x03\x0a\x01c\x12\x08\x0a\x03yes\x12\x01:\x1a\x06\x0a\x01b\x12\x01\xff");

    /// Returns the object of `kind` in `message`, as an API server stores it; it has a manifest.
    fn manifest_of((kind, message): (&str, &[u8])) -> Vec<u8> {
        let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let meta = [field(0x0a, b"v1"), field(0x12, kind.as_bytes())].concat();
        let object = [b"k8s\0".to_vec(), field(0x0a, &meta), field(0x12, message)].concat();
        let Ok(Encoded::Protobuf(kind, message)) = Encoded::of(&object) else { panic!("no object") };
        assert!(manifest(&kind, message).unwrap().is_some());
        object
    }

    fn first_objects() -> [(&'static str, &'static str, Vec<u8>); 4] {
        [
            ("object", "secret", manifest_of(SECRET)),
            ("object", "config-map", manifest_of(CONFIG_MAP)),
            ("object", "json", b"{\"apiVersion\":\"example.com/v1\",\"kind\":\"Widget\"}".to_vec()),
            ("object", "secretbox", [b"k8s:enc:secretbox:v1:k:".as_slice(), &[9; 60]].concat()),
        ]
    }

    const CONFIG: &str = "state-dir = \"/a\"\nsocket = \"@kms\"\nallow-uid = [7]\nlog-level = \"debug\"\nmetrics-listen = \"127.0.0.1:9\"\n";

    /// The first inputs of the corpus are files of honest programs, under keys that are public.
    /// `CLAVIGER_SEED_CORPUS=1` writes them to the corpus again.
    #[test]
    fn the_first_inputs_are_accepted() {
        let keyring = testing::keyring(&ROOT, UUID);
        let keyring = testing::with_key(keyring, &ROOT, State::DecryptOnly);
        let keyring = testing::with_tomb(testing::with_key(keyring, &ROOT, State::Pending), 9);
        let record = record::encode(&keyring, &ROOT).unwrap();
        let mark = Mark::of(&keyring, crate::crypto::Digest::of(&record), 3).encode(&ROOT).unwrap();
        let ledger = first_ledger(&keyring, &record);
        let tar = backup::plaintext(&keyring, &record, RootKeys::only(&ROOT), testing::now()).unwrap();
        let slot = FileSlot::generate(&mut SysRng, None).unwrap();
        let slot = Slot::seal(&mut SysRng, "file", &slot, RootIn { uuid: UUID, root: &ROOT }).unwrap();
        let root = RootFile::encode(&mut SysRng, UUID, RootKeys::only(&ROOT), &[slot]).unwrap();
        let identity = age::x25519::Identity::generate();
        let shares = share::split(&mut SysRng, &identity, 2, 3).unwrap();
        let shares = shares.iter().map(|share| share.line().to_string()).collect::<Vec<_>>().join("\n# another\n");
        let wrapped = KEK.wrap(&mut SysRng, "k1-a", &Seed::new(vec![9; 32]).unwrap()).unwrap();
        let expect = Expect::of(&keyring, crate::crypto::Digest::of(&record)).to_string();
        let encryption = include_str!("../deploy/encryption-configuration.yaml");
        let [kms, own, misnamed] = values_of_kms_v2(&wrapped);
        assert!(Coverage::parse(encryption, KmsV1::Refused).is_ok());
        let report = proof::testing::report(&ROOT, UUID).encode(&ROOT).unwrap();
        let firsts: [(&str, &str, Vec<u8>); 21] = [
            ("wrapped-seed", "wrapped", wrapped),
            ("record", "keys-and-a-tomb", unsigned(&record)),
            ("root", "a-slot", unsigned(&root)),
            ("mark", "keys-and-a-tomb", unsigned(&mark)),
            ("ledger", "a-backup", unsigned(&ledger)),
            ("report", "two-etcds", unsigned(&report)),
            ("backup", "tar", tar.to_vec()),
            ("share", "three", shares.clone().into_bytes()),
            ("identities", "shares", shares.into_bytes()),
            ("identities", "recipient", identity.to_public().to_string().into_bytes()),
            ("configuration", "all", CONFIG.into()),
            ("names", "key-id", keyring.primary().id().to_string().into_bytes()),
            ("names", "expect", expect.into_bytes()),
            ("stored-value", "kms-v2", kms),
            ("stored-value", "claviger", own),
            ("stored-value", "misnamed", misnamed),
            ("stored-value", "kms-v1", [b"k8s:enc:kms:v1:p:\0\x01s".as_slice(), &[7; 28]].concat()),
            ("stored-value", "protobuf", b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x00".to_vec()),
            ("database", "whole", vec![3, 2, 100, 0]),
            ("database", "spoilt", vec![1, 0, 90, 2, 0, 8, 10, 1, 0, 16, 8, 2]),
            ("encryption-config", "generated", encryption.into()),
        ];
        assert!(record::decode(&signed(&unsigned(&record), MacLabel::Keyring), &ROOT, UUID).is_ok());
        assert!(Mark::decode(&signed(&unsigned(&mark), MacLabel::State), &ROOT, UUID).is_ok());
        assert!(Ledger::decode(&signed(&unsigned(&ledger), MacLabel::State), &ROOT, UUID, 3).is_ok());
        assert!(VerifyReport::decode(&signed(&unsigned(&report), MacLabel::Report), &ROOT, UUID).is_ok());
        assert!(Backup::of_tar(&tar).is_ok() && Config::parse(CONFIG).is_ok());
        for (name, file, bytes) in firsts.into_iter().chain(first_objects()) {
            run_and_keep(name, file, &bytes);
        }
    }

    /// Returns a file's text without the HMAC at its end, which the targets compute themselves.
    fn unsigned(text: &[u8]) -> Vec<u8> {
        let end = text.windows(4).rposition(|window| window == b"\n---").unwrap();
        text[..=end].to_vec()
    }

    /// Runs the target `name` with `bytes`, and writes them to the corpus if the environment asks for it.
    fn run_and_keep(name: &str, file: &str, bytes: &[u8]) {
        let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).unwrap();
        target(bytes);
        if std::env::var_os("CLAVIGER_SEED_CORPUS").is_some() {
            fs::create_dir_all(corpus(name)).unwrap();
            fs::write(corpus(name).join(file), bytes).unwrap();
        }
    }
}
