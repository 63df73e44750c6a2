//! What every kind of slot must do. Each test runs on all kinds.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::rngs::SysRng;

use super::{
    CredentialSlot, DropSlotError, FileSlot, Kind, Means, Passphrase, PassphraseSlot, Passphrases, PutSlotError,
    RootError, RootFile, RootIn, Sealer, Slot, SlotError,
};
use crate::{
    crypto::{
        Uuid,
        root_key::{RootKey, RootKeys},
        stretch::Cost,
    },
    durable::{self, Dir},
    text::tampering,
};

const UUID: Uuid = Uuid([9; 16]);
const CREDENTIAL: &str = "claviger-root";

/// Knows one passphrase, and gives it at every attempt.
#[derive(Debug)]
struct Knows(&'static str);

impl Passphrases for Knows {
    fn of(&self, _: &str, _: u32) -> io::Result<Option<Arc<Passphrase>>> {
        Passphrase::new(self.0.as_bytes()).map(|passphrase| Some(Arc::new(passphrase))).map_err(io::Error::other)
    }
}

/// A machine that opens every kind of slot.
struct Machine {
    _keep: tempfile::TempDir,
    dir: Dir,
    credentials: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let (keep, dir) = durable::testing::private();
        let credentials = keep.path().join("credentials");
        std::fs::create_dir(&credentials).unwrap();
        std::fs::write(credentials.join(CREDENTIAL), [3; 40]).unwrap();
        Self { _keep: keep, dir, credentials }
    }

    fn means(&self) -> Means {
        Means::new(Some(self.credentials.clone()), Box::new(Knows("correct horse\n")))
    }

    /// Returns one sealer of each kind. The secrets are where they will be read from.
    fn sealers(&self) -> Vec<Box<dyn Sealer>> {
        let cheap = Cost::new(1, 64, 1).unwrap();
        let passphrase = Arc::new(Passphrase::new(b"correct horse").unwrap());
        let credential = CredentialSlot::read(CREDENTIAL, &self.credentials.join(CREDENTIAL)).unwrap();
        let file = FileSlot::generate(&mut SysRng, None).unwrap();
        let sealers: Vec<Box<dyn Sealer>> =
            vec![Box::new(file), Box::new(PassphraseSlot { passphrase, cost: cheap }), Box::new(credential)];
        for sealer in &sealers {
            sealer.keep(sealer.kind().as_str(), &self.dir).unwrap();
        }
        sealers
    }

    /// Replaces the secret of slots of this kind by another secret.
    fn spoil(&self, kind: Kind) -> Means {
        match kind {
            Kind::File => self.dir.replace(&super::key_file_name("file"), &[7; 32]).unwrap(),
            Kind::Credential => std::fs::write(self.credentials.join(CREDENTIAL), [4; 40]).unwrap(),
            Kind::Passphrase => {
                return Means::new(Some(self.credentials.clone()), Box::new(Knows("incorrect horse")));
            }
            kind => panic!("{kind:?} has no suite"),
        }
        self.means()
    }
}

/// Returns a root file with only this slot.
fn file(sealer: &dyn Sealer) -> (RootKey, RootFile) {
    let root = RootKey::generate(&mut SysRng).unwrap();
    let slot = Slot::seal(&mut SysRng, sealer.kind().as_str(), sealer, RootIn { uuid: UUID, root: &root }).unwrap();
    let bytes = RootFile::encode(&mut SysRng, UUID, RootKeys::only(&root), &[slot]).unwrap();
    (root, RootFile::parse(&bytes).unwrap())
}

#[test]
fn every_kind_gives_the_root_key_back() {
    let machine = Machine::new();
    for sealer in machine.sealers() {
        let (root, file) = file(&*sealer);
        let (opened, slot) = file.unseal(&machine.dir, &machine.means()).unwrap();
        assert_eq!(opened.secret().expose(), root.secret().expose());
        assert_eq!(slot.kind(), sealer.kind());
        file.test(slot, &machine.dir, &machine.means()).unwrap();
    }
}

