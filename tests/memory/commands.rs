//! Searches the commands that hold all keys for a moment: `decrypt` in the middle of its output, `backup check` in the
//! middle of a snapshot, and `verify` in the middle of its scan.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use prost::Message;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use super::{
    BINARY, Rig, SEEDS, assert_nothing,
    load::{Client, Wrapped},
    needles::{Finds, Needles},
    places::{Dumped, Memory, core_dump},
};
use crate::{
    harness::{
        binaries::Program,
        commands::{isolated, output_of_success},
        etcd::Etcd,
    },
    oracle::{EncryptedObject, hmac},
    scan::{
        forged::{FREE, Forged, LEAF, Record, leaf, revision},
        proxy::{Proxy, Then},
        writer::Writer,
    },
};

/// The number of Secrets in the snapshot, and the bytes of each. The command works on some parts of 256 KiB at a time.
const SECRETS: usize = 1500;
const LENGTH: usize = 6000;

/// The bytes of output that the test reads before it stops, and how many of the last ones may still be in the process.
const READ: usize = 8 << 20;
const RECENT: usize = 1 << 20;

/// The number of pages of a snapshot whose digest takes longer than any test, because nearly all of it is a hole.
const ENDLESS: u64 = 1 << 24;

/// A value that every command has in ordinary memory: a variable of its environment.
const PLANTED: &str = "fN3vRq8Zt1LkXw6Yb0HsJc5MgPd2UaEo";

/// The time after which a command has stopped at its full output.
const SETTLED: Duration = Duration::from_millis(500);

const LIMIT: Duration = Duration::from_secs(20);

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

/// Returns a field of protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    [&field, bytes].concat()
}

/// Returns a Secret as API servers encode it, with `secret` in it.
fn plaintext(name: &str, secret: &[u8]) -> Vec<u8> {
    let metadata = [field(1, name.as_bytes()), field(3, b"default")].concat();
    let value = [secret, &random(LENGTH)].concat();
    let data = [field(1, b"value"), field(2, &value)].concat();
    let object = [field(1, &metadata), field(2, &data), field(3, b"Opaque")].concat();
    let kind = [field(1, b"v1"), field(2, b"Secret")].concat();
    [&b"k8s\0"[..], &field(1, &kind), &field(2, &object)].concat()
}

/// Returns the value that an API server stores for this object under this seed.
fn stored(key: &str, plaintext: &[u8], wrapped: &Wrapped) -> Vec<u8> {
    let (info, nonce) = (random(32), random(12));
    let cipher =
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &hmac(&wrapped.seed, &[&info, &[1][..]].concat())).unwrap());
    let mut sealed = plaintext.to_vec();
    let unique = Nonce::try_assume_unique_for_key(&nonce).unwrap();
    cipher.seal_in_place_append_tag(unique, Aad::from(key.as_bytes()), &mut sealed).unwrap();
    let request = wrapped.request();
    let object = EncryptedObject {
        encrypted_data: [info, nonce, sealed].concat(),
        key_id: request.key_id,
        encrypted_dek_source: request.ciphertext,
        annotations: std::collections::HashMap::new(),
        encrypted_dek_source_type: 1,
    };
    [&b"k8s:enc:kms:v2:claviger:"[..], &object.encode_to_vec()].concat()
}

fn key(number: usize) -> String {
    format!("/registry/secrets/default/{number:06}")
}

/// Writes a snapshot of Secrets, and returns the secret of each.
fn snapshot(path: PathBuf, seeds: &[Wrapped]) -> Vec<Vec<u8>> {
    let pages = (LENGTH as u64 / 4096) + 2;
    let forged = Forged::new(path, 4096, FREE + (pages + 1) * SECRETS as u64);
    let (mut level, mut secrets) = (Vec::new(), Vec::new());
    for number in 0..SECRETS {
        let (key, secret) = (key(number), random(32));
        let value = stored(&key, &plaintext(&format!("{number:06}"), &secret), &seeds[number % seeds.len()]);
        let (at, page) = (number as u64 + 2, FREE + number as u64 * pages);
        let body = leaf(&[(revision(at).as_slice(), Record::first(&key, at, value))], 0);
        forged.page(page, LEAF, 1, forged.overflow(&body), &body);
        level.push((revision(at), page));
        secrets.push(secret);
    }
    forged.tree(level, FREE + pages * SECRETS as u64);
    secrets
}

/// Returns the recipient of a new identity. Two of three files in `directory` restore the identity.
fn identity(directory: &Path, needles: &mut Needles) -> String {
    let file = directory.join("identity.txt");
    let mut generate = isolated(&Program::AgeKeygen.path().unwrap(), directory);
    generate.arg("-o").arg(&file);
    output_of_success(generate, &[], LIMIT).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let words = text.lines().find_map(|line| line.strip_prefix("AGE-SECRET-KEY-1")).unwrap();
    needles.add("identity, as it is written", words.as_bytes());
    needles.add("identity", &bech32(words));
    let mut split = Command::new(BINARY);
    split.args(["recovery", "split", "--shares", "3", "--threshold", "2", "--recovery-identity"]).arg(&file);
    split.arg("--directory").arg(directory);
    output_of_success(split, &[], LIMIT).unwrap();
    for share in shares(directory) {
        let text = fs::read_to_string(share).unwrap();
        let words = text.lines().find_map(|line| line.strip_prefix("CLAVIGER-SHARE1 ")).unwrap();
        needles.add("share, as it is written", words.as_bytes());
        needles.add("share, without spaces", words.replace(' ', "").as_bytes());
        needles.add("share", &bech32(&words.replace(' ', "")));
    }
    text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
}

fn shares(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains("claviger-share")).collect()
}

/// Returns the bytes of Bech32 digits, without the six digits of the checksum.
fn bech32(digits: &str) -> Vec<u8> {
    const DIGITS: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
    let digits = digits[..digits.len() - 6].chars().map(|digit| u8::try_from(DIGITS.find(digit).unwrap()).unwrap());
    let bits: Vec<u8> = digits.flat_map(|value| (0..5).rev().map(move |bit| value >> bit & 1)).collect();
    bits.as_chunks::<8>().0.iter().map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

/// Checks with the kernel that no page of the process is swapped, and that the process leaves no core.
fn assert_hardened(pid: u32) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    let status = read("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    assert_ne!(locked, "0 kB", "{status}");
}

/// Looks for `needles` in all memory of the process that root can read.
fn look(rig: &Rig, pid: u32, needles: &Needles) -> Finds {
    let mut finds = Finds::default();
    Memory::of(pid).find(needles, &mut finds);
    needles.find(&core_dump(&rig.run, pid, Dumped::All), "a dump of everything", &mut finds);
    finds
}

/// Returns the `needles` that a core dump contains. [`PLANTED`] is looked for, too.
fn dumped(rig: &Rig, pid: u32, dumped: Dumped, needles: &Needles) -> Finds {
    let dump = core_dump(&rig.run, pid, dumped);
    let (mut planted, mut finds) = (Needles::default(), Finds::default());
    planted.add_raw("planted", PLANTED.as_bytes());
    planted.find(&dump, "a core dump", &mut finds);
    needles.find(&dump, "a core dump", &mut finds);
    finds
}

/// Checks that a core dump with the defaults of gcore contains none of `needles`, with or without secret memory.
/// Returns which of them it would contain if only single mappings were excluded.
#[track_caller]
fn assert_not_dumped(rig: &Rig, pid: u32, needles: &Needles) -> Finds {
    assert_nothing(&dumped(rig, pid, Dumped::Usual, needles), "in a core dump");
    // Without this check the search would prove nothing: such a dump of another process has its ordinary memory.
    let mut sleep = Command::new("sleep");
    let other = Held(sleep.arg("600").env("PLANTED", PLANTED).spawn().unwrap());
    assert_eq!(dumped(rig, other.0.id(), Dumped::Usual, needles).of("planted"), 1);
    let finds = dumped(rig, pid, Dumped::NotExcluded, needles);
    assert_eq!(finds.of("planted"), 1, "ordinary memory of this process");
    finds
}

/// A command that is killed if the test ends before it.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn start(rig: &Rig, temporary: &Path, arguments: &[&str]) -> Held {
    let mut command = rig.plugin.command(arguments);
    command
        .env("PLANTED", PLANTED)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Held(command.spawn().unwrap())
}