#[test]
fn every_kind_refuses_another_secret_and_no_secret() {
    let machine = Machine::new();
    for sealer in machine.sealers() {
        let (_, file) = file(&*sealer);
        let error = file.unseal(&machine.dir, &machine.spoil(sealer.kind())).unwrap_err().to_string();
        assert!(error.contains("wrong key") || error.contains("wrong passphrase"), "{error}");
    }
    let bare = Machine::new();
    for sealer in Machine::new().sealers() {
        let (_, file) = file(&*sealer);
        let RootError::NoSlotOpens(failures) = file.unseal(&bare.dir, &Means::default()).unwrap_err() else {
            panic!("{:?} opens without a secret", sealer.kind());
        };
        assert!(!matches!(failures[0].1, SlotError::WrongKey), "{failures:?}");
    }
}

#[test]
fn every_kind_is_bound_to_its_line_and_body() {
    let machine = Machine::new();
    for sealer in machine.sealers() {
        let (root, file) = file(&*sealer);
        let bytes = RootFile::encode(&mut SysRng, UUID, RootKeys::only(&root), file.slots()).unwrap();
        for (what, tampered) in tampering::of(&bytes) {
            let unsealed = RootFile::parse(&tampered)
                .map_err(RootError::from)
                .and_then(|file| file.unseal(&machine.dir, &machine.means()).map(drop));
            assert!(unsealed.is_err(), "{:?}, {what}", sealer.kind());
        }
    }
}

#[test]
fn every_kind_goes_over_to_another_root_key() {
    let machine = Machine::new();
    for sealer in machine.sealers() {
        let (root, file) = file(&*sealer);
        let next = RootKey::generate(&mut SysRng).unwrap();
        let bytes = file.rekey(&mut SysRng, &root, &next, (&machine.dir, &machine.means())).unwrap();
        let again = RootFile::parse(&bytes).unwrap();
        let (opened, slot) = again.unseal(&machine.dir, &machine.means()).unwrap();
        assert_eq!(opened.secret().expose(), next.secret().expose());
        assert_ne!(slot.parameter("salt"), file.slots()[0].parameter("salt"));
        let refused = file.rekey(&mut SysRng, &root, &next, (&machine.dir, &machine.spoil(sealer.kind())));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("slot {} cannot be sealed again: ", sealer.kind().as_str())), "{refused}");
    }
}

#[test]
fn slots_are_added_and_removed_but_for_the_last() {
    let machine = Machine::new();
    let sealers = machine.sealers();
    let (root, mut file) = file(&*sealers[0]);
    for sealer in &sealers[1..] {
        let slot =
            Slot::seal(&mut SysRng, sealer.kind().as_str(), &**sealer, RootIn { uuid: UUID, root: &root }).unwrap();
        file = RootFile::parse(&file.with(slot.clone(), &root).unwrap()).unwrap();
        assert!(matches!(file.with(slot, &root), Err(PutSlotError::Exists(_))));
    }
    for slot in file.slots() {
        file.test(slot, &machine.dir, &machine.means()).unwrap();
    }
    assert!(matches!(file.without("tape", &root), Err(DropSlotError::Unknown(_))));
    for sealer in &sealers[..2] {
        file = RootFile::parse(&file.without(sealer.kind().as_str(), &root).unwrap().0).unwrap();
        file.unseal(&machine.dir, &machine.means()).unwrap();
    }
    let error = file.without("credential", &root).unwrap_err();
    assert_eq!(error.to_string(), "slot credential is the last one, so it is not removed");
}