/// Ends the command, and looks in everything that it wrote: standard error, the state directory with its audit log,
/// temporary files.
fn end(rig: &Rig, mut held: Held, temporary: &Path, needles: &Needles) {
    let mut said = String::new();
    let (out, mut err) = (held.0.stdout.take(), held.0.stderr.take().unwrap());
    let drain = thread::spawn(move || {
        let mut last = Vec::new();
        out.unwrap().read_to_end(&mut last).unwrap();
        last
    });
    err.read_to_string(&mut said).unwrap();
    let last = drain.join().unwrap();
    let last = String::from_utf8_lossy(&last[..last.len().min(4096)]).into_owned();
    assert!(held.0.wait().unwrap().success(), "{said}\n{last}");
    let mut finds = Finds::default();
    needles.find(said.as_bytes(), "standard error", &mut finds);
    rig.look_outside(needles, &mut finds);
    assert_nothing(&finds, "after the end");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "temporary files");
}

/// A node with a backup, whose plugin has ended.
struct BackedUpNode {
    rig: Rig,
    /// The seeds that the plugin has wrapped.
    wrapped: Vec<Wrapped>,
    backup: String,
    temporary: PathBuf,
    /// The flags with two shares that restore the identity of the backup.
    shares: [String; 4],
    /// All keys of the node, the seeds, the identity and its shares.
    needles: Needles,
    _elsewhere: tempfile::TempDir,
}

impl BackedUpNode {
    fn start() -> Option<Self> {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut needles = Needles::default();
        let recipient = identity(elsewhere.path(), &mut needles);
        let mut rig = Rig::start(BINARY)?;
        let client = Client::connect(&rig.address);
        let wrapped = client.round_trips(10);
        drop(client);
        rig.plugin.terminate().unwrap();
        let identity = elsewhere.path().join("identity.txt");
        let recovery = ["recovery", "add", &recipient, "--recovery-identity", identity.to_str().unwrap()];
        rig.plugin.claviger(&recovery).unwrap();
        let backup = rig.run.path("node.age").display().to_string();
        rig.plugin.claviger(&["backup", "create", &backup]).unwrap();
        let temporary = rig.run.path("tmp");
        fs::create_dir(&temporary).unwrap();
        needles.append(rig.needles(&wrapped));
        let files = shares(elsewhere.path());
        let [first, second] = [&files[0], &files[1]].map(|path| path.display().to_string());
        let shares = ["--recovery-identity".to_owned(), first, "--recovery-identity".to_owned(), second];
        Some(Self { rig, wrapped, backup, temporary, shares, needles, _elsewhere: elsewhere })
    }

    fn hold(&self, line: &[&str]) -> Held {
        let shares: Vec<&str> = self.shares.iter().map(String::as_str).collect();
        start(&self.rig, &self.temporary, &[line, &shares].concat())
    }
}

#[test]
fn a_decryption_that_stands_still_has_no_key_and_nothing_that_it_has_handed_on() {
    let Some(node) = BackedUpNode::start() else { return };
    let file = node.rig.run.path("etcd.db");
    let secrets = snapshot(file.clone(), &node.wrapped);
    let line = ["decrypt", "--all", "--snapshot", file.to_str().unwrap(), "--backup", &node.backup];
    let mut held = node.hold(&line);
    let BackedUpNode { rig, temporary, needles: mut all, .. } = node;
    // The command stops when nobody reads its output.
    let mut read = vec![0; READ];
    held.0.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    thread::sleep(SETTLED);
    let pid = held.0.id();
    assert_hardened(pid);

    let text = String::from_utf8_lossy(&read[..READ - RECENT]);
    let gone = |number: usize| text.contains(&format!("# {},", key(number)));
    let mut under_way = Needles::default();
    for (number, secret) in secrets.iter().enumerate() {
        if gone(number) {
            all.add("plaintext that was handed on", secret);
        }
        under_way.add("plaintext", secret);
    }
    assert!((0..SECRETS).filter(|number| gone(*number)).count() > SECRETS / 4);
    let mut finds = look(&rig, pid, &all);
    if !rig.hidden {
        finds.keep(&["plaintext that was handed on"]);
    }
    assert_nothing(&finds, "while nobody reads what it writes");
    // Without this check the search would prove nothing: objects that the command is working on have to be in memory.
    let finds = look(&rig, pid, &under_way);
    assert!(finds.of("plaintext") > 0, "nothing is under way");
    for secret in &secrets {
        all.add("plaintext", secret);
    }
    // These objects are in ordinary memory. Keys and seeds are not.
    let finds = assert_not_dumped(&rig, pid, &all);
    assert!(finds.of("plaintext") > 0, "nothing is in ordinary memory");
    assert_nothing(&finds.without(&["planted", "plaintext"]), "in memory that is not excluded");
    end(&rig, held, &temporary, &all);
}