#[test]
fn a_slot_that_needs_nobody_is_opened_before_one_that_needs_a_passphrase() {
    let machine = Machine::new();
    let sealers = machine.sealers();
    let (root, file) = file(&*sealers[1]);
    let slot = Slot::seal(&mut SysRng, "zz", &*sealers[2], RootIn { uuid: UUID, root: &root }).unwrap();
    let file = RootFile::parse(&file.with(slot, &root).unwrap()).unwrap();
    assert_eq!(file.unseal(&machine.dir, &machine.means()).unwrap().1.name(), "zz");
    let alone = Means::new(None, Box::new(Knows("correct horse")));
    assert_eq!(file.unseal(&machine.dir, &alone).unwrap().1.name(), "passphrase");
}

#[test]
fn a_cost_that_would_fill_the_machine_is_not_paid() {
    let machine = Machine::new();
    let (root, file) = file(&*machine.sealers()[1]);
    let text =
        String::from_utf8(RootFile::encode(&mut SysRng, UUID, RootKeys::only(&root), file.slots()).unwrap()).unwrap();
    for (from, to) in [
        ("memory=64 ", "memory=4194304 "),
        ("memory=64 ", "memory=064 "),
        ("passes=1 ", "passes=11 "),
        ("lanes=1 ", "lanes=9 "),
        ("lanes=1 ", ""),
    ] {
        assert!(text.contains(from));
        let file = RootFile::parse(text.replacen(from, to, 1).as_bytes()).unwrap();
        let error = file.unseal(&machine.dir, &machine.means()).unwrap_err().to_string();
        let expected =
            "its cost is not valid: expected 1 to 8 lanes, 1 to 10 passes, and at most 1048576 KiB of memory";
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_credential_is_a_key_of_a_plain_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (length, fits) in [(31, false), (32, true), (4096, true), (4097, false)] {
        std::fs::write(path("key"), vec![1; length]).unwrap();
        assert_eq!(CredentialSlot::read("key", &path("key")).is_ok(), fits, "{length}");
    }
    for name in ["", ".", "..", "a/b", "a b", "ä", &"a".repeat(256)] {
        let refused = CredentialSlot::new(name, &[1; 32]).unwrap_err().to_string();
        let expected = "expected 1 to 255 of A-Z, a-z, 0-9, '.', '_' and '-'";
        assert_eq!(refused, format!("credential name {name:?}: {expected}"));
    }
    let slot = Slot::parse("own credential credential=a%2Fb", Vec::new()).unwrap();
    let refused = CredentialSlot::given(&slot, None).unwrap_err().to_string();
    assert_eq!(refused, "its parameter credential is no credential's name");
    std::fs::write(path("key"), vec![1; 1 << 20]).unwrap();
    assert!(
        CredentialSlot::read("x", &path("key"))
            .unwrap_err()
            .to_string()
            .contains("the credential is shorter than 32 bytes or longer than 4096")
    );
    let refused = CredentialSlot::read("x", Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(refused, "credential /dev/zero: it is a device, expected a regular file");
}

#[test]
fn a_key_file_has_a_path_that_the_root_file_can_contain() {
    let path = Path::new(OsStr::from_bytes(b"/mnt/\xff"));
    let slot = FileSlot::generate(&mut SysRng, Some(path.to_owned())).unwrap();
    assert_eq!(slot.parameters().unwrap_err().to_string(), "the path of its key file is not UTF-8");
}

#[test]
fn a_passphrase_has_a_length() {
    let long = "a".repeat(Passphrase::MAX);
    assert!(Passphrase::new(long.as_bytes()).is_ok() && Passphrase::new(format!("{long}\n").as_bytes()).is_ok());
    let refused = Passphrase::new(format!("{long}a").as_bytes()).unwrap_err();
    assert_eq!(refused.to_string(), "a passphrase of more than 1024 bytes");
    assert!(Passphrase::new(b"").is_err() && Passphrase::new(b"\n").is_err());
    assert!(Passphrase::new(format!("{long}\r\n").as_bytes()).is_ok() && Passphrase::new(b"\r\n").is_err());
    assert!(Passphrase::choose(b"1234567\n").is_err() && Passphrase::choose(b"12345678\n").is_ok());
}