#[test]
fn a_check_in_the_middle_of_a_snapshot_has_no_key_and_no_identity() {
    let Some(node) = BackedUpNode::start() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("endless.db");
    let forged = Forged::new(file.clone(), 4096, ENDLESS);
    let value = stored(&key(0), &plaintext("000000", &random(32)), &node.wrapped[0]);
    let body = leaf(&[(revision(2).as_slice(), Record::first(&key(0), 2, value))], 0);
    forged.page(FREE, LEAF, 1, forged.overflow(&body), &body);
    forged.tree(vec![(revision(2), FREE)], FREE + 8);
    let held = node.hold(&["backup", "check", &node.backup, "--snapshot", file.to_str().unwrap()]);
    let pid = held.0.id();
    // Before, the command has opened the backup and forgotten the identity.
    wait_until_open(pid, &file);
    thread::sleep(SETTLED);
    assert_hardened(pid);
    let BackedUpNode { rig, needles, .. } = node;
    let mut finds = look(&rig, pid, &needles);
    if !rig.hidden {
        finds.keep(&SEEDS);
    }
    assert_nothing(&finds, "in the middle of the snapshot");
    let finds = assert_not_dumped(&rig, pid, &needles);
    assert_nothing(&finds.without(&["planted"]), "in memory that is not excluded");
    let mut finds = Finds::default();
    rig.look_outside(&needles, &mut finds);
    assert_nothing(&finds, "outside");
}

fn wait_until_open(pid: u32, file: &Path) {
    let begun = Instant::now();
    let is_open = || {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        open.any(|entry| fs::read_link(entry.unwrap().path()).is_ok_and(|path| path == file))
    };
    while !is_open() {
        assert!(begun.elapsed() < LIMIT, "{} was not opened", file.display());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_verification_in_the_middle_of_its_scan_has_no_key() {
    let Some(mut rig) = Rig::start(BINARY) else { return };
    rig.plugin.terminate().unwrap();
    let etcd = Etcd::start(&rig.run, 1).unwrap();
    let mut writer = Writer::new(&etcd.endpoints());
    writer.put("/registry/namespaces/default", b"{}").unwrap();
    let names: Vec<String> = (0..100).map(|number| format!("/registry/configmaps/default/{number}")).collect();
    let filler = format!("{{\"kind\":\"ConfigMap\",\"data\":\"{}\"}}", "a".repeat(2000));
    writer.put_all(names.iter().map(|name| (name.as_str(), filler.as_bytes()))).unwrap();
    let temporary = rig.run.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let config = rig.run.path("encryption.yaml");
    fs::write(&config, crate::verify::CONFIG).unwrap();

    let proxy = Proxy::start(&etcd.endpoints(), 64 << 10, Then::Hold);
    let report = rig.run.path("a.report").display().to_string();
    let line =
        ["verify", "--etcd-servers", &proxy.url(), "--encryption-config", config.to_str().unwrap(), "--to", &report];
    let held = start(&rig, &temporary, &line);
    proxy.wait_until_held();
    assert_hardened(held.0.id());
    let all = rig.needles(&[]);
    let mut finds = look(&rig, held.0.id(), &all);
    if !rig.hidden {
        finds.keep(&SEEDS);
    }
    assert_nothing(&finds, "in the middle of the scan");
    let finds = assert_not_dumped(&rig, held.0.id(), &all);
    assert_nothing(&finds.without(&["planted"]), "in memory that is not excluded");
    proxy.release();
    end(&rig, held, &temporary, &all);
}
